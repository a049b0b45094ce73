"""The checkers of bijections and autoregressive functions: what is wrong is told, and what cannot be judged.

The planted faults are run in test_faults.py.
"""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygen as tg
from tinygen.testing import (
    BijectionError,
    Inconclusive,
    check_autoregressive,
    check_bijection,
    mostly_conclusive,
    rngs,
)
from tinygen.testing.faults.base import Fault
from tinygen.testing.faults.bijections import FAULTS, ZERO_INITIALISED, Coupling, coupling, made

Pair = tuple[np.ndarray, np.ndarray]
W = np.random.default_rng(3).uniform(0.3, 1, (2, 4))
X = np.array([[-1.5, 0.5, 2.0, -3.0], [1.0, -0.25, -0.75, 1.25]])


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault.number in (22, 23, 24)], ids=lambda f: f.title)
def test_the_identity_hides_faults_and_is_inconclusive(fault: Fault) -> None:
    class Zeros:
        def uniform(self, low: float, high: float, shape: tuple) -> np.ndarray:
            return np.zeros(shape)

        def choice(self, values: list, shape: tuple) -> np.ndarray:
            return np.ones(shape)

    source = ZERO_INITIALISED.astype(np.float64) if fault.number == 23 else Zeros()
    for faulty in (True, False):
        with pytest.raises(Inconclusive, match="other parameters"):
            check_bijection(fault.subject(faulty)(source), X)


@settings(max_examples=15)
@given(rng=rngs(), kind=st.sampled_from([np.array, tg.Tensor]), n=st.integers(1, 3))
def test_right_bijections_pass(rng: np.random.Generator, kind: Callable, n: int) -> None:
    check_bijection(coupling(rng), kind(rng.standard_normal((n, 4))), rng=rng)


# ------------------------------------------------------------------------------------------ what else may be wrong


class Changed(Coupling):
    """A coupling whose results are spoiled by ``forward_spoiled(x, z, log_det)``, or likewise in the other way."""

    def __init__(self, forward_spoiled: Callable | None = None, inverse_spoiled: Callable | None = None) -> None:
        super().__init__(W, lambda s: s.sum(axis=1))
        self.spoiled = forward_spoiled, inverse_spoiled

    def forward(self, x: np.ndarray) -> Pair:
        before, (z, log_det) = x, super().forward(x)
        return self.spoiled[0](before, z, log_det) if self.spoiled[0] else (z, log_det)

    def inverse(self, z: np.ndarray) -> Pair:
        x, log_det = super().inverse(z)
        return self.spoiled[1](z, x, log_det) if self.spoiled[1] else (x, log_det)


def overwrite(x: np.ndarray, z: np.ndarray, log_det: np.ndarray) -> Pair:
    x += 1e-3
    return z, log_det


noise = np.random.default_rng(0)

SPOILED = {
    "log-det of both directions alike": (None, lambda z, x, d: (x, -d), "negative"),
    "log-dets a little apart": (None, lambda z, x, d: (x, d + 3e-9), "negative"),
    "log-det has an axis too many": (lambda x, z, d: (z, d[:, None]), None, r"expected \(N,\)"),
    "log-det of the whole batch": (lambda x, z, d: (z, d.sum()), None, r"log_det has shape \(\)"),
    "float32 result": (lambda x, z, d: (z.astype(np.float32), d), None, "the result is float32"),
    "float32 log-det": (None, lambda z, x, d: (x, d.astype(np.float32)), "inverse: log_det is float32"),
    "NaN": (None, lambda z, x, d: (np.where(x > 1.9, np.nan, x), d), "inverse: the result of row 0"),
    "infinite log-det": (lambda x, z, d: (z, d + np.array([0, np.inf])), None, "forward: log_det of row 1 is inf"),
    "x written to": (overwrite, None, "forward: the argument was written to"),
    "z written to": (None, overwrite, "inverse: the argument was written to"),
    "noise": (lambda x, z, d: (z, d + 1e-6 * noise.standard_normal(len(d))), None, "."),
    "drifts from call to call": (lambda x, z, d: (z + noise.uniform(0, 1e-6), d), None, "."),
    "log-det leaks": (lambda x, z, d: (z, d + 1e-3 * (x - x.mean(axis=0)).sum(axis=1)), None, "."),
    "log-det leaks from the row before": (lambda x, z, d: (z, d + 1e-3 * np.roll(x[:, 0], 1)), None, "."),
    "inverse's log-det leaks": (
        None,
        lambda z, x, d: (x, d + 1e-3 * (z - z.mean(axis=0))[:, 0]),
        "inverse.* changes a",
    ),
    "leaks from the row after": (lambda x, z, d: (z + 1e-4 * (np.roll(x, -1, 0) - x), d), None, "."),
    "wrong for negative x": (None, lambda z, x, d: (np.where(x < -2, x * 1.001, x), d), r"entry \(0, 3\)"),
}


