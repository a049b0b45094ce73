import json
import math

import numpy as np
import pytest

from benchmarks import steps
from benchmarks.compare import TOLERANCE, difference
from benchmarks.steps import of_tinygen
from benchmarks.steps.problems import PROBLEMS


def test_names_are_unique_and_tell_an_unusual_batch():
    assert [workload.name for workload in steps.workloads()[1:]] == list(PROBLEMS)
    assert steps.workloads(batch=64)[1].name == "ddpm2d batch 64"
    assert steps.workloads(batch=64)[5].name == "unet28"  # its own number
    assert steps.workloads(batch=1)[1].flops == steps.workloads()[1].flops / 256


def test_batches_that_are_too_large_are_left_out():
    assert [workload.name for workload in steps.workloads(batch=1024)[1:]] == [
        f"{name} batch 1024" for name in PROBLEMS if name != "wavenet"
    ]
    assert [workload.batch for workload in steps.workloads(batch=128)[1:]] == [128] * 6


@pytest.mark.parametrize("name", PROBLEMS)
def test_tinygen_runs_each_step_and_starts_always_alike(name):
    losses = of_tinygen.losses(name, 2, 2)
    assert all(math.isfinite(loss) for loss in losses)
    assert losses[: len(losses) // 2] == of_tinygen.losses(name, 2, 1)
    assert losses[0] != losses[len(losses) // 2]


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_noise_is_what_a_step_draws(name):
    made, n = of_tinygen.model(name), 2
    drawn, expected = np.random.default_rng(2), np.random.default_rng(2)
    made.train_step(PROBLEMS[name].data(np.random.default_rng(0), n), drawn)
    PROBLEMS[name].noise(expected, n)
    assert json.dumps(drawn.bit_generator.state) == json.dumps(expected.bit_generator.state)


def test_flops_of_a_perceptron_by_hand():
    # 130 x 128 has no gradient of its input, so two products; the others have three; a product is 2 FLOPs a weight
    assert PROBLEMS["ddpm2d"].flops == 2 * (2 * 130 * 128 + 3 * (2 * 128 * 128 + 128 * 2))


@pytest.mark.parametrize("name", ["vae784", "realnvp2d", "wavenet", "unet28", "gan28"])
def test_flops_are_those_of_the_models_weights(name):
    """Each weight of a model is multiplied once for each position at which its layer is applied."""
    positions = {
        "vae784": lambda key: 1,
        "realnvp2d": lambda key: 1,
        "wavenet": lambda key: 1024,
        "unet28": _unet_positions,
        "gan28": _gan_positions,
    }[name]
    weights = {key: p for key, p in of_tinygen.state(name).items() if key.endswith("weight") and p.ndim > 1}
    each = {key: positions(key) * p.size for key, p in weights.items()}
    if name == "gan28":  # G has no first input gradient; D is run forward 3 times, and back with all, all, half
        g = [each[key] for key in each if key.startswith("generator")]
        d = [each[key] for key in each if key.startswith("discriminator")]
        assert PROBLEMS[name].flops == 2 * (3 * sum(g) - g[0] + 2 * (3 * sum(d) - d[0]) + 2 * sum(d))
    else:
        first = next(key for key in each if "first" in key or not key.startswith("network.time"))
        assert PROBLEMS[name].flops == 2 * (3 * sum(each.values()) - each[first])


def _unet_positions(key):
    _, part, *rest = key.split(".")
    if part == "time" or "time" in rest:
        return 1
    if part in ("first", "last"):
        return 28**2
    if part == "bottom":
        return 7**2
    level = int(rest[0])
    return {"down": [28**2, 14**2], "halve": [14**2, 7**2], "up": [14**2, 28**2]}[part][level]


def _gan_positions(key):
    part, _, layer, _ = key.split(".")
    sizes = {"generator": {"0": 1, "3": 14, "6": 28, "8": 28}, "discriminator": {"0": 14, "2": 7, "5": 1}}
    return sizes[part][layer] ** 2


def test_torch_computes_the_same():
    pytest.importorskip("torch")
    from benchmarks.steps import of_torch

    losses = of_torch.losses("ddpm2d", 8, steps.CHECKED)
    assert difference(losses, of_tinygen.losses("ddpm2d", 8, steps.CHECKED)) < TOLERANCE
