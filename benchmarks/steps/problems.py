"""The six reference steps, as far as all frameworks share them: batch, data, noise and FLOPs."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Array = np.ndarray
Rng = np.random.Generator


@dataclass(frozen=True)
class Problem:
    """What is trained on.

    Parameters
    ----------
    batch : examples in a reference step
    data : one batch of n examples
    noise : what `train_step` of tinygen's model draws for n examples, in its order
    flops : those of a step on one example; see `training`
    layout_matters : whether there are images, which PyTorch can hold with channels last or first
    """

    batch: int
    data: Callable[[Rng, int], Array]
    noise: Callable[[Rng, int], tuple[Array, ...]]
    flops: float
    layout_matters: bool = False


def training(layers: list[int], *, first: int = 1) -> float:
    """FLOPs of forward and backward, from the multiplications of each layer's product forward.

    Backward, a layer has two products as large: the gradient of its weights, and that of its input, which the ``first``
    layers do not need.
    """
    return 2.0 * (3 * sum(layers) - sum(layers[:first]))


def mlp(*sizes: int) -> list[int]:
    """The multiplications of each layer for one example."""
    return [a * b for a, b in zip(sizes[:-1], sizes[1:], strict=True)]


def conv(size: int, kernel: int, c_in: int, c_out: int) -> int:
    """The multiplications of a convolution to an image of ``size`` × ``size`` pixels."""
    return size**2 * kernel**2 * c_in * c_out


def _gan_flops() -> float:
    """G forward and backward once; D forward and backward on real and generated images, and once more for G."""
    discriminator = [conv(14, 3, 1, 32), conv(7, 3, 32, 64), 3136]
    through_discriminator = 2.0 * 2 * sum(discriminator)  # its weights need no gradient there
    return training(GENERATOR_LAYERS) + 2 * training(discriminator) + through_discriminator


def unet_layers(time: list[int]) -> list[int]:
    """The multiplications of each layer for one image; ``time`` are those of its time, none if all have the same."""
    embedding = 128 if time else 0

    def block(size: int, c_in: int, c_out: int) -> list[int]:
        skip = [conv(size, 1, c_in, c_out)] if c_in != c_out else []
        return [conv(size, 3, c_in, c_out), embedding * c_out, conv(size, 3, c_out, c_out), *skip]

    down = [*block(28, 32, 32), conv(14, 3, 32, 32), *block(14, 32, 64), conv(7, 3, 64, 64)]
    up = [*block(14, 128, 64), *block(28, 96, 32)]
    return [conv(28, 3, 1, 32), *time, *down, *block(7, 64, 64), *up, conv(28, 3, 32, 1)]


def normal(rng: Rng, *shape: int) -> Array:
    """As `tinygen.models` draw them."""
    return rng.standard_normal(shape, dtype=np.float32)


def _diffusion_noise(steps: int, *shape: int) -> Callable[[Rng, int], tuple[Array, ...]]:
    """A time from 1 to ``steps`` for each example, and ε."""
    return lambda rng, n: (rng.integers(1, steps, n, endpoint=True), normal(rng, n, *shape))


DDPM2D_STEPS, UNET28_STEPS = 100, 400
FEATURES, UNET_FEATURES = 128, 32
SILENCE = 128
"""The level of no sound, with which what is generated begins."""

DILATIONS = [2**i for i in range(10)]
GATES, RESIDUALS, SKIPS = 10 * [2 * 32 * 64], 9 * [32 * 32], 10 * [32 * 32]
GENERATOR_LAYERS = [64 * 3136, conv(14, 3, 64, 32), conv(28, 3, 32, 16), conv(28, 3, 16, 1)]
WAVENET_LAYERS = [32, *mlp(32, 32, 256), *GATES, *RESIDUALS, *SKIPS]

PROBLEMS = {
    "ddpm2d": Problem(
        256,
        lambda rng, n: normal(rng, n, 2),
        _diffusion_noise(DDPM2D_STEPS, 2),
        training(mlp(2 + FEATURES, 128, 128, 128, 2)),
    ),
    "realnvp2d": Problem(256, lambda rng, n: normal(rng, n, 2), lambda rng, n: (), training(8 * mlp(1, 64, 64, 2))),
    "vae784": Problem(
        128,
        lambda rng, n: rng.integers(2, size=(n, 784)).astype(np.float32),
        lambda rng, n: (normal(rng, n, 20),),
        training([*mlp(784, 400, 40), *mlp(20, 400, 784)]),
    ),
    "gan28": Problem(
        64,
        lambda rng, n: rng.uniform(-1, 1, (n, 28, 28, 1)).astype(np.float32),
        lambda rng, n: (normal(rng, n, 64),),
        _gan_flops(),
        layout_matters=True,
    ),
    "unet28": Problem(
        64,
        lambda rng, n: normal(rng, n, 28, 28, 1),
        _diffusion_noise(UNET28_STEPS, 28, 28, 1),
        training(unet_layers(mlp(32, 128, 128))),
        layout_matters=True,
    ),
    "wavenet": Problem(
        8,
        lambda rng, n: rng.integers(256, size=(n, 1025)),
        lambda rng, n: (),
        1024 * training(WAVENET_LAYERS),
    ),
}
