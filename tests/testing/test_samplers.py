"""The checker of samplers rejects planted faults, accepts what is right, and keeps its two error rates."""

import math
from collections.abc import Callable
from itertools import count, product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygen as tg
from tests.testing.support import rejected
from tinygen.distributions import Bernoulli, Categorical, Mixture, MultivariateNormal, Normal
from tinygen.testing import Inconclusive, SamplerError, calibration, check_sampler, mostly_conclusive, rngs

Array = np.ndarray
Sample = Callable[[int, np.random.Generator], Any]

COARSE = 0.05  # to be detected of the plane's distributions, for speed


# --------------------------------------------------------------------------------------------------------------- right

LINE, LINE32 = (
    Normal(np.array([3.0]), np.array([0.2])),
    Normal(np.array([3.0], np.float32), np.array([0.2], np.float32)),
)
PLANE = MultivariateNormal(np.array([1.0, -5.0]), np.array([[1.0, 0.0], [0.6, 0.3]]))
MODES = Mixture(np.log([0.55, 0.35, 0.1]), Normal(np.array([[0.0, 0.0], [5.0, 2.0], [-3.0, 4.0]]), 0.8))
COINS = Bernoulli(np.array([0.0, 1.0, -2.0]))
OUTCOMES = np.array(list(product([0.0, 1.0], repeat=3)))


def uniform(n: int, rng: np.random.Generator) -> Array:
    return rng.random((n, 2))


def log_uniform(x: Array) -> Array:
    """Zero, but for rounding that differs from point to point."""
    inside = ((x >= 0) & (x <= 1)).all(axis=1)
    return np.where(inside, np.log(0.1 + np.abs(x[:, 0])) - np.log(0.3 + 3 * np.abs(x[:, 0])) + np.log(3.0), -np.inf)


RIGHT: dict[str, tuple[Sample, Callable, dict]] = {
    "on the line": (LINE.sample, LINE.log_prob, {}),
    "without an axis": (lambda n, rng: rng.laplace(size=n), lambda x: -np.abs(x) - math.log(2), {}),
    "heavy tails": (lambda n, rng: rng.standard_cauchy(n), lambda x: -np.log(np.pi * (1 + x * x)), {}),
    "float32": (LINE32.sample, LINE32.log_prob, {}),
    "Tensors": (lambda n, rng: tg.Tensor(LINE.sample(n, rng)), lambda x: tg.Tensor(LINE.log_prob(x)), {}),
    "on the plane": (PLANE.sample, PLANE.log_prob, {"detect": COARSE}),
    "modes": (MODES.sample, MODES.log_prob, {"detect": COARSE}),
    "uniform": (uniform, log_uniform, {"detect": COARSE}),
    "images of two": (
        lambda n, rng: PLANE.sample(n, rng).reshape(n, 2, 1),
        lambda x: PLANE.log_prob(x[..., 0]),
        {"detect": COARSE},
    ),
    "coins": (COINS.sample, COINS.log_prob, {"support": OUTCOMES}),
    "a sure thing": (lambda n, rng: np.ones(n, int), lambda x: np.where(x == 1, 0.0, -np.inf), {"support": [0, 1]}),
    "a rare thing": (
        lambda n, rng: rng.random(n) < 1e-3,
        lambda x: np.where(x, math.log(1e-3), math.log1p(-1e-3)),
        {"support": [False, True]},
    ),
    "Poisson": (
        lambda n, rng: rng.poisson(3.0, n),
        lambda k: k * math.log(3.0) - 3 - np.array([math.lgamma(i + 1) for i in k]),
        {"support": np.arange(60)},
    ),
}


@pytest.mark.parametrize(("sample", "log_prob", "options"), RIGHT.values(), ids=RIGHT)
@mostly_conclusive
@settings(max_examples=2)
@given(rng=rngs())
def test_right_samplers(sample: Sample, log_prob: Callable, options: dict, rng: np.random.Generator) -> None:
    check_sampler(sample, log_prob, rng=rng, **options)
    check_sampler(sample, reference=sample, rng=rng, detect=COARSE)


