"""What counts as equal, and what counts as conclusive."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

import tinygen as tg
from tests.testing.support import rejected
from tinygen.optim import SGD
from tinygen.testing import (
    CheckError,
    Inconclusive,
    Pullback,
    assert_close,
    check_adjoint,
    check_contract,
    check_optimizer,
    check_taylor,
    check_vjp,
    mostly_conclusive,
    rngs,
)
from tinygen.testing.verdicts import conclude


def test_what_is_close_passes() -> None:
    assert_close(np.array([1.0, np.nan, np.inf]), np.array([1.0 + 1e-15, np.nan, np.inf]))
    assert_close(tg.tensor([1.0]), np.ones(1, np.float32))
    assert_close(np.array([1 + 1j, complex(0, np.inf)]), np.array([1 + (1 + 1e-15) * 1j, complex(0, np.inf)]))
    assert_close(np.array(["a", "b"]), np.array(["a", "b"]))
    assert_close(np.zeros((0, 2)), np.zeros((0, 2)))
    assert_close(np.array([1.0, 2.0]), np.array([1.5, 2.1]), error=np.array([0.5, 0.2]))


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        (np.array([1.0, 2.0]), np.array([1.0, 2.1])),
        (np.array([1.0, np.nan]), np.array([1.0, 2.0])),
        (np.array([np.inf]), np.array([-np.inf])),
        (np.array([1.0]), np.array([np.inf])),
        (np.ones(1, np.float32), np.ones(1)),
        (np.ones((1, 1)), np.ones(1)),
        (np.array([1]), np.array([2])),
        (np.array([2**53 + 1]), np.array([2**53])),
        (np.array([2**64 - 1], np.uint64), np.array([2**64 - 2], np.uint64)),
        (np.array([1 + 1j]), np.array([1 + 2j])),
        (np.array([1 + 1j], np.complex64), np.array([1 + 2j], np.complex64)),
        (np.array([True]), np.array([False])),
        (np.array(["a", "b"]), np.array(["a", "c"])),
    ],
)
def test_what_differs_is_rejected(wrong: np.ndarray, expected: np.ndarray) -> None:
    with pytest.raises(CheckError):
        assert_close(wrong, expected)


def test_integers_must_be_equal_whatever_the_tolerance() -> None:
    with pytest.raises(CheckError):
        assert_close(np.array([1]), np.array([2]), error=10.0, rtol=10.0)


@pytest.mark.parametrize("tolerance", [np.nan, np.inf, -1.0, np.array([0.0, np.nan])])
def test_tolerances_that_accept_anything_are_refused(tolerance: Any) -> None:
    for name in ("error", "rtol"):
        with pytest.raises(ValueError, match=f"{name} must be finite"):
            assert_close(np.array([1.0, 5.0]), np.array([2.0, 2.0]), **{name: tolerance})


def test_messages_are_of_plain_numbers() -> None:
    with pytest.raises(CheckError, match=r"gain: 1 of 2 .* worst at \(1,\): 2\.0, expected 3\.0 within 0\.5$"):
        assert_close(np.array([1.0, 2.0]), np.array([1.0, 3.0]), error=0.5, rtol=0, what="gain")


# ----------------------------------------------------------------------------------------------------------- conclusive


def judged(test: Callable) -> Callable:
    """A hypothesis test of an integer."""
    quiet = settings(max_examples=20, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    return mostly_conclusive(quiet(given(k=st.integers(0, 9))(test)))


def test_an_example_is_as_conclusive_as_its_least_conclusive_check() -> None:
    """Two easy checks do not excuse a third that hardly ever has a verdict."""

    def test(k: int) -> None:
        conclude(None)
        conclude(None)
        conclude(None if k == 0 else Inconclusive("too hard"))

    with pytest.raises(CheckError, match="examples were conclusive"):
        judged(test)()


def test_exactly_half_is_enough() -> None:
    @mostly_conclusive
    @settings(max_examples=1, phases=[Phase.explicit])
    @example(k=0)
    @example(k=1)
    @given(k=st.integers())
    def test(k: int) -> None:
        conclude(Inconclusive("odd") if k else None)

    test()


def test_each_run_counts_anew() -> None:
    hard = True

    def test(k: int) -> None:
        conclude(Inconclusive("hard") if hard and k else None)

    again = judged(test)
    with pytest.raises(CheckError):
        again()
    hard = False
    again()


def test_it_stands_above_given() -> None:
    with pytest.raises(TypeError, match="above @given"):

        @given(k=st.integers())
        @mostly_conclusive
        def test(k: int) -> None:
            conclude(None)


def test_no_verdict_is_no_rejection() -> None:
    with rejected(CheckError, match="wrong"):
        conclude(CheckError("wrong"))
    with pytest.raises(pytest.fail.Exception, match="inconclusive where CheckError"), rejected(CheckError):
        conclude(Inconclusive("hard"))


SINE = Pullback(lambda u, x: (u * np.cos(x) * np.array([1.0, 1.0, 2.0]),))
NOTED: dict[str, tuple[Callable, str]] = {
    "check_vjp": (lambda rng: check_vjp(np.sin, np.ones(3), vjp=SINE, rng=rng), "cotangent u = array"),
    "check_taylor": (lambda rng: check_taylor(np.sin, np.ones(3), vjp=SINE, rng=rng), "direction v = "),
    "check_adjoint": (
        lambda rng: check_adjoint(lambda x: 2 * x, np.ones(3), vjp=SINE, linear=True, rng=rng),
        "direction v = ",
    ),
    "check_contract": (
        lambda rng: check_contract(np.sin, np.ones(3), vjp=lambda f, x: (f(x), lambda u: (u,)), rng=rng),
        "cotangent u = ",
    ),
    "check_optimizer": (
        lambda rng: check_optimizer(lambda ps: SGD(ps, lr=0.1), lambda p, g: p, rng=rng),
        "(?s)parameters .*, gradients of each step",
    ),
}


@pytest.mark.parametrize(("check", "text"), NOTED.values(), ids=NOTED)
def test_what_was_drawn_is_noted(check: Callable, text: str) -> None:
    """On the example that hypothesis reports."""

    @settings(database=None, derandomize=True, phases=[Phase.generate])
    @given(rng=rngs())
    def test(rng: np.random.Generator) -> None:
        check(rng)

    with pytest.raises(CheckError) as failure:
        test()
    assert any(re.match(text, note) for note in failure.value.__notes__)
