"""What every kernel computes, written for the reader in plain NumPy.

Arrays are channels-last: images ``(N, H, W, C)``, convolution weights ``(kh, kw, C_in, C_out)``. All floating arguments
of one call share a dtype, float32 or float64, which is also the result's. Every function allocates its result, except
`adam`, which works in place.
"""

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]
Labels = NDArray[np.int64]
Counts = NDArray[np.int64]
Pair = tuple[int, int]
Padding = tuple[Pair, Pair]
"""((top, bottom), (left, right)): zeros added before and after each image axis."""

ACTIVATIONS = ("identity", "relu", "leaky_relu", "elu", "silu", "gelu", "softplus", "sigmoid", "tanh")

_erfc = np.vectorize(math.erfc, otypes=[np.float64])


# ----------------------------------------------------------------------------------------------------------------
# activations


def activate(x: Array, kind: str, alpha: float = 0.0) -> tuple[Array, Array]:
    """Apply an activation function elementwise.

    Parameters
    ----------
    x : any shape
    kind : one of `ACTIVATIONS`; ``gelu`` is exact, x Φ(x)
    alpha : slope of ``leaky_relu`` or scale of ``elu`` (both >= 0); unused by the others

    Returns
    -------
    y : shape of x
    saved : what `activate_grad` reads: x itself for ``silu`` and ``gelu``; y itself for the others, whose derivative is
        a function of their value
    """
    y: Array
    if kind == "identity":
        y = x.copy()
    elif kind == "relu":
        y = np.maximum(x, 0)
    elif kind == "leaky_relu":
        y = np.where(x > 0, x, alpha * x)
    elif kind == "elu":
        y = np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))
    elif kind == "silu":
        y = x * _sigmoid(x)
    elif kind == "gelu":
        y = x * _normal_cdf(x)
    elif kind == "softplus":
        y = np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))
    elif kind == "sigmoid":
        y = _sigmoid(x)
    elif kind == "tanh":
        y = np.tanh(x)
    else:
        raise ValueError(f"activate: unknown kind {kind!r}; choose one of {', '.join(ACTIVATIONS)}")
    y = y.astype(x.dtype, copy=False)
    return y, (x if kind in ("silu", "gelu") else y)


def activate_grad(g: Array, saved: Array, kind: str, alpha: float = 0.0) -> Array:
    """The cotangent of `activate`'s input, from the cotangent ``g`` of its output and what it saved. relu'(0) = 0."""
    slope: Array
    if kind == "identity":
        slope = np.ones_like(saved)
    elif kind == "relu":
        slope = np.where(saved > 0, 1.0, 0.0)
    elif kind == "leaky_relu":
        slope = np.where(saved > 0, 1.0, alpha)
    elif kind == "elu":
        slope = np.where(saved > 0, 1.0, saved + alpha)
    elif kind == "silu":
        s = _sigmoid(saved)
        slope = s * (1 + saved * (1 - s))
    elif kind == "gelu":
        slope = _normal_cdf(saved) + saved * np.exp(-saved * saved / 2) / math.sqrt(2 * math.pi)
    elif kind == "softplus":
        slope = -np.expm1(-saved)
    elif kind == "sigmoid":
        slope = saved * (1 - saved)
    elif kind == "tanh":
        slope = 1 - saved * saved
    else:
        raise ValueError(f"activate_grad: unknown kind {kind!r}; choose one of {', '.join(ACTIVATIONS)}")
    return (g * slope).astype(g.dtype, copy=False)


def gated_tanh(x: Array) -> tuple[Array, Array]:
    """``tanh(a) * sigmoid(b)`` of the halves a and b of each row of x ``(M, 2 C)``, and both factors.

    Returns
    -------
    ``(y, saved)``, ``(M, C)`` and ``(M, 2 C)``
    """
    a, b = np.split(x, 2, axis=1)
    t, s = np.tanh(a), _sigmoid(b)
    return t * s, np.concatenate([t, s], axis=1)


