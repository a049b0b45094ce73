"""The checkers of gradients, beside the faults that `tinygen.testing.faults` plants."""

import contextlib
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.errors import UnsatisfiedAssumption

import tinygen as tg
from tests.testing.support import rejected
from tinygen.testing import (
    CheckError,
    GradientError,
    Inconclusive,
    Pullback,
    check_adjoint,
    check_subgradient,
    check_taylor,
    check_vjp,
    mostly_conclusive,
    rngs,
)

A = np.random.default_rng(5).standard_normal((64, 64))


def given_pullback(f: Callable, pull: Callable) -> Callable:
    """A ``vjp`` from a formula: pull(u, *xs) gives a tuple."""
    return lambda g, *xs: (f(*xs), lambda u: pull(u, *xs))


FUNCTIONS: dict[str, tuple[Callable, tuple[int, ...]]] = {
    "sine": (np.sin, (3, 2)),
    "large": (lambda x: np.exp(x) + x[::-1], (80,)),
    "scale": (lambda x: np.tanh(x * 3e5), (3,)),
}
RIGHT: dict[str, tuple[str, Callable]] = {
    "sine": ("sine", lambda u, x: (u * np.cos(x),)),
    "large": ("large", lambda u, x: (u * np.exp(x) + u[::-1],)),
    "scale": ("scale", lambda u, x: (u * 3e5 * (1 - np.tanh(x * 3e5) ** 2),)),
}
WRONG: dict[str, tuple[str, Callable]] = {
    "sign": ("sine", lambda u, x: (-u * np.cos(x),)),
    "zero": ("sine", lambda u, x: (0 * u,)),
    "not a number": ("sine", lambda u, x: (u * np.nan,)),
    "a large one, a row": ("large", lambda u, x: (u * np.exp(x) + np.where(np.arange(80) == 7, 0, u[::-1]),)),
    "stopped on a large scale": ("scale", lambda u, x: (0 * u,)),
}


def run(checker: Callable, name: str, pull: Callable, rng: np.random.Generator) -> None:
    f, shape = FUNCTIONS[name]
    x = rng.standard_normal(shape) * (1e-6 if name == "scale" else 1)
    checker(f, x, vjp=given_pullback(f, pull), rng=rng)


@pytest.mark.parametrize("checker", [check_vjp, check_adjoint, check_taylor])
@pytest.mark.parametrize("case", RIGHT)
@settings(max_examples=20)
@given(rng=rngs())
def test_right_gradients_pass(checker: Callable, case: str, rng: np.random.Generator) -> None:
    run(checker, *RIGHT[case], rng)


@pytest.mark.parametrize("case", WRONG)
@settings(max_examples=10)
@given(rng=rngs())
def test_wrong_gradients_fail(case: str, rng: np.random.Generator) -> None:
    with rejected(GradientError):
        run(check_vjp, *WRONG[case], rng)
    if case != "a large one, a row":  # a probe sees this only by chance
        with rejected(GradientError):
            run(check_adjoint, *WRONG[case], rng)


@pytest.mark.parametrize("case", ["sign", "zero", "not a number"])
@settings(max_examples=10)
@given(rng=rngs())
def test_taylor_sees_wrong_slopes(case: str, rng: np.random.Generator) -> None:
    with rejected(GradientError):
        run(check_taylor, *WRONG[case], rng)


@given(rng=rngs())
@settings(max_examples=10)
def test_linear_adjoint_is_exact(rng: np.random.Generator) -> None:
    f, x = (lambda x: A @ x), rng.standard_normal(64)
    check_adjoint(f, x, vjp=given_pullback(f, lambda u, x: (A.T @ u,)), linear=True, rng=rng)
    with rejected(GradientError):
        check_adjoint(f, x, vjp=given_pullback(f, lambda u, x: (A.T @ u * (1 + 1e-6),)), linear=True, rng=rng)
    check_adjoint(
        f, x, vjp=given_pullback(f, lambda u, x: (A.T @ u,)), jvp=lambda f, xs, vs: (f(*xs), A @ vs[0]), rng=rng
    )


