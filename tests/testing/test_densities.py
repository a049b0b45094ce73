"""The checkers of densities and of divergences reject what is wrong, accept what is right, and say when they cannot."""

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygen as tg
from tests.testing.support import rejected
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


@pytest.mark.parametrize(("scale", "middle"), [(1.0, 0.0), (0.01, 30.0), (50.0, -3.0)])
def test_density(scale: float, middle: float) -> None:
    for dim in (1, 2):
        check_density(Gaussian(dim, 0.0, scale, middle))
    for offset in (0.5 * np.log(2 * np.pi), -1e-4):
        with pytest.raises(DensityError, match="integrates to"):
            check_density(Gaussian(1, offset, scale, middle))


def test_a_wrong_density_on_the_plane() -> None:
    """Once, as it takes the finest of grids."""
    with pytest.raises(DensityError, match=r"integrates to 0\.9999"):
        check_density(Gaussian(2, -1e-4, 0.01, 30.0))


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


# What no grid integrates to 1e-6: jumps, corners and long tails.
ROUGH: dict[str, tuple[Callable, Callable]] = {
    "Laplace": (lambda x: -np.abs(x) - math.log(2), lambda n, rng: rng.laplace(size=n)),
    "Cauchy": (cauchy, lambda n, rng: rng.standard_cauchy(n)),
    "exponential": (lambda x: np.where(x > 0, -x, -np.inf), lambda n, rng: rng.exponential(size=n)),
    "uniform": (lambda x: np.where((x > 0) & (x < 1), 0.0, -np.inf), lambda n, rng: rng.random(n)),
}


@pytest.mark.parametrize(("log_prob", "sample"), ROUGH.values(), ids=ROUGH)
@settings(max_examples=2)
@given(rng=rngs())
def test_twice_a_rough_density_is_seen(log_prob: Callable, sample: Callable, rng: np.random.Generator) -> None:
    with contextlib.suppress(Inconclusive):
        check_density(from_log_prob(log_prob, sample), rng=rng)
    with rejected(DensityError, match=r"integrates to (2\.0|1\.9)"):
        check_density(from_log_prob(lambda x: log_prob(x) + math.log(2), sample), rng=rng)


def test_twice_a_uniform_density_on_a_square_is_seen() -> None:
    def log_prob(x: np.ndarray) -> np.ndarray:
        return np.where(((x > 0) & (x < 1)).all(axis=1), math.log(2), -np.inf)

    with pytest.raises(DensityError, match=r"integrates to (2\.0|1\.9)"):
        check_density(from_log_prob(log_prob, lambda n, rng: rng.random((n, 2))))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_density_without_a_value_is_wrong(value: float) -> None:
    p = Gaussian(1)
    with pytest.raises(DensityError, match=rf"log_prob of \[[2-9]\..*\] is .*{value}"):
        check_density(from_log_prob(lambda x: np.where(x[:, 0] > 2, value, p.log_prob(x)), p.sample))


@dataclass
class TwoModes:
    """.9 N(0, I) and .1 N(middle, std² I)."""

    dim: int
    middle: float
    std: float
    weight: float = 0.1

    def log_prob(self, x: np.ndarray) -> np.ndarray:
        here, there = Gaussian(self.dim), Gaussian(self.dim, 0.0, self.std, self.middle)
        w = self.weight
        return np.logaddexp(math.log(1 - w) + here.log_prob(x), math.log(w) + there.log_prob(x))

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        z = rng.standard_normal((n, self.dim))
        return np.where(rng.random((n, 1)) < self.weight, self.middle + self.std * z, z)


def test_a_small_mode_needs_the_finest_grids() -> None:
    check_density(TwoModes(2, 5.0, 0.1))
    p = TwoModes(1, 5.0, 0.1)
    with pytest.raises(DensityError, match="integrates to 1.1"):
        check_density(from_log_prob(lambda x: p.log_prob(x) + 0.1, p.sample))


