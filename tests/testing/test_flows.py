"""The checkers of bijections reject planted faults, and accept a correct neighbour of each."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

import tinygen as tg
from tinygen.testing import (
    BijectionError,
    Inconclusive,
    check_autoregressive,
    check_bijection,
    rngs,
)

W = np.random.default_rng(3).standard_normal((4, 4)) / 2
W[:2, 2:] += np.eye(2)


@dataclass
class Coupling:
    """Affine coupling on four numbers: the second half is scaled and shifted by functions of the first."""

    fault: str = ""

    def parts(self, a: Any) -> tuple[Any, Any]:
        return np.tanh(a @ W[:2, :2]), a @ W[:2, 2:]

    def forward(self, x: Any) -> tuple[Any, Any]:
        a, b = x[:, :2], x[:, 2:]
        s, t = self.parts(a)
        z = np.concatenate([a, b * np.exp(s) + t], axis=1)
        log_det = s.sum(axis=1)
        if self.fault == "sign in both directions":
            log_det = -log_det
        if self.fault == "one dimension omitted":
            log_det = s[:, 0]
        if self.fault == "zero":
            log_det = 0 * log_det
        if self.fault == "rows leak":
            z = z + 0.1 * (x - x.mean(axis=0)) * (len(x) > 1)
        if self.fault == "log-det shape":
            log_det = np.expand_dims(log_det, 1)
        return z, log_det

    def inverse(self, z: Any) -> tuple[Any, Any]:
        a, b = z[:, :2], z[:, 2:]
        s, t = self.parts(a)
        x = np.concatenate([a, (b - t) * np.exp(-s)], axis=1)
        log_det = -s.sum(axis=1)
        if self.fault == "sign in both directions":
            log_det = -log_det
        if self.fault == "inverse for positive x only":
            x = abs(x)
        if self.fault == "inverse's log-det is forward's":
            log_det = -log_det
        if self.fault == "a stale inverse":
            x = 0 * x + 1
        return x, log_det


FAULTS = [
    "sign in both directions",
    "one dimension omitted",
    "zero",
    "rows leak",
    "log-det shape",
    "inverse for positive x only",
    "inverse's log-det is forward's",
    "a stale inverse",
]


@pytest.mark.parametrize("fault", FAULTS)
@settings(max_examples=5)
@given(rng=rngs())
def test_bijection_faults_are_rejected(fault: str, rng: np.random.Generator) -> None:
    x = rng.standard_normal((3, 4))
    x[0] = -1 - np.abs(x[0])
    with pytest.raises((BijectionError, Inconclusive) if fault == "a stale inverse" else BijectionError):
        check_bijection(Coupling(fault), x, rng=rng)


@settings(max_examples=15)
@given(rng=rngs())
def test_right_bijection_passes(rng: np.random.Generator) -> None:
    x = rng.standard_normal((3, 4))
    check_bijection(Coupling(), x, rng=rng)
    check_bijection(Coupling(), tg.Tensor(x), rng=rng)
    check_bijection(Coupling(), x[:1], rng=rng)


class Identity:
    def forward(self, x: Any) -> tuple[Any, Any]:
        return x, 0 * x.sum(axis=1)

    inverse = forward


def test_the_identity_is_inconclusive() -> None:
    with pytest.raises(Inconclusive, match="identity"):
        check_bijection(Identity(), np.ones((2, 3)))
    with pytest.raises(TypeError, match="float64"):
        check_bijection(Identity(), np.ones((2, 3), np.float32))


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
