"""The optimizer's update: one loop over all parameters."""

import math
from typing import Any

import numpy as np

from kernels.arguments import Array, check
from kernels.compilation import jit
from kernels.elementary import FLAGS
from kernels.threads import run, share

BLOCK = 4096
"""Elements that a thread takes at a time, as in `kernels.activation`."""


def adam(
    p: Array,
    g: Array,
    m: Array,
    v: Array,
    step: int,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float = 0.0,
) -> None:
    """`kernels.reference.adam`, compiled: p, m and v are changed in place, and may not need to be copied for it.

    Raises
    ------
    TypeError : arguments that are not arrays of one dtype, float32 or float64
    ValueError : arrays that are not flat and of one length; p, m or v not contiguous or not writable; step < 1
    """
    for name, array in (("p", p), ("m", m), ("v", v)):
        if check("adam", name, array, "P", p.dtype if isinstance(p, np.ndarray) else None) is not array:
            raise ValueError(f"adam: {name} is updated in place, so it must be contiguous and writable")
    g = check("adam", "g", g, "P", p.dtype)
    if not len(p) == len(g) == len(m) == len(v):
        raise ValueError(
            f"adam: p, g, m and v must be of one length but have {len(p)}, {len(g)}, {len(m)} and {len(v)}"
        )
    if step < 1:
        raise ValueError(f"adam: step={step} must count from 1")
    run(_adam, p.size * 1.0, p, g, m, v, lr, beta1, beta2, 1 - beta1**step, 1 - beta2**step, eps, weight_decay)


@jit(fastmath=FLAGS)
def _adam(
    worker: int,
    workers: int,
    p: Array,
    g: Array,
    m: Array,
    v: Array,
    lr: float,
    beta1: float,
    beta2: float,
    bias1: float,
    bias2: float,
    eps: float,
    weight_decay: float,
) -> None:
    """The share of one thread; ``bias1`` and ``bias2`` are the sums of the weights in m and v, which began at zero."""
    first, last = share(worker, workers, -(-p.size // BLOCK))
    part = slice(first * BLOCK, last * BLOCK)
    p, g, m, v = p[part], g[part], m[part], v[part]
    real: Any = p.dtype.type
    new1, new2, rate, eps_, decay = real(1 - beta1), real(1 - beta2), real(lr), real(eps), real(weight_decay)
    unbias1, unbias2 = real(1 / bias1), real(1 / bias2)
    for i in range(p.size):
        m[i] += new1 * (g[i] - m[i])
        v[i] += new2 * (g[i] * g[i] - v[i])
        p[i] -= rate * (m[i] * unbias1 / (math.sqrt(v[i] * unbias2) + eps_) + decay * p[i])