def gated_tanh_grad(g: Array, saved: Array) -> Array:
    """The cotangent of `gated_tanh`'s input."""
    t, s = np.split(saved, 2, axis=1)
    return np.concatenate([g * s * (1 - t * t), g * t * (s * (1 - s))], axis=1)


def sinusoids(x: Array, frequencies: Array) -> Array:
    """The sines of all products of x ``(M,)`` and frequencies ``(F,)``, and beside them the cosines, ``(M, 2 F)``."""
    angle = np.multiply.outer(x, frequencies)
    return np.concatenate([np.sin(angle), np.cos(angle)], axis=1)


def bounded_affine(x: Array, theta: Array, bound: float, inverse: bool = False) -> Array:
    """``x * exp(s) + t`` of x ``(M, C)``, or its inverse ``(x - t) * exp(-s)``; beside it, the log-determinant.

    The halves of each row of theta ``(M, 2 C)`` are r and t, and ``s = bound * tanh(r / bound)``. The last column of
    the result ``(M, C + 1)`` is the sum of s, or of -s.
    """
    r, t = np.split(theta, 2, axis=1)
    s = bound * np.tanh(r / bound)
    y, log_scale = ((x - t) * np.exp(-s), -s) if inverse else (x * np.exp(s) + t, s)
    return np.concatenate([y, log_scale.sum(axis=1, keepdims=True)], axis=1)


def bounded_affine_grad(g: Array, x: Array, theta: Array, bound: float, inverse: bool = False) -> tuple[Array, Array]:
    """The cotangents of `bounded_affine`'s x and theta."""
    r, t = np.split(theta, 2, axis=1)
    squashed = np.tanh(r / bound)
    sign = -1 if inverse else 1
    gx = g[:, :-1] * np.exp(sign * bound * squashed)
    g_log_scale = gx * (x - t if inverse else x) + g[:, -1:]
    gr, gt = sign * g_log_scale * (1 - squashed**2), -gx if inverse else g[:, :-1]
    return gx, np.concatenate([gr, gt], axis=1)


def _sigmoid(x: Array) -> Array:
    e = np.exp(-np.abs(x))  # never overflows
    return np.where(x >= 0, 1 / (1 + e), e / (1 + e))


def _normal_cdf(x: Array) -> Array:
    return (0.5 * _erfc(-x / math.sqrt(2))).astype(x.dtype)  # 1 + erf would lose the digits of the left tail


# -------------------------------------------------------------------------------------------------------------- linear,
# convolution


def linear(
    x: Array, w: Array, b: Array | None = None, activation: str = "identity", alpha: float = 0.0
) -> tuple[Array, Array | None]:
    """Fused ``activate(x @ w + b)``: x ``(M, K)``, w ``(K, N)``, b ``(N,)`` or None. 2 M K N FLOPs.

    Returns ``(y, saved)`` as `activate` does, both ``(M, N)``; but nothing is saved for ``identity``.
    """
    y, saved = activate(x @ w if b is None else x @ w + b, activation, alpha)
    return y, saved if activation != "identity" else None


def linear_grad(
    g: Array,
    x: Array,
    w: Array,
    saved: Array | None,
    activation: str = "identity",
    alpha: float = 0.0,
    needs: tuple[bool, bool, bool] = (True, True, True),
) -> tuple[Array | None, Array | None, Array | None]:
    """The cotangents of `linear`'s x, w and b; those not in ``needs`` are None and cost nothing."""
    gz = g if saved is None else activate_grad(g, saved, activation, alpha)
    return (
        gz @ w.T if needs[0] else None,
        x.T @ gz if needs[1] else None,
        gz.sum(axis=0) if needs[2] else None,
    )


