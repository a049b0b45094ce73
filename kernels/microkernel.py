"""The one inner loop of all products and convolutions: a block of C held in vector registers while A and B stream past.

A processor multiplies and adds one or two whole vectors in every cycle, but loads hardly more than that, so each value
that is loaded must be used several times. `multiply_tile` keeps `ROWS` × `VECTORS` vectors of C in registers; for each
k it loads ``VECTORS`` vectors of B's row k and ``ROWS`` single elements of A's column k, and uses each of the former
``ROWS`` and each of the latter ``VECTORS`` times::

                     B[k, 0:width]                      width = VECTORS * lanes
                 +-----------------+
    A[0:ROWS, k] | C[0:ROWS, :]    |  += A[:, k] B[k, :]  for all k
                 +-----------------+

Where there are few columns, half of the tile would be wasted: `multiply_tile` can be told to compute one vector only.

Numba cannot be told to keep an array in registers, so the loop is written with LLVM's vector instructions directly
(Goto and van de Geijn 2008, "Anatomy of high-performance matrix multiplication", is where the tile comes from).

What makes it serve convolutions, their gradients and matrix products alike is how it finds A: element (m, k) lies at
``rows[m] + columns[k]``. These two tables of offsets describe a matrix, its transpose, or all windows of an image, and
nothing is ever copied into a matrix of patches.
"""

from functools import lru_cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.registry import cpu_target

from kernels.compilation import element_pointer, intrinsic


@lru_cache(maxsize=1)
def _registers() -> tuple[int, int]:
    """How many vector registers the machine has that Numba compiles for, and their bytes."""
    triple, _, features = cpu_target.target_context.codegen().magic_tuple()
    enabled = set(features.split(","))
    if "+avx512f" in enabled:
        return 32, 64
    if "+avx" in enabled:
        return 16, 32
    return (32 if triple.startswith(("aarch64", "arm64")) else 16), 16


VECTORS = 2
ROWS = 8 if _registers()[0] == 32 else 6  # 16 registers: 12 of C, 2 of B, 1 of A; 8 of C would already hide the latency


def panel_width(dtype: np.dtype[Any], columns: int | None = None) -> int:
    """The number of columns of a tile of this dtype: of one vector, if there are no more ``columns``."""
    lanes = _registers()[1] // dtype.itemsize
    return lanes if columns is not None and columns <= lanes else VECTORS * lanes


