"""What a check can conclude: it passes silently, fails with one of these errors, or is inconclusive."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import numpy as np
from hypothesis import currently_in_test_context, is_hypothesis_test, note
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


def conclude(verdict: Exception | None) -> None:
    """Raise a verdict, unless it is None, which is a pass."""
    if verdict is not None:
        raise verdict


def mostly_conclusive(test: Callable) -> Callable:
    """Make a hypothesis test fail if fewer than half of its examples were conclusive: a decorator, above ``given``.

    Hypothesis replaces an inconclusive example by another, so without this a test could pass on a few easy examples
    alone. An example with several checks is conclusive if all of them are.

    Raises
    ------
    TypeError : ``test`` is not a hypothesis test, as it is not if this stands below ``given``
    """
    if not is_hypothesis_test(test):
        raise TypeError(f"mostly_conclusive: {test!r} is not a hypothesis test; write it above @given")
    example = test.hypothesis.inner_test  # type: ignore[attr-defined]
    counts = {True: 0, False: 0}

    @wraps(example)
    def counted(*args: Any, **kwargs: Any) -> None:
        try:
            example(*args, **kwargs)
        except Inconclusive:
            counts[False] += 1
            raise
        counts[True] += 1

    test.hypothesis.inner_test = counted  # type: ignore[attr-defined]

    @wraps(test)
    def judged(*args: Any, **kwargs: Any) -> None:
        counts.update({True: 0, False: 0})
        test(*args, **kwargs)
        if counts[True] < counts[False]:
            raise CheckError(
                f"only {counts[True]} of {sum(counts.values())} examples were conclusive; change what is drawn"
            )

    return judged


def report(text: str) -> None:
    """Show what a checker drew if the example fails, when hypothesis is running."""
    if currently_in_test_context():
        note(text)


@contextmanager
def reporting(**drawn: Any) -> Iterator[None]:
    """`report` what was drawn, by its name, if a check within fails."""
    try:
        yield
    except CheckError:
        for name, value in drawn.items():
            report(f"{name} = {value!r}")
        raise


def as_array(x: Any) -> np.ndarray:
    """The array of a Tensor or of anything array-like."""
    return x.data if isinstance(x, Tensor) else np.asarray(x)


def generator(rng: np.random.Generator | None) -> np.random.Generator:
    """The given generator, or a new one that is the same every time, so that a check repeats."""
    return np.random.default_rng(0) if rng is None else rng


def check_tolerances(**given: ArrayLike | None) -> None:
    """Raise a ValueError for a tolerance, by its name, that would accept anything or nothing."""
    for name, value in given.items():
        if value is not None and not np.all(np.isfinite(value) & (np.asarray(value) >= 0)):
            raise ValueError(f"{name} must be finite and not negative, got {value!r}")


def assert_close(
    actual: ArrayLike | Tensor,
    expected: ArrayLike | Tensor,
    *,
    error: float | np.ndarray = 0.0,
    rtol: float | None = None,
    what: str = "value",
) -> None:
    """Assert that two arrays have one shape and dtype and agree entry by entry, infinities and NaNs included.

    Complex numbers are as far apart as in the plane. What is neither floating nor complex must be equal.

    Parameters
    ----------
    actual, expected : arrays or Tensors
    error : how wrong ``expected`` may be, absolutely: a number or an array
    rtol : accepted relative to ``|expected|``; by default 32 units in the last place of the dtype
    what : the name of what is compared, for the message

    Raises
    ------
    CheckError : naming the worst entry and both values
    ValueError : a tolerance is negative, infinite or NaN
    """
    check_tolerances(error=error, rtol=rtol)
    have, want = as_array(actual), as_array(expected)
    if have.shape != want.shape:
        raise CheckError(f"{what}: shape {have.shape}, expected {want.shape}")
    if have.dtype != want.dtype:
        raise CheckError(f"{what}: dtype {have.dtype}, expected {want.dtype}")
    with np.errstate(all="ignore"):
        same = np.asarray(have == want)
        if have.dtype.kind in "fc":
            wide = np.promote_types(have.dtype, np.float64)
            size = np.abs(want.astype(wide))
            far = np.abs(have.astype(wide) - want.astype(wide))
            allowed = np.broadcast_to(
                error + (32 * np.finfo(have.dtype).eps if rtol is None else rtol) * size, want.shape
            )
            same |= np.isnan(have) & np.isnan(want)
        else:
            far, allowed = np.full(want.shape, np.inf), np.zeros(want.shape)
        excess = np.where(same, -np.inf, np.where(np.isfinite(far), far - allowed, np.inf))
    if not (excess <= 0).all():
        worst = tuple(int(i) for i in np.unravel_index(int(excess.argmax()), excess.shape))
        raise CheckError(
            f"{what}: {int((excess > 0).sum())} of {excess.size} entries differ, the worst at {worst}: "
            f"{have.item(worst)!r}, expected {want.item(worst)!r} within {allowed[worst]:.2g}"
        )
