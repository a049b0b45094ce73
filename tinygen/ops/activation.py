"""Activation functions and softmax: one kernel call forward and one back.

The ``composition`` of each states its formula in other operations; higher derivatives differentiate that.
"""

import math

import numpy as np

import kernels
from kernels.calls import computed, contiguous, do, empty
from tinygen.autograd import Real, primitive
from tinygen.autograd.domain import Axis, Choice, Examples
from tinygen.errors import DataError, DTypeError, ShapeError
from tinygen.ops.elementwise import equal, erf, exp, expm1, logaddexp, where
from tinygen.ops.reduction import logsumexp, sum
from tinygen.ops.shape import split

_KINKED = Real(avoid=(0.0,))


def floating(x, name):
    """The array x, if it is floating, for kernels know no others."""
    array = np.asarray(x)
    if array.dtype.kind != "f":
        raise DTypeError(f"{name}: needs floating numbers, got {array.dtype}; use .astype(np.float32)")
    return array


def not_negative(value, name):
    """A slope or scale, of which kernels take the sign from their output, so it must not be negative."""
    if not value >= 0:
        raise ValueError(f"{name}={value} must be at least 0")
    return value


def rows_of(x):
    """``(..., C)`` as a matrix; -1 would not do, for C may be 0."""
    return contiguous(x).reshape(math.prod(x.shape[:-1]), x.shape[-1])


@primitive(domain=Real(), numpy=np.tanh, noted=True)
def tanh(x):
    """Elementwise hyperbolic tangent: d(tanh x) = (1 - tanh² x) dx."""
    return kernels.activate(floating(x, "tanh"), "tanh")[0]


tanh.vjp(x=lambda g, out: g * (1 - out * out))


@primitive(domain=Real(), noted=True)
def sigmoid(x):
    """Elementwise logistic function σ(x) = 1/(1 + e⁻ˣ), without overflow: dσ = σ (1 - σ) dx."""
    return kernels.activate(floating(x, "sigmoid"), "sigmoid")[0]


sigmoid.vjp(x=lambda g, out: g * (out * (1 - out)))


@primitive(domain=_KINKED, composition=lambda x: where(x > 0, x, 0), noted=True)
def relu(x):
    """Elementwise max(x, 0); its derivative at 0 is 0."""
    return kernels.activate(floating(x, "relu"), "relu")


@relu.joint_vjp
def _relu_vjp(g, saved):
    return {"x": kernels.activate_grad(g, saved, "relu")}


@primitive(
    domain={"x": _KINKED, "slope": Choice(0.01, 0.2)},
    composition=lambda x, slope: where(x > 0, x, slope * x),
    noted=True,
)
def leaky_relu(x, slope=0.01):
    """Elementwise x where x > 0 and slope · x elsewhere, for a slope >= 0; its derivative at 0 is the slope."""
    return kernels.activate(floating(x, "leaky_relu"), "leaky_relu", not_negative(slope, "leaky_relu: slope"))


@leaky_relu.joint_vjp
def _leaky_relu_vjp(g, saved, slope):
    return {"x": kernels.activate_grad(g, saved, "leaky_relu", slope)}


@primitive(
    domain={"x": _KINKED, "alpha": Choice(1.0, 0.5)},
    composition=lambda x, alpha: where(x > 0, x, alpha * expm1(where(x > 0, 0, x))),
    noted=True,
)
def elu(x, alpha=1.0):
    """Elementwise x for x > 0, alpha (eˣ - 1) elsewhere, alpha >= 0 (Clevert et al. 2016); its slope at 0 is alpha."""
    return kernels.activate(floating(x, "elu"), "elu", not_negative(alpha, "elu: alpha"))


@elu.joint_vjp
def _elu_vjp(g, saved, alpha):
    return {"x": kernels.activate_grad(g, saved, "elu", alpha)}


@primitive(domain=Real(), composition=lambda x: x * sigmoid(x), noted=True)
def silu(x):
    """Elementwise x σ(x), also called swish."""
    return kernels.activate(floating(x, "silu"), "silu")


