"""Softmax, its logarithm, and that at a label, over the last axis, with their gradients; and the like for two classes.

Every row is shifted by its maximum, so that no exponential overflows. Exponentials, being positive, are summed in their
own dtype: the relative error is at most C units in the last place. Cotangents, which may cancel, are summed in float64.
"""

import math

import numpy as np

from kernels.activation import BLOCK
from kernels.arguments import Array, check
from kernels.calls import contiguous, empty, empty_like
from kernels.compilation import jit
from kernels.elementary import FLAGS as ELEMENTWISE
from kernels.elementary import exp, largest, log1p
from kernels.reference import Labels
from kernels.threads import run, share

FLAGS = {"contract", "reassoc"}
"""Sums may be taken in as many parallel lanes as a register has. The order is fixed when the kernel is compiled, if a
loop that sums does not write: else it would depend on where the arrays lie, as code is made for arrays that overlap."""


def softmax(x: Array) -> Array:
    """`kernels.reference.softmax`, compiled.

    Raises
    ------
    TypeError : x is not an array of float32 or float64
    ValueError : x is not (M, C) with C > 0
    """
    x = _rows("softmax", x)
    y = empty_like(x)
    run(_softmax, x.size * 1.2, x, y)
    return y


def softmax_grad(g: Array, y: Array) -> Array:
    """`kernels.reference.softmax_grad`, compiled.

    Raises
    ------
    TypeError : arguments that are not arrays of one dtype, float32 or float64
    ValueError : arguments that are not of one shape (M, C)
    """
    g, y = _pair("softmax_grad", g, y)
    gx = empty_like(y)
    run(_softmax_grad, y.size * 0.4, g, y, gx)
    return gx


def log_softmax(x: Array) -> Array:
    """`kernels.reference.log_softmax`, compiled.

    Raises
    ------
    TypeError : x is not an array of float32 or float64
    ValueError : x is not (M, C) with C > 0
    """
    x = _rows("log_softmax", x)
    y = empty_like(x)
    run(_log_softmax, x.size * 1.2, x, y)
    return y


def log_softmax_grad(g: Array, y: Array) -> Array:
    """`kernels.reference.log_softmax_grad`, compiled.

    Raises
    ------
    TypeError : arguments that are not arrays of one dtype, float32 or float64
    ValueError : arguments that are not of one shape (M, C)
    """
    g, y = _pair("log_softmax_grad", g, y)
    gx = empty_like(y)
    run(_log_softmax_grad, y.size * 1.0, g, y, gx)
    return gx


def cross_entropy(x: Array, labels: Labels) -> tuple[Array, Array, Array]:
    """`kernels.reference.cross_entropy`, compiled. A label that is none of 0 to C - 1 gives NaN.

    Raises
    ------
    TypeError : x is not an array of float32 or float64, or labels are not int64
    ValueError : x is not (M, C) with C > 0, or labels are not (M,)
    """
    x = _rows("cross_entropy", x)
    labels = _labels("cross_entropy", labels, len(x))
    y, top, log_sum = empty((3, len(x)), x.dtype)
    run(_cross_entropy, x.size * 0.6, x, labels, y, top, log_sum)
    return y, top, log_sum


def cross_entropy_grad(g: Array, x: Array, labels: Labels, top: Array, log_sum: Array) -> Array:
    """`kernels.reference.cross_entropy_grad`, compiled.

    Raises
    ------
    TypeError, ValueError : as `cross_entropy` does; g, top and log_sum must be (M,) and of x's dtype
    """
    x = _rows("cross_entropy_grad", x)
    labels = _labels("cross_entropy_grad", labels, len(x))
    g, top, log_sum = (
        check("cross_entropy_grad", name, array, "M", x.dtype)
        for name, array in (("g", g), ("top", top), ("log_sum", log_sum))
    )
    if not len(g) == len(top) == len(log_sum) == len(x):
        raise ValueError(
            f"cross_entropy_grad: g, top and log_sum must have as many elements as x (M,C)={x.shape} has rows"
        )
    gx = empty_like(x)
    run(_cross_entropy_grad, x.size * 0.6, g, x, labels, top, log_sum, gx)
    return gx


def binary_cross_entropy(x: Array, targets: Array) -> tuple[Array, Array]:
    """`kernels.reference.binary_cross_entropy`, compiled: ``(y, slope)``.

    Raises
    ------
    TypeError : arguments that are not arrays of one dtype, float32 or float64
    ValueError : arguments that are not of one shape
    """
    x = check("binary_cross_entropy", "x", x)
    targets = check("binary_cross_entropy", "targets", targets, dtype=x.dtype)
    if targets.shape != x.shape:
        raise ValueError(f"binary_cross_entropy: targets {targets.shape} must have the shape of x, {x.shape}")
    y, slope = empty_like(x), empty_like(x)
    run(_binary_cross_entropy, x.size * 0.7, *(a.reshape(-1) for a in (x, targets, y, slope)))
    return y, slope


