"""Which checker catches which planted fault. ``python -m tinygen.testing.kill_matrix`` prints and writes the table."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings
from hypothesis.errors import Unsatisfiable
from hypothesis.strategies import SearchStrategy

from tinygen.testing.faults import FAULTS, Checker, Fault
from tinygen.testing.strategies import rngs

Check = Callable[[Any, np.random.Generator], None]


@dataclass(frozen=True)
class Tally:
    """On how many seeds a checker rejected the fault, and, of these, on how many its correct neighbour too."""

    caught: int
    false_alarms: int


def rejects(check: Check, drawn: SearchStrategy, at: int | None = None, examples: int = 100) -> bool:
    """Whether a hypothesis test that runs ``check`` on that many examples fails, from seed ``at`` or derandomised."""

    @settings(
        max_examples=examples,
        derandomize=at is None,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        verbosity=Verbosity.quiet,
    )
    @given(drawn, rngs())
    def test(example: Any, rng: np.random.Generator) -> None:
        check(example, rng)

    if at is not None:
        test = seed(at)(test)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # divisions by zero and the like are part of some faults
            test()
    except AssertionError:  # what checkers of others raise too
        return True
    except Unsatisfiable:  # all examples were inconclusive
        return False
    return False


def kill_matrix(
    checkers: Mapping[str, Checker] | None = None,
    *,
    faults: Sequence[Fault] = FAULTS,
    seeds: int = 20,
    examples: int = 100,
) -> dict[tuple[str, str], Tally]:
    """Run checkers on planted faults.

    Parameters
    ----------
    checkers : by name, to be run on all of ``faults``; by default those that go with each fault
    faults : which faults; those of one kind are together, as in ``faults.gradients.FAULTS``, for your own checkers
    seeds, examples : how many hypothesis tests for each, and how many examples in each

    Returns
    -------
    For each title of a fault and name of a checker, how often it was caught.

    Examples
    --------
    A checker whose cotangent is ones does not see a pullback that ignores its cotangent:

    >>> from tinygen.testing import assert_close
    >>> def slope(subject, xs, rng):
    ...     y, pullback = subject.vjp(subject.f, *xs)
    ...     v, h = rng.standard_normal(xs[0].shape), 1e-6
    ...     along = (subject.f(xs[0] + h * v) - subject.f(xs[0] - h * v)).sum() / (2 * h)
    ...     assert_close((pullback(np.ones(y.shape))[0] * v).sum(), along, error=1e-6)
    >>> for (fault, _), tally in kill_matrix({"slope": slope}, faults=FAULTS[:2], seeds=5).items():
    ...     print(fault, tally.caught)
    pullback × 1.0001 5
    pullback ignores its cotangent 0
    """
    table = {}
    for fault in faults:
        for name, checker in (fault.checkers if checkers is None else checkers).items():
            wrong, right = (partial(_run, checker, fault, faulty) for faulty in (True, False))
            caught = [s for s in range(seeds) if rejects(wrong, fault.examples, s, examples)]
            alarms = sum(rejects(right, fault.examples, s, examples) for s in caught)
            table[fault.title, name] = Tally(len(caught), alarms)
    return table


def _run(checker: Checker, fault: Fault, faulty: bool, example: Any, rng: np.random.Generator) -> None:
    checker(fault.subject(faulty), example, rng)
