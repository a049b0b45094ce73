"""What is drawn from each of the reference models, as far as all frameworks share it: how much, from which noise."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from benchmarks.steps.problems import (
    DDPM2D_STEPS,
    GENERATOR_LAYERS,
    UNET28_STEPS,
    WAVENET_LAYERS,
    Array,
    Rng,
    mlp,
    normal,
    unet_layers,
)
from tinygen.models import DDPM


@dataclass(frozen=True)
class Draw:
    """What is sampled.

    Parameters
    ----------
    n : how many examples
    what : what they are, for the table
    noise : what the `sample` of tinygen's model draws for n examples, in its order
    multiplications : those that an example takes; what a step of diffusion knows of its time is the same for all
    options : of `sample`
    layout_matters : whether there are images, which PyTorch can hold with channels last or first
    """

    n: int
    what: str
    noise: Callable[[Rng, int], tuple[Array, ...]]
    multiplications: int
    options: dict[str, Any]
    layout_matters: bool = False


class Reverse(NamedTuple):
    """The steps x_s = carry · x_t + turn · ε(x_t, t) + fresh · z of `DDPM.sample`, one number for each."""

    t: Array
    carry: Array
    turn: Array
    fresh: Array


def reverse(model: DDPM, steps: int, eta: float) -> Reverse:
    """Those of a model, for which peers need neither x_0 nor a schedule (see `tinygen.models.NoiseSchedule.step`)."""
    times = np.array(model.times(steps))
    now, then = model.schedule.alpha_bar[times[:-1]], model.schedule.alpha_bar[times[1:]]
    variance = eta**2 * (1 - then) / (1 - now) * (1 - now / then)
    turn = np.sqrt(1 - then - variance) - np.sqrt(then * (1 - now) / now)
    tables = np.sqrt(then / now), turn, np.sqrt(variance)
    return Reverse(times[:-1], *(table.astype(np.float32) for table in tables))


def _diffusion(rng: Rng, n: int, shape: tuple[int, ...], renewals: int) -> tuple[Array, ...]:
    """x_T, and z for all steps but the last."""
    return normal(rng, n, *shape), normal(rng, renewals, n, *shape)


DDPM2D_VISITED, UNET28_VISITED = 77, 20
"""Steps that are taken; where the noise of the `ddpm2d` hides all of the signal, none (see `DDPM.times`)."""

LEVELS = 800
"""Of WaveNet, which are 0.05 s of sound at 16 kHz."""

DRAWS = {
    "ddpm2d": Draw(
        4096,
        f"4096 points, all T = {DDPM2D_STEPS} steps",
        partial(_diffusion, shape=(2,), renewals=DDPM2D_VISITED - 1),
        DDPM2D_VISITED * sum(mlp(2, 128, 128, 128, 2)),
        {"steps": DDPM2D_STEPS, "eta": 1.0},
    ),
    "realnvp2d": Draw(32768, "32768 points", lambda rng, n: (normal(rng, n, 2),), 8 * sum(mlp(1, 64, 64, 2)), {}),
    "vae784": Draw(1024, "1024 images", lambda rng, n: (normal(rng, n, 20),), sum(mlp(20, 400, 784)), {}),
    "gan28": Draw(
        256, "256 images", lambda rng, n: (normal(rng, n, 64),), sum(GENERATOR_LAYERS), {}, layout_matters=True
    ),
    "unet28": Draw(
        64,
        f"64 images, {UNET28_VISITED} of {UNET28_STEPS} steps",
        partial(_diffusion, shape=(28, 28, 1), renewals=0),
        UNET28_VISITED * sum(unet_layers(time=[])),
        {"steps": UNET28_VISITED, "eta": 0.0},
        layout_matters=True,
    ),
    "wavenet": Draw(
        1,
        f"{LEVELS} levels one by one",
        lambda rng, n: (rng.random((LEVELS, n), np.float32),),
        LEVELS * sum(WAVENET_LAYERS),
        {"length": LEVELS},
    ),
}


def summary(samples: Array) -> list[float]:
    """Eight numbers by which implementations are compared: mean sizes of eight elements each, from everywhere."""
    chosen = samples.reshape(-1)[np.linspace(0, samples.size - 1, 64).astype(int)]
    return np.abs(chosen, dtype=np.float64).reshape(8, 8).mean(1).tolist()