def _labels(operation: str, labels: Labels, rows: int) -> Labels:
    if not isinstance(labels, np.ndarray) or labels.dtype != np.int64:
        raise TypeError(f"{operation}: labels must be an array of int64, not {getattr(labels, 'dtype', type(labels))}")
    if labels.shape != (rows,):
        raise ValueError(f"{operation}: labels (M)={labels.shape} must be as many as x has rows, {rows}")
    return contiguous(labels)


def _rows(operation: str, x: Array) -> Array:
    x = check(operation, "x", x, "M,C")
    if x.shape[1] == 0 and len(x):
        raise ValueError(f"{operation}: x (M,C)={x.shape} has rows without elements, and nothing has no maximum")
    return x


def _pair(operation: str, g: Array, y: Array) -> tuple[Array, Array]:
    y = check(operation, "y", y, "M,C")
    g = check(operation, "g", g, "M,C", y.dtype)
    if g.shape != y.shape:
        raise ValueError(f"{operation}: g (M,C)={g.shape} must have the shape of y, {y.shape}")
    return g, y


# ------------------------------------------------------------------------------------------------------- compiled loops


@jit(fastmath=FLAGS)
def _softmax(worker: int, workers: int, x: Array, y: Array) -> None:
    first, last = share(worker, workers, x.shape[0])
    for m in range(first, last):
        top = largest(x[m])
        total = x.dtype.type(0)
        for c in range(x.shape[1]):
            y[m, c] = exp(x[m, c] - top)
        for c in range(x.shape[1]):
            total += y[m, c]
        scale = x.dtype.type(1 / total)
        for c in range(x.shape[1]):
            y[m, c] *= scale


@jit(fastmath=FLAGS)
def _softmax_grad(worker: int, workers: int, g: Array, y: Array, gx: Array) -> None:
    first, last = share(worker, workers, y.shape[0])
    for m in range(first, last):
        total = 0.0
        for c in range(y.shape[1]):
            total += g[m, c] * y[m, c]
        dot = y.dtype.type(total)
        for c in range(y.shape[1]):
            gx[m, c] = y[m, c] * (g[m, c] - dot)


@jit(fastmath=FLAGS)
def _log_softmax(worker: int, workers: int, x: Array, y: Array) -> None:
    first, last = share(worker, workers, x.shape[0])
    for m in range(first, last):
        top = largest(x[m])
        total = x.dtype.type(0)
        for c in range(x.shape[1]):
            total += exp(x[m, c] - top)
        log_total = x.dtype.type(math.log(total))
        for c in range(x.shape[1]):
            y[m, c] = (x[m, c] - top) - log_total


@jit(fastmath=FLAGS)
def _log_softmax_grad(worker: int, workers: int, g: Array, y: Array, gx: Array) -> None:
    first, last = share(worker, workers, y.shape[0])
    for m in range(first, last):
        total = 0.0
        for c in range(y.shape[1]):
            total += g[m, c]
        total_g = y.dtype.type(total)
        for c in range(y.shape[1]):
            gx[m, c] = g[m, c] - exp(y[m, c]) * total_g


@jit(fastmath=FLAGS)
def _cross_entropy(worker: int, workers: int, x: Array, labels: Labels, y: Array, top: Array, log_sum: Array) -> None:
    first, last = share(worker, workers, x.shape[0])
    for m in range(first, last):
        top[m] = largest(x[m])
        total = x.dtype.type(0)
        for c in range(x.shape[1]):
            total += exp(x[m, c] - top[m])
        log_sum[m] = math.log(total)
        inside = 0 <= labels[m] < x.shape[1]  # nobody checks those of a call that is made again
        y[m] = log_sum[m] + (top[m] - x[m, labels[m]]) if inside else np.nan


@jit(fastmath=FLAGS)
def _cross_entropy_grad(
    worker: int, workers: int, g: Array, x: Array, labels: Labels, top: Array, log_sum: Array, gx: Array
) -> None:
    first, last = share(worker, workers, x.shape[0])
    for m in range(first, last):
        for c in range(x.shape[1]):
            gx[m, c] = g[m] * exp((x[m, c] - top[m]) - log_sum[m])
        if 0 <= labels[m] < x.shape[1]:
            gx[m, labels[m]] -= g[m]


@jit(fastmath=ELEMENTWISE)
def _binary_cross_entropy(worker: int, workers: int, x: Array, targets: Array, y: Array, slope: Array) -> None:
    first, last = share(worker, workers, -(-x.size // BLOCK))
    part = slice(first * BLOCK, last * BLOCK)
    x, targets, y, slope = x[part], targets[part], y[part], slope[part]
    zero, one = x.dtype.type(0), x.dtype.type(1)
    for i in range(x.size):
        e = exp(-abs(x[i]))
        less_likely = e / (one + e)
        missed = targets[i] if x[i] < zero else one - targets[i]  # what the likelier class should have been less likely
        y[i] = log1p(e) + abs(x[i]) * missed
        slope[i] = less_likely - missed if x[i] < zero else missed - less_likely
