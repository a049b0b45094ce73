"""Every planted fault is caught, its correct neighbour passes, and nothing that is right but hostile is rejected.

What is right must be judged, too: on at least half of the examples, or a pass would say nothing.
"""

import pytest

from tinygen.testing.faults import FAULTS, Fault
from tinygen.testing.faults.hostile import CORPUS, Hostile
from tinygen.testing.kill_matrix import kill_matrix, search

CAUGHT = [(fault, name) for fault in FAULTS for name in fault.caught_by]
RIGHT = [(fault, name) for fault in FAULTS for name in fault.checkers]
HOSTILE = [(h, name) for h in CORPUS for name in h.checkers]

# 1e8 + x is rounded to multiples of 1.5e-8, far more than the value that is left shows: remainders of steps are noise.
OPEN = {("digits lost to 1e8", "check_taylor")}


def named(case: object) -> str:
    return case if isinstance(case, str) else case.title  # type: ignore[attr-defined]


def test_the_numbers_are_complete() -> None:
    assert {fault.number for fault in FAULTS} == set(range(1, 43))
    assert len({fault.title for fault in FAULTS}) == len(FAULTS)


@pytest.mark.parametrize(("fault", "name"), CAUGHT, ids=named)
def test_fault_is_caught(fault: Fault, name: str) -> None:
    """By a derandomised test of 100 examples, and from another seed."""
    check = fault.checkers[name]
    assert search(lambda example, rng: check(fault.subject(True), example, rng), fault.examples).rejected
    assert kill_matrix({name: check}, faults=[fault], seeds=1, examples=20)[fault.title, name].caught


@pytest.mark.parametrize(("fault", "name"), RIGHT, ids=named)
def test_neighbour_passes(fault: Fault, name: str) -> None:
    check = fault.checkers[name]
    found = search(lambda example, rng: check(fault.subject(False), example, rng), fault.examples, examples=15)
    assert not found.rejected
    assert found.judged >= 0.5


@pytest.mark.parametrize(("h", "name"), HOSTILE, ids=named)
def test_hostile_code_passes(h: Hostile, name: str) -> None:
    check = h.checkers[name]
    found = search(lambda example, rng: check(h.subject, example, rng), h.examples, examples=15)
    assert not found.rejected
    assert (found.judged < 0.5) == ((h.title, name) in OPEN)
