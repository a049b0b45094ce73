"""Initial values of weights: functions of a generator, a shape and the number of inputs of one output (the fan-in)."""

import math
from collections.abc import Callable

import numpy as np

Init = Callable[[np.random.Generator, tuple[int, ...], int], np.ndarray]


def uniform(rng: np.random.Generator, shape: tuple[int, ...], fan_in: int) -> np.ndarray:
    """U(-b, b) with b = 1/√fan_in (LeCun et al. 1998, section 4.6), which PyTorch's layers use too."""
    bound = 1 / math.sqrt(max(fan_in, 1))
    return rng.uniform(-bound, bound, shape).astype(np.float32)


def he_normal(rng: np.random.Generator, shape: tuple[int, ...], fan_in: int) -> np.ndarray:
    """N(0, 2/fan_in): as weights they keep the variance through ReLU layers (He et al. 2015, eq. 10)."""
    return (rng.standard_normal(shape) * math.sqrt(2 / max(fan_in, 1))).astype(np.float32)


def zeros(rng: np.random.Generator, shape: tuple[int, ...], fan_in: int) -> np.ndarray:
    """Zeros, for a last layer that is to start as the identity or at no opinion."""
    return np.zeros(shape, np.float32)
