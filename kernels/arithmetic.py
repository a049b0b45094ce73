"""NumPy's elementwise arithmetic as kernels, for calls that are made again and again on the same memory.

Sums, differences, products and quotients have the same bits wherever they are computed (but for the sign of NaN). So
what NumPy computed first, a kernel can compute again: without the microsecond that Python takes for each call, without
NumPy's warnings, and on several threads.
"""

from typing import Any

import numpy as np
from numpy.lib.array_utils import byte_bounds
from numpy.typing import NDArray

from kernels.arguments import Array
from kernels.calls import Call
from kernels.compilation import jit
from kernels.threads import run, share

COPY, ADD, SUBTRACT, MULTIPLY, DIVIDE = range(5)

OPERATIONS = {np.add: ADD, np.subtract: SUBTRACT, np.multiply: MULTIPLY, np.divide: DIVIDE}

BLOCK = 2048
"""Elements that are computed at a time: they fit the first cache."""

SHORT = 16
"""Rows shorter than that are computed across, if there are more of them than elements in each."""

Arguments = tuple[Any, ...]


def as_runs(call: Call) -> list[Arguments] | None:
    """The arguments of calls of `run` that do again what a noted call did; None where no kernel does that."""
    function, args, options = call
    if function is run:
        return [args]
    if function is np.copyto and not options:
        found = [_arguments(COPY, *args)]
    elif "out" in options:
        found = _of_ufunc(function, args, **options)
    else:
        return None
    return None if any(arguments is None for arguments in found) else [a for a in found if a]


def _of_ufunc(function: Any, args: Arguments, out: Array, **options: Any) -> list[Arguments | None]:
    if function is np.concatenate and type(axis := options.pop("axis", None)) is int and not options:
        if not all(isinstance(part, np.ndarray) for part in args[0]):
            return [None]
        places = np.split(out, np.cumsum([part.shape[axis] for part in args[0]])[:-1], axis)
        return [_arguments(COPY, place, part) for place, part in zip(places, args[0], strict=True)]
    if options:
        return [None]
    if function in OPERATIONS:
        return [_arguments(OPERATIONS[function], out, *args)]
    if function is np.square:
        return [_arguments(MULTIPLY, out, *args, *args)]
    return [_arguments(MULTIPLY, out, *args, -1) if function is np.negative else None]


def _arguments(code: int, out: Array, *operands: Any) -> Arguments | None:
    """Those of `run`, none if there is nothing to do; None unless all is of one dtype, float32 or float64."""
    arrays = [np.asarray(a, out.dtype) if type(a) in (int, float) else a for a in operands]
    if out.dtype not in (np.float32, np.float64) or not all(isinstance(a, np.ndarray) for a in arrays):
        return None
    if any(a.dtype != out.dtype or a.ndim > out.ndim or np.may_share_memory(a, out) for a in arrays):
        return None
    if any(not a.flags.aligned or np.any(np.remainder(a.strides, a.itemsize)) for a in (out, *arrays)):
        return None
    if out.size == 0:
        return ()
    operands = out, *(np.broadcast_to(a, out.shape) for a in (arrays[0], arrays[-1]))
    memory, firsts = zip(*(memory_of(a) for a in operands), strict=True)
    axes = _axes(out.shape, *([stride // out.itemsize for stride in a.strides] for a in operands))
    inner = axes[-1] if axes[-1][0] >= SHORT else max(axes)
    axes.remove(inner)
    offsets = np.array([firsts])  # of the first element of each row in its memory
    for size, *steps in axes:
        offsets = (offsets[:, None] + np.arange(size)[:, None] * steps).reshape(-1, 3)
    nanoseconds = out.size * (0.3 if inner[1:] == (1, 1, 1) else 1.0)
    return _compute, nanoseconds, code, *memory, offsets, *inner


class _Memory:
    """What an array spans, from the lowest address to the highest."""

    def __init__(self, array: Array) -> None:
        low, high = byte_bounds(array)
        self.array = array  # which keeps it
        self.first = (array.ctypes.data - low) // array.itemsize
        self.__array_interface__ = {
            "version": 3,
            "typestr": array.dtype.str,
            "shape": ((high - low) // array.itemsize,),
            "data": (low, False),
        }


def memory_of(array: Array) -> tuple[Array, int]:
    """The memory in which an array lies, as a flat array, and the offset of its first element there."""
    memory = _Memory(array)
    return np.asarray(memory), memory.first


def _axes(shape: tuple[int, ...], *strides: list[int]) -> list[tuple[int, ...]]:
    """Size and strides of each axis, with neighbours joined that are as one in all arrays."""
    axes: list[tuple[int, ...]] = []
    for size, *steps in zip(shape, *strides, strict=True):
        if axes and all(outer == size * step for outer, step in zip(axes[-1][1:], steps, strict=True)):
            axes[-1] = axes[-1][0] * size, *steps
        elif size > 1:
            axes.append((size, *steps))
    return axes or [(1, 1, 1, 1)]


@jit()
def _compute(
    worker: int,
    workers: int,
    code: int,
    out: Array,
    a: Array,
    b: Array,
    offsets: NDArray[np.int64],
    n: int,
    out_step: int,
    a_step: int,
    b_step: int,
) -> None:
    """Compute rows of n elements, whose first lie at ``offsets`` and whose others so many steps apart."""
    blocks = -(-n // BLOCK)
    size = min(n, BLOCK)
    a_room, b_room, room = np.empty(size, out.dtype), np.empty(size, out.dtype), np.empty(size, out.dtype)
    first, last = share(worker, workers, len(offsets) * blocks)
    for task in range(first, last):
        row, begin = task // blocks, task % blocks * BLOCK
        m = min(BLOCK, n - begin)
        at = offsets[row, 0] + begin * out_step
        x = _side_by_side(a, offsets[row, 1] + begin * a_step, a_step, a_room[:m])
        y = _side_by_side(b, offsets[row, 2] + begin * b_step, b_step, b_room[:m]) if code != COPY else x
        z = out[at : at + m] if out_step == 1 else room[:m]
        if code == COPY:
            for i in range(m):
                z[i] = x[i]
        elif code == ADD:
            for i in range(m):
                z[i] = x[i] + y[i]
        elif code == SUBTRACT:
            for i in range(m):
                z[i] = x[i] - y[i]
        elif code == MULTIPLY:
            for i in range(m):
                z[i] = x[i] * y[i]
        else:
            for i in range(m):
                z[i] = x[i] / y[i]
        if out_step != 1:
            for i in range(m):
                out[at + i * out_step] = z[i]


@jit(inline="always")
def _side_by_side(a: Array, first: int, step: int, room: Array) -> Array:
    """As many elements of ``a`` as there is room for: where they lie if that is side by side, else copied."""
    if step == 1:
        return a[first : first + len(room)]
    for i in range(len(room)):
        room[i] = a[first + i * step]
    return room
