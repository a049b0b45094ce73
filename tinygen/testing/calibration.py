"""The calibration of the statistical checkers: ``python -m tinygen.testing.calibration``.

How often they reject what is right, at a false-alarm rate of 0.01 and not the 1e-6 that they are used with, so that it
can be counted; and how often they miss a fault that is just as large as they promise to see.
"""

import argparse
import math
import sys
from collections.abc import Callable
from statistics import NormalDist

import numpy as np
from tqdm import trange

from tinygen.models.ddpm import NoiseSchedule
from tinygen.testing.densities import check_kl
from tinygen.testing.diffusion import check_diffusion, detectable_scale
from tinygen.testing.faults.distributions import Gaussian
from tinygen.testing.samplers import check_sampler
from tinygen.testing.verdicts import CheckError, Inconclusive

RATE = 0.01
DETECT = 0.1
FACES = np.arange(6)
BETA = np.full(4, 0.8)
P, Q = Gaussian(0.0, 1.0), Gaussian(0.5, 1.5)

Run = Callable[[np.random.Generator, bool], None]
"""``run(rng, faulty)`` is one check of what is right, or wrong by as much as is to be detected."""


def against_log_prob(rng: np.random.Generator, faulty: bool) -> None:
    """A normal density, whose draws are moved so far that Φ(½ shift) - Φ(-½ shift) is the difference."""
    shift = 2 * NormalDist().inv_cdf(0.5 + DETECT / 2) * faulty
    check_sampler(lambda n, r: shift + P.sample(n, r), P.log_prob, detect=DETECT, false_alarm=RATE, rng=rng)


def against_reference(rng: np.random.Generator, faulty: bool) -> None:
    """Uniform draws, a share of which is moved elsewhere."""
    check_sampler(
        lambda n, r: r.random(n) - 2.0 * (faulty & (r.random(n) < DETECT)),
        reference=lambda n, r: r.random(n),
        detect=DETECT,
        false_alarm=RATE,
        rng=rng,
    )


def discrete(rng: np.random.Generator, faulty: bool) -> None:
    """A die that shows its lowest face in place of others."""

    def sample(n: int, r: np.random.Generator) -> np.ndarray:
        # The lowest face has a share of 1/6, and takes this part of the others.
        return r.choice(FACES, n) * ~(faulty & (r.random(n) < DETECT * 6 / 5))

    def log_prob(x: np.ndarray) -> np.ndarray:
        return np.full(len(x), -math.log(6))

    check_sampler(sample, log_prob, support=FACES, detect=DETECT, false_alarm=RATE, rng=rng)


def divergence(rng: np.random.Generator, faulty: bool) -> None:
    """Two normal distributions, whose divergences are wrong by a share of the log-ratio's standard deviation."""

    def kl(p: Gaussian, q: Gaussian) -> float:
        # log p - log q = a z² + b z + c for standard normal z: its variance is 2a² + b².
        a = 0.5 * ((p.std / q.std) ** 2 - 1)
        b = (p.mean - q.mean) * p.std / q.std**2
        return p.kl(q) + faulty * DETECT * math.sqrt(2 * a * a + b * b)

    check_kl(P, Q, kl=kl, detect=DETECT, false_alarm=RATE, rng=rng)


class Scaled(NoiseSchedule):
    """The noise of one step is too large, of all that `check_diffusion` may look at."""

    def step(self, x0: np.ndarray, x: np.ndarray, t: int, s: int, eta: float, rng: np.random.Generator) -> np.ndarray:
        """As of a right chain, but for the first kind of step that is looked at."""
        drawn = super().step(x0, x, t, s, eta, rng)
        if (t, s, eta) != (2, 1, 1.0):
            return drawn
        mean = self.posterior_mean(x0, x, t)
        return mean + detectable_scale(RATE) * (drawn - mean)


def diffusion(rng: np.random.Generator, faulty: bool) -> None:
    """A chain whose σ is wrong in one step."""
    check_diffusion((Scaled if faulty else NoiseSchedule)(BETA), false_alarm=RATE, rng=rng)


RUNS: dict[str, Run] = {
    "check_sampler, log_prob": against_log_prob,
    "check_sampler, reference": against_reference,
    "check_sampler, discrete": discrete,
    "check_kl": divergence,
    "check_diffusion": diffusion,
}


def most(runs: int, rate: float, certainty: float = 0.999) -> int:
    """How many of ``runs`` events of probability ``rate`` happen at most, with this certainty."""
    k = np.arange(runs)
    steps = math.log(rate / (1 - rate)) + np.log((runs - k) / (k + 1))  # from log P(k) to log P(k + 1)
    log_p = runs * math.log1p(-rate) + np.concatenate([[0.0], np.cumsum(steps)])
    return int(np.searchsorted(np.cumsum(np.exp(log_p)), certainty))


def count(run: Run, runs: int, faulty: bool, rng: np.random.Generator, what: str = "") -> int:
    """How many of the checks were wrong: rejected what is right, passed what is not, or were inconclusive."""
    wrong = 0
    for _ in trange(runs, desc=what, leave=False, disable=None):
        try:
            run(rng, faulty)
            wrong += faulty
        except CheckError:
            wrong += not faulty
        except Inconclusive:
            wrong += 1
    return wrong


def main(arguments: list[str] | None = None) -> int:
    """Print the table; 1 if a count is out of bounds, else 0."""
    parser = argparse.ArgumentParser(prog="python -m tinygen.testing.calibration", description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=10_000, help="how often to run each checker")
    parser.add_argument("--seed", type=int, default=0, help="of the generator that everything is drawn with")
    given = parser.parse_args(arguments)
    if given.runs < 1:
        parser.error(f"--runs must be at least 1, got {given.runs}")
    rng = np.random.default_rng(given.seed)
    bound = most(given.runs, RATE)
    print(f"{given.runs} runs each at a rate of {RATE:g}: in 99.9 % of cases at most {bound} are wrong")
    print(f"{'checker':<28}{'false alarms':>14}{'faults missed':>15}   verdict")
    good = True
    for name, run in RUNS.items():
        wrong = [count(run, given.runs, faulty, rng, name) for faulty in (False, True)]
        good &= max(wrong) <= bound
        print(
            f"{name:<28}{wrong[0]:>14}{wrong[1]:>15}   {'ok' if max(wrong) <= bound else 'OUT OF BOUNDS'}", flush=True
        )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
