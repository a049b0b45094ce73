"""The fused layer ``activation(x @ w + b)``."""

from collections.abc import Callable

import numpy as np

import kernels
from tinygen.autograd import Real, primitive
from tinygen.autograd.domain import Choice
from tinygen.errors import ShapeError
from tinygen.ops.activation import (
    elu,
    floating,
    gelu,
    leaky_relu,
    not_negative,
    relu,
    rows_of,
    sigmoid,
    silu,
    softplus,
    tanh,
)
from tinygen.ops.linalg import matmul

_ACTIVATIONS: dict[str, Callable] = {
    "identity": lambda x, alpha: x,
    "relu": lambda x, alpha: relu(x),
    "leaky_relu": leaky_relu,
    "elu": elu,
    "silu": lambda x, alpha: silu(x),
    "gelu": lambda x, alpha: gelu(x),
    "softplus": lambda x, alpha: softplus(x),
    "sigmoid": lambda x, alpha: sigmoid(x),
    "tanh": lambda x, alpha: tanh(x),
}


def _composed(x, w, b, activation, alpha):
    z = matmul(x, w) if b is None else matmul(x, w) + b
    return _ACTIVATIONS[activation](z, alpha)


@primitive(
    domain={
        "x": Real("... k"),
        "w": Real("k n"),
        "b": Real("n", optional=True),
        "activation": Choice("identity", "silu", "gelu", "softplus", "sigmoid", "tanh"),
        "alpha": Choice(0.1),
    },
    composition=_composed,
    noted=True,
)
def linear(x, w, b=None, activation="identity", alpha=0.01):
    """``activation(x @ w + b)`` in one step.

    Parameters
    ----------
    x : ``(..., C_in)``
    w : ``(C_in, C_out)``
    b : ``(C_out,)`` or None
    activation : ``identity relu leaky_relu elu silu gelu softplus sigmoid tanh``
    alpha : slope of ``leaky_relu``, scale of ``elu``

    Returns
    -------
    ``(..., C_out)``

    Raises
    ------
    ShapeError : if the sizes do not fit
    ValueError : for an unknown activation
    """
    x, w = floating(x, "linear"), floating(w, "linear")
    if w.ndim != 2 or x.ndim == 0 or x.shape[-1] != w.shape[0]:
        raise ShapeError(f"linear: x is (...,C_in)={x.shape} but w is (C_in,C_out)={w.shape}; their C_in must be equal")
    if b is not None and np.shape(b) != w.shape[1:]:
        raise ShapeError(f"linear: b is (C_out,)={np.shape(b)} but w is (C_in,C_out)={w.shape}")
    if activation not in _ACTIVATIONS:
        raise ValueError(f"linear: unknown activation {activation!r}; choose one of {', '.join(_ACTIVATIONS)}")
    not_negative(alpha, "linear: alpha")
    y, saved = kernels.linear(rows_of(x), w, b, activation, alpha)
    return y.reshape(*x.shape[:-1], w.shape[1]), saved


@linear.joint_vjp
def _linear_vjp(g, x, w, saved, activation, alpha, needs):
    wanted = ("x" in needs, "w" in needs, "b" in needs)
    gx, gw, gb = kernels.linear_grad(rows_of(g), rows_of(x), w, saved, activation, alpha, wanted)
    return {"x": None if gx is None else gx.reshape(x.shape), "w": gw, "b": gb}
