"""The transforms of Winograd's minimal filtering F(4×4, 3×3), on vectors of channels.

Four outputs of a correlation with three weights g read six inputs d, and need six products instead of twelve (Winograd
1980, "Arithmetic complexity of computations")::

    y = Aᵀ [(G g) ⊙ (Bᵀ d)]

The rows of G and A evaluate polynomials at six points, those of B interpolate. Images have two axes, along which the
same is done one after the other: Y = Aᵀ [(G g Gᵀ) ⊙ (Bᵀ d B)] A, 36 products for 16 outputs instead of 144 (Lavin and
Gray 2016, "Fast algorithms for convolutional neural networks", equations 6 and 8).

The points are 0, ∞, ±a and ±b. At p and -p the even powers have the same value and the odd ones opposite values: with
`_PAIRS`, each is computed once.

**Precision.** The numbers that are added up on the way are larger than the results, and so are their roundings. How
much depends on the points (Barabasz, Anderson, Soodhalter and Gregg 2020, "Error analysis and improving the accuracy of
Winograd convolution for deep neural networks"). With ±1 and ±2, which are often used, errors are four times those of
direct convolution; with ±5/8 and ±3/2 they are twice those, and 1.3 to 2.5 times for gradients of weights (root mean
squares, for normal numbers and 16 channels or more). No multiples of 1/8 are better by more than 5 %.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from kernels.compilation import element_pointer, intrinsic
from kernels.microkernel import declare_multiply_add, vector_type

TILE, PATCH, TAPS = 4, 6, 3
"""Along one axis: outputs of a tile, inputs that they read, weights."""

ELEMENTS = PATCH * PATCH
"""Of a transformed tile."""

_a, _b = 5 / 8, 3 / 2
_a2, _b2 = _a**2, _b**2
_n0, _na, _nb = _a2 * _b2, 2 * _a2 * (_a2 - _b2), 2 * _b2 * (_b2 - _a2)  # the products of a point's distances to others

# G = _PAIRS @ _WEIGHTS, and so on. The rows between the first, for 0, and the last, for ∞, are the even and the odd
# powers for ±a, then those for ±b.
_PAIRS = np.array(
    [
        [1, 0, 0, 0, 0, 0],
        [0, 1, _a, 0, 0, 0],
        [0, 1, -_a, 0, 0, 0],
        [0, 0, 0, 1, _b, 0],
        [0, 0, 0, 1, -_b, 0],
        [0, 0, 0, 0, 0, 1],
    ]
)
_WEIGHTS = np.array(
    [
        [1 / _n0, 0, 0],
        [1 / _na, 0, _a2 / _na],
        [0, 1 / _na, 0],
        [1 / _nb, 0, _b2 / _nb],
        [0, 1 / _nb, 0],
        [0, 0, 1],
    ]
)
_INPUT = np.array(
    [
        [_a2 * _b2, 0, -_a2 - _b2, 0, 1, 0],  # (x² - a²) (x² - b²)
        [0, 0, -_b2, 0, 1, 0],  # x (x ± a) (x² - b²)
        [0, -_b2, 0, 1, 0, 0],
        [0, 0, -_a2, 0, 1, 0],  # x (x ± b) (x² - a²)
        [0, -_a2, 0, 1, 0, 0],
        [0, _a2 * _b2, 0, -_a2 - _b2, 0, 1],  # x (x² - a²) (x² - b²)
    ]
)
_OUTPUT = np.array(
    [
        [1, 0, 0, 0],
        [1, 0, _a2, 0],
        [0, 1, 0, _a2],
        [1, 0, _b2, 0],
        [0, 1, 0, _b2],
        [0, 0, 0, 1],
    ]
)


def _both_axes(*factors: np.ndarray) -> Any:
    """The intrinsic that multiplies by a product of matrices along both axes."""

    @intrinsic
    def transform(  # type: ignore[no-untyped-def]
        typing, target, target_at, target_row, target_col, source, source_at, source_row, source_col
    ):
        """``target = M source Mᵀ`` for as many channels as a vector has elements.

        All arrays are flat; element (i, j) of the source is ``source[source_at + i * source_row + j * source_col]``
        for the first channel, and the other channels follow it. All is read before the first is stored.
        """
        signature = types.void(target, *[types.intp] * 3, source, *[types.intp] * 3)
        return signature, lambda *given: _emit(factors, *given)

    return transform


def _emit(factors, context, builder, signature, arguments):  # type: ignore[no-untyped-def]
    vector, lanes, align = vector_type(context, signature.args[0].dtype)
    multiply_add = declare_multiply_add(builder.module, vector)

    def pointers(array, size):  # type: ignore[no-untyped-def]
        """Pointers to the vectors of a square."""
        first = element_pointer(context, builder, signature, arguments, array)
        downs, acrosses = (
            [builder.mul(step, ir.Constant(step.type, i)) for i in range(size)]
            for step in arguments[array + 2 : array + 4]
        )
        return [
            [
                builder.bitcast(builder.gep(first, [builder.add(down, across)]), vector.as_pointer())
                for across in acrosses
            ]
            for down in downs
        ]

    def combine(coefficients, vectors):  # type: ignore[no-untyped-def]
        """A sum of multiples; the first of those that are multiplied by 1, if there are any, begins it."""
        total = None
        for m, v in sorted(zip(coefficients, vectors, strict=True), key=lambda term: term[0] != 1):
            if m == 1:
                total = v if total is None else builder.fadd(total, v)
            elif m != 0:
                factor = ir.Constant(vector, [m] * lanes)
                total = builder.fmul(factor, v) if total is None else builder.call(multiply_add, [factor, v, total])
        return total

    def multiply(vectors):  # type: ignore[no-untyped-def]
        for factor in reversed(factors):
            vectors = [combine(row, vectors) for row in factor.tolist()]
        return vectors

    block = [[builder.load(p, align=align) for p in row] for row in pointers(4, factors[-1].shape[1])]
    columns = [multiply(column) for column in zip(*block, strict=True)]
    rows = [multiply(row) for row in zip(*columns, strict=True)]
    for row, targets in zip(rows, pointers(0, factors[0].shape[0]), strict=True):
        for v, p in zip(row, targets, strict=True):
            builder.store(v, p, align=align)
    return context.get_dummy_value()


transform_weights = _both_axes(_PAIRS, _WEIGHTS)
transform_input = _both_axes(_PAIRS, _INPUT)
transform_output = _both_axes(_OUTPUT.T, _PAIRS.T)
transform_weights_grad = _both_axes(_WEIGHTS.T, _PAIRS.T)
transform_output_grad = _both_axes(_PAIRS, _OUTPUT)