@pytest.mark.parametrize(("middle", "std", "weight"), [(1000.0, 0.01, 0.1), (20.0, 1e-3, 0.1), (20.0, 1e-3, 0.03)])
@settings(max_examples=2)
@given(rng=rngs())
def test_a_mode_that_grids_overlook_is_no_fault(
    middle: float, std: float, weight: float, rng: np.random.Generator
) -> None:
    with pytest.raises(Inconclusive, match="some draws are where they have no points near|grids disagree"):
        check_density(TwoModes(1, middle, std, weight), rng=rng)


def test_a_mode_that_grids_of_the_plane_overlook_is_no_fault() -> None:
    with pytest.raises(Inconclusive, match="some draws are where they have no points near|grids disagree"):
        check_density(TwoModes(2, 8.0, 1e-3, 0.03))


@pytest.mark.parametrize("weight", [1e-3, 1e-4, 1e-5])
@settings(max_examples=5)
@given(rng=rngs())
def test_a_mode_that_no_draw_hits_is_no_fault(weight: float, rng: np.random.Generator) -> None:
    p = TwoModes(1, 20.0, 1e-7, weight)
    with pytest.raises(Inconclusive, match="have no points near|may lie between"):
        check_density(p, rng=rng)
    if weight > 1.4e-5:
        with pytest.raises(DensityError, match=r"integrates to 0\.99[89]"):
            check_density(from_log_prob(p.log_prob, Gaussian(1).sample), rng=rng)  # where there is no such mode


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
    with rejected(DivergenceError, match=text):
        check_kl(*pair(rng, dim), kl=kl, rng=rng)


def test_outcomes_are_summed_over() -> None:
    """So that the smallest error is seen."""
    p, q = (Categorical(np.log(np.array(w))) for w in ([0.7, 0.2, 0.1], [0.3, 0.3, 0.4]))
    check_kl(p, q, support=np.arange(3))
    with pytest.raises(DivergenceError, match="expectation of log p - log q over all outcomes"):
        check_kl(p, q, support=np.arange(3), kl=wrong(lambda kl: kl * (1 + 1e-9)))


def test_a_divergence_is_judged_where_both_directions_are_equal() -> None:
    p, q = Normal(np.zeros(2), np.ones(2)), Normal(np.array([1.0, -0.5]), np.ones(2))
    check_kl(p, q)
    check_kl(p, q, kl=lambda p, q: kl_divergence(q, p))  # which is right, here
    for change in (lambda kl: 0.0, lambda kl: 1.2 * kl):
        with pytest.raises(DivergenceError, match=r"KL\(p ‖ q\) is"):
            check_kl(p, q, kl=wrong(change))


def test_divergences_that_may_be_zero_or_infinite_are_inconclusive() -> None:
    one = Normal(np.zeros(2), np.ones(2))
    for near in (one, Normal(np.full(2, 0.01), np.ones(2))):
        with pytest.raises(Inconclusive, match="could be 0 throughout"):
            check_kl(one, near)
    coins = [Bernoulli(np.array([w])) for w in (0.5, -1.0)]
    impossible = from_log_prob(lambda x: np.where(x[:, 0] == 0, 0.0, -np.inf), lambda n, rng: np.zeros((n, 1)))
    with pytest.raises(Inconclusive, match="is not finite at"):
        check_kl(coins[0], impossible, kl=lambda p, q: 0.0 if p is q else math.inf)


def test_a_divergence_is_no_better_than_its_distributions() -> None:
    """Whatever type it is returned as."""
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((2, 30)).astype(np.float32) * 3
    p, q = (Categorical(w) for w in weights)
    for kl in (kl_divergence, lambda p, q: float(kl_divergence(p, q))):
        check_kl(p, q, support=np.arange(30), kl=kl)
    with pytest.raises(DivergenceError, match=r"KL\(p ‖ q\) is 0"):
        check_kl(*pair(rng, 1), kl=lambda p, q: 0)


def test_draws_are_many_for_coarse_checks_too() -> None:
    sizes = []

    class Counted(Normal):
        def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
            sizes.append(n)
            return super().sample(n, rng)

    p, q = pair(np.random.default_rng(0), 2)
    check_kl(Counted(p.mean, p.std), q, detect=1.0, false_alarm=0.1)
    assert min(sizes) >= 10_000


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"detect": 1.5}, ValueError, "detect=1.5 must be positive and at most 1"),
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
