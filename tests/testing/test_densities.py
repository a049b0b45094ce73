"""The checkers of densities and of divergences reject what is wrong, accept what is right, and say when they cannot."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygen as tg
from tinygen.distributions import Bernoulli, Categorical, Normal, kl_divergence
from tinygen.testing import DensityError, DivergenceError, Inconclusive, check_density, check_kl, rngs


@dataclass
class Gaussian:
    dim: int
    offset: float = 0.0
    scale: float = 1.0
    middle: float = 0.0

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        return self.middle + self.scale * rng.standard_normal((n, self.dim))

    def log_prob(self, x: np.ndarray) -> np.ndarray:
        z = (x - self.middle) / self.scale
        return self.offset - (z * z).sum(axis=1) / 2 - self.dim * (0.5 * np.log(2 * np.pi) + np.log(self.scale))


@pytest.mark.parametrize("dim", [1, 2])
@pytest.mark.parametrize(("scale", "middle"), [(1.0, 0.0), (0.01, 30.0), (50.0, -3.0)])
def test_density(dim: int, scale: float, middle: float) -> None:
    check_density(Gaussian(dim, 0.0, scale, middle))
    for offset in (0.5 * np.log(2 * np.pi), -1e-4):
        with pytest.raises(DensityError, match="integrates to"):
            check_density(Gaussian(dim, offset, scale, middle))


def cauchy(x: np.ndarray) -> np.ndarray:
    return -np.log(np.pi * (1 + x * x))


def two_modes(x: np.ndarray) -> np.ndarray:
    return np.logaddexp(-((x + 4) ** 2) * 50, -((x - 4) ** 2) * 50) + np.log(10 / np.sqrt(8 * np.pi))


def test_heavy_tails_and_two_modes() -> None:
    check_density(from_log_prob(cauchy, lambda n, rng: rng.standard_cauchy(n)))
    check_density(from_log_prob(two_modes, lambda n, rng: rng.choice([-4, 4], n) + 0.1 * rng.standard_normal(n)))


def from_log_prob(log_prob: Callable, sample: Callable) -> Any:
    return type("Density", (), {"log_prob": staticmethod(log_prob), "sample": staticmethod(sample)})()


def test_density_needs_one_or_two_dimensions() -> None:
    with pytest.raises(TypeError, match="one or two dimensions"):
        check_density(Gaussian(3))
    with pytest.raises(TypeError, match="one or two dimensions"):
        check_density(Gaussian(2), dim=1)


def test_an_integral_that_does_not_settle_is_inconclusive() -> None:
    comb = from_log_prob(lambda x: np.log(1.001 + np.cos(1e6 * x)) - x * x, lambda n, rng: rng.standard_normal(n))
    with pytest.raises(Inconclusive, match="grids disagree"):
        check_density(comb)


# ----------------------------------------------------------------------------------------------------------- divergence


def wrong(change: Callable[[float], float]) -> Callable:
    return lambda p, q: change(float(kl_divergence(p, q)))


def pair(rng: np.random.Generator, dim: int) -> tuple[Normal, Normal]:
    """The second is wider, so that the divergences of the two directions differ."""
    return (
        Normal(rng.standard_normal(dim), rng.uniform(0.3, 0.8, dim)),
        Normal(rng.standard_normal(dim), rng.uniform(1.2, 2, dim)),
    )


@settings(max_examples=10)
@given(rng=rngs(), dim=st.integers(1, 4))
def test_right_divergences(rng: np.random.Generator, dim: int) -> None:
    p, q = pair(rng, dim)
    check_kl(p, q, rng=rng)
    check_kl(q, p, rng=rng)
    check_kl(*(Normal(tg.Tensor(r.mean), tg.Tensor(r.std)) for r in (p, q)), rng=rng)
    check_kl(*(Normal(r.mean.astype(np.float32), r.std.astype(np.float32)) for r in (p, q)), rng=rng)


DIVERGENCE_FAULTS: dict[str, tuple[Callable, str]] = {
    "swapped": (lambda p, q: kl_divergence(q, p), r"KL\(p ‖ q\) is"),
    "symmetric": (lambda p, q: (kl_divergence(p, q) + kl_divergence(q, p)) / 2, r"KL\(p ‖ q\) is"),
    "negated": (wrong(lambda kl: -kl), r"KL\(p ‖ q\) is -"),
    "in bits": (wrong(lambda kl: kl / math.log(2)), r"KL\(p ‖ q\) is"),
    "not 0 at p = q": (wrong(lambda kl: kl or 1e-9), r"KL\(p ‖ p\) is 1e-09, but .* is 0 ± "),
    "NaN": (wrong(lambda kl: math.nan), r"KL\(p ‖ p\) is nan"),
    "right in one direction": (
        lambda p, q: kl_divergence(p, q) * (1 if (p.std <= q.std).all() else 2),
        r"KL\(q ‖ p\) is",
    ),
}


@pytest.mark.parametrize(("kl", "text"), DIVERGENCE_FAULTS.values(), ids=DIVERGENCE_FAULTS)
@settings(max_examples=5)
@given(rng=rngs(), dim=st.integers(1, 4))
def test_wrong_divergences(kl: Callable, text: str, rng: np.random.Generator, dim: int) -> None:
    with pytest.raises(DivergenceError, match=text):
        check_kl(*pair(rng, dim), kl=kl, rng=rng)


def test_outcomes_are_summed_over() -> None:
    """So that the smallest error is seen."""
    p, q = (Categorical(np.log(np.array(w))) for w in ([0.7, 0.2, 0.1], [0.3, 0.3, 0.4]))
    check_kl(p, q, support=np.arange(3))
    with pytest.raises(DivergenceError, match="expectation of log p - log q over all outcomes"):
        check_kl(p, q, support=np.arange(3), kl=wrong(lambda kl: kl * (1 + 1e-9)))


def test_divergences_that_cannot_be_told_apart_are_inconclusive() -> None:
    one = Normal(np.zeros(2), np.ones(2))
    with pytest.raises(Inconclusive, match="swapped arguments would not be seen"):
        check_kl(one, Normal(np.ones(2), np.ones(2)))
    with pytest.raises(Inconclusive, match="swapped arguments would not be seen"):
        check_kl(one, one)
    coins = [Bernoulli(np.array([w])) for w in (0.5, -1.0)]
    impossible = from_log_prob(lambda x: np.where(x[:, 0] == 0, 0.0, -np.inf), lambda n, rng: np.zeros((n, 1)))
    with pytest.raises(Inconclusive, match="is not finite at"):
        check_kl(coins[0], impossible, kl=lambda p, q: 0.0 if p is q else math.inf)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"detect": 0.0}, ValueError, "detect=0.0"),
        ({"detect": math.nan}, ValueError, "detect=nan"),
        ({"false_alarm": 0.0}, ValueError, "false_alarm=0.0"),
        ({"false_alarm": 1.0}, ValueError, "false_alarm=1.0"),
        ({"kl": lambda p, q: np.zeros(2)}, TypeError, "one number, got shape (2,)"),
    ],
)
def test_arguments_of_check_kl(options: dict, error: type[Exception], text: str) -> None:
    p = Normal(np.zeros(1), np.ones(1))
    with pytest.raises(error) as raised:
        check_kl(p, p, **options)
    assert text in str(raised.value)
