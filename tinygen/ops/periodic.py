"""Sines and cosines as features: one kernel call."""

import numpy as np

import kernels
from kernels.calls import computed, contiguous
from tinygen.autograd import Real, primitive
from tinygen.errors import ShapeError
from tinygen.ops.activation import floating
from tinygen.ops.elementwise import cos, sin
from tinygen.ops.shape import concatenate, expand_dims


def _composed(x, frequencies):
    angle = expand_dims(x, -1) * frequencies
    return concatenate([sin(angle), cos(angle)], -1)


@primitive(domain={"x": Real("n m"), "frequencies": Real("f")}, composition=_composed, noted=True)
def sinusoids(x, frequencies):
    """The sines of x times each of the frequencies, then the cosines (Vaswani et al. 2017): features of times.

    Parameters
    ----------
    x : ``(...)``
    frequencies : ``(F,)``, of the same dtype

    Returns
    -------
    ``(..., 2 F)``

    Examples
    --------
    >>> import tinygen as tg
    >>> tg.sinusoids(tg.tensor([0.0, 0.5]), tg.tensor([1.0, 2.0])).numpy().round(3)
    array([[0.   , 0.   , 1.   , 1.   ],
           [0.479, 0.841, 0.878, 0.54 ]], dtype=float32)
    """
    x, frequencies = floating(x, "sinusoids"), floating(frequencies, "sinusoids")
    if frequencies.ndim != 1:
        raise ShapeError(f"sinusoids: frequencies must be (F), got {frequencies.shape}")
    y = kernels.sinusoids(contiguous(x).reshape(-1), frequencies)
    return y.reshape(*x.shape, y.shape[1]), None


@sinusoids.joint_vjp
def _sinusoids_vjp(g, x, frequencies, out):
    half = len(frequencies)
    to_sine = computed(np.multiply, g[..., :half], out[..., half:])
    to_cosine = computed(np.multiply, g[..., half:], out[..., :half])
    to_angle = computed(np.subtract, to_sine, to_cosine).reshape(x.size, half)
    gx = computed(np.matmul, to_angle, frequencies)
    return {"x": gx.reshape(x.shape), "frequencies": computed(np.matmul, contiguous(x).reshape(-1), to_angle)}