def test_the_second_order_is_checked() -> None:
    """A term that is dropped from the derivative of the derivative does not show at order 1."""

    @tg.primitive(domain=tg.autograd.Real())
    def cube_with_a_stopped_rule(x):
        """x³, whose rule is right, and constant."""
        return x**3

    def stopped(g, x):
        fixed = x.detach() if isinstance(x, tg.Tensor) else x
        return g * (3 * fixed * fixed)

    cube_with_a_stopped_rule.vjp(x=stopped)
    try:
        x = np.array([0.3, -1.2])
        check_vjp(cube_with_a_stopped_rule, x)
        with pytest.raises(GradientError):
            check_vjp(cube_with_a_stopped_rule, x, order=2)
        check_vjp(lambda x: x**3, x, order=3)
    finally:
        del tg.autograd.operations.__dict__["cube_with_a_stopped_rule"]


@pytest.mark.parametrize("x", [[1.5925113034578238, 1.570233403572543], [1.2200116949815207, 1.231763158945975]])
@pytest.mark.parametrize("seed", range(8))
def test_second_derivatives_that_cancel_are_no_faults(x: list[float], seed: int) -> None:
    """Where softmax saturates, the gradient that is recorded for order 2 cancels in other terms than the kernel's."""
    with contextlib.suppress(Inconclusive):
        check_vjp(lambda x: tg.softmax(500 * x), np.array(x), order=2, rng=np.random.default_rng(seed))


def test_a_recorded_gradient_is_that_of_order_1() -> None:
    def vjp(f: Callable, *xs: np.ndarray) -> tuple:
        y, pullback = tg.func.vjp(f, *xs)
        return (y if len(xs) == 1 else y * (1 + 1e-5)), pullback

    check_vjp(lambda x: tg.sin(x), np.array([0.3, -1.2]), vjp=tg.func.vjp, order=2)
    with pytest.raises(CheckError, match="vjp's value"):
        check_vjp(lambda x: tg.sin(x), np.array([0.3, -1.2]), vjp=vjp, order=2)


def test_kinks_are_inconclusive() -> None:
    with pytest.raises(Inconclusive):
        check_vjp(tg.abs, np.array(0.0))
    check_vjp(tg.abs, np.array(1e-7))


def test_inconclusive_is_a_rejection() -> None:
    assert issubclass(Inconclusive, UnsatisfiedAssumption)


@pytest.mark.parametrize(("share", "fails"), [(8, True), (2, False)])
def test_a_test_must_be_mostly_conclusive(share: int, fails: bool) -> None:
    @mostly_conclusive
    @settings(max_examples=20, database=None, derandomize=True)
    @given(k=st.integers(0, 9))
    def test(k: int) -> None:
        check_vjp(tg.abs, np.array(0.0 if k < share else 1.0))

    if fails:
        with pytest.raises(CheckError, match="conclusive"):
            test()
    else:
        test()


def test_messages_name_entry_values_and_error() -> None:
    wrong = given_pullback(np.sin, lambda u, x: (u * np.cos(x) * np.array([1, 1, 2.0]),))
    with pytest.raises(
        GradientError, match=r"argument 0 of shape \(3,\), entry \(2,\): the pullback gives .* error below"
    ):
        check_vjp(np.sin, np.array([0.1, 0.2, 0.3]), vjp=wrong)


def test_gradients_of_wrong_shape() -> None:
    with pytest.raises(GradientError, match="shape"):
        check_vjp(np.sin, np.array([0.1, 0.2]), vjp=given_pullback(np.sin, lambda u, x: (u.sum(),)))


@pytest.mark.parametrize(("slope", "fails"), [(0.0, False), (0.7, False), (2.0, True), (-0.1, True)])
def test_subgradients_lie_between_the_slopes(slope: float, fails: bool) -> None:
    relu = given_pullback(lambda x: np.maximum(x, 0), lambda u, x: (u * np.where(x > 0, 1, np.where(x < 0, 0, slope)),))
    if fails:
        with pytest.raises(GradientError):
            check_subgradient(lambda x: np.maximum(x, 0), np.array([0.0, 1.0]), vjp=relu)
    else:
        check_subgradient(lambda x: np.maximum(x, 0), np.array([0.0, 1.0]), vjp=relu)
        check_subgradient(lambda x: np.maximum(x, 0), np.array([0.0, 1.0]), np.array([slope, 1.0]), vjp=relu)
        with pytest.raises(GradientError):
            check_subgradient(lambda x: np.maximum(x, 0), np.array([0.0, 1.0]), np.array([slope + 0.1, 1.0]), vjp=relu)


