"""Sums, extremes and what is made of them, over one axis, several, or all (``axis=None``)."""

import math

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

import kernels
from kernels.calls import computed
from tinygen.autograd import Real, composite, primitive
from tinygen.autograd.domain import Axes, Axis, Choice, Examples
from tinygen.errors import ShapeError
from tinygen.ops.elementwise import abs, astype, equal, exp, sqrt, where
from tinygen.ops.shape import broadcast_to, flip, reshape

_REDUCTION = {"x": Real("..."), "axis": Axes(), "keepdims": Choice(False, True)}
_DISTINCT = {"x": Real("...", distinct=True), "axis": Axes(), "keepdims": Choice(False, True)}
_SPREAD = {"x": Real("n=2:3 m=2:3", distinct=True), "axis": Axes(), "keepdims": Choice(False, True)}


def _axes(axis, ndim):
    """The reduced axes, counted from 0."""
    if axis is None:
        return tuple(range(ndim))
    return tuple(a % ndim for a in (axis if isinstance(axis, tuple | list) else (axis,)))


def _keep(reduced, shape, axis):
    """A reduced value with its reduced axes put back as axes of size 1."""
    axes = _axes(axis, len(shape))
    return reshape(reduced, tuple(1 if i in axes else n for i, n in enumerate(shape)))


def _spread(reduced, shape, axis):
    """A reduced value repeated along the reduced axes: the adjoint of a sum."""
    return broadcast_to(_keep(reduced, shape, axis), shape)


@primitive(domain=_REDUCTION, numpy=np.sum, noted=True)
def sum(x, axis=None, keepdims=False):
    """Sum over axes."""
    x = np.asarray(x)
    if x.size and x.flags.c_contiguous and x.dtype in (np.float32, np.float64):
        axes = [*range(x.ndim)] if axis is None else sorted(normalize_axis_tuple(axis, x.ndim))
        first = axes[0] if axes else 0
        outer, total = math.prod(x.shape[:first]), None
        if axes and axes == [*range(first, x.ndim)]:
            total = kernels.sum_columns(x.reshape(outer, -1))
        elif axes and axes == [*range(first, x.ndim - 1)] and x.shape[-1] > 1:
            # This is how the gradient of a bias is summed, or of one for each image, and NumPy takes one core for it.
            total = kernels.sum_rows(x.reshape(outer, -1, x.shape[-1]))
        if total is not None:
            sizes = [1 if i in axes else n for i, n in enumerate(x.shape) if keepdims or i not in axes]
            return total.reshape(sizes)
    return computed(np.add.reduce, x, axis=axis, keepdims=keepdims)  # `np.sum` takes a microsecond more


sum.vjp(x=lambda g, x_shape, axis: _spread(g, x_shape, axis))