@intrinsic
def vector_size(typing, array):  # type: ignore[no-untyped-def]
    """How many elements of an array a vector register holds."""

    def emit(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return ir.Constant(context.get_value_type(types.intp), vector_type(context, array.dtype)[1])

    return types.intp(array), emit


@intrinsic
def multiply_tile(  # type: ignore[no-untyped-def]
    typing, c, c_at, c_rows, start, start_at, a, a_at, a_rows, row, a_columns, column, b, b_at, depth, width
):
    """Compute one tile of C = start + A B. All arrays are flat; all offsets count elements.

    Parameters
    ----------
    c, c_at, c_rows, row : row r of the tile is stored from ``c[c_at + c_rows[row + r]]``
    start, start_at : the tile's initial rows are all ``start[start_at:]``, or what is in c if ``start_at < 0``
    a, a_at, a_rows, a_columns, column : A's element (r, k) is ``a[a_at + a_rows[row + r] + a_columns[column + k]]``
    b, b_at : B's row k starts at ``b[b_at + k * width]``
    depth : the number of products that are summed, at least one
    width : the number of columns, a `panel_width`

    All rows are read before the first is stored, so a tile may contain a row twice.
    """
    signature = types.void(
        c, types.intp, c_rows, start, types.intp, a, types.intp, a_rows, types.intp, a_columns, types.intp,
        b, types.intp, types.intp, types.intp,
    )  # fmt: skip
    return signature, _emit_tiles


def _emit_tiles(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
    _, lanes, _ = vector_type(context, signature.args[0].dtype)
    width = arguments[-1]
    with builder.if_else(builder.icmp_signed("==", width, ir.Constant(width.type, lanes))) as (narrow, wide):
        for vectors, branch in ((1, narrow), (VECTORS, wide)):
            with branch:
                _emit_tile(context, builder, signature, arguments, vectors)
    return context.get_dummy_value()


def _emit_tile(context, builder, signature, arguments, vector_count):  # type: ignore[no-untyped-def]
    """Emit the loop for as many vectors of columns."""

    def data(index):  # type: ignore[no-untyped-def]
        return context.make_array(signature.args[index])(context, builder, arguments[index]).data

    c, c_rows, start, a, a_rows, a_columns, b = (data(i) for i in (0, 2, 3, 5, 7, 9, 11))
    c_at, start_at, a_at, row, column, b_at, depth = (arguments[i] for i in (1, 4, 6, 8, 10, 12, 13))
    dtype = signature.args[0].dtype
    vector, lanes, align = vector_type(context, dtype)
    index = arguments[1].type
    zero, one, width = (ir.Constant(index, value) for value in (0, 1, vector_count * lanes))
    same_lane = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
    multiply_add = declare_multiply_add(builder.module, vector)

    def load(table, i):  # type: ignore[no-untyped-def]
        return builder.load(builder.gep(table, [i]))

    def vectors(pointer):  # type: ignore[no-untyped-def]
        """Pointers to the vectors of a row that begins at an element."""
        return [
            builder.bitcast(builder.gep(pointer, [ir.Constant(index, v * lanes)]), vector.as_pointer())
            for v in range(vector_count)
        ]

    def load_vectors(pointer):  # type: ignore[no-untyped-def]
        return [builder.load(p, align=align) for p in vectors(pointer)]

    # The rows of A and C, and C's initial value.
    adds = builder.icmp_signed("<", start_at, zero)
    a_pointers, c_pointers, initial = [], [], []
    for r in range(ROWS):
        i = builder.add(row, ir.Constant(index, r))
        a_pointers.append(builder.gep(a, [builder.add(a_at, load(a_rows, i))]))
        c_pointers.append(builder.gep(c, [builder.add(c_at, load(c_rows, i))]))
        initial += load_vectors(builder.select(adds, c_pointers[r], builder.gep(start, [start_at])))

    # The rows of C are fetched while they are computed, to be written and kept: a store that waits for memory would
    # hold up those behind it.
    byte, flag = ir.IntType(8).as_pointer(), ir.IntType(32)
    prefetch = declare(builder.module, "llvm.prefetch", ir.VoidType(), [byte, flag, flag, flag])
    for pointer in (p for row_pointer in c_pointers for p in vectors(row_pointer)):
        builder.call(prefetch, [builder.bitcast(pointer, byte), flag(1), flag(3), flag(1)])

    # For each k, add the outer product of A's column and B's row to the tile.
    before = builder.basic_block
    product = builder.append_basic_block("product")
    after = builder.append_basic_block("store")
    builder.branch(product)
    builder.position_at_end(product)
    k, b_offset = builder.phi(index), builder.phi(index)
    sums = [builder.phi(vector) for _ in initial]
    b_row = load_vectors(builder.gep(b, [b_offset]))
    a_offset = load(a_columns, builder.add(column, k))
    sums_after = []
    for r in range(ROWS):
        scalar = builder.load(builder.gep(a_pointers[r], [a_offset]))
        single = builder.insert_element(ir.Constant(vector, ir.Undefined), scalar, ir.Constant(ir.IntType(32), 0))
        a_element = builder.shuffle_vector(single, ir.Constant(vector, ir.Undefined), same_lane)
        sums_before = sums[r * vector_count : (r + 1) * vector_count]
        sums_after += [
            builder.call(multiply_add, [a_element, b_vector, total])
            for b_vector, total in zip(b_row, sums_before, strict=True)
        ]
    next_k = builder.add(k, one)
    for phi, first, following in zip(
        [k, b_offset, *sums], [zero, b_at, *initial], [next_k, builder.add(b_offset, width), *sums_after], strict=True
    ):
        phi.add_incoming(first, before)
        phi.add_incoming(following, product)
    builder.cbranch(builder.icmp_signed("<", next_k, depth), product, after)

    builder.position_at_end(after)
    for r in range(ROWS):
        for v, pointer in enumerate(vectors(c_pointers[r])):
            builder.store(sums_after[r * vector_count + v], pointer, align=align)


@intrinsic
def copy_row(typing, target, target_at, source, source_at, width):  # type: ignore[no-untyped-def]
    """Copy as many elements as a panel is wide from ``source[source_at:]`` to ``target[target_at:]``."""

    def emit(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        vector, lanes, align = vector_type(context, signature.args[0].dtype)
        to, origin = (element_pointer(context, builder, signature, arguments, i) for i in (0, 2))
        for v in range(VECTORS):
            step = ir.Constant(arguments[1].type, v * lanes)
            with builder.if_then(builder.icmp_signed("<", step, arguments[4])):
                p, q = (builder.bitcast(builder.gep(x, [step]), vector.as_pointer()) for x in (to, origin))
                builder.store(builder.load(q, align=align), p, align=align)
        return context.get_dummy_value()

    return types.void(target, types.intp, source, types.intp, types.intp), emit


@intrinsic
def copy_columns(typing, target, target_at, target_step, source, source_at, source_step):  # type: ignore[no-untyped-def]
    """Copy as many columns as a vector has elements to rows, of a matrix of which they are the contiguous side.

    Column j, of as many elements, starts at ``source[source_at + j * source_step]``; row i, of elements i, at
    ``target[target_at + i * target_step]``.
    """

    def emit(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        vector, lanes, align = vector_type(context, signature.args[0].dtype)
        to, origin = (element_pointer(context, builder, signature, arguments, i) for i in (0, 3))
        index = arguments[1].type
        block = []
        for j in range(lanes):
            column = builder.gep(origin, [builder.mul(ir.Constant(index, j), arguments[5])])
            block.append(builder.load(builder.bitcast(column, vector.as_pointer()), align=align))
        # A transposition exchanges the bits of the row number with those of the column number, one pair after another.
        for bit in (1 << b for b in range(lanes.bit_length() - 1)):
            for i in (i for i in range(lanes) if not i & bit):
                upper, lower = block[i], block[i | bit]
                low = [e if not e & bit else lanes + e - bit for e in range(lanes)]
                high = [e + bit if not e & bit else lanes + e for e in range(lanes)]
                block[i], block[i | bit] = (
                    builder.shuffle_vector(upper, lower, ir.Constant(ir.VectorType(ir.IntType(32), lanes), mask))
                    for mask in (low, high)
                )
        for i, row in enumerate(block):
            pointer = builder.gep(to, [builder.mul(ir.Constant(index, i), arguments[2])])
            builder.store(row, builder.bitcast(pointer, vector.as_pointer()), align=align)
        return context.get_dummy_value()

    return types.void(target, types.intp, types.intp, source, types.intp, types.intp), emit


def vector_type(context, dtype):  # type: ignore[no-untyped-def]
    """The type of a vector register of these elements, their number and their alignment in bytes."""
    lanes = _registers()[1] * 8 // dtype.bitwidth
    return ir.VectorType(context.get_value_type(dtype), lanes), lanes, dtype.bitwidth // 8


def declare_multiply_add(module, vector):  # type: ignore[no-untyped-def]
    """LLVM's ``a * b + c``, fused where the machine can; llvmlite's own declarations do not know vector types."""
    return declare(module, f"llvm.fmuladd.v{vector.count}{vector.element.intrinsic_name}", vector, [vector] * 3)


def declare(module, name, result, arguments):  # type: ignore[no-untyped-def]
    """One of LLVM's functions, declared in a module once."""
    if name in module.globals:
        return module.globals[name]
    return ir.Function(module, ir.FunctionType(result, arguments), name)
