"""The checker of diffusion rejects planted faults and accepts their neighbours; the schedules drawn are usable."""

import contextlib
import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st
from hypothesis.errors import InvalidArgument

from tests.testing.support import rejected
from tinygen.models.ddpm import NoiseSchedule
from tinygen.testing import CheckError, DiffusionError, Inconclusive, check_diffusion, rngs, schedules
from tinygen.testing.diffusion import LAWS, NOISE, detectable_scale
from tinygen.testing.noise import check_noise

Array = np.ndarray
betas = schedules(st.integers(4, 30))


class Mutant(NoiseSchedule):
    """Written out, with a place for each mistake; without one, it differs from its base in how it draws noise."""

    def __init__(self, beta: Array, fault: str = "") -> None:
        super().__init__(beta)
        self.fault, self.own = fault, np.random.default_rng(0)
        if fault == "alpha_bar has index t - 1":
            self.alpha_bar = np.append(self.alpha_bar[1:], 0.5 * self.alpha_bar[-1])
        if fault == "alpha_bar is of the data too":
            self.alpha_bar = self.alpha_bar * (1 - 1e-9)
        if fault == "alpha_bar has T entries":
            self.alpha_bar = self.alpha_bar[1:]
        if fault == "beta has no zero":
            self.beta = np.append(self.beta[1:], 0.5)
        if fault == "posterior_var is of the next step":
            self.posterior_var = np.append(self.posterior_var[1:], self.beta[-1])

    def diffuse(self, x0: Array, t: Any, eps: Array) -> Array:
        if self.fault == "one t for all":
            t = np.ravel(t)[-1]
        a, s = self.signal_and_noise(t, x0)
        if self.fault == "diffuse writes":
            x0 *= a
            return x0 + s * eps
        return a * x0 + (s**2 if self.fault == "variance for standard deviation" else s) * eps

    def posterior_mean(self, x0: Array, x: Array, t: int) -> Array:
        if self.fault == "posterior_mean writes":
            x *= 0.5
            return super().posterior_mean(x0, 2 * x, t)
        if self.fault == "posterior of the step before":
            t = max(t - 1, 1)
        return super().posterior_mean(*((x, x0) if self.fault == "x and x0 swapped" else (x0, x)), t)

    def noise(self, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
        match self.fault:
            case "not from rng":
                return self.own.normal(size=shape)
            case "the same in each call":
                return np.random.default_rng(0).normal(size=shape)
            case "one for all examples":
                return np.broadcast_to(rng.normal(size=(1, *shape[1:])), shape)
            case "one for all entries":
                return np.broadcast_to(rng.normal(size=(*shape[:-1], 1)), shape)
            case "one number":
                return np.full(shape, rng.normal())
            case "uniform":
                return math.sqrt(3) * rng.uniform(-1, 1, shape)
            case "no noise":
                return np.zeros(shape)
            case "not centred":
                return 0.1 + rng.normal(size=shape)
        return rng.normal(size=shape[::-1]).T

    def step(self, x0: Array, x: Array, t: int, s: int, eta: float, rng: np.random.Generator) -> Array:
        if self.fault == "clips":
            x0 = np.clip(x0, -1, 1)
        if self.fault == "step writes":
            x += x0
            x = x - x0
        now, then = self.alpha_bar[t], self.alpha_bar[s]
        eps = (x - math.sqrt(now) * x0) / math.sqrt(1 - now)
        var = eta**2 * (1 - then) / (1 - now) * (1 - now / then)
        drawn = var
        match self.fault:
            case "η for η²":
                var = drawn = var / eta if eta else 0.0
            case "β for β̃":
                var = drawn = eta**2 * (1 - now / then) if s else 0.0
            case "one step's σ for a jump":
                var = drawn = eta**2 * self.posterior_var[t] if s else 0.0
            case "σ for η = 1 always":
                drawn = var / eta**2 if eta else 0.0
            case "σ 4 % off":
                drawn = 1.04**2 * var
            case "noise for η = 0":
                drawn = max(var, 1e-6) if s else 0.0
            case "a little noise in the last step":
                drawn = var if s else (0.005 * eta) ** 2
            case "keeps all of the old noise":
                var = 0.0
        left = math.sqrt(max(1 - then - var, 0.0))
        return math.sqrt(then) * x0 + left * eps + math.sqrt(drawn) * self.noise(x.shape, rng)


MISTAKES = {
    "alpha_bar has index t - 1": r"alpha_bar, of index t: .* worst at",
    "alpha_bar is of the data too": r"alpha_bar, of index t: .*0\.99.*expected",
    "alpha_bar has T entries": r"alpha_bar is float64 .*not floats of shape \(T \+ 1,\)",
    "beta has no zero": "beta must be 0 at t=0",
    "posterior_var is of the next step": "posterior_var, of index t: .* expected",
    "one t for all": "diffuse at t=0 … T, one for each row",
    "variance for standard deviation": r"diffuse at t=\d+: .* expected .* within",
    "x and x0 swapped": r"posterior_mean at t=\d+: .* expected .* within",
    "posterior of the step before": r"posterior_mean at t=\d+",
    "clips": r"step from t=\d+ to s=\d+ with eta=.*: the mean, .* x_0 \+ .* x_t: .* expected .* within",
    "not from rng": "the same rng leads to",
    "the same in each call": "noise of different calls is not independent",
    "no noise": r"the noise has standard deviation 0, expected 0\.",
    "diffuse writes": "diffuse: its argument x0 was written to, array.* became array",
    "posterior_mean writes": "posterior_mean: its argument x was written to",
    "step writes": "step: its argument x was written to",
    "a little noise in the last step": r"to s=0 with eta=.*: noise where there must be none",
    "one for all examples": "noise of different examples is not independent",
    "one for all entries": "noise of different entries is not independent",
    "one number": "noise of different entries is not independent",
    "uniform": r"of the noise is below the normal quantile",
    "not centred": "is not independent",
    "η for η²": r"step from t=\d+ to s=\d+ with eta=0\.\d+: the mean",
    "β for β̃": r"step from .* with eta=1: the mean",
    "one step's σ for a jump": "the mean|the noise has standard deviation",
    "σ for η = 1 always": r"with eta=0\.\d+: the noise has standard deviation .*, expected .*, from .* to",
    "σ 4 % off": r"the noise has standard deviation",
    "noise for η = 0": r"step from .* to s=\d+ with eta=0: noise where there must be none: .* expected",
    "keeps all of the old noise": "the mean",
}


@pytest.mark.parametrize("fault", MISTAKES)
@settings(max_examples=5)
@given(beta=betas, rng=rngs())
def test_mistakes_are_named(fault: str, beta: Array, rng: np.random.Generator) -> None:
    with rejected(DiffusionError, match=MISTAKES[fault]):
        check_diffusion(Mutant(beta, fault), rng=rng)


@pytest.mark.parametrize(
    ("fault", "drawn"),
    [
        ("one t for all", ["x0", "eps"]),
        ("posterior of the step before", ["x0", "x"]),
        ("clips", ["x0", "x", "eta", "seed"]),
        ("no noise", ["eta", "seed"]),
    ],
)
def test_a_failure_notes_what_was_drawn(fault: str, drawn: list[str]) -> None:
    @settings(max_examples=1, database=None, phases=[Phase.generate])
    @given(st.none())
    def fails(_: None) -> None:
        check_diffusion(Mutant(np.full(9, 0.5), fault))

    with pytest.raises(DiffusionError) as raised:
        fails()
    notes = [line.split(" = ")[0] for line in raised.value.__notes__ if " = " in line]
    assert notes == drawn


@settings(max_examples=20)
@given(beta=schedules(st.integers(1, 60)), rng=rngs())
def test_another_way_to_draw_passes(beta: Array, rng: np.random.Generator) -> None:
    check_diffusion(Mutant(beta), rng=rng)


@settings(max_examples=10)
@given(beta=betas, rng=rngs())
def test_a_process_in_float32_passes(beta: Array, rng: np.random.Generator) -> None:
    """Tables, arrays and results in float32, the tables by logarithms; a fault in it is found all the same."""

    def process(var_of: Callable[[NoiseSchedule], Array]) -> SimpleNamespace:
        made = NoiseSchedule(beta.astype(np.float32))
        made.beta = made.beta.astype(np.float32)
        made.alpha_bar = np.exp(np.cumsum(np.log1p(-made.beta), dtype=np.float32))
        made.posterior_var = var_of(made).astype(np.float32)
        low = lambda f: lambda x0, x, *rest: f(x0.astype(np.float32), x.astype(np.float32), *rest)  # noqa: E731
        return SimpleNamespace(
            steps=made.steps,
            beta=made.beta,
            alpha_bar=made.alpha_bar,
            posterior_var=made.posterior_var,
            diffuse=lambda x0, t, eps: made.diffuse(x0.astype(np.float32), t, eps.astype(np.float32)),
            posterior_mean=low(made.posterior_mean),
            step=low(made.step),
        )

    check_diffusion(process(lambda p: p.posterior_var), rng=rng)
    with rejected(DiffusionError, match="posterior_var"):
        check_diffusion(process(lambda p: p.beta), rng=rng)


class Single(NoiseSchedule):
    """All in float32: tables by products or by logarithms, steps by the posterior or by the noise in x."""

    def __init__(self, beta: Array, logs: bool = False, posterior: bool = False, scale: float = 1, last: float = 0):
        super().__init__(beta)
        self.posterior, self.scale, self.last = posterior, np.float32(scale), np.float32(last)
        self.beta = self.beta.astype(np.float32)
        kept = 1 - self.beta
        self.alpha_bar = np.exp(np.cumsum(np.log1p(-self.beta))) if logs else np.cumprod(kept)
        self.posterior_var = np.zeros_like(self.beta)
        self.posterior_var[1:] = self.beta[1:] * (1 - self.alpha_bar[:-1]) / (1 - self.alpha_bar[1:])

    def diffuse(self, x0: Array, t: Any, eps: Array) -> Array:
        return super().diffuse(x0.astype(np.float32), t, eps.astype(np.float32))

    def posterior_mean(self, x0: Array, x: Array, t: int) -> Array:
        before, now, beta = self.alpha_bar[t - 1], self.alpha_bar[t], self.beta[t]
        of_x0, of_x = np.sqrt(before) * beta / (1 - now), np.sqrt(1 - beta) * (1 - before) / (1 - now)
        return of_x0 * x0.astype(np.float32) + of_x * x.astype(np.float32)

    def step(self, x0: Array, x: Array, t: int, s: int, eta: float, rng: np.random.Generator) -> Array:
        x0, x = x0.astype(np.float32), x.astype(np.float32)
        now, then, z = self.alpha_bar[t], self.alpha_bar[s], rng.standard_normal(x.shape, np.float32)
        if self.posterior and eta == 1 and s == t - 1:
            mean, var = self.posterior_mean(x0, x, t), self.posterior_var[t]
        else:
            var = eta**2 * (1 - then) / (1 - now) * (1 - now / then)
            eps = (x - np.sqrt(now) * x0) / np.sqrt(1 - now)
            mean = np.sqrt(then) * x0 + np.sqrt(np.maximum(1 - then - var, 0)) * eps
        return mean + self.scale * np.sqrt(var) * z + (0 if s else self.last * eta * z)


@settings(max_examples=5)
@given(
    beta=schedules(st.sampled_from([2, 30, 300, 1000])),
    logs=st.booleans(),
    posterior=st.booleans(),
    rng=rngs(),
)
def test_long_chains_in_float32_are_judged(beta: Array, logs: bool, posterior: bool, rng: np.random.Generator) -> None:
    """The schedules that are in use are resolved; a chain of any shape passes or is not judged."""
    steps = len(beta)
    with contextlib.suppress(Inconclusive):
        check_diffusion(Single(beta, logs, posterior), rng=rng)
    usual = [NoiseSchedule.linear(steps), NoiseSchedule.cosine(steps)] if steps > 20 else []
    for made in usual:
        beta = made.beta[1:]
        check_diffusion(Single(beta, logs, posterior), rng=rng)
        for scale in (0, 0.5, 2, 5):
            with rejected(DiffusionError, match="the noise has standard deviation"):
                check_diffusion(Single(beta, logs, posterior, scale=scale), rng=rng)
        with rejected(DiffusionError, match="to s=0 with eta=.* noise where there must be none"):
            check_diffusion(Single(beta, logs, posterior, last=0.005), rng=rng)


def test_noise_that_rounding_hides_is_inconclusive() -> None:
    beta = np.append(np.full(2000, 1e-6), 0.999).astype(np.float32)
    with pytest.raises(Inconclusive, match="rounding hides the noise of every step"):
        check_diffusion(Single(beta))


@pytest.mark.parametrize("rate", [0, 1, -0.1, math.nan])
def test_a_rate_is_between_zero_and_one(rate: float) -> None:
    with pytest.raises(ValueError, match="false_alarm"):
        check_diffusion(NoiseSchedule(np.full(9, 0.5)), false_alarm=rate)


def test_the_rate_of_false_alarms_is_kept() -> None:
    """At a rate of 0.9, right noise is rejected at times; the bounds are not exact, so less often than that."""
    process, rejected = NoiseSchedule(np.full(9, 0.5)), 0
    for seed in range(20):
        try:
            check_diffusion(process, false_alarm=0.9, rng=np.random.default_rng(seed))
        except DiffusionError:
            rejected += 1
    assert 0 < rejected < 20


def test_what_is_missing_is_named() -> None:
    with pytest.raises(TypeError, match="lacks alpha_bar, step; see DiffusionProcess"):
        process = NoiseSchedule(np.full(9, 0.5))
        check_diffusion(
            SimpleNamespace(
                **{
                    name: getattr(process, name)
                    for name in ("steps", "beta", "posterior_var", "diffuse", "posterior_mean")
                }
            )
        )


@settings(max_examples=50)
@given(rng=rngs())
def test_noise_is_judged_with_the_power_that_is_stated(rng: np.random.Generator) -> None:
    z, rate = rng.standard_normal(NOISE), 1e-6 / LAWS
    check_noise(0.1 * z, 0.1, 0.0, rate, "a step")
    factor = detectable_scale(1e-6)
    for wrong in (factor * z, z / factor, z + 0.06, np.where(rng.random(NOISE) < 0.05, np.abs(z), z)):
        with rejected(CheckError):
            check_noise(0.1 * wrong, 0.1, 0.0, rate, "a step")


# ------------------------------------------------------------------------------------------------------------ schedules


@given(st.data(), st.integers(1, 60))
def test_schedules_are_usable(data: st.DataObject, steps: int) -> None:
    at_once, lazy = schedules(steps), schedules(st.just(steps))
    for strategy in (at_once, at_once, lazy):
        beta = data.draw(strategy)
        assert beta.shape == (steps,)
        assert beta.dtype == np.float64
        assert NoiseSchedule(beta).alpha_bar[-1] <= 0.01
        beta[0] = 0.0  # which the next draw must not show


def test_all_kinds_are_drawn_and_shrink() -> None:
    def same_as(expected: Array) -> Callable[[Array], bool]:
        return lambda beta: np.allclose(beta, expected)

    find(schedules(30), same_as(NoiseSchedule.linear(30).beta[1:]))
    find(schedules(30), same_as(NoiseSchedule.cosine(30).beta[1:]))
    falls = find(schedules(st.integers(1, 60)), lambda beta: bool((np.diff(beta) < 0).any()))
    assert len(falls) == 2
    assert len(find(schedules(st.integers(1, 60)), lambda beta: True)) == 1


@pytest.mark.parametrize("T", [0, -1, 2.0, "3"])
def test_a_number_of_steps_is_a_whole_number_from_one_on(T: Any) -> None:
    with pytest.raises(InvalidArgument, match=f"T={T!r} is not a number of steps"):
        schedules(T)
    with pytest.raises(InvalidArgument, match=f"T={T!r} is not a number of steps"):
        find(schedules(st.just(T)), lambda beta: True)
