"""Activation functions and their derivatives, elementwise."""

from typing import Any

from kernels.arguments import Array, check
from kernels.calls import empty, empty_like
from kernels.compilation import jit
from kernels.elementary import FLAGS, expm1, normal_cdf, normal_pdf, sigmoid, softplus, tanh
from kernels.reference import ACTIVATIONS
from kernels.threads import run, share

IDENTITY, RELU, LEAKY_RELU, ELU, SILU, GELU, SOFTPLUS, SIGMOID, TANH = range(len(ACTIVATIONS))

BLOCK = 8192
"""Elements that a thread takes at a time: a multiple of every vector length, so that always the same elements, the last
few of the array, are computed one by one, and the bits of the result do not depend on the number of threads."""

NANOSECONDS = {
    "identity": 0.2,
    "relu": 0.2,
    "leaky_relu": 0.2,
    "elu": 0.5,
    "silu": 0.7,
    "gelu": 1.0,
    "softplus": 0.9,
    "sigmoid": 0.7,
    "tanh": 0.7,
}
"""An element's time on one core in float32, measured; it decides when threads pay."""


def activate(x: Array, kind: str, alpha: float = 0.0) -> tuple[Array, Array]:
    """`kernels.reference.activate`, compiled: ``(y, saved)``.

    Raises
    ------
    TypeError : x is not an array of float32 or float64
    ValueError : an unknown kind
    """
    code = kind_code("activate", kind)
    source = check("activate", "x", x)
    y = empty_like(source)
    run(_forward_share, x.size * NANOSECONDS[kind], source.reshape(-1), y.reshape(-1), code, alpha)
    return y, (x if kind in ("silu", "gelu") else y)


def activate_grad(g: Array, saved: Array, kind: str, alpha: float = 0.0) -> Array:
    """`kernels.reference.activate_grad`, compiled.

    Raises
    ------
    TypeError : g and saved are not arrays of one dtype, float32 or float64
    ValueError : an unknown kind, or shapes that differ
    """
    code = kind_code("activate_grad", kind)
    g = check("activate_grad", "g", g)
    saved = check("activate_grad", "saved", saved, dtype=g.dtype)
    if g.shape != saved.shape:
        raise ValueError(f"activate_grad: g has shape {g.shape} but saved has {saved.shape}; they must be equal")
    gx = empty_like(g)
    run(_backward_share, g.size * NANOSECONDS[kind], g.reshape(-1), saved.reshape(-1), gx.reshape(-1), code, alpha)
    return gx


