"""Convolution and its two gradients: three bilinear operations, each of whose rules is written with the other two.

With y = x * w, the cotangents are x̄ = input_grad(ȳ, w) and w̄ = weight_grad(x, ȳ). Since each is linear in both of its
array arguments, differentiating any one again leads back to the three, so derivatives of every order exist.
"""

import numpy as np

import kernels
from tinygen.autograd import Real, composite, primitive
from tinygen.autograd.domain import Choice, Examples
from tinygen.errors import ShapeError
from tinygen.ops.activation import floating
from tinygen.ops.reduction import sum
from tinygen.ops.shape import expand_dims, squeeze, swapaxes

_GEOMETRY = {
    "stride": Choice(1, 2, (2, 1)),
    "padding": Choice(0, 1, (1, 0), ((1, 0), (0, 2))),
    "dilation": Choice(1, (1, 2)),
}


def pair(value, name, operation, least=1):
    """A whole number, or one for each image axis, as (for H, for W)."""
    both = tuple(value) if isinstance(value, tuple | list) else (value, value)
    if len(both) != 2 or not all(isinstance(v, int | np.integer) and v >= least for v in both):
        raise ShapeError(f"{operation}: {name}={value!r} must be a whole number >= {least}, or one for each of (H, W)")
    return int(both[0]), int(both[1])


def _pads(padding, operation):
    """Padding as ((top, bottom), (left, right))."""
    if isinstance(padding, int | np.integer):
        return (pair(padding, "padding", operation, 0),) * 2
    if len(padding) != 2:
        raise ShapeError(f"{operation}: padding={padding!r} must be a number, or one or a pair for each of (H, W)")
    return tuple(pair(p, "padding", operation, 0) for p in padding)


def _geometry(stride, padding, dilation, operation):
    return pair(stride, "stride", operation), _pads(padding, operation), pair(dilation, "dilation", operation)


def _out_size(size, kernel, stride, padding, dilation):
    return tuple(
        (n + before + after - d * (k - 1) - 1) // s + 1
        for n, k, s, (before, after), d in zip(size, kernel, stride, padding, dilation, strict=True)
    )


def _check_images(operation, **arrays):
    for name, (array, letters) in arrays.items():
        if array.ndim != 4:
            raise ShapeError(f"{operation}: {name} needs four axes {letters}, got shape {array.shape}")


@primitive(
    domain=Examples(
        {
            "x": Real("n=1:2 h=3:4 w=5:6 c=1:2"),
            "w": Real("p q c d=1:2"),
            "b": Real("d", optional=True),
            **_GEOMETRY,
            "addend": Real("n s=1:1 t=1:1 d", optional=True),
        },
        {
            "x": Real("n=1:2 h w c=1:2"),
            "w": Real("p=3:3 q=3:3 c d=1:2"),
            "b": Real("d", optional=True),
            "stride": Choice(1),
            "padding": Choice(1),
            "dilation": Choice(1),
            "addend": Real("n h w d"),
        },
    ),
    noted=True,
)
def conv2d(x, w, b=None, stride=1, padding=0, dilation=1, addend=None):
    """Convolution of images (cross-correlation, as the field has it).

    Parameters
    ----------
    x : ``(N, H, W, C_in)``
    w : ``(kh, kw, C_in, C_out)``
    b : ``(C_out,)`` or None
    stride, dilation : a number, or one for each of (H, W)
    padding : zeros around the image: a number, one for each of (H, W), or ((top, bottom), (left, right))
    addend : added to the result, as what a residual block goes around is; of the same shape, or ``(N, 1, 1, C_out)`` or
        ``(1, 1, 1, C_out)``, a bias for each image or for all. Most convolutions add it as they write the result

    Returns
    -------
    ``(N, H', W', C_out)`` with ``H' = (H + top + bottom - dilation (kh - 1) - 1) // stride + 1``

    Raises
    ------
    ShapeError : if the sizes do not fit

    Notes
    -----
    In float32, convolutions with 3 × 3 weights, stride 1, dilation 1 and at least 8 channels on both sides, and their
    gradients, are computed by Winograd's minimal filtering if there are enough pixels. Rounding errors are about twice
    those of a plain sum; a NaN or an infinity may spread to all results of the four tiles of 4 × 4 that meet it; and as
    the number of pixels counts, an image may get other last digits alone than in a batch. In float64, sums are plain.

    Examples
    --------
    >>> import numpy as np, tinygen as tg
    >>> tg.conv2d(np.ones((8, 28, 28, 1), np.float32), np.ones((3, 3, 1, 32), np.float32), padding=1, stride=2).shape
    (8, 14, 14, 32)
    """
    x, w = floating(x, "conv2d"), floating(w, "conv2d")
    _check_images("conv2d", x=(x, "(N,H,W,C)"), w=(w, "(kh,kw,C_in,C_out)"))
    if x.shape[3] != w.shape[2]:
        raise ShapeError(
            f"conv2d: x has C={x.shape[3]} in (N,H,W,C)={_show(x.shape)} but w expects C_in={w.shape[2]} in "
            f"(kh,kw,C_in,C_out)={_show(w.shape)}"
        )
    if b is not None and np.shape(b) != w.shape[3:]:
        raise ShapeError(f"conv2d: b is (C_out,)={_show(np.shape(b))} but w is (kh,kw,C_in,C_out)={_show(w.shape)}")
    steps, pads, dilations = geometry = _geometry(stride, padding, dilation, "conv2d")
    out = _out_size(x.shape[1:3], w.shape[:2], *geometry)
    if min(out) < 1:
        raise ShapeError(
            f"conv2d: a kernel (kh,kw)={_show(w.shape[:2])} with dilation={dilation} does not fit into an image "
            f"(H,W)={_show(x.shape[1:3])} with padding={padding}; pad more"
        )
    whole, pixel = (len(x), *out, w.shape[3]), (1, 1, w.shape[3])
    if addend is not None and np.shape(addend) not in (whole, (len(x), *pixel), (1, *pixel)):
        raise ShapeError(
            f"conv2d: addend is {_show(np.shape(addend))} but must be (N,H',W',C_out)={_show(whole)}, or have H'=W'=1 "
            "and N or 1 images"
        )
    return kernels.conv2d(x, w, b, steps, pads, dilations, addend)


