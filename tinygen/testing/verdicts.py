"""What a check can conclude: it passes silently, fails with one of these errors, or is inconclusive."""

from collections.abc import Callable
from contextvars import ContextVar
from functools import wraps
from typing import Any

import numpy as np
from hypothesis import currently_in_test_context, note
from hypothesis.errors import UnsatisfiedAssumption
from numpy.typing import ArrayLike

from tinygen.autograd import Tensor


class CheckError(AssertionError):
    """A property does not hold."""


class GradientError(CheckError):
    """A pullback disagrees with its reference."""


class ContractError(CheckError):
    """An operation breaks a rule that every operation keeps."""


class BijectionError(CheckError):
    """A bijection does not invert, or its log-determinant is wrong."""


class DensityError(CheckError):
    """A density does not integrate to one."""


class DivergenceError(CheckError):
    """A Kullback-Leibler divergence is not the mean logarithm of the ratio of the densities."""


class SamplerError(CheckError):
    """A sampler does not draw from the distribution that it should."""


class DiffusionError(CheckError):
    """A table, a closed form or a sampling step is not that of the chain."""


class OptimizerError(CheckError):
    """An optimizer does not follow its rule, touches what it must not, or does not continue from its state."""


class Inconclusive(UnsatisfiedAssumption):
    """The reference cannot judge this example; hypothesis draws another. See `mostly_conclusive`."""


_counts: ContextVar[list[int] | None] = ContextVar("counts", default=None)


def conclude(verdict: Exception | None) -> None:
    """Count a verdict, and raise it unless it is None, which is a pass."""
    counts = _counts.get()
    if counts is not None:
        counts[isinstance(verdict, Inconclusive)] += 1
    if verdict is not None:
        raise verdict


def mostly_conclusive(test: Callable) -> Callable:
    """Make a hypothesis test fail if fewer than half of its checks were conclusive: a decorator, above ``given``.

    Hypothesis replaces an inconclusive example by another, so without this a test could pass on a few easy examples
    alone.
    """

    @wraps(test)
    def counted(*args: Any, **kwargs: Any) -> None:
        counts = [0, 0]
        token = _counts.set(counts)
        try:
            test(*args, **kwargs)
        finally:
            _counts.reset(token)
        if counts[0] <= counts[1]:
            raise CheckError(f"only {counts[0]} of {counts[0] + counts[1]} checks were conclusive; change the examples")

    return counted


def report(text: str) -> None:
    """Show what a checker drew if the example fails, when hypothesis is running."""
    if currently_in_test_context():
        note(text)


def as_array(x: Any) -> np.ndarray:
    """The array of a Tensor or of anything array-like."""
    return x.data if isinstance(x, Tensor) else np.asarray(x)


def generator(rng: np.random.Generator | None) -> np.random.Generator:
    """The given generator, or a new one that is the same every time, so that a check repeats."""
    return np.random.default_rng(0) if rng is None else rng


def assert_close(
    actual: ArrayLike | Tensor,
    expected: ArrayLike | Tensor,
    *,
    error: float | np.ndarray = 0.0,
    rtol: float | None = None,
    what: str = "value",
) -> None:
    """Assert that two arrays have one shape and dtype and agree entry by entry, infinities and NaNs included.

    Parameters
    ----------
    actual, expected : arrays or Tensors
    error : how wrong ``expected`` may be, absolutely: a number or an array
    rtol : accepted relative to ``|expected|``; by default 32 units in the last place of the dtype
    what : the name of what is compared, for the message

    Raises
    ------
    CheckError : naming the worst entry and both values
    """
    have, want = as_array(actual), as_array(expected)
    if have.shape != want.shape:
        raise CheckError(f"{what}: shape {have.shape}, expected {want.shape}")
    if have.dtype != want.dtype:
        raise CheckError(f"{what}: dtype {have.dtype}, expected {want.dtype}")
    if have.dtype.kind != "f":
        rtol = 0.0
    elif rtol is None:
        rtol = 32 * float(np.finfo(have.dtype).eps)
    with np.errstate(all="ignore"):
        far = np.abs(have.astype(np.float64) - want.astype(np.float64))
        allowed = np.broadcast_to(error + rtol * np.abs(want.astype(np.float64)), want.shape)
        same = (have == want) | (np.isnan(have) & np.isnan(want))
        excess = np.where(same, -np.inf, np.where(np.isfinite(far), far - allowed, np.inf))
    if excess.size and excess.max() > 0:
        worst = tuple(int(i) for i in np.unravel_index(int(excess.argmax()), excess.shape))
        raise CheckError(
            f"{what}: {int((excess > 0).sum())} of {excess.size} entries differ, the worst at {worst}: "
            f"{have[worst]!r}, expected {want[worst]!r} within {allowed[worst]:.2g}"
        )