def gated_tanh(x: Array) -> tuple[Array, Array]:
    """`kernels.reference.gated_tanh`, compiled: ``(y, saved)``.

    Raises
    ------
    TypeError : x is not an array of float32 or float64
    ValueError : x is not (M, 2 C)
    """
    x = _halves("gated_tanh", "x", x)
    y, saved = empty((len(x), x.shape[1] // 2), x.dtype), empty_like(x)
    run(_gated_tanh, x.size * NANOSECONDS["tanh"], x, y, saved)
    return y, saved


def gated_tanh_grad(g: Array, saved: Array) -> Array:
    """`kernels.reference.gated_tanh_grad`, compiled.

    Raises
    ------
    TypeError : g and saved are not arrays of one dtype, float32 or float64
    ValueError : saved is not (M, 2 C), or g is not (M, C)
    """
    saved = _halves("gated_tanh_grad", "saved", saved)
    g = check("gated_tanh_grad", "g", g, "M,C", saved.dtype)
    if g.shape != (len(saved), saved.shape[1] // 2):
        raise ValueError(f"gated_tanh_grad: g (M,C)={g.shape} does not fit saved (M,2C)={saved.shape}")
    gx = empty_like(saved)
    run(_gated_tanh_grad, gx.size * NANOSECONDS["identity"], g, saved, gx)
    return gx


def _halves(operation: str, name: str, array: Array) -> Array:
    array = check(operation, name, array, "M,2C")
    if array.shape[1] % 2:
        raise ValueError(f"{operation}: {name} (M,2C)={array.shape} does not have an even number of columns")
    return array


def kind_code(operation: str, kind: str) -> int:
    """The number that stands for an activation inside compiled code; ValueError if there is none."""
    if kind not in ACTIVATIONS:
        raise ValueError(f"{operation}: unknown kind {kind!r}; choose one of {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS.index(kind)


# ----------------------------------------------------------------------------------------------------------- one number


@jit(fastmath=FLAGS)
def relu(x: Any) -> Any:
    """max(x, 0), and NaN of NaN."""
    zero = type(x)(0)
    return zero if x < zero else x


@jit(fastmath=FLAGS)
def leaky_relu(x: Any, slope: Any) -> Any:
    """The identity on one side, ``slope * x`` on the other."""
    return x if x > 0 else slope * x


@jit(fastmath=FLAGS)
def elu(x: Any, scale: Any) -> Any:
    """The identity on one side, ``scale * (exp(x) - 1)`` on the other."""
    zero = type(x)(0)
    return x if x > 0 else scale * expm1(zero if x > 0 else x)


@jit(fastmath=FLAGS)
def silu_slope(x: Any) -> Any:
    """The derivative of x σ(x), σ (1 + x (1 - σ))."""
    one = type(x)(1)
    s = sigmoid(x)
    return s * (one + x * (one - s))


@jit(fastmath=FLAGS, inline="always")
def gelu_slope(x: Any) -> Any:
    """The derivative of x Φ(x), Φ + x φ."""
    return normal_cdf(x) + x * normal_pdf(x)


# ------------------------------------------------------------------------------------------------------------- an array

# One loop for each kind: the choice stands outside, so that each loop is vectorised.


@jit(fastmath=FLAGS)
def forward(x: Array, y: Array, kind: int, alpha: float) -> None:
    """Write the activations of flat ``x`` to flat ``y``. It may be x itself, but then the loop runs unvectorised."""
    a = x.dtype.type(alpha)
    if kind == IDENTITY:
        for i in range(x.size):
            y[i] = x[i]
    elif kind == RELU:
        for i in range(x.size):
            y[i] = relu(x[i])
    elif kind == LEAKY_RELU:
        for i in range(x.size):
            y[i] = leaky_relu(x[i], a)
    elif kind == ELU:
        for i in range(x.size):
            y[i] = elu(x[i], a)
    elif kind == SILU:
        for i in range(x.size):
            y[i] = x[i] * sigmoid(x[i])
    elif kind == GELU:
        for i in range(x.size):
            y[i] = x[i] * normal_cdf(x[i])
    elif kind == SOFTPLUS:
        for i in range(x.size):
            y[i] = softplus(x[i])
    elif kind == SIGMOID:
        for i in range(x.size):
            y[i] = sigmoid(x[i])
    elif kind == TANH:
        for i in range(x.size):
            y[i] = tanh(x[i])


@jit(fastmath=FLAGS)
def backward(g: Array, saved: Array, gx: Array, kind: int, alpha: float) -> None:
    """Write ``g`` times the slope, which ``saved`` tells, to ``gx``; all flat."""
    zero, one = g.dtype.type(0), g.dtype.type(1)
    a = g.dtype.type(alpha)
    if kind == IDENTITY:
        for i in range(g.size):
            gx[i] = g[i]
    elif kind == RELU:
        for i in range(g.size):
            gx[i] = g[i] * (one if saved[i] > zero else zero)
    elif kind == LEAKY_RELU:
        for i in range(g.size):
            gx[i] = g[i] * (one if saved[i] > zero else a)
    elif kind == ELU:
        for i in range(g.size):
            gx[i] = g[i] * (one if saved[i] > zero else saved[i] + a)
    elif kind == SILU:
        for i in range(g.size):
            gx[i] = g[i] * silu_slope(saved[i])
    elif kind == GELU:
        for i in range(g.size):
            gx[i] = g[i] * gelu_slope(saved[i])
    elif kind == SOFTPLUS:
        for i in range(g.size):
            gx[i] = g[i] * -expm1(-saved[i])
    elif kind == SIGMOID:
        for i in range(g.size):
            gx[i] = g[i] * (saved[i] * (one - saved[i]))
    elif kind == TANH:
        for i in range(g.size):
            gx[i] = g[i] * (one - saved[i] * saved[i])


@jit(fastmath=FLAGS)
def _forward_share(worker: int, workers: int, x: Array, y: Array, kind: int, alpha: float) -> None:
    first, last = share(worker, workers, -(-x.size // BLOCK))
    part = slice(first * BLOCK, last * BLOCK)
    forward(x[part], y[part], kind, alpha)


@jit(fastmath=FLAGS)
def _backward_share(worker: int, workers: int, g: Array, saved: Array, gx: Array, kind: int, alpha: float) -> None:
    first, last = share(worker, workers, -(-g.size // BLOCK))
    part = slice(first * BLOCK, last * BLOCK)
    backward(g[part], saved[part], gx[part], kind, alpha)


@jit(fastmath=FLAGS)
def _gated_tanh(worker: int, workers: int, x: Array, y: Array, saved: Array) -> None:
    half = y.shape[1]
    first, last = share(worker, workers, len(y))
    for m in range(first, last):
        for c in range(half):
            t, s = tanh(x[m, c]), sigmoid(x[m, half + c])
            y[m, c], saved[m, c], saved[m, half + c] = t * s, t, s


@jit(fastmath=FLAGS)
def _gated_tanh_grad(worker: int, workers: int, g: Array, saved: Array, gx: Array) -> None:
    one, half = g.dtype.type(1), g.shape[1]
    first, last = share(worker, workers, len(g))
    for m in range(first, last):
        for c in range(half):
            t, s = saved[m, c], saved[m, half + c]
            gx[m, c] = g[m, c] * s * (one - t * t)
            gx[m, half + c] = g[m, c] * t * (s * (one - s))
