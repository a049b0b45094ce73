"""Coupling layers: one part of each row decides how the other part is transformed."""

from collections.abc import Callable
from typing import Any, ClassVar

from tinygen import ops
from tinygen.autograd import Tensor
from tinygen.bijections.base import Bijection, Pair, no_log_det, sum_rows
from tinygen.errors import ShapeError
from tinygen.nn import Module

Conditioner = Callable[[int, int], Module]  # (C_in, C_out) to a network from (..., C_in) to (..., C_out)


class Coupling(Bijection):
    """Base of the couplings: (a, b) ↦ (a, f(b; θ(a))), with f invertible in b (Dinh et al. 2015, NICE, eq. 4 to 8).

    The last axis is split: its first D // 2 entries, a, pass unchanged, and the others, b, are transformed elementwise
    with parameters that the conditioner θ computes from a. The Jacobian is triangular, so θ never needs to be inverted.
    Of a single dimension, a is empty and θ is constant. Put a `Reverse` or `Permute` between couplings, that each entry
    may be transformed.

    Parameters
    ----------
    dim : size of the last axis
    conditioner : makes the network, given its numbers of inputs and outputs. A zero last layer lets training start near
        the identity.

    Attributes
    ----------
    parameters_per_entry : how many parameters f has for each entry of b; set by each subclass
    """

    parameters_per_entry: ClassVar[int]

    def __init__(self, dim: int, conditioner: Conditioner) -> None:
        if dim < 1:
            raise ShapeError(f"{type(self).__name__}: dim={dim} must be at least 1")
        self.dim, self.passed = dim, dim // 2
        self.conditioner = conditioner(self.passed, self.parameters_per_entry * (dim - self.passed))

    def transform(self, b: Tensor, theta: Tensor) -> Pair:
        """f: the transformed entries, and log |det df/db| of each row."""
        raise NotImplementedError

    def inverse_transform(self, b: Tensor, theta: Tensor) -> Pair:
        """f⁻¹, and its own log-determinant."""
        raise NotImplementedError

    def forward(self, x: Any) -> Pair:
        return self._apply(x, self.transform)

    def inverse(self, z: Any) -> Pair:
        return self._apply(z, self.inverse_transform)

    def _apply(self, x: Any, transform: Callable[[Tensor, Tensor], Pair]) -> Pair:
        if x.shape[-1] != self.dim:
            raise ShapeError(f"{type(self).__name__}: x has D={x.shape[-1]} in (N,...,D)={x.shape} but dim={self.dim}")
        a, b = x[..., : self.passed], x[..., self.passed :]
        b, log_det = transform(b, self.conditioner(a))
        return ops.concatenate([a, b], -1), log_det


class AdditiveCoupling(Coupling):
    """b ↦ b + t(a), which keeps volume (Dinh et al. 2015, NICE, eq. 9)."""

    parameters_per_entry = 1

    def transform(self, b: Tensor, theta: Tensor) -> Pair:
        return b + theta, no_log_det(b)

    def inverse_transform(self, b: Tensor, theta: Tensor) -> Pair:
        return b - theta, no_log_det(b)


class AffineCoupling(Coupling):
    """b ↦ b · exp(s(a)) + t(a), with log |det| = Σ s (Dinh et al. 2017, RealNVP, eq. 7 and 8).

    The log-scale is softly bounded, s = B tanh(r / B): an exponential without a bound overflows on a bad batch. The
    network's first outputs are r, the others t.

    Parameters
    ----------
    dim, conditioner : see `Coupling`
    bound : B
    """

    parameters_per_entry = 2

    def __init__(self, dim: int, conditioner: Conditioner, bound: float = 3.0) -> None:
        super().__init__(dim, conditioner)
        self.bound = bound

    def transform(self, b: Tensor, theta: Tensor) -> Pair:
        y, log_det = ops.bounded_affine(b, theta, self.bound)
        return y, sum_rows(log_det)

    def inverse_transform(self, b: Tensor, theta: Tensor) -> Pair:
        x, log_det = ops.bounded_affine(b, theta, self.bound, inverse=True)
        return x, sum_rows(log_det)
