"""The contract of a bijection, and how bijections combine."""

from typing import Any

import numpy as np

from tinygen import ops
from tinygen.autograd import Tensor
from tinygen.nn import Module

Pair = tuple[Tensor, Tensor]


class Bijection(Module):
    """An invertible, differentiable map of each row of a batch, from data x to latent z and back.

    Both directions return the mapped batch and log |det J|, of shape ``(N,)`` and in nats, where J is the Jacobian of
    the direction taken: at corresponding points the two log-determinants are each other's negatives. A density moves
    along as log p(x) = log p(z) + log |det dz/dx|.

    A batch is ``(N, D)``, or ``(N, H, W, C)`` for layers that work on the last axis.
    """

    def forward(self, x: Any) -> Pair:
        """From x to z: ``(z, log |det dz/dx|)``."""
        raise NotImplementedError

    def inverse(self, z: Any) -> Pair:
        """From z to x: ``(x, log |det dx/dz|)``."""
        raise NotImplementedError


class Chain(Bijection):
    """Bijections one after another, the first next to the data.

    The chain rule makes the Jacobian a product, each factor taken where the one before has arrived; so log-determinants
    add.
    """

    def __init__(self, *bijections: Bijection) -> None:
        self.bijections = list(bijections)

    def forward(self, x: Any) -> Pair:
        log_dets = [no_log_det(x)]
        for bijection in self.bijections:
            x, log_det = bijection(x)
            log_dets.append(log_det)
        return x, ops.sum(ops.stack(log_dets), 0)

    def inverse(self, z: Any) -> Pair:
        log_dets = [no_log_det(z)]
        for bijection in reversed(self.bijections):
            z, log_det = bijection.inverse(z)
            log_dets.append(log_det)
        return z, ops.sum(ops.stack(log_dets), 0)


class Inverse(Bijection):
    """A bijection with its directions swapped.

    Where a layer is quick in one direction only, this chooses which: density evaluation or sampling.
    """

    def __init__(self, bijection: Bijection) -> None:
        self.bijection = bijection

    def forward(self, x: Any) -> Pair:
        return self.bijection.inverse(x)

    def inverse(self, z: Any) -> Pair:
        return self.bijection(z)


def no_log_det(x: Any) -> Tensor:
    """The log-determinants ``(N,)`` of a map that keeps volume: zeros."""
    return Tensor(np.zeros(len(x), x.dtype))


def sum_rows(x: Any) -> Tensor:
    """The sum over all axes but the first."""
    return ops.sum(x, tuple(range(1, x.ndim))) if x.ndim > 1 else x