@primitive(domain=_REDUCTION, numpy=np.mean, noted=True)
def mean(x, axis=None, keepdims=False):
    """Mean over axes."""
    x = np.asarray(x)
    if x.size and x.dtype in (np.float32, np.float64):
        total = sum.function(x, axis, keepdims)
        return computed(np.divide, total, x.size // total.size)
    return computed(np.mean, x, axis=axis, keepdims=keepdims)


mean.vjp(
    x=lambda g, x_shape, axis: _spread(g / math.prod(x_shape[a] for a in _axes(axis, len(x_shape))), x_shape, axis)
)


@composite(domain=_REDUCTION, numpy=np.var)
def var(x, axis=None, keepdims=False):
    """Variance over axes, divided by the number of elements (``ddof=0``)."""
    centred = x - mean(x, axis, True)
    return mean(centred * centred, axis, keepdims)


@composite(domain=_SPREAD, numpy=np.std)
def std(x, axis=None, keepdims=False):
    """Standard deviation over axes (``ddof=0``); its derivative is infinite where all elements are equal."""
    return sqrt(var(x, axis, keepdims))


def _to_ties(g, out, x, axis):
    """The cotangent of an extreme, shared equally by the elements that attain it."""
    ties = astype(equal(x, _keep(out, x.shape, axis)), g.dtype)
    return _keep(g, x.shape, axis) * (ties / sum(ties, axis, True))


@primitive(domain=_DISTINCT, numpy=(np.max, np.amax))
def max(x, axis=None, keepdims=False):
    """Largest element over axes; ties share the gradient equally."""
    return np.max(x, axis=axis, keepdims=keepdims)


max.vjp(x=_to_ties)


@primitive(domain=_DISTINCT, numpy=(np.min, np.amin))
def min(x, axis=None, keepdims=False):
    """Smallest element over axes; ties share the gradient equally."""
    return np.min(x, axis=axis, keepdims=keepdims)


min.vjp(x=_to_ties)


@primitive(domain=_REDUCTION)
def logsumexp(x, axis=None, keepdims=False):
    """log(sum(exp(x))) over axes, finite wherever the result is."""
    top = np.max(x, axis=axis, keepdims=True)
    shift = np.where(np.isfinite(top), top, 0)  # a row of -inf gives -inf and one with +inf gives +inf, neither NaN
    with np.errstate(divide="ignore"):
        out = np.log(np.sum(np.exp(x - shift), axis=axis, keepdims=True)) + shift
    return out if keepdims else np.squeeze(out, axis)


def _softmax_of(g, out, x, axis):
    finite = where(equal(out, -math.inf), 0, out)  # -inf - -inf would be NaN
    return _keep(g, x.shape, axis) * exp(x - _keep(finite, x.shape, axis))


logsumexp.vjp(x=_softmax_of)


@primitive(domain=_REDUCTION)
def euclidean_norm(x, axis=None, keepdims=False):
    """√(sum(x²)) over axes; its derivative x/norm is taken as 0 at 0."""
    return np.sqrt(np.sum(np.square(x), axis=axis, keepdims=keepdims))


def _direction(g, out, x, axis):
    return _keep(g, x.shape, axis) * (x / _keep(where(equal(out, 0), 1, out), x.shape, axis))


euclidean_norm.vjp(x=_direction)


_OFF_ZERO = Real("n m", distinct=True, avoid=(0.0,))


@composite(
    domain=Examples(
        {"x": _OFF_ZERO, "ord": Choice(None, 1, 2, math.inf), "axis": Axis(), "keepdims": Choice(False, True)},
        {"x": Real(distinct=True, avoid=(0.0,)), "ord": Choice(None), "axis": Axes(), "keepdims": Choice(False, True)},
    ),
    numpy=np.linalg.norm,
)
def norm(x, ord=None, axis=None, keepdims=False):
    """Norm of vectors along an axis, or of all elements together.

    Parameters
    ----------
    x : any shape
    ord : None or 2 for √(sum(x²)), 1 for sum(|x|), inf for max(|x|)
    axis, keepdims : as in `sum`

    Raises
    ------
    ShapeError : for other orders, and for a matrix norm other than the default (Frobenius)

    Examples
    --------
    >>> import tinygen as tg
    >>> x = tg.tensor([[3.0, 4.0], [0.0, 0.0]], requires_grad=True)
    >>> tg.grad(tg.norm(x, axis=1).sum(), x)  # finite at the zero vector
    tensor([[0.6, 0.8],
            [0. , 0. ]], dtype=float32)
    """
    over = len(_axes(axis, np.ndim(x)))
    if ord is not None and (over != 1 or ord not in (1, 2, math.inf)):
        raise ShapeError(f"norm: ord={ord!r} over {over} axes; vector norms have one axis and ord 1, 2 or inf")
    if ord == 1:
        return sum(abs(x), axis, keepdims)
    return max(abs(x), axis, keepdims) if ord == math.inf else euclidean_norm(x, axis, keepdims)


@primitive(domain={"x": Real("..."), "axis": Axis()}, numpy=np.cumsum)
def cumsum(x, axis=None):
    """Running sum along an axis; of the flattened array for None."""
    return np.cumsum(x, axis=axis)


def _cumsum_adjoint(g, x_shape, axis):
    over = 0 if axis is None else axis
    return reshape(flip(cumsum(flip(g, over), over), over), x_shape)


cumsum.vjp(x=_cumsum_adjoint)


@primitive(domain={"x": Real("...", distinct=True), "axis": Axis()}, numpy=np.argmax)
def argmax(x, axis=None):
    """Index of the first largest element along an axis; into the flattened array for None."""
    return np.argmax(x, axis=axis)


@primitive(domain={"x": Real("...", distinct=True), "axis": Axis()}, numpy=np.argmin)
def argmin(x, axis=None):
    """Index of the first smallest element along an axis; into the flattened array for None."""
    return np.argmin(x, axis=axis)
