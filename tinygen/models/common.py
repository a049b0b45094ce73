"""What the models share: their noise, and the units that networks see data in."""

from typing import Self

import numpy as np

from tinygen import nn
from tinygen.errors import DataError

Array = np.ndarray


def normal(model: nn.Module, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Standard normal numbers in the dtype of the model's parameters."""
    return rng.standard_normal(shape, dtype=next(model.parameters()).dtype.type)


class Scaling(nn.Module):
    """The affine map from data to the units that a network sees, ``u = (x - centre) / scale``. Both are in the state.

    Parameters
    ----------
    centre, scale : numbers, or arrays that broadcast with the data
    """

    def __init__(self, centre: float | Array = 0.0, scale: float | Array = 1.0) -> None:
        self.centre = np.asarray(centre, np.float32)
        self.scale = np.asarray(scale, np.float32)

    @classmethod
    def of_range(cls, low: float, high: float) -> Self:
        """The map of [low, high] to [-1, 1]."""
        return cls((high + low) / 2, (high - low) / 2)

    @classmethod
    def of_data(cls, x: Array) -> Self:
        """The map of examples ``(N, D)`` to mean 0 and, with one scale for all D, variance 1 on average.

        Raises
        ------
        DataError : the examples are all equal
        """
        scale = float(np.sqrt(np.var(x, axis=0, dtype=np.float64).mean()))
        if not scale > 1e-6 * float(np.abs(x).max(initial=0)):
            raise DataError(
                f"the scale of data of shape (N,D)={x.shape} must be positive, and is {scale}; are all rows equal?"
            )
        return cls(x.mean(axis=0), scale)

    def forward(self, x: Array) -> Array:
        return (x - self.centre.astype(x.dtype)) / self.scale.astype(x.dtype)

    def inverse(self, u: Array) -> Array:
        """Data in the units of data."""
        return u * self.scale.astype(u.dtype) + self.centre.astype(u.dtype)