WEAK: dict[str, tuple[Callable, list, Callable]] = {
    "a slope of 1 beside a value of 5e8": (
        lambda a, b: np.exp(a) + b,
        [[20.0], [0.5]],
        lambda u, a, b: (u * np.exp(a), 0 * u),
    ),
    "a slope of 1 under 1e7": (lambda x: 1e7 + np.sin(x), [[0.3]], lambda u, x: (1.01 * u * np.cos(x),)),
    "nothing under 1e9": (lambda x: 1e9 + np.sin(x), [[0.3]], lambda u, x: (0 * u,)),
    "a small entry beside a large one": (
        lambda x: np.asarray((x**2).sum()),
        [[1e5, 1.0]],
        lambda u, x: (u * np.array([2e5, 0]),),
    ),
}


@pytest.mark.parametrize("checker", [check_vjp, check_adjoint, check_taylor])
@pytest.mark.parametrize("case", WEAK)
@settings(max_examples=5)
@given(rng=rngs())
def test_what_cannot_be_seen_does_not_pass(checker: Callable, case: str, rng: np.random.Generator) -> None:
    f, xs, pull = WEAK[case]
    if checker is check_taylor and "beside" in case:
        return  # along its direction, what is large changes so much more that the rest is lost, as documented
    with pytest.raises((GradientError, Inconclusive)):
        checker(f, *map(np.array, xs), vjp=Pullback(pull), rng=rng)


@pytest.mark.parametrize("x", [1e-4, 2e-4, 5e-4, 1e-3, 0.1])
def test_faults_show_near_the_edge_of_a_domain(x: float) -> None:
    check_vjp(np.log, np.array(x), vjp=Pullback(lambda u, x: (u / x,)))
    with pytest.raises(GradientError):
        check_vjp(np.log, np.array(x), vjp=Pullback(lambda u, x: (0 * u,)))


def test_a_step_has_no_slope() -> None:
    check_vjp(np.floor, np.array([0.3, -1.4]), vjp=Pullback(lambda u, x: (0 * u,)))
    with pytest.raises(GradientError):
        check_vjp(np.floor, np.array([0.3, -1.4]), vjp=Pullback(lambda u, x: (u,)))


def test_the_value_of_vjp_is_that_of_the_function() -> None:
    with pytest.raises(CheckError, match="vjp's value"):
        check_vjp(np.sin, np.array(0.3), vjp=lambda f, x: (5 * f(x), lambda u: (u * np.cos(x),)))


def test_an_infinite_pullback_is_no_adjoint() -> None:
    infinite = Pullback(lambda u, x: (np.full_like(x, np.inf),))
    with pytest.raises(GradientError):
        check_adjoint(lambda x: 2 * x, np.array([0.3, 1.0]), vjp=infinite, linear=True)


def test_misuse_is_explained() -> None:
    sine = Pullback(lambda u, x: (u * np.cos(x),))
    for order, xs in ((0, [1.0]), (1, [])):
        with pytest.raises(ValueError, match="order="):
            check_vjp(np.sin, *map(np.array, xs), order=order, vjp=sine)
    with pytest.raises(TypeError, match="no derivative of its own"):
        check_vjp(np.sin, np.array(1.0), order=2, vjp=sine)
    with pytest.raises(TypeError, match="must return a tuple"):
        check_vjp(np.sin, np.array([1.0, 2.0]), vjp=Pullback(lambda u, x: u * np.cos(x)))
    with pytest.raises(TypeError, match="gives float32 for float64"):
        check_vjp(lambda x: np.sin(x.astype(np.float32)), np.array(1.0), vjp=sine)
    with pytest.raises(GradientError, match="2 arguments but 1 cotangents"):
        check_vjp(np.multiply, np.array(1.0), np.array(2.0), vjp=Pullback(lambda u, x, y: (u * y,)))


