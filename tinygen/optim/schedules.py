"""Factors on the learning rate, as functions of training's progress from 0 to 1.

Progress, and not the number of the step, because a run may be bounded by steps or by seconds.
"""

import math
from collections.abc import Callable

Schedule = Callable[[float], float]


def constant(*, warmup: float = 0.0) -> Schedule:
    """1, after a linear rise over the share ``warmup`` of training."""
    return lambda progress: _rise(progress, warmup)


def linear(*, warmup: float = 0.0, final: float = 0.0) -> Schedule:
    """A straight line from 1 to ``final``, after a linear rise over ``warmup``."""
    return lambda progress: _rise(progress, warmup) * (1 - (1 - final) * _after(progress, warmup))


def cosine(*, warmup: float = 0.0, final: float = 0.0) -> Schedule:
    """Half a cosine wave from 1 to ``final`` (Loshchilov and Hutter 2017), after a linear rise over ``warmup``."""
    return lambda progress: (
        _rise(progress, warmup) * (final + (1 - final) * (1 + math.cos(math.pi * _after(progress, warmup))) / 2)
    )


def _rise(progress: float, warmup: float) -> float:
    if not 0 <= warmup < 1:
        raise ValueError(f"warmup={warmup} is the share of training that the rise takes, from 0 to less than 1")
    return min(1.0, progress / warmup) if warmup > 0 else 1.0


def _after(progress: float, warmup: float) -> float:
    return min(max((progress - warmup) / (1 - warmup), 0.0), 1.0)
