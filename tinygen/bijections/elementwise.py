"""Bijections that treat each entry for itself."""

import math
from typing import Any

import numpy as np

from tinygen import ops
from tinygen.autograd import Tensor, effect
from tinygen.bijections.base import Bijection, Pair, sum_rows
from tinygen.errors import DataError, ShapeError
from tinygen.nn import Parameter


class ActNorm(Bijection):
    """A scale and a shift for each channel: z = (x - μ) · exp(s), with log |det| = Σ s for each pixel.

    The first batch that comes forward in training sets μ and s such that it leaves with mean 0 and standard deviation 1
    in every channel (Kingma and Dhariwal 2018, section 3.1); until then this is the identity. From then on both are
    parameters like others. That it has happened is part of the state.

    Parameters
    ----------
    dim : size of the last axis

    Attributes
    ----------
    initialized : whether the first batch has been seen, a boolean array without axes
    """

    def __init__(self, dim: int) -> None:
        self.mean = Parameter(np.zeros(dim, np.float32))
        self.log_scale = Parameter(np.zeros(dim, np.float32))
        self.initialized = np.zeros((), bool)

    def forward(self, x: Any) -> Pair:
        self._check(x)
        if self.training:
            effect(self._initialize, x)
        return (x - self.mean) * ops.exp(self.log_scale), self._log_det(x)

    def inverse(self, z: Any) -> Pair:
        self._check(z)
        return z * ops.exp(-self.log_scale) + self.mean, -self._log_det(z)

    def _check(self, x: Any) -> None:
        if x.shape[-1] != self.mean.size:
            raise ShapeError(f"ActNorm: x has D={x.shape[-1]} in (N,...,D)={x.shape} but dim={self.mean.size}")

    def _log_det(self, x: Any) -> Tensor:
        pixels = math.prod(x.shape[1:-1])
        return ops.broadcast_to(pixels * ops.sum(self.log_scale), x.shape[:1])

    def _initialize(self, x: np.ndarray) -> None:
        axes = tuple(range(x.ndim - 1))
        if self.initialized or not x.size:
            return
        std = x.std(axes, dtype=np.float64)  # in float32, rounding would make it 1e-6 for a constant channel
        self.mean.data[...] = x.mean(axes, dtype=np.float64)
        varies = std > np.finfo(x.dtype).eps * np.abs(x).max(axes)
        self.log_scale.data[...] = -np.log(np.where(varies, std, 1))  # what does not vary is only centred
        self.initialized[...] = True


def _check_unit_interval(x: np.ndarray) -> None:
    if x.size and not (x.min() >= 0 and x.max() <= 1):
        raise DataError(f"Logit: x must lie in [0, 1], but reaches from {x.min()} to {x.max()}; scale the data")


class Logit(Bijection):
    """Pixels in [0, 1] to the real line: z = log(y/(1 - y)) with y = α + (1 - 2α) x (Papamakarios et al. 2017, MAF).

    log dz/dx = log(1 - 2α) - log y - log(1 - y) for each entry. The margin α keeps pixels of 0 and 1 finite; the image
    of a latent is within [-α/(1 - 2α), 1 + α/(1 - 2α)], a little beyond the data.

    Parameters
    ----------
    alpha : the margin α. A small one spreads the noise of dequantised black and white over a range like that of the
        greys between; with the 0.05 of Dinh et al. (2017) it lies within a hundredth of the range, and is hard to fit.
    """

    def __init__(self, alpha: float = 1e-6) -> None:
        self.alpha = alpha

    def forward(self, x: Any) -> Pair:
        effect(_check_unit_interval, x)
        y = self.alpha + (1 - 2 * self.alpha) * x
        log_y, log_not_y = ops.log(y), ops.log1p(-y)
        return log_y - log_not_y, sum_rows(math.log(1 - 2 * self.alpha) - log_y - log_not_y)

    def inverse(self, z: Any) -> Pair:
        # log dx/dz = log y + log(1 - y) - log(1 - 2α), where log y = -softplus(-z) and log(1 - y) = -softplus(z)
        log_det = sum_rows(-ops.softplus(-z) - ops.softplus(z) - math.log(1 - 2 * self.alpha))
        return (ops.sigmoid(z) - self.alpha) / (1 - 2 * self.alpha), log_det
