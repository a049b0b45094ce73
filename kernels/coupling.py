"""The map of an affine coupling, by elements, with its log-determinant, and its gradient.

Rows are taken a block at a time, whose scales are computed side by side: in a plane each row has one element only.
"""

import numpy as np

from kernels.arguments import Array, check, show
from kernels.calls import empty, empty_like
from kernels.compilation import jit
from kernels.elementary import FLAGS, exp, tanh
from kernels.threads import run, share

BLOCK = 64
"""Rows. As blocks follow from the shape alone, so does which elements are vectors and which are computed one by one."""

NANOSECONDS = 7.0
"""An element's time on one core in float32, measured in a plane, where each row has one."""


def bounded_affine(x: Array, theta: Array, bound: float, inverse: bool = False) -> Array:
    """`kernels.reference.bounded_affine`, compiled.

    Raises
    ------
    TypeError : x and theta are not arrays of one dtype, float32 or float64
    ValueError : theta is not (M, 2 C) where x is (M, C)
    """
    x, theta = _pair("bounded_affine", x, theta)
    y = empty((len(x), x.shape[1] + 1), x.dtype)
    run(_bounded_affine, x.size * NANOSECONDS, x, theta, y, float(bound), inverse)
    return y


def bounded_affine_grad(g: Array, x: Array, theta: Array, bound: float, inverse: bool = False) -> tuple[Array, Array]:
    """`kernels.reference.bounded_affine_grad`, compiled.

    Raises
    ------
    TypeError, ValueError : as `bounded_affine` does; g must be (M, C + 1)
    """
    x, theta = _pair("bounded_affine_grad", x, theta)
    g = check("bounded_affine_grad", "g", g, "M,C+1", x.dtype)
    if g.shape != (len(x), x.shape[1] + 1):
        raise ValueError(f"bounded_affine_grad: {show('g', 'M,C+1', g.shape)} does not fit {show('x', 'M,C', x.shape)}")
    gx, gtheta = empty_like(x), empty_like(theta)
    run(_bounded_affine_grad, x.size * NANOSECONDS, g, x, theta, gx, gtheta, float(bound), inverse)
    return gx, gtheta


def _pair(operation: str, x: Array, theta: Array) -> tuple[Array, Array]:
    x = check(operation, "x", x, "M,C")
    theta = check(operation, "theta", theta, "M,2C", x.dtype)
    if theta.shape != (len(x), 2 * x.shape[1]):
        raise ValueError(f"{operation}: {show('theta', 'M,2C', theta.shape)} does not fit {show('x', 'M,C', x.shape)}")
    return x, theta


# ------------------------------------------------------------------------------------------------------- compiled loops


@jit(fastmath=FLAGS)
def _bounded_affine(worker: int, workers: int, x: Array, theta: Array, y: Array, bound: float, inverse: bool) -> None:
    n = x.shape[1]
    squashed, scale = np.empty(BLOCK * n, x.dtype), np.empty(BLOCK * n, x.dtype)
    first, last = share(worker, workers, -(-len(x) // BLOCK))
    for begin in range(first * BLOCK, min(last * BLOCK, len(x)), BLOCK):
        rows = _scales(squashed, scale, theta, begin, bound, inverse)
        for m in range(begin, begin + rows):
            total = 0.0
            for c in range(n):
                i, t = (m - begin) * n + c, theta[m, n + c]
                y[m, c] = (x[m, c] - t) * scale[i] if inverse else x[m, c] * scale[i] + t
                total += squashed[i]
            y[m, n] = -bound * total if inverse else bound * total


@jit(fastmath=FLAGS)
def _bounded_affine_grad(
    worker: int,
    workers: int,
    g: Array,
    x: Array,
    theta: Array,
    gx: Array,
    gtheta: Array,
    bound: float,
    inverse: bool,
) -> None:
    one, n = x.dtype.type(1), x.shape[1]
    squashed, scale = np.empty(BLOCK * n, x.dtype), np.empty(BLOCK * n, x.dtype)
    first, last = share(worker, workers, -(-len(x) // BLOCK))
    for begin in range(first * BLOCK, min(last * BLOCK, len(x)), BLOCK):
        rows = _scales(squashed, scale, theta, begin, bound, inverse)
        for m in range(begin, begin + rows):
            for c in range(n):
                i, t = (m - begin) * n + c, theta[m, n + c]
                g_scaled = g[m, c] * scale[i]
                g_log_scale = g_scaled * (x[m, c] - t if inverse else x[m, c]) + g[m, n]
                slope = one - squashed[i] * squashed[i]
                gx[m, c] = g_scaled
                gtheta[m, c] = -g_log_scale * slope if inverse else g_log_scale * slope
                gtheta[m, n + c] = -g_scaled if inverse else g[m, c]


@jit(fastmath=FLAGS)
def _scales(squashed: Array, scale: Array, theta: Array, begin: int, bound: float, inverse: bool) -> int:
    """Write tanh(r / B), and the factors that follow, of the rows of a block, and return how many these are."""
    n, real = theta.shape[1] // 2, theta.dtype.type
    b, signed = real(bound), real(-bound if inverse else bound)
    rows = min(BLOCK, len(theta) - begin)
    for m in range(rows):
        for c in range(n):
            squashed[m * n + c] = theta[begin + m, c]
    for i in range(rows * n):
        squashed[i] = tanh(squashed[i] / b)
        scale[i] = exp(signed * squashed[i])
    return rows