def _show(shape):
    return "(" + ",".join(map(str, shape)) + ")"


@primitive(
    domain=Examples(
        {
            "y": Real("n=1:2 h=2:3 w=2:3 d=1:2"),
            "w": Real("p=2:2 q=2:2 c=1:2 d"),
            "size": Choice(None),
            "stride": Choice(1, 2),
            "padding": Choice(0, 1),
        },
        {
            "y": Real("n=1:2 h=2:2 w=2:2 d=1:2"),
            "w": Real("p=2:2 q=2:2 c=1:2 d"),
            "size": Choice((4, 5), (5, 4)),
            "stride": Choice(2),
        },
    ),
    noted=True,
)
def conv2d_input_grad(y, w, size=None, stride=1, padding=0, dilation=1):
    """The adjoint of `conv2d` in its first argument: from y ``(N, H', W', C_out)`` to ``(N, H, W, C_in)``.

    ``size`` is (H, W). Several sizes lead to one output size when the stride is not 1; None is the smallest of them.
    """
    y, w = floating(y, "conv2d_input_grad"), floating(w, "conv2d_input_grad")
    _check_images("conv2d_input_grad", y=(y, "(N,H',W',C_out)"), w=(w, "(kh,kw,C_in,C_out)"))
    geometry = _geometry(stride, padding, dilation, "conv2d_input_grad")
    size = _in_size(y.shape[1:3], w.shape[:2], *geometry) if size is None else tuple(size)
    if y.shape[3] != w.shape[3] or _out_size(size, w.shape[:2], *geometry) != y.shape[1:3]:
        raise ShapeError(
            f"conv2d_input_grad: y is (N,H',W',C_out)={_show(y.shape)}, but conv2d of images (H,W)={_show(size)} "
            f"with w (kh,kw,C_in,C_out)={_show(w.shape)} gives (H',W')={_show(_out_size(size, w.shape[:2], *geometry))}"
        )
    return kernels.conv2d_input_grad(y, w, size, *geometry)


def _in_size(size, kernel, stride, padding, dilation):
    """The smallest image size that `conv2d` takes to ``size``."""
    return tuple(
        (n - 1) * s + d * (k - 1) + 1 - before - after
        for n, k, s, (before, after), d in zip(size, kernel, stride, padding, dilation, strict=True)
    )


@primitive(
    domain=Examples(
        {"x": Real("n=1:2 h=3:3 w=4:4 c=1:2"), "y": Real("n p=2:2 q=3:3 d=1:2"), "kernel": Choice((2, 2))},
        {
            "x": Real("n=1:2 h=4:4 w=5:5 c=1:2"),
            "y": Real("n p=2:2 q=2:2 d=1:2"),
            "kernel": Choice((2, 2), (2, 3)),
            "stride": Choice(2),
        },
    ),
    noted=True,
)
def conv2d_weight_grad(x, y, kernel, stride=1, padding=0, dilation=1):
    """The adjoint of `conv2d` in its second argument, ``(kh, kw, C_in, C_out)`` with ``kernel`` = (kh, kw).

    It takes x ``(N, H, W, C_in)`` and y ``(N, H', W', C_out)``.
    """
    x, y = floating(x, "conv2d_weight_grad"), floating(y, "conv2d_weight_grad")
    _check_images("conv2d_weight_grad", x=(x, "(N,H,W,C_in)"), y=(y, "(N,H',W',C_out)"))
    geometry = _geometry(stride, padding, dilation, "conv2d_weight_grad")
    if (x.shape[0], *_out_size(x.shape[1:3], kernel, *geometry)) != y.shape[:3]:
        raise ShapeError(
            f"conv2d_weight_grad: conv2d of x (N,H,W,C_in)={_show(x.shape)} with (kh,kw)={_show(kernel)} does not "
            f"lead to y (N,H',W',C_out)={_show(y.shape)}"
        )
    return kernels.conv2d_weight_grad(x, y, tuple(kernel), *geometry)