@pytest.mark.parametrize(("forward", "inverse", "text"), SPOILED.values(), ids=SPOILED)
def test_what_else_is_rejected(forward: Callable | None, inverse: Callable | None, text: str) -> None:
    with pytest.raises(BijectionError, match=text):
        check_bijection(Changed(forward, inverse), X)


def test_a_map_to_fewer_entries_is_rejected() -> None:
    class Sum:
        def forward(self, x: np.ndarray) -> Pair:
            return x.sum(axis=1, keepdims=True), np.zeros(len(x))

        def inverse(self, z: np.ndarray) -> Pair:
            return np.repeat(z / 4, 4, axis=1), np.zeros(len(z))

    with pytest.raises(BijectionError, match=r"forward takes \(2, 4\) to \(2, 1\)"):
        check_bijection(Sum(), X)


@pytest.mark.parametrize("spoil", ["log-det leaks", "leaks from the row after"])
def test_one_row_is_enough_to_see_a_leak(spoil: str) -> None:
    with pytest.raises(BijectionError, match="row 0 changes among other rows"):
        check_bijection(Changed(SPOILED[spoil][0]), X[:1])


def test_messages_tell_what_is_wrong() -> None:
    class Forward:
        """Knows an array again by its identity."""

        def __init__(self) -> None:
            self.inner, self.last = Changed(), (None, None)
            self.inverse = self.inner.inverse

        def forward(self, x: np.ndarray) -> Pair:
            if self.last[0] is not x:
                self.last = (x, self.inner.forward(x))
            return self.last[1]

    with pytest.raises(
        BijectionError, match="forward: the result of row 0 changes in an array that held others before"
    ):
        check_bijection(Forward(), X)
    texts = ["with a call between", "inverse: the result of row 0 changes in an array that held others before"]
    texts.append("forward: log_det of row 0 is .* but the Jacobian's is")
    told = [fault for fault in FAULTS if fault.number == 30] + [fault for fault in FAULTS if fault.number == 22]
    for fault, text in zip(told, texts, strict=True):
        with pytest.raises(BijectionError, match=text):
            check_bijection(fault.subject(True)(np.random.default_rng(0)), X)


@pytest.mark.parametrize("x", [X.astype(np.float32), X.astype(int), X[0], X[:0]])
def test_points_must_be_float64_rows(x: np.ndarray) -> None:
    with pytest.raises(TypeError, match="must be float64"):
        check_bijection(coupling(np.random.default_rng(0)), x)


def test_kinks_are_inconclusive() -> None:
    class Leaky:
        def forward(self, x: np.ndarray) -> Pair:
            return np.where(x < 0, x / 3, x), np.where(x < 0, -np.log(3), 0).sum(axis=1)

        def inverse(self, z: np.ndarray) -> Pair:
            return np.where(z < 0, z * 3, z), np.where(z < 0, np.log(3), 0).sum(axis=1)

    check_bijection(Leaky(), X)
    with pytest.raises(Inconclusive, match="too inaccurate"):
        check_bijection(Leaky(), X * [0, 1, 1, 1])


class Exp:
    """Whose inverse bends within 1e-6 where it has small arguments."""

    def __init__(self, sign: float = 1.0) -> None:
        self.sign = sign

    def forward(self, x: np.ndarray) -> Pair:
        return np.exp(x), self.sign * x.sum(axis=1)

    def inverse(self, z: np.ndarray) -> Pair:
        return np.log(z), -self.sign * np.log(z).sum(axis=1)