@silu.joint_vjp
def _silu_vjp(g, saved):
    return {"x": kernels.activate_grad(g, saved, "silu")}


@primitive(domain=Real(), composition=lambda x: 0.5 * x * (1 + erf(x / math.sqrt(2))), noted=True)
def gelu(x):
    """Elementwise x Φ(x), exact, with the standard normal's distribution function Φ (Hendrycks and Gimpel 2016)."""
    return kernels.activate(floating(x, "gelu"), "gelu")


@gelu.joint_vjp
def _gelu_vjp(g, saved):
    return {"x": kernels.activate_grad(g, saved, "gelu")}


@primitive(domain=Real(), composition=lambda x: logaddexp(x, 0), noted=True)
def softplus(x):
    """Elementwise log(1 + eˣ), without overflow; its derivative is σ(x)."""
    return kernels.activate(floating(x, "softplus"), "softplus")


@softplus.joint_vjp
def _softplus_vjp(g, saved):
    return {"x": kernels.activate_grad(g, saved, "softplus")}


def _gated_tanh_composed(x):
    a, b = split(x, 2, -1)
    return tanh(a) * sigmoid(b)


@primitive(
    domain=Examples({"x": Real("n m c=4:4")}, {"x": Real("c=2:2")}), composition=_gated_tanh_composed, noted=True
)
def gated_tanh(x):
    """tanh(a) σ(b) of the halves a and b of the last axis (van den Oord et al. 2016, "PixelCNN Decoders", eq. 2).

    Dauphin et al. (2017) call it the gated tanh unit, GTU.

    Parameters
    ----------
    x : ``(..., 2 C)``

    Returns
    -------
    ``(..., C)``

    Examples
    --------
    >>> import tinygen as tg
    >>> tg.gated_tanh(tg.tensor([100.0, 100.0, 0.0, -200.0]))  # 1 through a half-open gate, and a closed one
    tensor([0.5, 0. ], dtype=float32)
    """
    x = floating(x, "gated_tanh")
    if x.ndim == 0 or x.shape[-1] % 2:
        raise ShapeError(f"gated_tanh: x (...,2C)={x.shape} must have an even last axis")
    y, saved = kernels.gated_tanh(rows_of(x))
    return y.reshape(*x.shape[:-1], y.shape[1]), saved


@gated_tanh.joint_vjp
def _gated_tanh_vjp(g, saved):
    return {"x": kernels.gated_tanh_grad(rows_of(g), saved).reshape(*g.shape[:-1], saved.shape[1])}


# -------------------------------------------------------------------------------------------------------------- softmax


def _by_rows(kernel, axis, *arrays):
    """Run a kernel for matrices along any one axis of arrays."""
    moved = [np.moveaxis(a, axis, -1) for a in arrays]
    return np.moveaxis(kernel(*map(rows_of, moved)).reshape(moved[0].shape), -1, axis)


@primitive(
    domain={"x": Real("n m k"), "axis": Axis()},
    composition=lambda x, axis: exp(x - logsumexp(x, axis, True)),
    noted=True,
)
def softmax(x, axis=-1):
    """exp(x) / sum(exp(x)) along an axis: positive numbers that sum to 1."""
    y = _by_rows(kernels.softmax, axis, floating(x, "softmax"))
    return y, y


@softmax.joint_vjp
def _softmax_vjp(g, saved, axis):
    return {"x": _by_rows(kernels.softmax_grad, axis, g, saved)}


@primitive(
    domain={"x": Real("n m k"), "axis": Axis()}, composition=lambda x, axis: x - logsumexp(x, axis, True), noted=True
)
def log_softmax(x, axis=-1):
    """log(softmax(x)) along an axis, in nats, accurate where softmax underflows."""
    y = _by_rows(kernels.log_softmax, axis, floating(x, "log_softmax"))
    return y, y


@log_softmax.joint_vjp
def _log_softmax_vjp(g, saved, axis):
    return {"x": _by_rows(kernels.log_softmax_grad, axis, g, saved)}


