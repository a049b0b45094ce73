"""What a demo learns from: images, or points of the plane."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from tinygen.data import NAMES, TOYS, Density, load, toy
from tinygen.errors import DataError, did_you_mean

Array = np.ndarray
Kind = Literal["images", "points"]


@dataclass(frozen=True)
class Examples:
    """A data set as the demos see it.

    Attributes
    ----------
    name : the data set's, or the file's
    train : an array ``(N, ...)``, or a density to draw fresh points from
    held_out : examples to show and to evaluate on. For a user's own file, these have been trained on.
    log_prob : the exact log-density, if it is known
    """

    name: str
    train: Array | Density
    held_out: Array
    log_prob: Callable[[Array], Array] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one example."""
        return self.held_out.shape[1:]


def kind_of(shape: tuple[int, ...]) -> Kind:
    """Whether examples of this shape are images or points."""
    return "images" if len(shape) == 3 else "points"


def find(name: str, size: int | None, seed: int) -> Examples:
    """The data set of that name: images in [0, 1], or points of the plane.

    Raises
    ------
    DataError : there is none, or it is neither of these
    """
    if name in TOYS:
        if size is not None:
            raise DataError(f"--size {size} is for images, and {name} is a density on the plane: leave it out")
        density = toy(name)
        return Examples(name, density, density.sample(20_000, np.random.default_rng([seed, 1])), density.log_prob)
    if name not in NAMES and not Path(name).exists():
        known = [*NAMES, *TOYS]
        raise DataError(f"--data {name}: neither a file nor one of {', '.join(known)}{did_you_mean(name, known)}")
    dataset = load(name, size=size)
    x = dataset.x
    held_out = load(name, size=size, split="test").x if name in NAMES else x[:1000]
    if len(x) < 2:
        raise DataError(f"{name}: {len(x)} example is too few to learn from")
    if x.ndim == 4:
        if x.shape[3] not in (1, 3, 4):
            raise DataError(f"{name}: images (N,H,W,C)={x.shape} must have one, three or four channels C")
        if x.min() < 0 or x.max() > 1:
            raise DataError(
                f"{name}: pixels must lie in [0, 1] and are from {x.min():.4g} to {x.max():.4g}; rescale them"
            )
    elif x.shape[1:] != (2,):
        raise DataError(f"{name}: the demos take images (N,H,W,C) or points (N,2), and this has shape {x.shape}")
    return Examples(dataset.name, x, held_out)