def _taps(kernel: Pair, out: Pair, stride: Pair, dilation: Pair) -> Iterator[tuple[int, int, tuple[slice, ...]]]:
    """For each kernel element, the (strided) window of the padded image that it meets."""
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            top, left = i * dilation[0], j * dilation[1]
            yield (
                i,
                j,
                (
                    slice(None),
                    slice(top, top + stride[0] * (out[0] - 1) + 1, stride[0]),
                    slice(left, left + stride[1] * (out[1] - 1) + 1, stride[1]),
                ),
            )


def conv2d(
    x: Array,
    w: Array,
    b: Array | None = None,
    stride: Pair = (1, 1),
    padding: Padding = ((0, 0), (0, 0)),
    dilation: Pair = (1, 1),
    addend: Array | None = None,
) -> Array:
    """Cross-correlation of x ``(N, H, W, C_in)`` with w ``(kh, kw, C_in, C_out)``, plus b ``(C_out,)`` and ``addend``.

    The addend has the shape of the result, or ``(N, 1, 1, C_out)`` or ``(1, 1, 1, C_out)``. Returns
    ``(N, H', W', C_out)`` with ``H' = (H + top + bottom - dilation (kh - 1) - 1) // stride + 1``.
    2 N H' W' kh kw C_in C_out FLOPs.
    """
    n, kh, kw = x.shape[0], w.shape[0], w.shape[1]
    padded = np.pad(x, ((0, 0), *padding, (0, 0)))
    out = tuple((padded.shape[1 + a] - dilation[a] * (w.shape[a] - 1) - 1) // stride[a] + 1 for a in (0, 1))
    y = np.zeros((n, *out, w.shape[3]), x.dtype)
    for i, j, window in _taps((kh, kw), (out[0], out[1]), stride, dilation):
        y += padded[window] @ w[i, j]
    y = y if b is None else y + b
    return y if addend is None else y + addend


def conv2d_input_grad(
    g: Array,
    w: Array,
    size: Pair,
    stride: Pair = (1, 1),
    padding: Padding = ((0, 0), (0, 0)),
    dilation: Pair = (1, 1),
) -> Array:
    """The cotangent ``(N, H, W, C_in)`` of `conv2d`'s x, where ``size`` is (H, W) and g is ``(N, H', W', C_out)``.

    This is the transposed convolution of g with w. ``size`` is needed because a stride maps several input sizes to one
    output size.
    """
    (top, bottom), (left, right) = padding
    padded = np.zeros((g.shape[0], size[0] + top + bottom, size[1] + left + right, w.shape[2]), g.dtype)
    for i, j, window in _taps((w.shape[0], w.shape[1]), (g.shape[1], g.shape[2]), stride, dilation):
        padded[window] += g @ w[i, j].T
    return np.ascontiguousarray(padded[:, top : top + size[0], left : left + size[1]])


def conv2d_weight_grad(
    x: Array,
    g: Array,
    kernel: Pair,
    stride: Pair = (1, 1),
    padding: Padding = ((0, 0), (0, 0)),
    dilation: Pair = (1, 1),
) -> Array:
    """The cotangent ``(kh, kw, C_in, C_out)`` of `conv2d`'s w, where ``kernel`` is (kh, kw)."""
    padded = np.pad(x, ((0, 0), *padding, (0, 0)))
    gw = np.zeros((*kernel, x.shape[3], g.shape[3]), x.dtype)
    for i, j, window in _taps(kernel, (g.shape[1], g.shape[2]), stride, dilation):
        gw[i, j] = np.tensordot(padded[window], g, axes=([0, 1, 2], [0, 1, 2]))
    return gw


# ---------------------------------------------------------------------------------------------------------------
# normalization


def group_norm(
    x: Array, groups: int, weight: Array, bias: Array, eps: float = 1e-5, activation: str = "identity"
) -> tuple[Array, Array, Array]:
    """Group normalization (Wu and He 2018): a sample's channels are standardised in groups, over all positions.

    x ``(N, ..., C)``, weight and bias ``(C,)``; activation ``identity`` or ``silu``. Returns ``(y, mean, rstd)``, the
    last two of shape ``(N, groups)``; the variance is the biased one.
    """
    grouped = x.reshape(x.shape[0], math.prod(x.shape[1:-1]), groups, x.shape[-1] // groups)
    mean = grouped.mean(axis=(1, 3), keepdims=True)
    rstd = 1 / np.sqrt(((grouped - mean) ** 2).mean(axis=(1, 3), keepdims=True) + x.dtype.type(eps))
    y, _ = activate(((grouped - mean) * rstd).reshape(x.shape) * weight + bias, activation)
    return y, mean[:, 0, :, 0], rstd[:, 0, :, 0]


def group_norm_grad(
    g: Array,
    x: Array,
    groups: int,
    weight: Array,
    bias: Array,
    mean: Array,
    rstd: Array,
    activation: str = "identity",
) -> tuple[Array, Array, Array]:
    """The cotangents of `group_norm`'s x, weight and bias."""
    shape = (x.shape[0], math.prod(x.shape[1:-1]), groups, x.shape[-1] // groups)
    rstd = rstd[:, None, :, None]
    normal = (x.reshape(shape) - mean[:, None, :, None]) * rstd
    _, saved = activate(normal.reshape(x.shape) * weight + bias, activation)
    g = activate_grad(g, saved, activation)
    gn = (g * weight).reshape(shape)
    gx = rstd * (gn - gn.mean(axis=(1, 3), keepdims=True) - normal * (gn * normal).mean(axis=(1, 3), keepdims=True))
    axes = tuple(range(x.ndim - 1))
    return gx.reshape(x.shape), (g * normal.reshape(x.shape)).sum(axis=axes), g.sum(axis=axes)


def layer_norm(x: Array, weight: Array, bias: Array, eps: float = 1e-5) -> tuple[Array, Array, Array]:
    """Layer normalization (Ba et al. 2016) of x ``(M, C)`` over its last axis: `group_norm` with one group."""
    y, mean, rstd = group_norm(x, 1, weight, bias, eps)
    return y, mean[:, 0], rstd[:, 0]


def layer_norm_grad(g: Array, x: Array, weight: Array, mean: Array, rstd: Array) -> tuple[Array, Array, Array]:
    """The cotangents of `layer_norm`'s x, weight and bias."""
    return group_norm_grad(g, x, 1, weight, np.zeros_like(weight), mean[:, None], rstd[:, None])


# ---------------------------------------------------------------------------------------------------------------------
# softmax


def softmax(x: Array) -> Array:
    """``exp(x) / sum(exp(x))`` of x ``(M, C)`` over its last axis."""
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def softmax_grad(g: Array, y: Array) -> Array:
    """The cotangent of `softmax`'s input, from its output y."""
    return y * (g - (g * y).sum(axis=-1, keepdims=True))


def log_softmax(x: Array) -> Array:
    """``x - logsumexp(x)`` of x ``(M, C)`` over its last axis."""
    shifted = x - x.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def log_softmax_grad(g: Array, y: Array) -> Array:
    """The cotangent of `log_softmax`'s input, from its output y."""
    return g - np.exp(y) * g.sum(axis=-1, keepdims=True)


def cross_entropy(x: Array, labels: Labels) -> tuple[Array, Array, Array]:
    """``-log_softmax(x)`` of x ``(M, C)`` at each row's label, 0 to C - 1: labels ``(M,)``.

    Returns ``(y, top, log_sum)``, all ``(M,)``: a row's maximum, and ``log(sum(exp(x - top)))``.
    """
    top = x.max(axis=-1)
    log_sum = np.log(np.exp(x - top[:, None]).sum(axis=-1))
    return log_sum + (top - x[np.arange(len(x)), labels]), top, log_sum


def cross_entropy_grad(g: Array, x: Array, labels: Labels, top: Array, log_sum: Array) -> Array:
    """The cotangent of `cross_entropy`'s x: ``softmax(x)``, less 1 at the label, times g ``(M,)``."""
    gx = g[:, None] * np.exp((x - top[:, None]) - log_sum[:, None])
    gx[np.arange(len(x)), labels] -= g
    return gx


def binary_cross_entropy(x: Array, targets: Array) -> tuple[Array, Array]:
    """``log(1 + exp(x)) - targets * x``, elementwise, and its derivative with respect to x."""
    return np.logaddexp(x, 0) - targets * x, _sigmoid(x) - targets


# ---------------------------------------------------------------------------------------------------------------------
# sums, pooling


def sum_rows(x: Array) -> Array:
    """Sum of x ``(N, M, C)`` over its second axis."""
    return x.sum(axis=1)


def sum_columns(x: Array) -> Array:
    """Sum of x ``(M, C)`` over its last axis."""
    return x.sum(axis=1)


def norm(x: Array) -> Array:
    """The Euclidean norm of x ``(P,)`` in float64, in which that of float32 does not overflow."""
    return np.asarray(np.sqrt(np.square(x, dtype=np.float64).sum()))


def _blocks(x: Array, size: Pair) -> Array:
    n, h, w, c = x.shape
    return x.reshape(n, h // size[0], size[0], w // size[1], size[1], c)


def sum_pool2d(x: Array, size: Pair) -> Array:
    """Sum of x ``(N, H, W, C)`` over blocks of ``size``, which divides (H, W). The adjoint of `upsample2d`."""
    return _blocks(x, size).sum(axis=(2, 4))


def upsample2d(x: Array, scale: Pair) -> Array:
    """Nearest-neighbour enlargement of x ``(N, H, W, C)`` by blocks of ``scale``. The adjoint of `sum_pool2d`."""
    return x.repeat(scale[0], axis=1).repeat(scale[1], axis=2)


def max_pool2d(x: Array, size: Pair) -> Array:
    """Maximum of x ``(N, H, W, C)`` over blocks of ``size``, which divides (H, W)."""
    return _blocks(x, size).max(axis=(2, 4))


def max_pool2d_grad(g: Array, x: Array, y: Array, size: Pair) -> Array:
    """The cotangent of `max_pool2d`'s x: each block's maxima share its cotangent equally."""
    ties = _blocks(x, size) == y[:, :, None, :, None, :]
    share = (ties / ties.sum(axis=(2, 4), keepdims=True)).astype(x.dtype)
    return (share * g[:, :, None, :, None, :]).reshape(x.shape)


# -------------------------------------------------------------------------------------------------------------------
# optimizer


def adam(
    p: Array,
    g: Array,
    m: Array,
    v: Array,
    ends: Counts,
    steps: Counts,
    settings: Array,
) -> None:
    """One step of Adam (Kingma and Ba 2015, algorithm 1) in place on flat arrays p, m, v; g is read only.

    Parameters
    ----------
    p, g, m, v : ``(P,)``: parameters one behind the other, their gradients, and the averages of these and of their
        squares
    ends : ``(n,)`` int64, where each parameter ends
    steps : ``(n,)`` int64, the number of this step for each, from 1; those with 0 are left alone
    settings : ``(5,)`` float64: lr, beta1, beta2, eps and weight_decay, in an array because they may be others where
        the same call is made again. The decay is decoupled (Loshchilov and Hutter 2019): p shrinks by ``lr *
        weight_decay`` of itself
    """
    lr, beta1, beta2, eps, weight_decay = settings.tolist()
    for begin, end, step in zip(ends - np.diff(ends, prepend=0), ends, steps.tolist(), strict=True):
        if step == 0:
            continue
        part = slice(begin, end)
        m[part] += (1 - beta1) * (g[part] - m[part])
        v[part] += (1 - beta2) * (g[part] * g[part] - v[part])
        m_hat = m[part] / (1 - beta1**step)
        v_hat = v[part] / (1 - beta2**step)
        p[part] -= lr * (m_hat / (np.sqrt(v_hat) + eps) + weight_decay * p[part])