@mostly_conclusive
@settings(max_examples=30)
@given(rng=rngs())
def test_tails_are_judged(rng: np.random.Generator) -> None:
    x = rng.uniform(-13, -11.5, (2, 1))
    check_bijection(Exp(), x, rng=rng)
    with pytest.raises(BijectionError, match="log_det of row"):
        check_bijection(Exp(-1.0), x, rng=rng)


def test_an_inverse_is_judged_at_small_arguments() -> None:
    check_bijection(Exp(), np.array([[-12.0, 0.3], [-3.0, -13.0]]))


# ------------------------------------------------------------------------------------------------------- autoregressive

MASKS: dict[str, tuple[np.ndarray, bool, bool]] = {  # weights (in, out), strict passes, complete passes
    "strict": (np.triu(np.ones((4, 4)), 1), True, True),
    "one too many": (np.triu(np.ones((4, 4)), 0), False, False),
    "future": (np.triu(np.ones((4, 4)), 1).T, False, False),
    "short reach": (np.triu(np.ones((4, 4)), 1) - np.triu(np.ones((4, 4)), 2), True, False),
}


@pytest.mark.parametrize("mask", MASKS)
@settings(max_examples=5)
@given(rng=rngs())
def test_autoregressive(mask: str, rng: np.random.Generator) -> None:
    w, is_strict, is_complete = MASKS[mask]
    order = rng.permutation(4)
    f = lambda x: np.sin(x[:, np.argsort(order)] @ w)[:, order]  # noqa: E731
    x = rng.standard_normal((2, 4))
    for holds, options in ((is_strict, {}), (is_complete, {"complete": True})):
        if holds:
            check_autoregressive(f, x, order, rng=rng, **options)
        else:
            with pytest.raises(BijectionError, match="output"):
                check_autoregressive(f, x, order, rng=rng, **options)
    if mask == "one too many":
        check_autoregressive(f, tg.Tensor(x), order, strict=False, rng=rng)


@settings(max_examples=10)
@given(rng=rngs())
def test_completeness_sees_through_units_that_are_off(rng: np.random.Generator) -> None:
    """Where a hidden unit is off, a small change of its inputs does nothing."""
    f = made(rng, np.greater)
    check_autoregressive(lambda x: np.maximum(f(x) + 0.1, 0), X, range(4), strict=True, complete=False, rng=rng)
    check_autoregressive(lambda x: f(np.maximum(x + 1.5, 0)), X, range(4), complete=True, rng=rng)


BATCH = np.array([1.0, 0, 0, 0])

WRONG = {
    "noise": (lambda x: np.cumsum(x, axis=1) + noise.standard_normal(), ".*"),
    "rows leak where inputs may be seen": (lambda x: np.cumsum(x, axis=1) + x[:, :1].mean(0), "row 0 change with"),
    "not finite": (lambda x: np.where(x > 0, np.nan, np.cumsum(x, axis=1)), r"output \(\d, \d\) is nan, not finite"),
    "too few outputs": (lambda x: x[:, :3], r"shape \(2, 3\)"),
    "a late input, where it is negative": (lambda x: np.cumsum(x, 1) + np.minimum(x[:, 3:], -3) * BATCH, "output 0"),
}


@pytest.mark.parametrize(("f", "text"), WRONG.values(), ids=WRONG)
def test_what_else_is_not_autoregressive(f: Callable, text: str) -> None:
    with pytest.raises(BijectionError, match=text):
        check_autoregressive(f, X, range(4), strict=False)


def test_autoregressive_arguments() -> None:
    with pytest.raises(Inconclusive, match="no output changes"):
        check_autoregressive(lambda x: 0 * x, X, range(4))
    check_autoregressive(lambda x: 0 * x, X[:, :1], range(1))  # of one place, nothing may change anything
    for x, order in ((X.astype(int), range(4)), (X, range(3)), (X[0], range(4)), (X[:0], range(4))):
        with pytest.raises(TypeError, match="must be floating"):
            check_autoregressive(lambda x: x, x, order)
    for order in ("abcd", [0, 1, 2, np.nan], [[0], [1], [2], [3]]):
        with pytest.raises(TypeError, match="order must be finite numbers"):
            check_autoregressive(lambda x: x, X, order)
