"""Faults of diffusion processes: in the tables, and in the steps of the sampler."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st

from tinygen.models.ddpm import NoiseSchedule
from tinygen.testing.diffusion import check_diffusion
from tinygen.testing.faults.base import Checker, Fault
from tinygen.testing.noise_schedules import schedules

Array = np.ndarray

CHECKERS: dict[str, Checker] = {
    "check_diffusion": lambda process, beta, rng: check_diffusion(process(beta), rng=rng),
}


def _shifted(faulty: bool) -> Callable[[Array], NoiseSchedule]:
    class Shifted(NoiseSchedule):
        """Reads ᾱ from a table whose index is t."""

        def signal_and_noise(self, t: int | Array, x: Any) -> tuple[Array, Array]:
            return super().signal_and_noise(np.maximum(np.asarray(t) - faulty, 0), x)

    return Shifted


def _posterior(faulty: bool) -> Callable[[Array], NoiseSchedule]:
    class Posterior(NoiseSchedule):
        """Has the variance of one step back where it looks for it."""

        def __init__(self, beta: Array) -> None:
            super().__init__(beta)
            self.posterior_var = self.beta if faulty else self.posterior_var

    return Posterior


def _sampler(faulty: bool) -> Callable[[Array], NoiseSchedule]:
    class Sampler(NoiseSchedule):
        """Scales the noise by the standard deviation, not by the variance."""

        def step(self, x0: Array, x: Array, t: int, s: int, eta: float, rng: np.random.Generator) -> Array:
            now, then = self.alpha_bar[t], self.alpha_bar[s]
            eps = (x - math.sqrt(now) * x0) / math.sqrt(1 - now)
            var = eta**2 * (1 - then) / (1 - now) * (1 - now / then)
            scale = var if faulty else math.sqrt(var)
            x_s = math.sqrt(then) * x0 + math.sqrt(max(1 - then - var, 0)) * eps
            return x_s + scale * rng.standard_normal(x.shape)

    return Sampler


def _last_step(faulty: bool) -> Callable[[Array], NoiseSchedule]:
    class LastStep(NoiseSchedule):
        """Has a table of log β̃, in which log 0 is replaced by the next entry, so that the last step needs a mask."""

        def step(self, x0: Array, x: Array, t: int, s: int, eta: float, rng: np.random.Generator) -> Array:
            if s > 0:
                return super().step(x0, x, t, s, eta, rng)
            log_var = math.log(self.posterior_var[2])
            return x0 + (1 if faulty else 0) * eta * math.exp(0.5 * log_var) * rng.standard_normal(x.shape)

    return LastStep


def _fault(number: int, title: str, subject: Callable[[bool], Any]) -> Fault:
    return Fault(number, title, subject, schedules(st.integers(2, 30)), CHECKERS, ("check_diffusion",))


FAULTS = (
    _fault(35, "ᾱ off by one step", _shifted),
    _fault(36, "posterior variance β for β̃", _posterior),
    _fault(37, "DDIM σ wrong", _sampler),
    _fault(38, "noise added at the last step", _last_step),
)
