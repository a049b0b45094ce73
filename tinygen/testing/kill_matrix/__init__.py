"""Which checker catches which planted fault. ``python -m tinygen.testing.kill_matrix`` prints and writes the table."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings
from hypothesis.errors import Flaky, Unsatisfiable, UnsatisfiedAssumption
from hypothesis.strategies import SearchStrategy

from tinygen.testing.faults import FAULTS, Checker, Fault
from tinygen.testing.strategies import rngs

Check = Callable[[Any, np.random.Generator], None]


@dataclass(frozen=True)
class Outcome:
    """What a hypothesis test came to.

    Attributes
    ----------
    rejected : whether the checker rejected an example, which ends the test
    judged : the share of the examples drawn on which the checker had a verdict. Hypothesis counts these alone, and
        draws others in place of the rest.
    """

    rejected: bool
    judged: float


@dataclass(frozen=True)
class Tally:
    """The outcomes over all seeds.

    Attributes
    ----------
    caught : on how many seeds the checker rejected the fault
    false_alarms : on how many it rejected the fault's correct neighbour
    judged : the share of the neighbour's examples on which it had a verdict, a mean over the seeds
    """

    caught: int
    false_alarms: int
    judged: float


def search(check: Check, drawn: SearchStrategy, at: int | None = None, examples: int = 100) -> Outcome:
    """Run a hypothesis test of ``check`` on that many examples with a verdict, from seed ``at`` or derandomised."""
    judged: list[bool] = []
    rejections: list[AssertionError] = []

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
        judged.append(True)
        try:
            check(example, rng)
        except UnsatisfiedAssumption:  # as `Inconclusive` is
            judged[-1] = False
            raise
        except AssertionError as error:  # what checkers of others raise too
            rejections.append(error)
            raise

    if at is not None:
        test = seed(at)(test)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # divisions by zero and the like are part of some faults
            test()
    except (AssertionError, Flaky):  # rejected, perhaps not again when hypothesis looked once more
        if not rejections:
            raise
    except Unsatisfiable:  # all examples were inconclusive
        pass
    return Outcome(bool(rejections), sum(judged) / max(len(judged), 1))


def false_alarms(check: Check, drawn: SearchStrategy, seeds: int, examples: int) -> tuple[int, float]:
    """On how many seeds ``check``, of code that is right, rejects; and the mean share of the examples it judges."""
    outcomes = [search(check, drawn, at, examples) for at in range(seeds)]
    return sum(o.rejected for o in outcomes), sum(o.judged for o in outcomes) / seeds


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
    For each title of a fault and name of a checker, how often it was caught, and how often what is right was rejected.

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
            caught = sum(search(wrong, fault.examples, at, examples).rejected for at in range(seeds))
            table[fault.title, name] = Tally(caught, *false_alarms(right, fault.examples, seeds, examples))
    return table


def _run(checker: Checker, fault: Fault, faulty: bool, example: Any, rng: np.random.Generator) -> None:
    checker(fault.subject(faulty), example, rng)
