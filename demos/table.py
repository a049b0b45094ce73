"""The demos: for each, what it builds, what can be chosen, and how it is trained."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from demos.examples import Kind
from tinygen.errors import DataError
from tinygen.models import (
    DDPM,
    GAN,
    VAE,
    BernoulliLikelihood,
    Flow,
    GaussianLikelihood,
    NoiseSchedule,
    Scaling,
    realnvp,
)
from tinygen.optim import schedules

Build = Callable[[tuple[int, ...], np.random.Generator, Scaling, Mapping[str, Any]], Any]
"""(shape of an example, random numbers, scaling of points, options) to a model."""


@dataclass(frozen=True)
class Option:
    """Something to choose about a model.

    Attributes
    ----------
    default : a whole number or one of the choices; None where it depends on the data
    help : a line for ``--help``
    choices : the names to choose among; none for a whole number
    """

    default: Any
    help: str
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Recipe:
    """How to train on one kind of data.

    Attributes
    ----------
    steps, batch_size : for how long, on how many examples a step
    schedule : factor on the learning rate over the run
    ema_decay : of the average of the weights that samples are drawn with
    """

    steps: int
    batch_size: int
    schedule: schedules.Schedule
    ema_decay: float = 0.999


@dataclass(frozen=True)
class Demo:
    """One model family.

    Attributes
    ----------
    title : its name in pictures
    text : a line for the list of demos
    build : the model
    recipes : for each kind of data that it can learn
    options : what can be chosen, by name
    data : what it learns if not told
    """

    title: str
    text: str
    build: Build
    recipes: Mapping[Kind, Recipe]
    options: Mapping[str, Option]
    data: str = "digits"

    def recipe(self, kind: Kind, data: str) -> Recipe:
        """The recipe for that kind of data; `DataError` if the demo cannot learn it."""
        if kind not in self.recipes:
            raise DataError(f"{data}: the {self.title} demo learns {', '.join(self.recipes)}, not {kind}; see --help")
        return self.recipes[kind]


def _vae(shape: tuple[int, ...], rng: np.random.Generator, scaling: Scaling, options: Mapping[str, Any]) -> VAE:
    likelihood = BernoulliLikelihood() if options["likelihood"] == "bernoulli" else GaussianLikelihood()
    if options["network"] == "mlp":
        return VAE.mlp(shape, options["latent"], rng, likelihood=likelihood)
    height, width, channels = shape
    return VAE.conv((height, width, channels), options["latent"], rng, likelihood=likelihood)


def _gan(shape: tuple[int, ...], rng: np.random.Generator, scaling: Scaling, options: Mapping[str, Any]) -> GAN:
    if len(shape) == 1:
        return GAN.mlp(rng, scaling=scaling)
    height, width, channels = shape
    return GAN.conv((height, width, channels), rng, latent=options["latent"])


def _flow(shape: tuple[int, ...], rng: np.random.Generator, scaling: Scaling, options: Mapping[str, Any]) -> Flow:
    width = options["width"] or (64 if len(shape) == 1 else 256)
    return realnvp(shape, rng, couplings=options["couplings"], hidden=(width, width))


def _ddpm(shape: tuple[int, ...], rng: np.random.Generator, scaling: Scaling, options: Mapping[str, Any]) -> DDPM:
    make = NoiseSchedule.cosine if options["noise"] == "cosine" else NoiseSchedule.linear
    if len(shape) == 1:
        return DDPM.mlp(rng, scaling=scaling, schedule=make(100), prediction=options["predict"] or "eps")
    height, width, channels = shape
    return DDPM.unet((height, width, channels), rng, schedule=make(200), prediction=options["predict"] or "v")


DEMOS: dict[str, Demo] = {
    "vae": Demo(
        "VAE",
        "a variational autoencoder: learns a code for images, and decodes new ones",
        _vae,
        {"images": Recipe(4000, 64, schedules.cosine())},
        {
            "latent": Option(10, "dimensions of the code"),
            "network": Option("conv", "convolutions, or a perceptron, which takes images of any size", ("conv", "mlp")),
            "likelihood": Option("bernoulli", "of the pixels", ("bernoulli", "gaussian")),
        },
    ),
    "gan": Demo(
        "GAN",
        "a generative adversarial network: two networks at play, one draws and one judges",
        _gan,
        {
            "images": Recipe(6000, 32, schedules.linear(final=0.1), 0.998),
            "points": Recipe(12_000, 128, schedules.linear(), 0.999),
        },
        {"latent": Option(32, "dimensions of the noise that images are drawn from")},
    ),
    "flow": Demo(
        "coupling flow",
        "a normalizing flow of affine couplings: exact likelihood through an invertible map",
        _flow,
        {
            "images": Recipe(4000, 64, schedules.cosine(warmup=0.02, final=0.01)),
            "points": Recipe(8000, 512, schedules.cosine(warmup=0.02, final=0.01)),
        },
        {
            "couplings": Option(8, "how many"),
            "width": Option(None, "of the conditioners' hidden layers"),
        },
    ),
    "ddpm": Demo(
        "DDPM",
        "denoising diffusion: learns to undo a little noise, and does it many times",
        _ddpm,
        {
            "images": Recipe(4000, 32, schedules.cosine(warmup=0.02)),
            "points": Recipe(8000, 512, schedules.cosine(warmup=0.02)),
        },
        {
            "noise": Option("cosine", "how the noise grows", ("cosine", "linear")),
            "predict": Option(None, "what the network learns", ("eps", "x0", "v")),
        },
    ),
}
