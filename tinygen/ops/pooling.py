"""Making images smaller and larger by whole blocks of pixels."""

import numpy as np

import kernels
from tinygen.autograd import Real, composite, primitive
from tinygen.autograd.domain import Choice
from tinygen.errors import ShapeError
from tinygen.ops.activation import floating
from tinygen.ops.convolution import pair
from tinygen.ops.indexing import getitem
from tinygen.ops.reduction import max
from tinygen.ops.shape import reshape

_DIVISIBLE = {"x": Real("n=1:2 h=2:2 w=6:6 c=1:2"), "size": Choice(1, 2, (2, 3))}


def _images(x, size, operation):
    x, size = floating(x, operation), pair(size, "size", operation)
    if x.ndim != 4 or x.shape[1] % size[0] or x.shape[2] % size[1]:
        raise ShapeError(f"{operation}: x must be (N,H,W,C) with (H,W) divisible by {size}, got shape {x.shape}")
    return x, size


@primitive(domain=_DIVISIBLE, noted=True)
def sum_pool2d(x, size):
    """Sum of x ``(N, H, W, C)`` over blocks of ``size`` pixels, which divides (H, W). The adjoint of `upsample2d`."""
    return kernels.sum_pool2d(*_images(x, size, "sum_pool2d"))


@primitive(domain={"x": Real("n=1:2 h=1:2 w=1:2 c=1:2"), "scale": Choice(1, 2, (2, 3))}, noted=True)
def upsample2d(x, scale):
    """Nearest-neighbour enlargement of x ``(N, H, W, C)``: each pixel becomes a block of ``scale`` pixels."""
    x = floating(x, "upsample2d")
    if x.ndim != 4:
        raise ShapeError(f"upsample2d: x must be (N,H,W,C), got shape {x.shape}")
    return kernels.upsample2d(x, pair(scale, "scale", "upsample2d"))


sum_pool2d.vjp(x=lambda g, size: upsample2d(g, size))
upsample2d.vjp(x=lambda g, scale: sum_pool2d(g, scale))


def _whole_blocks(x, size):
    """X without the rows and columns that do not fill a block."""
    h, w = (n - n % s for n, s in zip(np.shape(x)[1:3], size, strict=True))
    return x if (h, w) == tuple(np.shape(x)[1:3]) else getitem(x, (slice(None), slice(h), slice(w)))


@composite(domain={"x": Real("n=1:2 h=2:3 w=6:7 c=1:2"), "size": Choice(2, (2, 3))})
def avg_pool2d(x, size):
    """Mean of x ``(N, H, W, C)`` over blocks of ``size`` pixels; a rest that does not fill a block is left out."""
    size = pair(size, "size", "avg_pool2d")
    return sum_pool2d(_whole_blocks(x, size), size) / (size[0] * size[1])


def _block_maxima(x, size):
    (n, h, w, c), (sh, sw) = x.shape, pair(size, "size", "max_pool2d")
    return max(reshape(x, (n, h // sh, sh, w // sw, sw, c)), (2, 4))


@primitive(
    domain={"x": Real("n=1:2 h=2:2 w=6:6 c=1:2", distinct=True), "size": Choice(2, (2, 3))},
    composition=_block_maxima,
    noted=True,
)
def block_max(x, size):
    """Maximum of x ``(N, H, W, C)`` over blocks of ``size``, which divides (H, W); ties share the gradient equally."""
    x, size = _images(x, size, "max_pool2d")
    y = kernels.max_pool2d(x, size)
    return y, y


@block_max.joint_vjp
def _block_max_vjp(g, saved, x, size):
    return {"x": kernels.max_pool2d_grad(g, x, saved, pair(size, "size", "max_pool2d"))}


@composite(domain={"x": Real("n=1:2 h=2:3 w=6:7 c=1:2", distinct=True, gap=0.02), "size": Choice(2, (2, 3))})
def max_pool2d(x, size):
    """Maximum of x ``(N, H, W, C)`` over blocks of ``size`` pixels; a rest that does not fill a block is left out."""
    return block_max(_whole_blocks(x, pair(size, "size", "max_pool2d")), size)