# --------------------------------------------------------------------------------------------------------- complex step

ANALYTIC: dict[str, tuple[Callable, Callable]] = {
    "sine": (lambda x: np.sin(3 * x), lambda u, x: (u * 3 * np.cos(3 * x),)),
    "sums": (lambda x: np.cumsum(np.exp(x) - x), lambda u, x: (np.cumsum(u[::-1])[::-1] * np.expm1(x),)),
    "quotient": (lambda x: x / (1 + x * x), lambda u, x: (u * (1 - x * x) / (1 + x * x) ** 2,)),
}


@pytest.mark.parametrize("case", ANALYTIC)
@mostly_conclusive
@settings(max_examples=50)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_complex_step_sees_the_tenth_digit(case: str, seed: int) -> None:
    f, pull = ANALYTIC[case]
    x = np.random.default_rng(seed).standard_normal(5)
    check_vjp(f, x, vjp=Pullback(pull), analytic=True, rng=np.random.default_rng(seed))
    with rejected(GradientError, match="complex step"):
        check_vjp(
            f,
            x,
            vjp=Pullback(lambda u, x: (pull(u, x)[0] * (1 + 1e-10),)),
            analytic=True,
            rng=np.random.default_rng(seed),
        )


@pytest.mark.parametrize(
    ("f", "error"), [(lambda x: np.abs(x) ** 2, TypeError), (lambda x: x * np.conj(x), ValueError)]
)
def test_the_complex_step_is_for_analytic_functions(f: Callable, error: type[Exception]) -> None:
    square = Pullback(lambda u, x: (u * 2 * x,))
    check_vjp(f, np.array([0.3, -2.0]), vjp=square)
    with pytest.raises(error, match="analytic=True"):
        check_vjp(f, np.array([0.3, -2.0]), vjp=square, analytic=True)
    with pytest.raises(ValueError, match="analytic=True is for functions of arrays"):
        check_vjp(tg.sin, np.array(0.3), analytic=True)


@pytest.mark.parametrize(
    ("x", "seed"),
    [
        ([0.369140625, 1.5810546875, -0.3837890625, 0.369140625], 756),
        ([-0.2919921875, 1.44921875, -0.2919921875, -0.2919921875], 597),
    ],
)
def test_roundings_that_halve_by_chance_are_no_wrong_slope(x: list[float], seed: int) -> None:
    """Seeds at which the last remainders of a function that is rounded to a grid happen to shrink with a slope of 1."""
    with pytest.raises(Inconclusive):
        check_taylor(lambda x: (1e8 + x) - 1e8, np.array(x), rng=np.random.default_rng(seed))


@pytest.mark.parametrize("k", [30.0, 100.0])
def test_a_slope_is_judged_where_a_function_oscillates(k: float) -> None:
    """At long steps the remainder of a zero gradient does not shrink, at short ones with a slope of 1."""
    outcomes = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        try:
            check_taylor(lambda x: np.sin(k * x), rng.uniform(-2, 2, 3), vjp=Pullback(lambda u, x: (0 * u,)), rng=rng)
            outcomes.append("passed")
        except (GradientError, Inconclusive) as verdict:
            outcomes.append(type(verdict).__name__)
    assert "passed" not in outcomes and outcomes.count("GradientError") >= 12


@pytest.mark.parametrize("size", [1e-150, 1e-100, 1.0, 1e100])
def test_the_complex_step_has_the_size_of_the_argument(size: float) -> None:
    x, f = size * np.array([0.5, 1.2]), lambda x, y: np.sin(x / size)
    right = Pullback(lambda u, x, y: (u * np.cos(x / size) / size, np.zeros_like(y)))
    check_vjp(f, x, np.array(2.0), vjp=right, analytic=True)
    wrong = Pullback(lambda u, x, y: (u * np.cos(x / size) / size * (1 + 1e-11), np.zeros_like(y)))
    if size <= 1:
        with pytest.raises(GradientError, match="complex step"):
            check_vjp(f, x, np.array(2.0), vjp=wrong, analytic=True)
