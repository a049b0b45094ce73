"""The pictures that each demo leaves in its run folder."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from demos.examples import Examples, kind_of
from tinygen import viz
from tinygen.training import Run

Array = np.ndarray

PREVIEWS = "previews"
IMAGES, POINTS = 64, 2000
PREVIEW = {"images": 36, "points": 800}  # fewer, since a picture in the middle of training should not hold it up
FILES = (
    "data",
    "samples",
    "curves",
    "reconstructions",
    "latent_plane",
    "latent_walk",
    "density",
    "warped_grid",
    "denoising",
)
"""Names, without .png, of the pictures that a run may leave."""


@dataclass(frozen=True)
class Album:
    """Draws one run.

    Attributes
    ----------
    title : of the model
    model : in evaluation mode, with the weights to show
    examples : what it learned from
    seed : of all that is drawn; the same noise each time, so that an animation shows samples as they grow
    """

    title: str
    model: Any
    examples: Examples
    seed: int

    @property
    def box(self) -> Array:
        """What to show of the plane."""
        return viz.box_of(self.examples.held_out)

    def rng(self) -> np.random.Generator:
        """The random numbers of pictures, apart from those of training."""
        return np.random.default_rng([self.seed, 2])

    def caption(self, *parts: str) -> str:
        """A title: the model, and what else there is to say."""
        return " · ".join([self.title, *(part for part in parts if part)])

    def data(self) -> Figure:
        """What there is to learn."""
        title = f"{self.examples.name}: what there is to learn"
        if kind_of(self.examples.shape) == "images":
            return viz.image_grid(self.examples.held_out[:IMAGES], title=title)
        return viz.points(self.examples.held_out[:POINTS], self.box, title=title, colour=viz.style.INK)

    def samples(self, note: str = "", *, count: int | None = None, ax: Axes | None = None) -> Figure:
        """Samples: images in a grid, or points beside the data."""
        images = kind_of(self.examples.shape) == "images"
        x = self.model.sample(count or (IMAGES if images else POINTS), self.rng())
        if images:
            return viz.image_grid(x, title=self.caption(note), ax=ax)
        if ax is not None:
            return viz.points(x, self.box, ax=ax)
        return viz.points_beside_data(self.examples.held_out[: len(x)], x, self.box, title=self.caption(note))

    def preview(self, folder: Path, step: int, rng: np.random.Generator) -> None:
        """Leave samples in the middle of training, from `rng` of the album: the same noise each time."""
        path = folder / PREVIEWS / f"{step:07d}.png"
        viz.save(self.samples(f"step {step:,}", count=PREVIEW[kind_of(self.examples.shape)]), path, dpi=60)

    def finish(self, run: Run, note: str) -> list[Path]:
        """Write every picture of a finished run; returns their paths."""
        figures: list[tuple[str, Callable[[], Figure]]] = [
            ("samples", lambda: self.samples(note)),
            ("curves", lambda: viz.loss_curves(run.read_metrics(), title=self.caption(note))),
            *self._of_the_family(note),
        ]
        paths = []
        for name, draw in figures:
            paths.append(run.folder / f"{name}.png")
            viz.save(draw(), paths[-1])
        frames = sorted((run.folder / PREVIEWS).glob("*.png"))
        if frames:
            paths.append(run.folder / "animation.gif")
            viz.save_animation(frames, paths[-1])
        return paths

    def _of_the_family(self, note: str) -> Iterator[tuple[str, Callable[[], Figure]]]:
        """What only models of some families can show, told by what they can do."""
        model, x = self.model, self.examples.held_out
        if hasattr(model, "decode"):
            yield (
                "reconstructions",
                lambda: viz.reconstructions(x[:12], model.reconstruct(x[:12]), title=self.caption(note)),
            )
            yield "latent_plane", self.latent_plane
            title = self.caption("straight lines between codes")
            yield "latent_walk", lambda: viz.latent_walk(model.decode, model.encode(x[:7]), title=title)
        if hasattr(model, "log_prob") and x.ndim == 2:
            title = self.caption(note)
            yield (
                "density",
                lambda: viz.density_beside_data(
                    x[:POINTS], self.log_prob, self.box, exact=self.examples.log_prob, title=title
                ),
            )
            yield "warped_grid", self.warped_grid
        if hasattr(model, "sample_path"):
            yield "denoising", self.denoising

    def log_prob(self, x: Array) -> Array:
        """The model's log-density of points."""
        return self.model.log_prob(x).numpy()

    def latent_plane(self) -> Figure:
        """Images over two dimensions of the code: the first two, or of more the two that the data use most."""
        model = self.model
        directions = np.eye(2, model.latent, dtype=np.float32)
        centre = np.zeros(model.latent, np.float32)
        note = "the plane of codes"
        if model.latent > 2:
            codes = model.encode(self.examples.held_out)
            centre = codes.mean(axis=0)
            directions = np.linalg.svd(codes - centre, full_matrices=False)[2][:2]
            note += " in which the data differ most"
        return viz.latent_plane(lambda plane: model.decode(centre + plane @ directions), title=self.caption(note))

    def warped_grid(self) -> Figure:
        """Where the flow takes a square grid."""
        title = self.caption("a latent grid, taken to data")
        inverse = lambda z: self.model.bijection.inverse(z)[0].numpy()  # noqa: E731
        return viz.warped_grid(inverse, self.box, data=self.examples.held_out[:POINTS], title=title)

    def denoising(self) -> Figure:
        """From noise to samples."""
        images = kind_of(self.examples.shape) == "images"
        count, frames = (6, 11) if images else (2000, 6)
        path = self.model.sample_path(count, self.rng(), frames=frames)
        labels = [f"{share:.0%}" for share in np.linspace(0, 1, frames)]
        title = self.caption("from noise to data", "share of the steps taken")
        if images:
            return viz.denoising_strip(path, labels, title=title)
        return viz.diffusion_strip(path, labels, self.box, title=title)
