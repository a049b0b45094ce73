"""Faults of densities, of samplers and of divergences: in classes of distributions on the line."""

import math
from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from tinygen.testing.densities import check_density, check_kl
from tinygen.testing.faults.base import Checker, Fault
from tinygen.testing.samplers import check_sampler

Array = np.ndarray

# A subject is a class. An example is the parameters of p, and those of q for what compares the two.
CHECKERS: dict[str, Checker] = {
    "check_density": lambda s, pq, rng: check_density(s(*pq[0]), rng=rng),
    "check_sampler": lambda s, pq, rng: check_sampler(s(*pq[0]).sample, s(*pq[0]).log_prob, detect=0.04, rng=rng),
}
WITH_DIVERGENCE: dict[str, Checker] = CHECKERS | {
    "check_kl": lambda s, pq, rng: check_kl(s(*pq[0]), s(*pq[1]), kl=s.kl, rng=rng)
}


@dataclass(frozen=True)
class Gaussian:
    """A normal distribution."""

    mean: float
    std: float

    def log_prob(self, x: Array) -> Array:
        """-½ ((x - μ)/σ)² - log σ - ½ log 2π."""
        return -0.5 * ((x - self.mean) / self.std) ** 2 - math.log(self.std) - 0.5 * math.log(2 * math.pi)

    def sample(self, n: int, rng: np.random.Generator) -> Array:
        """Draws (n,)."""
        return self.mean + self.std * rng.standard_normal(n)

    def kl(self, other: "Gaussian") -> float:
        """½ [(σ/σ')² + ((μ - μ')/σ')² - 1] - log(σ/σ')."""
        ratio, shift = self.std / other.std, (self.mean - other.mean) / other.std
        return 0.5 * (ratio * ratio + shift * shift - 1) - math.log(ratio)


@dataclass(frozen=True)
class Mixture:
    """Two normal distributions, ``gap`` standard deviations apart, of weights .95 and .05."""

    mean: float
    std: float
    gap: float

    def log_prob(self, x: Array) -> Array:
        """Log Σ w N(x; μ, σ²)."""
        modes = [Gaussian(self.mean, self.std), Gaussian(self.mean + self.gap * self.std, self.std)]
        return np.logaddexp(*(math.log(w) + m.log_prob(x) for w, m in zip((0.95, 0.05), modes, strict=True)))

    def sample(self, n: int, rng: np.random.Generator) -> Array:
        """Draws (n,)."""
        far = rng.random(n) < 0.05
        return self.mean + self.std * (self.gap * far + rng.standard_normal(n))


class _Unnormalised(Gaussian):
    def log_prob(self, x: Array) -> Array:
        return -0.5 * ((x - self.mean) / self.std) ** 2 - math.log(self.std)


class _Variance(Gaussian):
    def sample(self, n: int, rng: np.random.Generator) -> Array:
        return self.mean + self.std**2 * rng.standard_normal(n)


class _Swapped(Gaussian):
    def kl(self, other: Gaussian) -> float:
        return Gaussian.kl(other, self)


class _Collapsed(Mixture):
    def sample(self, n: int, rng: np.random.Generator) -> Array:
        return self.mean + self.std * rng.standard_normal(n)


MEANS, NARROW, WIDE = st.floats(-3, 3), st.floats(0.25, 0.75), st.floats(1.5, 3)
PAIRS = st.permutations([NARROW, WIDE]).flatmap(lambda stds: st.tuples(*(st.tuples(MEANS, std) for std in stds)))
MIXTURES = st.tuples(st.tuples(MEANS, NARROW | WIDE, st.floats(4, 12)))

FAULTS = (
    Fault(
        31,
        "density lacks ½ log 2π",
        lambda faulty: _Unnormalised if faulty else Gaussian,
        PAIRS,
        WITH_DIVERGENCE,
        ("check_density", "check_sampler"),
    ),
    Fault(
        32,
        "sampler uses variance for standard deviation",
        lambda faulty: _Variance if faulty else Gaussian,
        PAIRS,
        WITH_DIVERGENCE,
        ("check_sampler", "check_kl"),
    ),
    Fault(
        33,
        "sampler drops a mode of weight .05",
        lambda faulty: _Collapsed if faulty else Mixture,
        MIXTURES,
        CHECKERS,
        ("check_sampler",),
    ),
    Fault(
        34,
        "arguments of the normal divergence swapped",
        lambda faulty: _Swapped if faulty else Gaussian,
        PAIRS,
        WITH_DIVERGENCE,
        ("check_kl",),
    ),
)
