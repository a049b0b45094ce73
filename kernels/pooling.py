"""Pooling and nearest-neighbour enlargement of images.

A row of the smaller image and the rows of the larger one that belong to it are a *band*. Cut so, the larger image
``(N, H kh, W kw, C)`` is, without moving an element, ``(N H, kh, W, kw, C)``; bands are independent of one another.
"""

import numpy as np

from kernels.arguments import Array, check
from kernels.calls import empty, empty_like
from kernels.compilation import jit
from kernels.threads import run, share

Pair = tuple[int, int]


def sum_pool2d(x: Array, size: Pair) -> Array:
    """`kernels.reference.sum_pool2d`, compiled.

    Raises
    ------
    TypeError : x is not an array of float32 or float64
    ValueError : x is not (N, H, W, C), or the size does not divide (H, W)
    """
    wider = check("sum_pool2d", "x", _wider(x), "N,H,W,C")
    y = empty(_pooled("sum_pool2d", x, size), wider.dtype)
    run(_sum_pool, x.size * 0.5, _bands(wider, size), _rows(y))
    return y


def upsample2d(x: Array, scale: Pair) -> Array:
    """`kernels.reference.upsample2d`, compiled.

    Raises
    ------
    TypeError : x is not an array of float32 or float64
    ValueError : x is not (N, H, W, C), or a scale is below 1
    """
    x = check("upsample2d", "x", x, "N,H,W,C")
    n, h, w, c = x.shape
    if min(scale) < 1:
        raise ValueError(f"upsample2d: scale={scale} must be at least 1")
    y = empty((n, h * scale[0], w * scale[1], c), x.dtype)
    run(_upsample, y.size * 0.3, _rows(x), _bands(y, scale))
    return y


def max_pool2d(x: Array, size: Pair) -> Array:
    """`kernels.reference.max_pool2d`, compiled.

    Raises
    ------
    TypeError : x is not an array of float32 or float64
    ValueError : x is not (N, H, W, C), or the size does not divide (H, W)
    """
    x = check("max_pool2d", "x", x, "N,H,W,C")
    y = empty(_pooled("max_pool2d", x, size), x.dtype)
    run(_max_pool, x.size * 0.5, _bands(x, size), _rows(y))
    return y


def max_pool2d_grad(g: Array, x: Array, y: Array, size: Pair) -> Array:
    """`kernels.reference.max_pool2d_grad`, compiled.

    Raises
    ------
    TypeError : arguments that are not arrays of one dtype, float32 or float64
    ValueError : shapes that do not fit, or a size that does not divide (H, W)
    """
    x = check("max_pool2d_grad", "x", x, "N,H,W,C")
    shape = _pooled("max_pool2d_grad", x, size)
    g = check("max_pool2d_grad", "g", g, "N,H,W,C", x.dtype)
    y = check("max_pool2d_grad", "y", y, "N,H,W,C", x.dtype)
    for name, value in (("g", g), ("y", y)):
        if value.shape != shape:
            raise ValueError(
                f"max_pool2d_grad: {name} (N,H,W,C)={value.shape} must be {shape}, as x {x.shape} pooled by {size} is"
            )
    gx = empty_like(x)
    run(_max_pool_grad, x.size * 1.0, _rows(g), _bands(x, size), _rows(y), _bands(gx, size))
    return gx


def _pooled(operation: str, x: Array, size: Pair) -> tuple[int, int, int, int]:
    n, h, w, c = x.shape
    if min(size) < 1 or h % size[0] or w % size[1]:
        raise ValueError(
            f"{operation}: size={size} must divide the height and width of x (N,H,W,C)={x.shape}; pad or crop"
        )
    return n, h // size[0], w // size[1], c


def _wider(x: Array) -> Array:
    """The images of whose channels x is the first ones, as a gradient of concatenated images may be, or else x."""
    images = getattr(x, "base", None)
    if type(images) is not np.ndarray or not images.flags.carray or images.ndim != 4 or images.dtype != x.dtype:
        return x
    same = images.shape[:3] == x.shape[:3] and images.strides == x.strides and images.ctypes.data == x.ctypes.data
    return images if same else x


def _rows(small: Array) -> Array:
    n, h, w, c = small.shape
    return small.reshape(n * h, w, c)


def _bands(large: Array, size: Pair) -> Array:
    n, h, w, c = large.shape
    return large.reshape(n * (h // size[0]), size[0], w // size[1], size[1], c)


# ------------------------------------------------------------------------------------------------------- compiled loops


@jit()
def _sum_pool(worker: int, workers: int, x: Array, y: Array) -> None:
    """Of x, which may have more channels than y, the first ones are summed."""
    first, last = share(worker, workers, x.shape[0])
    for band in range(first, last):
        y[band] = 0
        for i in range(x.shape[1]):
            for w in range(x.shape[2]):
                for j in range(x.shape[3]):
                    for c in range(y.shape[2]):
                        y[band, w, c] += x[band, i, w, j, c]


@jit()
def _upsample(worker: int, workers: int, x: Array, y: Array) -> None:
    first, last = share(worker, workers, x.shape[0])
    for band in range(first, last):
        for i in range(y.shape[1]):
            for w in range(y.shape[2]):
                for j in range(y.shape[3]):
                    for c in range(y.shape[4]):
                        y[band, i, w, j, c] = x[band, w, c]


@jit()
def _max_pool(worker: int, workers: int, x: Array, y: Array) -> None:
    first, last = share(worker, workers, x.shape[0])
    for band in range(first, last):
        y[band] = -np.inf
        for i in range(x.shape[1]):
            for w in range(x.shape[2]):
                for j in range(x.shape[3]):
                    for c in range(x.shape[4]):
                        y[band, w, c] = np.maximum(y[band, w, c], x[band, i, w, j, c])  # NaN stays NaN


@jit()
def _max_pool_grad(worker: int, workers: int, g: Array, x: Array, y: Array, gx: Array) -> None:
    zero, one = x.dtype.type(0), x.dtype.type(1)
    ties = np.empty(x.shape[4], x.dtype)
    first, last = share(worker, workers, x.shape[0])
    for band in range(first, last):
        for w in range(x.shape[2]):
            ties[:] = zero
            for i in range(x.shape[1]):
                for j in range(x.shape[3]):
                    for c in range(x.shape[4]):
                        ties[c] += one if x[band, i, w, j, c] == y[band, w, c] else zero
            for i in range(x.shape[1]):
                for j in range(x.shape[3]):
                    for c in range(x.shape[4]):
                        tie = one if x[band, i, w, j, c] == y[band, w, c] else zero
                        gx[band, i, w, j, c] = tie / ties[c] * g[band, w, c]