def test_support_is_rounded_as_the_draws_are() -> None:
    steps = np.array([0.1, 0.2, 0.3])

    def sample(n: int, rng: np.random.Generator) -> Array:
        return rng.choice(steps.astype(np.float32), n)

    def log_prob(x: Array) -> Array:
        return np.full(len(x), -math.log(3))

    check_sampler(sample, log_prob, support=steps, detect=COARSE)
    with pytest.raises(SamplerError, match="is none of the 3 outcomes"):
        check_sampler(sample, log_prob, support=steps * (1 + 1e-6), detect=COARSE)
    with pytest.raises(ValueError, match="the same in float32"):
        check_sampler(sample, log_prob, support=[0.1, 0.2, 0.3, 0.3 + 1e-12])


@settings(max_examples=2)
@given(rng=rngs())
def test_many_dimensions_and_ties(rng: np.random.Generator) -> None:
    def sample(n: int, rng: np.random.Generator) -> Array:
        return rng.integers(0, 2, (n, 6, 6, 1)).astype(np.float32)

    check_sampler(sample, reference=sample, rng=rng, detect=0.1)


# --------------------------------------------------------------------------------------------------------------- wrong


def leaking(n: int, rng: np.random.Generator) -> Array:
    """A tenth of the draws are of another component."""
    return np.where(rng.random((n, 1)) < 0.1, MODES.components.sample(n, rng)[:, 1], PLANE.sample(n, rng))


def collapsed(n: int, rng: np.random.Generator) -> Array:
    return Mixture(np.log([0.6, 0.4]), Normal(np.array([[0.0, 0.0], [5.0, 2.0]]), 0.8)).sample(n, rng)


def independent(n: int, rng: np.random.Generator) -> Array:
    """The marginals are right."""
    return rng.permuted(PLANE.sample(n, rng), axis=0)


def wrong_correlation(n: int, rng: np.random.Generator) -> Array:
    """The variances are right, and the correlation has the wrong sign."""
    return PLANE.sample(n, rng) * [1, -1] + [0, -10]


def shell(n: int, rng: np.random.Generator) -> Array:
    """As far from 0 as a normal distribution's draws in 8 dimensions are on average."""
    x = rng.standard_normal((n, 8))
    return x * math.sqrt(8) / np.linalg.norm(x, axis=1, keepdims=True)


def normals(n: int, rng: np.random.Generator) -> Array:
    return rng.standard_normal((n, 8))


WRONG: dict[str, tuple[Sample, dict, str]] = {
    "variance": (lambda n, r: 3 + 0.04 * r.standard_normal((n, 1)), {"log_prob": LINE.log_prob}, "a share"),
    "a stuck draw": (lambda n, r: np.full((n, 1), 3.1), {"log_prob": LINE.log_prob}, "a share 0.0000 .* 3.1, not 0.6"),
    "leak": (leaking, {"log_prob": PLANE.log_prob}, "a share"),
    "lost mode": (collapsed, {"log_prob": MODES.log_prob}, "a share"),
    "independent": (independent, {"log_prob": PLANE.log_prob}, "a share"),
    "correlation": (wrong_correlation, {"log_prob": PLANE.log_prob}, "a share"),
    "leak, reference": (leaking, {"reference": PLANE.sample}, "a share"),
    "lost mode, reference": (collapsed, {"reference": MODES.sample}, "a share"),
    "independent, reference": (independent, {"reference": PLANE.sample}, "a share"),
    "shell, reference": (shell, {"reference": normals}, "distance from"),
    "unfair coins": (
        lambda n, r: (r.random((n, 3)) < 0.5) * 1.0,
        {"log_prob": COINS.log_prob, "support": OUTCOMES},
        "a share",
    ),
    "dependent coins": (
        lambda n, r: np.repeat(r.random((n, 1)) < 0.5, 3, axis=1) * 1.0,
        {"log_prob": Bernoulli(np.zeros(3)).log_prob, "support": OUTCOMES},
        "(projection|log_prob)",
    ),
    "an outcome too many": (
        lambda n, r: r.integers(0, 4, n),
        {"log_prob": lambda k: np.log(np.full(len(k), 1 / 3)), "support": [0, 1, 2]},
        r"the draw \[3.\] is none of the 3 outcomes",
    ),
}


