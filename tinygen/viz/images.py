"""Pictures of images: grids, reconstructions, and walks through a latent space."""

from collections.abc import Callable, Sequence
from statistics import NormalDist

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tinygen.errors import ShapeError
from tinygen.viz.style import FAINT, INK, bare, figure_of, own_axes

Array = np.ndarray
Decode = Callable[[Array], Array]
"""Codes ``(N, D)`` to images ``(N, H, W, C)``."""


def tile(images: Array, columns: int | None = None, gap: int = 1) -> Array:
    """Put images side by side into one.

    Parameters
    ----------
    images : ``(N, H, W, C)`` in [0, 1]; values outside are clipped. C is 1, 3 or 4.
    columns : images in a row; by default as many as make the whole nearly square
    gap : pixels between neighbours

    Returns
    -------
    ``(rows · (H + gap) - gap, columns · (W + gap) - gap, C)``; where there is no image it is paper: 0 for one channel,
    which is drawn as ink, and 1 for colours

    Raises
    ------
    ShapeError : the images have another shape
    """
    if images.ndim != 4 or images.shape[3] not in (1, 3, 4) or not len(images):
        raise ShapeError(f"tile: images must be (N,H,W,C) with N > 0 and C one of 1, 3, 4, got {images.shape}")
    n, h, w, c = images.shape
    columns = columns or int(np.ceil(np.sqrt(n)))
    rows = -(-n // columns)
    paper = 0.0 if c == 1 else 1.0
    cells = np.full((rows * columns, h + gap, w + gap, c), paper, images.dtype)
    cells[:n, :h, :w] = np.clip(images, 0, 1)
    cells = cells.reshape(rows, columns, h + gap, w + gap, c).transpose(0, 2, 1, 3, 4)
    return cells.reshape(rows * (h + gap), columns * (w + gap), c)[
        : rows * (h + gap) - gap, : columns * (w + gap) - gap
    ]


def image_grid(
    images: Array, *, columns: int | None = None, title: str = "", gap: int = 1, ax: Axes | None = None
) -> Figure:
    """Images ``(N, H, W, C)`` in [0, 1] in rows; one channel is drawn as ink on paper."""
    mosaic = tile(images, columns, gap)
    height, width = mosaic.shape[:2]
    ax = own_axes(ax, 6.4, 6.4 * height / width + 0.4 * bool(title))
    if mosaic.shape[2] == 1:
        ax.imshow(mosaic[..., 0], cmap="Greys", vmin=0, vmax=1, interpolation="nearest")
    else:
        ax.imshow(mosaic, interpolation="nearest")
    bare(ax, title)
    return figure_of(ax)


def reconstructions(x: Array, decoded: Array, *, title: str = "", ax: Axes | None = None) -> Figure:
    """Images ``(N, H, W, C)`` above what a model makes of them, shaped alike."""
    ax = own_axes(ax, 0.62 * len(x), 1.7)
    figure = image_grid(np.concatenate([x, decoded]), columns=len(x), title=title, gap=2, ax=ax)
    _label_rows(ax, ["data", "model"], x.shape[1] + 2)
    return figure


def latent_plane(decode: Decode, *, side: int = 16, title: str = "", ax: Axes | None = None) -> Figure:
    """What a model decodes over a plane of codes: ``side × side`` images at the quantiles of a standard normal.

    The quantiles are those of (k + ½)/side, so that every image stands for the same share of the prior.

    Parameters
    ----------
    decode : points ``(N, 2)`` of the plane to images
    """
    quantiles = np.array([NormalDist().inv_cdf((k + 0.5) / side) for k in range(side)], np.float32)
    across, down = np.meshgrid(quantiles, quantiles[::-1])
    return image_grid(decode(np.stack([across, down], -1).reshape(-1, 2)), columns=side, title=title, gap=0, ax=ax)


def latent_walk(decode: Decode, codes: Array, *, steps: int = 12, title: str = "", ax: Axes | None = None) -> Figure:
    """Straight walks through a latent space: row i goes from ``codes[i]`` to ``codes[i + 1]``, ``(N, D)``."""
    share = np.linspace(0, 1, steps, dtype=codes.dtype)[:, None]
    path = np.concatenate([(1 - share) * a + share * b for a, b in zip(codes[:-1], codes[1:], strict=True)])
    return image_grid(decode(path), columns=steps, title=title, ax=ax)


def denoising_strip(frames: Array, labels: Sequence[str], *, title: str = "", ax: Axes | None = None) -> Figure:
    """How samples come out of noise: a row each, from left to right.

    Parameters
    ----------
    frames : ``(T, N, H, W, C)`` in [0, 1]
    labels : one for each of the T columns
    """
    count, n, height, width = frames.shape[:4]
    ax = own_axes(ax, 0.8 * count, 0.8 * n * height / width + 0.7)
    figure = image_grid(frames.swapaxes(0, 1).reshape(-1, *frames.shape[2:]), columns=count, title=title, gap=2, ax=ax)
    ax.set_xticks((np.arange(count) + 0.5) * (width + 2) - 1.5, labels, fontsize=9, color=FAINT)
    ax.tick_params(length=0)
    return figure


def _label_rows(ax: Axes, labels: Sequence[str], height: int) -> None:
    ax.set_yticks((np.arange(len(labels)) + 0.5) * height - 1.5, labels, fontsize=10, color=INK)
    ax.tick_params(length=0)
