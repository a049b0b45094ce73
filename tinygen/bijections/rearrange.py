"""Bijections that only move entries, and so keep volume."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from tinygen import ops
from tinygen.bijections.base import Bijection, Pair, no_log_det
from tinygen.errors import ShapeError


class Permute(Bijection):
    """Reorder the last axis: z[..., i] = x[..., order[i]].

    Parameters
    ----------
    order : a permutation of 0 to D - 1, for instance ``rng.permutation(D)``; part of the state

    Raises
    ------
    ShapeError : if it is not one
    """

    def __init__(self, order: ArrayLike) -> None:
        self.order = np.array(order)
        if self.order.ndim != 1 or not np.array_equal(np.sort(self.order), np.arange(self.order.size)):
            raise ShapeError(f"Permute: order must hold each of 0 to D-1 once, got {self.order}")

    def forward(self, x: Any) -> Pair:
        return self._take(x, self.order)

    def inverse(self, z: Any) -> Pair:
        return self._take(z, np.argsort(self.order))

    def _take(self, x: Any, order: np.ndarray) -> Pair:
        if x.shape[-1] != order.size:
            raise ShapeError(
                f"Permute: x has D={x.shape[-1]} in (N,...,D)={x.shape} but order has {order.size} entries"
            )
        return ops.take(x, order, -1), no_log_det(x)


class Reverse(Bijection):
    """Reverse the last axis."""

    def forward(self, x: Any) -> Pair:
        return ops.flip(x, -1), no_log_det(x)

    def inverse(self, z: Any) -> Pair:
        return self.forward(z)


class Flatten(Bijection):
    """From ``(N, *shape)`` to ``(N, D)``.

    Parameters
    ----------
    shape : of one row, for instance (H, W, C)
    """

    def __init__(self, shape: Sequence[int]) -> None:
        self.shape = tuple(shape)

    def forward(self, x: Any) -> Pair:
        return self._reshape(x, self.shape, (math.prod(self.shape),))

    def inverse(self, z: Any) -> Pair:
        return self._reshape(z, (math.prod(self.shape),), self.shape)

    def _reshape(self, x: Any, expected: tuple[int, ...], shape: tuple[int, ...]) -> Pair:
        if x.shape[1:] != expected:
            raise ShapeError(f"Flatten: x is {x.shape} but must be (N, {', '.join(map(str, expected))})")
        return ops.reshape(x, (len(x), *shape)), no_log_det(x)
