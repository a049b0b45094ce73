"""The normal distribution, with independent entries and with any covariance."""

import math

import numpy as np

from tinygen import ops
from tinygen.distributions.base import Distribution, Value, as_parameters, common_shape, event_axes, split_shape
from tinygen.errors import ShapeError

LOG_2PI = math.log(2 * math.pi)


class Normal(Distribution):
    """Normal distributions with independent entries: log N(x; μ, σ²) = -½ Σ [((x - μ)/σ)² + 2 log σ + log 2π].

    Parameters
    ----------
    mean, std : μ and σ > 0; they broadcast with each other
    event_ndim : how many of the last axes make up one event, whose entries are summed over: 1 for vectors, 3 for images

    Examples
    --------
    >>> import numpy as np
    >>> standard = Normal(np.zeros(2), np.ones(2))
    >>> standard.log_prob(np.array([[0.0, 0.0], [1.0, 1.0]])).round(3)
    array([-1.838, -2.838])
    """

    def __init__(self, mean: Value, std: Value, event_ndim: int = 1) -> None:
        self.mean, self.std = as_parameters(mean, std)
        shape = common_shape("Normal", mean=self.mean.shape, std=self.std.shape)
        self.batch_shape, self.event_shape = split_shape(shape, event_ndim, "Normal")

    def log_prob(self, x: Value) -> Value:
        self._check(x)
        z = (x - self.mean) / self.std
        return ops.sum(-0.5 * z * z - ops.log(self.std) - LOG_2PI / 2, event_axes(len(self.event_shape)))

    def sample(self, n: int, rng: np.random.Generator) -> Value:
        noise = rng.standard_normal((n, *self.batch_shape, *self.event_shape), self.mean.dtype)
        return self.mean + self.std * noise

    def entropy(self) -> Value:
        log_std = ops.broadcast_to(ops.log(self.std), self.batch_shape + self.event_shape)
        return ops.sum(log_std + (1 + LOG_2PI) / 2, event_axes(len(self.event_shape)))


class MultivariateNormal(Distribution):
    """Normal distributions of vectors with any covariance Σ = L Lᵀ.

    log N(x; μ, Σ) = -½ |L⁻¹(x - μ)|² - Σ log L_ii - ½ D log 2π.

    Parameters
    ----------
    mean : ``(..., D)``
    factor : ``(..., D, D)``, the Cholesky factor L of the covariance, `tinygen.cholesky(covariance)`: lower triangular,
        with a positive diagonal. What is above the diagonal is not read.

    Raises
    ------
    ShapeError : if the D differ
    """

    def __init__(self, mean: Value, factor: Value) -> None:
        self.mean, factor = as_parameters(mean, factor)
        if self.mean.ndim < 1 or factor.shape[-2:] != 2 * self.mean.shape[-1:]:
            raise ShapeError(
                f"MultivariateNormal: mean is (...,D)={self.mean.shape} but factor is (...,D,D)={factor.shape}; "
                f"all D must be equal"
            )
        self.factor = factor
        shape = common_shape("MultivariateNormal", mean=self.mean.shape, factor=factor.shape[:-1])
        self.batch_shape, self.event_shape = split_shape(shape, 1, "MultivariateNormal")

    def log_prob(self, x: Value) -> Value:
        self._check(x)
        z = solve_factor(self.factor, x - self.mean)
        return ops.sum(-0.5 * z * z - LOG_2PI / 2, -1) - self._half_log_det()

    def sample(self, n: int, rng: np.random.Generator) -> Value:
        noise = rng.standard_normal((n, *self.batch_shape, *self.event_shape), self.mean.dtype)
        return self.mean + ops.matmul(self.lower_factor(), noise[..., None])[..., 0]

    def entropy(self) -> Value:
        half_log_det = ops.broadcast_to(self._half_log_det(), self.batch_shape)
        return half_log_det + self.event_shape[0] * (1 + LOG_2PI) / 2

    def lower_factor(self) -> Value:
        """L, with zeros above the diagonal."""
        return ops.where(np.tri(self.event_shape[0], dtype=bool), self.factor, 0)

    def _half_log_det(self) -> Value:
        """½ log det Σ = Σ log L_ii."""
        return ops.sum(ops.log(ops.einsum("...ii->...i", self.factor)), -1)


def solve_factor(factor: Value, x: Value) -> Value:
    """L⁻¹ x for vectors x ``(..., D)``."""
    return ops.solve_triangular(factor, x[..., None])[..., 0]
