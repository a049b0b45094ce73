"""Faults of kernels."""

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from hypothesis import strategies as st

from tinygen.testing.faults.base import Checker, Fault
from tinygen.testing.kernels import check_kernel
from tinygen.testing.strategies import arrays

Array = np.ndarray

CHECKERS: dict[str, Checker] = {
    "check_kernel": lambda kernels, x, rng: check_kernel(*kernels, x),
}


def cumulative(order: Any) -> Callable:
    """Cumulative sums in the order of reading, or in the order of memory, which is the same for contiguous arrays."""
    return lambda x: np.cumsum(np.ravel(x, order)).reshape(x.shape)


def total(drops_tail: bool) -> Callable:
    """A sum by blocks of four."""

    def run(x: Array) -> Array:
        whole = len(x) // 4 * 4
        blocks = x[:whole].reshape(-1, 4).sum(axis=0).sum()
        return np.asarray(blocks if drops_tail else blocks + x[whole:].sum(), x.dtype)

    return run


def _sum_of_known(x: Array) -> float:
    found = 0.0
    for value in x:
        if not np.isnan(value):
            found += value
    return found


SUMS = {fastmath: numba.njit(fastmath=fastmath)(_sum_of_known) for fastmath in (False, True)}


def sum_of_known(fastmath: bool) -> Callable:
    """A sum that leaves out NaN. Under ``fastmath`` the compiler takes it that there is none."""
    return lambda x: np.asarray(SUMS[fastmath](x))


FAULTS = (
    Fault(
        13,
        "kernel assumes C order",
        lambda faulty: (cumulative("K" if faulty else "C"), cumulative("C")),
        arrays(np.float64, (3, 4)),
        CHECKERS,
        ("check_kernel",),
    ),
    Fault(
        41,
        "kernel drops the tail's remainder",
        lambda faulty: (total(faulty), lambda x: np.asarray(x.sum())),
        arrays(np.float64, st.integers(1, 12)),
        CHECKERS,
        ("check_kernel",),
    ),
    Fault(
        42,
        "fastmath removes a NaN guard",
        lambda faulty: (sum_of_known(faulty), lambda x: np.asarray(np.nansum(x))),
        arrays(np.float64, (6,), domain=(-2, 2)).flatmap(
            lambda x: st.lists(st.booleans(), min_size=6, max_size=6).map(lambda lost: np.where(lost, np.nan, x))
        ),
        CHECKERS,
        ("check_kernel",),
    ),
)
