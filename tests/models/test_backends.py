"""Whole training steps on compiled kernels are those on the reference kernels, within the error of float32."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kernels
from tinygen import nn, optim
from tinygen.models import DDPM, GAN, VAE, NoiseSchedule, TimeMLP, UNet, realnvp

Rng = np.random.Generator
STEPS = 4  # the last is replayed, of a GAN too, whose first has a penalty and is another program than those after it
PAIRS = 8  # of probes
MOVE = 8  # of a probe, in roundings


def ddpm_of_points(rng: Rng) -> nn.Module:
    return DDPM(TimeMLP(2, rng, width=24, features=8), NoiseSchedule.cosine(20), (2,))


def ddpm_of_images(rng: Rng) -> nn.Module:
    network = UNet(1, rng, widths=(16, 32), bottom=1, features=8, time_width=16)
    return DDPM(network, NoiseSchedule.cosine(20), (8, 8, 1), prediction="v")


MODELS: dict[str, tuple[Callable[[Rng], Any], tuple[int, ...]]] = {
    "DDPM, perceptron": (ddpm_of_points, (2,)),
    "DDPM, U-Net": (ddpm_of_images, (8, 8, 1)),
    "flow": (lambda rng: realnvp((2,), rng, couplings=3, hidden=(16, 16)), (2,)),
    "VAE, perceptron": (lambda rng: VAE.mlp((20,), 3, rng, width=24), (20,)),
    "VAE, convolutions": (lambda rng: VAE.conv((8, 8, 1), 3, rng, width=8), (8, 8, 1)),
    "GAN, perceptron": (lambda rng: GAN.mlp(rng, width=24), (2,)),
    "GAN, convolutions": (lambda rng: GAN.conv((8, 8, 1), rng, latent=4, width=8), (8, 8, 1)),
}


class SameNoise(np.random.Generator):
    """Draws the same numbers for both dtypes."""

    def standard_normal(self, size: Any = None, dtype: Any = np.float64, out: Any = None) -> Any:
        return super().standard_normal(size, np.float32).astype(dtype)


@contextmanager
def backend(name: str) -> Iterator[None]:
    """Have the operations use these kernels, which the package looks up once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TINYGEN_KERNELS", name)
        for kernel in kernels._MODULE_OF:
            patch.delitem(vars(kernels), kernel, raising=False)
        try:
            yield
        finally:
            for kernel in kernels._MODULE_OF:
                vars(kernels).pop(kernel, None)


def train(model: Any, batch: np.ndarray, dtype: Any, name: str, seed: int) -> dict[str, np.ndarray]:
    """Metrics and gradients of some steps, and what they did to the parameters."""
    with backend(name):
        model = model.astype(dtype)
        for key, value in vars(model).items():
            if isinstance(value, optim.Adam):
                # Without a large eps, an entry whose gradient is nothing but rounding would move as far as others.
                setattr(model, key, optim.Adam(value.parameters, 0.1, betas=value.betas, eps=0.1))
        before = model.state_dict()
        found, rng = {}, SameNoise(np.random.PCG64(seed))
        for step in range(STEPS):
            metrics = model.train_step(batch.astype(dtype), rng)
            found |= {f"{key} in step {step}": np.array(value) for key, value in metrics.items()}
            for key, p in model.named_parameters():
                if p.grad is not None:
                    found[f"gradient of {key} in step {step}"] = p.grad.data.copy()
        after = {key: a for key, a in model.state_dict().items() if a.dtype == dtype}
        return found | {f"change of {key}": a - before[key] for key, a in after.items()}


def moved(model: Any, batch: np.ndarray, roundings: float, rng: Rng) -> tuple[Any, np.ndarray]:
    """The same with every weight and number of the data changed by some roundings of float32, kept in float64."""

    def rounded(a: np.ndarray) -> np.ndarray:
        return a * (1 + roundings * np.finfo(np.float32).eps * rng.standard_normal(a.shape))

    model = model.astype(np.float64)
    for p in model.parameters():
        p.data[...] = rounded(p.data)
    return model, rounded(batch.astype(np.float64))


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=5)
@given(seed=st.integers(0, 2**32 - 1))
def test_steps_on_both_backends_agree(name: str, seed: int) -> None:
    """No farther from float64 than probes are, whose weights and data are moved by 8 roundings, in mirrored pairs.

    What is allowed is the root of the sum of all probes' squared errors, and of those of 8 times the error of the
    reference in float32, and of 8 roundings of the number itself, or of the weight that it changes. Where a step is
    smooth, the two errors of a pair differ in their sign alone. For a single number, if roundings move it by e times a
    normal number, and so a probe by 8 times that, the first sum is 2 * 64 e² times a chi-square number of 8 degrees of
    freedom; the compiled step exceeds its root with the probability that a t-distributed number exceeds 32, below 1e-8.

    Where a ReLU's input, or a logit whose sign is counted, is so near 0 that the compiled step takes the other side,
    its error is a jump however small the rounding. Then a probe of each pair takes the other side too, unless the
    pair moves this input by less than the rounding did; so the sum has about eight squares of each jump.
    """
    rng = np.random.default_rng(seed)
    make, shape = MODELS[name]
    model = make(rng)
    for p in model.parameters():  # for last layers that are zero would hide those before them
        p.data += 0.1 * rng.standard_normal(p.shape, dtype=np.float32)
    batch = rng.random((6, *shape), dtype=np.float32)
    weights = model.state_dict()
    truth = train(model, batch, np.float64, "reference", seed)
    naive = train(model, batch, np.float32, "reference", seed)
    probes = [
        train(*moved(model, batch, way * MOVE, np.random.default_rng([seed, n])), np.float64, "reference", seed)
        for n in range(PAIRS)
        for way in (1, -1)
    ]
    found = train(model, batch, np.float32, "compiled", seed)
    assert found.keys() == truth.keys()
    for key, exact in truth.items():
        errors = [float(np.linalg.norm(probe[key] - exact)) for probe in probes]
        rounding = np.finfo(np.float32).eps * float(np.linalg.norm(weights.get(key.removeprefix("change of "), exact)))
        allowed = math.hypot(*errors, MOVE * float(np.linalg.norm(naive[key] - exact)), MOVE * rounding)
        error = float(np.linalg.norm(found[key] - exact))
        assert error <= allowed, f"{key}: off by {error:.3g}, where roundings explain {allowed:.3g}"