conv2d.vjp(
    x=lambda g, x_shape, w, stride, padding, dilation: conv2d_input_grad(g, w, x_shape[1:3], stride, padding, dilation),
    w=lambda g, x, w_shape, stride, padding, dilation: conv2d_weight_grad(x, g, w_shape[:2], stride, padding, dilation),
    b=lambda g: sum(g, (0, 1, 2)),
    addend=lambda g: g,
)
conv2d_input_grad.vjp(
    y=lambda g, w, stride, padding, dilation: conv2d(g, w, None, stride, padding, dilation),
    w=lambda g, y, w_shape, stride, padding, dilation: conv2d_weight_grad(g, y, w_shape[:2], stride, padding, dilation),
)
conv2d_weight_grad.vjp(
    x=lambda g, x_shape, y, stride, padding, dilation: conv2d_input_grad(y, g, x_shape[1:3], stride, padding, dilation),
    y=lambda g, x, stride, padding, dilation: conv2d(x, g, None, stride, padding, dilation),
)


@composite(
    domain={
        "x": Real("n=1:2 h=2:3 w=2:3 c=1:2"),
        "w": Real("p=2:3 q=2:3 c d=1:2"),
        "b": Real("d", optional=True),
        "stride": Choice(2, 3),
        "padding": Choice(0, 1),
        "output_padding": Choice(0, 1),
    }
)
def conv_transpose2d(x, w, b=None, stride=1, padding=0, output_padding=0):
    """Transposed convolution: the adjoint of the `conv2d` with these settings, as a layer that enlarges images.

    Parameters
    ----------
    x : ``(N, H, W, C_in)``
    w : ``(kh, kw, C_in, C_out)``, of this layer's own input and output
    b : ``(C_out,)`` or None
    stride : a number, or one for each of (H, W): the enlargement
    padding : how much is cut from each side of the result
    output_padding : added to the result's bottom and right; less than the stride

    Returns
    -------
    ``(N, H', W', C_out)`` with ``H' = (H - 1) stride - 2 padding + kh + output_padding``
    """
    if np.ndim(x) != 4 or np.ndim(w) != 4 or np.shape(x)[3] != np.shape(w)[2]:
        raise ShapeError(
            f"conv_transpose2d: x must be (N,H,W,C_in) and w (kh,kw,C_in,C_out) with equal C_in, got "
            f"{_show(np.shape(x))} and {_show(np.shape(w))}"
        )
    if b is not None and np.shape(b) != np.shape(w)[3:]:
        raise ShapeError(
            f"conv_transpose2d: b is (C_out,)={_show(np.shape(b))} but w is (kh,kw,C_in,C_out)={_show(np.shape(w))}"
        )
    stride = pair(stride, "stride", "conv_transpose2d")
    extra = pair(output_padding, "output_padding", "conv_transpose2d", 0)
    pads = _pads(padding, "conv_transpose2d")
    if any(e >= s for e, s in zip(extra, stride, strict=True)):
        raise ShapeError(f"conv_transpose2d: output_padding={output_padding} must be less than stride={stride}")
    smallest = _in_size(np.shape(x)[1:3], np.shape(w)[:2], stride, pads, (1, 1))
    size = tuple(n + e for n, e in zip(smallest, extra, strict=True))
    if min(size) < 1:
        raise ShapeError(f"conv_transpose2d: padding={padding} leaves nothing of the result (H',W')={_show(size)}")
    y = conv2d_input_grad(x, swapaxes(w, 2, 3), size, stride, pads, 1)
    return y if b is None else y + b


@composite(
    domain={
        "x": Real("n=1:2 l=5:6 c=1:2"),
        "w": Real("k c d=1:2"),
        "b": Real("d", optional=True),
        "stride": Choice(1, 2),
        "padding": Choice(0, 2),
        "dilation": Choice(1, 2),
        "causal": Choice(False, True),
    }
)
def conv1d(x, w, b=None, stride=1, padding=0, dilation=1, causal=False):
    """Convolution of sequences.

    Parameters
    ----------
    x : ``(N, L, C_in)``
    w : ``(k, C_in, C_out)``
    b : ``(C_out,)`` or None
    stride, dilation : numbers
    padding : zeros on both sides, or a (before, after) pair
    causal : pad on the left by ``dilation (k - 1)`` more, so that an output sees nothing later than itself

    Returns
    -------
    ``(N, L', C_out)`` with ``L' = (L + before + after - dilation (k - 1) - 1) // stride + 1``
    """
    if np.ndim(x) != 3 or np.ndim(w) != 3 or np.shape(x)[2] != np.shape(w)[1]:
        raise ShapeError(
            f"conv1d: x must be (N,L,C_in) and w (k,C_in,C_out) with equal C_in, got {_show(np.shape(x))} and "
            f"{_show(np.shape(w))}"
        )
    before, after = pair(padding, "padding", "conv1d", 0)
    if causal:
        before += dilation * (np.shape(w)[0] - 1)
    image, kernel = expand_dims(x, 1), expand_dims(w, 0)  # one row
    return squeeze(conv2d(image, kernel, b, (1, stride), ((0, 0), (before, after)), (1, dilation)), 1)
