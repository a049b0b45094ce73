"""All frameworks sample the same, and WaveNet's queues give what all levels together give."""

import json

import numpy as np
import pytest

import tinygen as tg
from benchmarks import sampling
from benchmarks.compare import TOLERANCE, difference
from benchmarks.sampling import of_tinygen
from benchmarks.sampling.problems import DRAWS, reverse, summary
from benchmarks.steps.of_tinygen import model, state
from benchmarks.steps.problems import DILATIONS, PROBLEMS, SILENCE


def test_something_is_drawn_from_each_model():
    assert list(DRAWS) == list(PROBLEMS)
    names = [workload.name for workload in sampling.workloads()]
    assert len(set(names)) == len(names)
    assert not set(names) & set(PROBLEMS)  # what a picture of the steps would show


@pytest.mark.parametrize("name", DRAWS)
def test_the_noise_is_what_sampling_draws(name):
    made, n = model(name), 2
    drawn, expected = np.random.default_rng(2), np.random.default_rng(2)
    made.sample(n, drawn, **DRAWS[name].options)
    DRAWS[name].noise(expected, n)
    assert json.dumps(drawn.bit_generator.state) == json.dumps(expected.bit_generator.state)


@pytest.mark.parametrize(("name", "left_out", "positions"), [
    ("ddpm2d", ("network.time",), 77),
    ("realnvp2d", (), 1),
    ("vae784", ("encoder",), 1),
    ("wavenet", (), 800),
])  # fmt: skip
def test_multiplications_are_those_of_the_models_weights(name, left_out, positions):
    weights = [p.size for key, p in state(name).items() if p.ndim > 1 and not key.startswith(left_out)]
    assert DRAWS[name].multiplications == positions * sum(weights)


def test_multiplications_of_images():
    """Those that forward takes with its derivatives: the first layer two products, others three."""
    g = DRAWS["gan28"].multiplications
    discriminator = 14**2 * 9 * 32 + 7**2 * 9 * 32 * 64 + 3136
    first = {"gan28": 64 * 3136, "unet28": 28**2 * 9 * 32}
    through = 2 * (3 * discriminator - 14**2 * 9 * 32) + 2 * discriminator
    assert PROBLEMS["gan28"].flops == 2 * (3 * g - first["gan28"] + through)
    times = 32 * 128 + 128 * 128 + 128 * (32 + 64 + 64 + 64 + 32)
    u = DRAWS["unet28"].multiplications // 20 + times
    assert PROBLEMS["unet28"].flops == 2 * (3 * u - first["unet28"])


@pytest.mark.parametrize("name", ["ddpm2d", "unet28"])
def test_peers_take_the_steps_of_the_schedule(name):
    made, options = model(name), DRAWS[name].options
    visited, rng = reverse(made, **options), np.random.default_rng(3)
    x, eps = rng.standard_normal((2, 5, 2))
    times = [*visited.t, 0]
    for i in rng.integers(len(visited.t), size=5):
        t, s = times[i : i + 2]
        x0 = made.to_x0(x, eps, t)
        z = np.random.default_rng(i).standard_normal(x.shape)
        expected = made.schedule.step(x0, x, t, s, options["eta"], np.random.default_rng(i))
        found = visited.carry[i] * x + visited.turn[i] * eps + visited.fresh[i] * z
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)  # tables are in float32


def test_queues_give_the_probabilities_that_all_levels_give():
    made, n, length = model("wavenet"), 2, 2 * max(DILATIONS) + 50  # the longest queue goes round twice
    levels = made.sample(n, np.random.default_rng(4), length)
    before = np.concatenate([np.full((n, 1), SILENCE), levels[:, :-1]], 1)
    with tg.no_grad():
        p = tg.softmax(made((before[..., None] / 127.5 - 1).astype(np.float32))).numpy().astype(np.float64)
    upper = np.take_along_axis(np.cumsum(p, 2), levels[..., None], 2)[..., 0]
    lower = upper - np.take_along_axis(p, levels[..., None], 2)[..., 0]
    uniform = np.random.default_rng(4).random((length, n), np.float32).T
    assert np.all(uniform > lower - 2e-5) and np.all(uniform < upper + 2e-5)  # sums of 256 numbers in float32


def test_a_summary_sees_all_samples():
    x = np.arange(640.0).reshape(64, 10)
    assert summary(x) != summary(np.where(x < 320, x, 0)) != summary(0 * x)


def test_numbers_are_those_of_the_first_draw_and_draws_differ():
    draw = of_tinygen.prepare("realnvp2d", 32)
    assert summary(draw()) == of_tinygen.numbers("realnvp2d", 32) != summary(draw())


@pytest.mark.parametrize("name", DRAWS)
def test_torch_samples_the_same(name):
    pytest.importorskip("torch")
    from benchmarks.sampling import of_torch

    assert difference(of_torch.numbers(name, 8), of_tinygen.numbers(name, 8)) < TOLERANCE


@pytest.mark.parametrize("name", [name for name in DRAWS if name != "unet28"])  # which takes long to compile
def test_jax_samples_the_same(name):
    pytest.importorskip("jax")
    from benchmarks.sampling import of_jax

    assert difference(of_jax.numbers(name, 8), of_tinygen.numbers(name, 8)) < TOLERANCE
