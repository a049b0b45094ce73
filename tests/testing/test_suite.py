"""What the list of all properties finds in functions that are wrong in one dtype or of one size only."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

import tinygen as tg
from tinygen.testing import ContractError, GradientError, Inconclusive, Pullback, property_suite

X = np.array([0.5, 1.5])


def run(name: str, f: Callable, vjp: Any = None, x: np.ndarray = X) -> None:
    (holds,) = [p for p in property_suite(f, st.nothing(), vjp=vjp) if p.name == name]
    holds.check([x], np.random.default_rng(0))


def wrong(x: np.ndarray, by: float) -> float:
    return by if x.dtype == np.float32 else 1.0


@pytest.mark.parametrize("by", [1.5, 1.001])
def test_what_is_wrong_in_float32_alone_is_rejected(by: float) -> None:
    cosine = Pullback(lambda u, x: (u * np.cos(x),))
    spoiled = Pullback(lambda u, x: (u * np.cos(x) * x.dtype.type(wrong(x, by)),))
    run("float32 near float64", np.sin, cosine)
    with pytest.raises(ContractError, match="the gradient of argument 0 in float32"):
        run("float32 near float64", np.sin, spoiled)
    with pytest.raises(ContractError, match="the value in float32"):
        run("float32 near float64", lambda x: np.sin(x) * x.dtype.type(wrong(x, by)), cosine)


def test_small_functions_have_no_larger_tolerance() -> None:
    with pytest.raises(ContractError, match="the value in float32"):
        run(
            "float32 near float64",
            lambda x: x * x.dtype.type(1e-6 * wrong(x, 1.01)),
            Pullback(lambda u, x: (u * x.dtype.type(1e-6),)),
        )


def test_what_magnifies_roundings_passes() -> None:
    run("float32 near float64", lambda x: tg.exp(50 * x))
    run("float32 near float64", lambda x: tg.sin(1000 * x))
    with pytest.raises(Inconclusive, match="finite"):
        run("float32 near float64", lambda x: tg.exp(100 * x))


def test_a_small_function_that_bends_is_not_linear() -> None:
    square = Pullback(lambda u, x: (2e-14 * u * x,))
    run("adjoint", lambda x: 1e-14 * x * x, square)
    run("adjoint", lambda x: 1e-14 * x, Pullback(lambda u, x: (1e-14 * u,)))
    run("adjoint", lambda x: 0 * x, Pullback(lambda u, x: (0 * u,)))
    with pytest.raises(GradientError):
        run("adjoint", lambda x: 1e-14 * x, Pullback(lambda u, x: (1.01e-14 * u,)))


def test_gradients_of_what_cancels_are_not_judged_in_float32() -> None:
    """The norm of two numbers is 1 and -1, so its gradient is small, and a difference of terms as large as 1."""
    x, one, zero = np.array([[-0.140625, 0.25]]).T, np.ones(1), np.zeros(1)

    def norm(x: Any) -> Any:
        return tg.group_norm(tg.reshape(x, (1, 2, 1)), 1, one.astype(x.dtype), zero.astype(x.dtype))

    outcomes = set()
    for seed in range(20):
        (holds,) = [p for p in property_suite(norm, st.nothing()) if p.name == "float32 near float64"]
        try:
            holds.check([x], np.random.default_rng(seed))
            outcomes.add("judged")
        except Inconclusive:
            outcomes.add("not judged")
    assert "not judged" in outcomes