@pytest.mark.parametrize(("sample", "options", "text"), WRONG.values(), ids=WRONG)
@settings(max_examples=2)
@given(rng=rngs())
def test_wrong_samplers(sample: Sample, options: dict, text: str, rng: np.random.Generator) -> None:
    with rejected(SamplerError, match=text):
        check_sampler(sample, rng=rng, detect=COARSE, **options)


def test_the_message_states_the_power() -> None:
    """By the formulas: 2 statistics, a tenth of `detect` for the grid, and exp(-2 n e²) for draws."""
    n = math.ceil(math.log(2 * 2 / 1e-6) / 2 / (0.4 * 0.1) ** 2)
    power = rf"± 0.05 \(n = {n:,} draws, 2 statistics; a difference of 0.1 is missed, .* with probability below 1e-06"
    with pytest.raises(SamplerError, match=power):
        check_sampler(lambda n, rng: rng.standard_normal((n, 1)), LINE.log_prob, detect=0.1)


# ------------------------------------------------------------------------------------------------- draws and densities

own = np.random.default_rng(0)
calls = count()


def jammed(n: int, rng: np.random.Generator) -> Array:
    x = LINE.sample(n, rng)
    x[n // 2] = np.nan
    return x


BAD_DRAWS: dict[str, tuple[Sample, str]] = {
    "seeded anew": (lambda n, rng: LINE.sample(n, np.random.default_rng(0)), "same draws come again"),
    "own generator": (lambda n, rng: LINE.sample(n, own), "all randomness must be rng's"),
    "NaN": (jammed, r"draw 500 of 1000 is not finite: array\(\[nan\]\)"),
    "too few": (
        lambda n, rng: LINE.sample(n - 1, rng),
        r"has shape \(999, 1\), not \(n, \.\.\.\)",
    ),
    "a number": (lambda n, rng: 1.0, r"has shape \(\)"),
    "changing shape": (lambda n, rng: LINE.sample(n, rng)[:, : 1 - next(calls) % 2], r"not \(n, 1\)"),
}


@pytest.mark.parametrize(("sample", "text"), BAD_DRAWS.values(), ids=BAD_DRAWS)
def test_bad_draws(sample: Sample, text: str) -> None:
    with pytest.raises(SamplerError, match=text):
        check_sampler(sample, LINE.log_prob)


BAD_DENSITIES: dict[str, tuple[Callable, dict, str]] = {
    "not normalised": (lambda x: LINE.log_prob(x) + 0.1, {}, "integrates to 1.10517, not to 1, where the draws are"),
    "elsewhere": (lambda x: LINE.log_prob(x - 1e4), {}, "integrates to 0, not to 1, where the draws are"),
    "NaN at draws": (lambda x: np.log(x[:, 0] - 3), {}, "log_prob of the draw .* is NaN"),
    "NaN in a tail": (lambda x: np.where(x[:, 0] > 9, np.nan, LINE.log_prob(x)), {}, r"log_prob of \[9.* is .*nan"),
    "infinite": (lambda x: np.where(x[:, 0] > 9, np.inf, LINE.log_prob(x)), {}, r"log_prob of \[9.* is .*inf"),
}


@pytest.mark.parametrize(("log_prob", "options", "text"), BAD_DENSITIES.values(), ids=BAD_DENSITIES)
@pytest.mark.filterwarnings("ignore:invalid value encountered in log")
def test_bad_densities(log_prob: Callable, options: dict, text: str) -> None:
    with pytest.raises(SamplerError, match=text):
        check_sampler(LINE.sample, log_prob, **options)


def test_probabilities_that_do_not_add_to_one() -> None:
    with pytest.raises(SamplerError, match="the probabilities of the 8 outcomes add to 2.71828, not to 1"):
        check_sampler(COINS.sample, lambda x: COINS.log_prob(x) + 1, support=OUTCOMES)


def test_what_grids_cannot_see_is_inconclusive() -> None:
    spikes = Mixture(np.log([0.5, 0.5]), Normal(np.array([[-9.0], [9.0]]), 1e-5))
    with pytest.raises(Inconclusive, match="give a sampler as reference"):
        check_sampler(spikes.sample, spikes.log_prob, detect=0.2)


def test_a_rare_narrow_mode_is_no_fault() -> None:
    """Of which the pilot has some 30 draws."""
    p = Mixture(np.log([0.97, 0.03]), Normal(np.array([[0.0], [20.0]]), np.array([[1.0], [1e-5]])))
    with pytest.raises(Inconclusive, match="give a sampler as reference"):
        check_sampler(p.sample, p.log_prob)


@pytest.mark.parametrize(
    ("sample", "options", "error", "text"),
    [
        (LINE.sample, {}, TypeError, "either log_prob or reference"),
        (LINE.sample, {"log_prob": LINE.log_prob, "reference": LINE.sample}, TypeError, "either log_prob or reference"),
        (LINE.sample, {"reference": LINE.sample, "support": [0]}, TypeError, "support goes with log_prob"),
        (LINE.sample, {"log_prob": LINE.log_prob, "detect": 0.0}, ValueError, "detect=0.0"),
        (LINE.sample, {"log_prob": LINE.log_prob, "false_alarm": 1.0}, ValueError, "false_alarm=1.0"),
        (normals, {"log_prob": LINE.log_prob}, TypeError, "draws have 8; give a sampler as reference"),
        (Categorical(np.zeros(3)).sample, {"log_prob": LINE.log_prob}, TypeError, "are int64; give all outcomes"),
        (lambda n, rng: np.full(n, "a"), {"log_prob": LINE.log_prob}, TypeError, "draws must be numbers"),
    ],
)
def test_arguments(sample: Sample, options: dict, error: type[Exception], text: str) -> None:
    with pytest.raises(error) as raised:
        check_sampler(sample, **options)
    assert text in str(raised.value)


# ---------------------------------------------------------------------------------------------------------- calibration


@settings(max_examples=2)
@given(seed=st.integers(0, 2**32 - 1))
def test_calibration(seed: int) -> None:
    """At 1e-9 in place of the command's 99.9 %, as the seed is any."""
    rng = np.random.default_rng(seed)
    for run in calibration.RUNS.values():
        for faulty in (False, True):
            assert calibration.count(run, 60, faulty, rng) <= calibration.most(60, calibration.RATE, 1 - 1e-9)


@settings(max_examples=20)
@given(runs=st.integers(1, 300), rate=st.floats(0.001, 0.2), certainty=st.floats(0.5, 0.9999))
def test_most(runs: int, rate: float, certainty: float) -> None:
    k = calibration.most(runs, rate, certainty)
    mass = [math.comb(runs, i) * rate**i * (1 - rate) ** (runs - i) for i in range(runs + 1)]
    assert sum(mass[: k + 1]) >= certainty - 1e-9
    assert sum(mass[:k]) < certainty + 1e-9


def test_the_command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    runs = {"sound": lambda rng, faulty: calibration.divergence(rng, faulty)}
    monkeypatch.setattr(calibration, "RUNS", runs)
    assert calibration.main(["--runs", "3", "--seed", "1"]) == 0
    assert "OUT OF BOUNDS" not in capsys.readouterr().out
    runs["too lax"] = lambda rng, faulty: None
    assert calibration.main(["--runs", "3"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].split() == ["too", "lax", "0", "3", "OUT", "OF", "BOUNDS"]
    runs["too strict"] = lambda rng, faulty: check_sampler(LINE.sample, lambda x: LINE.log_prob(x) + 1)
    assert calibration.main(["--runs", "3"]) == 1
    assert capsys.readouterr().out.splitlines()[-1].split() == ["too", "strict", "3", "0", "OUT", "OF", "BOUNDS"]


def test_an_inconclusive_run_does_not_end_the_calibration() -> None:
    def run(rng: np.random.Generator, faulty: bool) -> None:
        raise Inconclusive("for a reason")

    for faulty in (False, True):
        assert calibration.count(run, 3, faulty, np.random.default_rng(0)) == 3


def test_the_command_needs_runs() -> None:
    with pytest.raises(SystemExit):
        calibration.main(["--runs", "0"])
