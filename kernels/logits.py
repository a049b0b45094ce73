"""Softmax and its logarithm over the last axis, with their gradients.

Every row is shifted by its maximum, so that no exponential overflows. Exponentials, being positive, are summed in their
own dtype: the relative error is at most C units in the last place. Cotangents, which may cancel, are summed in float64.
"""

import math

import numpy as np

from kernels.arguments import Array, check
from kernels.compilation import jit
from kernels.elementary import exp, largest
from kernels.threads import run, share

FLAGS = {"contract", "reassoc"}
"""Sums may be taken in as many parallel lanes as a register has. The order is fixed when the kernel is compiled, if a
loop that sums does not write: else it would depend on where the arrays lie, as code is made for arrays that overlap."""


def logsumexp(x: Array) -> Array:
    """`kernels.reference.logsumexp`, compiled.

    Raises
    ------
    TypeError : x is not an array of float32 or float64
    ValueError : x is not (M, C) with C > 0
    """
    x = _rows("logsumexp", x)
    y = np.empty(len(x), x.dtype)
    run(_logsumexp, x.size * 1.0, x, y)
    return y


def softmax(x: Array) -> Array:
    """`kernels.reference.softmax`, compiled.

    Raises
    ------
    TypeError : x is not an array of float32 or float64
    ValueError : x is not (M, C) with C > 0
    """
    x = _rows("softmax", x)
    y = np.empty_like(x)
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
    gx = np.empty_like(y)
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
    y = np.empty_like(x)
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
    gx = np.empty_like(y)
    run(_log_softmax_grad, y.size * 1.0, g, y, gx)
    return gx


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
def _logsumexp(worker: int, workers: int, x: Array, y: Array) -> None:
    first, last = share(worker, workers, x.shape[0])
    for m in range(first, last):
        top = largest(x[m])
        shift = top if math.isfinite(top) else x.dtype.type(0)  # or -inf - -inf would be NaN
        total = x.dtype.type(0)
        for c in range(x.shape[1]):
            total += exp(x[m, c] - shift)
        y[m] = math.log(total) + shift


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
