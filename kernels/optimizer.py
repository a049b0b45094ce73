"""The optimizer's update: one loop over all parameters."""

import math
from typing import Any

import numpy as np

from kernels.arguments import Array, check
from kernels.calls import contiguous
from kernels.compilation import jit
from kernels.elementary import FLAGS
from kernels.reference import Counts
from kernels.threads import run, share

BLOCK = 4096
"""Elements that a thread takes at a time, as in `kernels.activation`."""


def adam(
    p: Array,
    g: Array,
    m: Array,
    v: Array,
    ends: Counts,
    steps: Counts,
    settings: Array,
) -> None:
    """`kernels.reference.adam`, compiled: p, m and v are changed in place, and may not need to be copied for it.

    Raises
    ------
    TypeError : floating arrays are not all float32 or all float64; ends or steps are not int64
    ValueError : p, g, m and v are not flat and of one length; p, m or v not contiguous or not writable; ends do not
        divide them; steps are not as many, or negative; settings are not five
    """
    for name, array in (("p", p), ("m", m), ("v", v)):
        if check("adam", name, array, "P", p.dtype if isinstance(p, np.ndarray) else None) is not array:
            raise ValueError(f"adam: {name} is updated in place, so it must be contiguous and writable")
    g = check("adam", "g", g, "P", p.dtype)
    if not len(p) == len(g) == len(m) == len(v):
        raise ValueError(
            f"adam: p, g, m and v must be of one length but have {len(p)}, {len(g)}, {len(m)} and {len(v)}"
        )
    for name, counts in (("ends", ends), ("steps", steps)):
        if counts.dtype != np.int64 or counts.ndim != 1:
            raise TypeError(f"adam: {name} must be a flat array of int64, not {counts.dtype} of shape {counts.shape}")
    if len(steps) != len(ends) or ends[-1:].sum() != len(p) or (np.diff(ends, prepend=0) < 0).any():
        raise ValueError(f"adam: ends must ascend to the length of p, {len(p)}, with a step for each: {ends}, {steps}")
    if (steps < 0).any():
        raise ValueError(f"adam: steps={steps} must count from 1, or be 0")
    settings = check("adam", "settings", settings, "5", np.dtype(np.float64))
    if len(settings) != 5:
        raise ValueError(f"adam: settings={settings} must be five: lr, beta1, beta2, eps, weight_decay")
    run(_adam, p.size * 0.5, p, g, m, v, contiguous(ends), contiguous(steps), settings)


@jit()
def _adam(
    worker: int,
    workers: int,
    p: Array,
    g: Array,
    m: Array,
    v: Array,
    ends: Counts,
    steps: Counts,
    settings: Array,
) -> None:
    beta1, beta2 = settings[1], settings[2]
    first, last = share(worker, workers, -(-p.size // BLOCK))
    i, begin = np.searchsorted(ends, first * BLOCK, side="right"), first * BLOCK
    while begin < min(last * BLOCK, p.size):
        bias1, bias2 = 1 - beta1 ** steps[i], 1 - beta2 ** steps[i]
        stop = min(ends[i], last * BLOCK)
        for block in range(begin // BLOCK, -(-stop // BLOCK) if steps[i] > 0 else 0):
            part = slice(max(begin, block * BLOCK), min(stop, (block + 1) * BLOCK))
            _adam_part(p[part], g[part], m[part], v[part], settings, bias1, bias2)
        begin, i = stop, i + 1


@jit(fastmath=FLAGS)
def _adam_part(
    p: Array,
    g: Array,
    m: Array,
    v: Array,
    settings: Array,
    bias1: float,
    bias2: float,
) -> None:
    """A part of one parameter; ``bias1`` and ``bias2`` sum the weights in m and v, which began at zero."""
    real: Any = p.dtype.type
    rate, new1, new2 = real(settings[0]), real(1 - settings[1]), real(1 - settings[2])
    eps, decay = real(settings[3]), real(settings[4])
    unbias1, unbias2 = real(1 / bias1), real(1 / bias2)
    for i in range(p.size):
        m[i] += new1 * (g[i] - m[i])
        v[i] += new2 * (g[i] * g[i] - v[i])
        p[i] -= rate * (m[i] * unbias1 / (math.sqrt(v[i] * unbias2) + eps) + decay * p[i])
