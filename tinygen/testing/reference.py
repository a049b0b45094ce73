"""Derivatives by differences, with their own error: what gradients are judged by.

Central differences at steps h, h/2 and h/4 are extrapolated twice (Richardson 1911), which leaves a truncation error of
order h⁶; the rest is rounding. The step is a power of two, so that x ± h is exact, near ε^(1/3) of the size of x.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

EPS = float(np.finfo(np.float64).eps)
_ULPS = 4  # how wrong an evaluation of the function is taken to be at least, in units of its last place

Function = Callable[..., np.ndarray]


@dataclass(frozen=True)
class Derivative:
    """A directional derivative of an array-valued function, and how wrong it may be: both of the value's shape.

    ``still`` says that no bit of the function changed at any step: it does not depend on x, or less than it can show.
    """

    value: np.ndarray
    error: np.ndarray
    still: bool


def step(size: float) -> float:
    """The longest of the three steps for an entry of this size."""
    return float(2.0 ** np.round(np.log2(EPS ** (1 / 3) * size)))


def derivative(f: Function, x: np.ndarray, v: np.ndarray, h: float, y: np.ndarray) -> Derivative:
    """The derivative of ``f`` at the float64 array ``x``, where its value is ``y``, along ``v`` of entries -1, 0, 1."""
    slopes, bends = [], []
    still = True
    size = np.abs(y)
    with np.errstate(all="ignore"):
        for t in (h, h / 2, h / 4):
            ahead, behind = np.asarray(x + t * v), np.asarray(x - t * v)
            above, below = f(ahead), f(behind)
            still = still and np.array_equal(above, y) and np.array_equal(below, y)
            realised = float(np.max(np.abs(ahead - behind), initial=0))  # where x + t is not exact, this is not 2t
            slopes.append((above - below) / realised)
            bends.append(np.abs(above - 2 * y + below) / t)
            size = np.maximum(size, np.maximum(np.abs(above), np.abs(below)))
        first, second = (4 * slopes[1] - slopes[0]) / 3, (4 * slopes[2] - slopes[1]) / 3
        value = (16 * second - first) / 15
        # Evaluations that are wrong by e move this value by at most 6.6 e / h.
        rounding = 6.6 * _ULPS * EPS * size / h
        # Slopes ahead and behind differ in proportion to h where the function is smooth. At a kink, or in noise, they
        # always do.
        kink = np.where(bends[2] > bends[0] / 2, bends[2], 0)
        return Derivative(value, np.abs(second - first) + rounding + kink, still)
