"""Group and layer normalization, fused; the compositions state the formulas."""

from collections.abc import Callable

import numpy as np

import kernels
from kernels.calls import contiguous
from tinygen.autograd import Real, primitive
from tinygen.autograd.domain import Choice
from tinygen.errors import ShapeError
from tinygen.ops.activation import floating, silu
from tinygen.ops.elementwise import sqrt
from tinygen.ops.reduction import mean
from tinygen.ops.shape import reshape

_ACTIVATIONS: dict[str, Callable] = {"identity": lambda z: z, "silu": silu}


def _group_norm_composed(x, groups, weight, bias, eps, activation):
    grouped = reshape(x, (x.shape[0], -1, groups, x.shape[-1] // groups))
    centred = grouped - mean(grouped, (1, 3), True)
    normal = centred / sqrt(mean(centred * centred, (1, 3), True) + eps)
    return _ACTIVATIONS[activation](reshape(normal, x.shape) * weight + bias)


@primitive(
    domain={
        "x": Real("n=1:2 h=1:2 w=2:2 c=4:4"),
        "groups": Choice(1, 2, 4),
        "weight": Real("c"),
        "bias": Real("c"),
        "eps": Choice(1e-5, 0.1),
        "activation": Choice(*_ACTIVATIONS),
    },
    composition=_group_norm_composed,
    noted=True,
)
def group_norm(x, groups, weight, bias, eps=1e-5, activation="identity"):
    """Group normalization (Wu and He 2018): a sample's channels are standardised in groups, over all positions.

    ``activation(x̂ weight + bias)`` with ``x̂ = (x - mean) / sqrt(variance + eps)`` in one step. The derivative computes
    x̂ again from x and its group's mean and variance, so that nothing else of x's size is kept.

    Parameters
    ----------
    x : ``(N, ..., C)``
    groups : how many; divides C
    weight, bias : ``(C,)``
    eps : added to the variance
    activation : ``identity`` or ``silu``

    Raises
    ------
    ShapeError : if the sizes do not fit
    ValueError : for an unknown activation
    """
    x = floating(x, "group_norm")
    if (
        x.ndim < 2
        or groups < 1
        or x.shape[-1] % groups
        or np.shape(weight) != x.shape[-1:]
        or np.shape(bias) != x.shape[-1:]
    ):
        raise ShapeError(
            f"group_norm: x is (N,...,C)={x.shape}, groups={groups}, weight {np.shape(weight)}, bias {np.shape(bias)}; "
            "groups must divide C, and weight and bias have shape (C,)"
        )
    if activation not in _ACTIVATIONS:
        raise ValueError(f"group_norm: unknown activation {activation!r}; choose one of {', '.join(_ACTIVATIONS)}")
    y, mean, rstd = kernels.group_norm(x, groups, weight, bias, eps, activation)
    return y, (mean, rstd)


@group_norm.joint_vjp
def _group_norm_vjp(g, saved, x, groups, weight, bias, activation):
    mean, rstd = saved
    gx, gw, gb = kernels.group_norm_grad(g, x, groups, weight, bias, mean, rstd, activation)
    return {"x": gx, "weight": gw, "bias": gb}


def _layer_norm_composed(x, weight, bias, eps):
    centred = x - mean(x, -1, True)
    return centred / sqrt(mean(centred * centred, -1, True) + eps) * weight + bias


@primitive(
    domain={"x": Real("n=1:2 m=1:2 c=3:4"), "weight": Real("c"), "bias": Real("c"), "eps": Choice(1e-5, 0.1)},
    composition=_layer_norm_composed,
    noted=True,
)
def layer_norm(x, weight, bias, eps=1e-5):
    """Layer normalization (Ba, Kiros and Hinton 2016): the last axis is standardised.

    Parameters
    ----------
    x : ``(..., C)``
    weight, bias : ``(C,)``
    eps : added to the variance

    Raises
    ------
    ShapeError : if the sizes do not fit
    """
    x = floating(x, "layer_norm")
    if x.ndim < 1 or np.shape(weight) != x.shape[-1:] or np.shape(bias) != x.shape[-1:]:
        raise ShapeError(
            f"layer_norm: x is (...,C)={x.shape}, weight {np.shape(weight)}, bias {np.shape(bias)}; both must be (C,)"
        )
    y, mean, rstd = kernels.layer_norm(contiguous(x).reshape(-1, x.shape[-1]), weight, bias, eps)
    return y.reshape(x.shape), (mean, rstd)


@layer_norm.joint_vjp
def _layer_norm_vjp(g, saved, x, weight):
    width = x.shape[-1]
    gx, gw, gb = kernels.layer_norm_grad(
        contiguous(g).reshape(-1, width), contiguous(x).reshape(-1, width), weight, *saved
    )
    return {"x": gx.reshape(x.shape), "weight": gw, "bias": gb}