def _cross_entropy_composed(logits, labels):
    chosen = equal(np.expand_dims(labels, -1), np.arange(logits.shape[-1]))
    return -sum(where(chosen, log_softmax(logits), 0), -1)


@primitive(
    domain=Examples(
        {"logits": Real("n=3:3 k=4:4"), "labels": Choice([0, 3, 1], [2, 2, 0], 1, [[0, 0, 3], [1, 2, 3]])},
        {"logits": Real("k=2:2"), "labels": Choice(1, [0, 1, 1])},
    ),
    composition=_cross_entropy_composed,
    noted=True,
)
def cross_entropy(logits, labels):
    """-log(softmax(logits)) at the labels, in nats: one number for each label, of which a loss takes the mean.

    Its derivative is softmax(logits), less 1 at the label.

    Parameters
    ----------
    logits : ``(..., K)``
    labels : integers from 0 to K - 1, of a shape that broadcasts with the ``...`` of logits

    Raises
    ------
    ShapeError : shapes that do not broadcast
    DataError : labels that are not such integers; where it is `replayed`, their value is NaN instead

    Examples
    --------
    >>> import tinygen as tg
    >>> tg.cross_entropy(tg.tensor([[0.0, 0.0], [0.0, 100.0]]), [0, 1])  # log 2, and certainty
    tensor([0.6931472, 0.       ], dtype=float32)
    """
    logits, labels = floating(logits, "cross_entropy"), np.asarray(labels)
    if logits.ndim == 0:
        raise ShapeError("cross_entropy: logits must be (...,K), but they are a single number")
    *batch, k = logits.shape
    if labels.dtype.kind not in "iu" or (labels.size and not 0 <= labels.min() <= labels.max() < k):
        raise DataError(f"cross_entropy: labels must be integers from 0 to K-1={k - 1}")
    shape = np.broadcast_shapes(tuple(batch), labels.shape)
    if shape != logits.shape[:-1]:
        logits = np.broadcast_to(logits, (*shape, k))
    places = empty(shape, np.int64)
    do(np.copyto, places, labels)
    arguments = rows_of(logits), places.reshape(-1)
    y, *moments = kernels.cross_entropy(*arguments)
    return y.reshape(shape), (*arguments, *moments)


@cross_entropy.joint_vjp
def _cross_entropy_vjp(g, saved):
    gx = kernels.cross_entropy_grad(contiguous(g).reshape(-1), *saved)
    return {"logits": gx.reshape(*g.shape, gx.shape[1])}


@primitive(
    domain={"logits": Real("n m"), "targets": Real("n m", low=0, high=1)},
    composition=lambda logits, targets: softplus(logits) - targets * logits,
    noted=True,
)
def binary_cross_entropy(logits, targets):
    """-log of the probability of each target, in nats, where 1 has the probability σ(logit): log(1 + eˡ) - target · l.

    A target between 0 and 1 gives the mean for one that is 1 with that probability. The derivative is σ(l) - target.

    Examples
    --------
    >>> import tinygen as tg
    >>> tg.binary_cross_entropy(tg.tensor([0.0, -100.0]), tg.tensor([1.0, 1.0]))  # log 2, and a surprise
    tensor([  0.6931472, 100.       ], dtype=float32)
    """
    logits, targets = floating(logits, "binary_cross_entropy"), np.asarray(targets)
    if targets.dtype == bool or targets.ndim == 0:
        targets = computed(np.add, targets, logits.dtype.type(0), dtype=logits.dtype, casting="same_kind")
    if logits.shape != targets.shape:
        shape = np.broadcast_shapes(logits.shape, targets.shape)
        logits, targets = np.broadcast_to(logits, shape), np.broadcast_to(targets, shape)
    y, slope = kernels.binary_cross_entropy(logits, targets)
    return y, slope


@binary_cross_entropy.joint_vjp
def _binary_cross_entropy_vjp(g, logits, saved, needs):
    return {
        "logits": computed(np.multiply, g, saved),
        "targets": computed(np.multiply, computed(np.negative, g), logits) if "targets" in needs else None,
    }
