"""The map of an affine coupling, with its log-determinant: one kernel call forward and one back."""

import numpy as np

import kernels
from tinygen.autograd import Real, composite, primitive
from tinygen.autograd.domain import Choice, Examples
from tinygen.errors import ShapeError
from tinygen.ops.activation import floating, rows_of, tanh
from tinygen.ops.elementwise import exp
from tinygen.ops.reduction import sum
from tinygen.ops.shape import concatenate, split

_DOMAIN = Examples(
    {
        "x": Real("n m c=2:2"),
        "theta": Real("n m k=4:4"),
        "bound": Choice(3.0, 0.5),
        "inverse": Choice(False, True),
    },
    {"x": Real("c=1:1"), "theta": Real("k=2:2"), "bound": Choice(3.0), "inverse": Choice(False, True)},
)


def _composed(x, theta, bound, inverse):
    r, t = split(theta, 2, -1)
    s = bound * tanh(r / bound)
    y, log_scale = ((x - t) * exp(-s), -s) if inverse else (x * exp(s) + t, s)
    return concatenate([y, sum(log_scale, -1, True)], -1)


@primitive(domain=_DOMAIN, composition=_composed, noted=True)
def affine_and_log_det(x, theta, bound, inverse):
    """Both values of `bounded_affine` as one array ``(..., C + 1)``, the log-determinant last."""
    x, theta = floating(x, "affine_and_log_det"), floating(theta, "affine_and_log_det")
    y = kernels.bounded_affine(rows_of(x), rows_of(theta), bound, inverse)
    return y.reshape(*x.shape[:-1], y.shape[1]), None


@affine_and_log_det.joint_vjp
def _affine_vjp(g, x, theta, bound, inverse):
    gx, gtheta = kernels.bounded_affine_grad(rows_of(g), rows_of(x), rows_of(theta), bound, inverse)
    return {"x": gx.reshape(x.shape), "theta": gtheta.reshape(theta.shape)}


@composite(domain=_DOMAIN)
def bounded_affine(x, theta, bound=3.0, inverse=False):
    """The map of an affine coupling, x exp(s) + t, and log |det| = Σ s over the last axis (Dinh et al. 2017, RealNVP).

    The log-scale s = B tanh(r / B) is softly bounded: near r where that is small, and never beyond ±B.

    Parameters
    ----------
    x : ``(..., C)``
    theta : r and t, side by side, ``(..., 2 C)``
    bound : B
    inverse : whether to compute the inverse map, (x - t) exp(-s), and its log-determinant

    Returns
    -------
    ``(..., C)`` and ``(...)``

    Examples
    --------
    >>> import tinygen as tg
    >>> tg.bounded_affine(tg.tensor([[3.0]]), tg.tensor([[1000.0, 0.5]]), bound=1.0)  # r is far beyond the bound
    (tensor([[8.654845]], dtype=float32), tensor([1.], dtype=float32))
    """
    shape = np.shape(x)
    if not shape or np.shape(theta) != (*shape[:-1], 2 * shape[-1]):
        raise ShapeError(f"bounded_affine: theta (...,2C)={np.shape(theta)} does not fit x (...,C)={shape}")
    both = affine_and_log_det(x, theta, bound, inverse)
    return both[..., :-1], both[..., -1]
