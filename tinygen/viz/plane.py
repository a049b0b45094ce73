"""Pictures of points, densities and maps on the plane."""

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from tinygen.viz.style import ACCENT, FAINT, INK, bare, canvas, figure_of, own_axes

Array = np.ndarray
LogDensity = Callable[[Array], Array]
"""Points ``(N, 2)`` to log-densities ``(N,)`` in nats."""

DENSITY_COLOURS = "magma"


def box_of(x: Array, margin: float = 0.08) -> Array:
    """A square around points ``(N, 2)`` as its lower left and upper right corner, ``(2, 2)``.

    It holds all but the outermost thousandth on each side, and a margin, as a share of the side.
    """
    low, high = np.quantile(x, [0.001, 0.999], axis=0)
    half = (high - low).max() * (0.5 + margin)
    return np.stack([(low + high) / 2 - half, (low + high) / 2 + half])


def points(
    x: Array, box: Array, *, title: str = "", colour: str = ACCENT, size: float = 2.0, ax: Axes | None = None
) -> Figure:
    """Points ``(N, 2)`` within a box ``(2, 2)``."""
    ax = own_axes(ax, 4.4, 4.7)
    ax.scatter(x[:, 0], x[:, 1], s=size, c=colour, alpha=min(1.0, (2000 / max(len(x), 1)) ** 0.5 * 0.6), linewidths=0)
    _within(ax, box, title)
    return figure_of(ax)


def points_beside_data(data: Array, samples: Array, box: Array, *, title: str = "") -> Figure:
    """Data ``(N, 2)`` and a model's samples in one box ``(2, 2)``, side by side."""
    figure = canvas(8.4, 4.5, title)
    left, right = figure.subplots(1, 2)
    points(data, box, title="data", colour=INK, ax=left)
    points(samples, box, title="samples", ax=right)
    return figure


def density_map(
    log_prob: LogDensity, box: Array, *, resolution: int = 240, title: str = "", ax: Axes | None = None
) -> Figure:
    """A density over a box ``(2, 2)``, dark where it is zero; the brightest is its 99.5th percentile."""
    ax = own_axes(ax, 4.4, 4.7)
    shares = (np.arange(resolution, dtype=np.float32) + 0.5) / resolution
    (left, bottom), (right, top) = np.asarray(box, np.float32)
    across, up = np.meshgrid(left + (right - left) * shares, bottom + (top - bottom) * shares)
    grid = np.stack([across, up], -1).reshape(-1, 2)
    density = np.nan_to_num(np.exp(log_prob(grid)).reshape(resolution, resolution), posinf=0.0)
    brightest = np.quantile(density[density >= 1e-3 * density.max()], 0.995) or 1.0
    extent = (float(left), float(right), float(bottom), float(top))
    ax.imshow(density, extent=extent, origin="lower", cmap=DENSITY_COLOURS, vmin=0, vmax=brightest)
    _within(ax, box, title)
    return figure_of(ax)


def density_beside_data(
    data: Array, log_prob: LogDensity, box: Array, *, exact: LogDensity | None = None, title: str = ""
) -> Figure:
    """A model's density beside the data, ``(N, 2)``, and if it is known beside the density that the data are from."""
    panels = 3 if exact else 2
    figure = canvas(4.2 * panels, 4.5, title)
    axes = figure.subplots(1, panels)
    points(data, box, title="data", colour=INK, ax=axes[0])
    if exact:
        density_map(exact, box, title="true density", ax=axes[1])
    density_map(log_prob, box, title="model's density", ax=axes[-1])
    return figure


def warped_grid(
    inverse: Callable[[Array], Array],
    box: Array,
    *,
    data: Array | None = None,
    radius: float = 3.0,
    lines: int = 25,
    title: str = "",
    ax: Axes | None = None,
) -> Figure:
    """Where a flow takes a square grid of the latent plane.

    Parameters
    ----------
    inverse : latent points ``(N, 2)`` to data space
    box : what to show of the data space, ``(2, 2)``
    data : points ``(N, 2)`` to draw beneath
    radius : the grid covers [-radius, radius]²; lines fade with their distance from the origin as the latent density
        falls
    lines : how many each way
    """
    ax = own_axes(ax, 4.8, 5.1)
    if data is not None:
        points(data, box, colour=FAINT, size=1.5, ax=ax)
    ticks = np.linspace(-radius, radius, lines, dtype=np.float32)
    along = np.linspace(-radius, radius, 10 * lines, dtype=np.float32)
    across, up = np.meshgrid(along, ticks)
    horizontal = np.stack([across, up], -1)
    grid = np.concatenate([horizontal, horizontal[..., ::-1]])
    warped = inverse(grid.reshape(-1, 2)).reshape(grid.shape)
    segments = np.stack([warped[:, :-1], warped[:, 1:]], 2).reshape(-1, 2, 2)
    distance = np.linalg.norm(grid[:, :-1], axis=-1).reshape(-1)
    strength = np.exp(-0.25 * distance**2)  # the root of the latent density: the density itself would fade too soon
    collection = LineCollection(list(segments), array=distance, cmap="viridis", linewidths=0.9, alpha=strength)
    ax.add_collection(collection)
    _within(ax, box, title)
    return figure_of(ax)


def diffusion_strip(frames: Array, labels: Sequence[str], box: Array, *, title: str = "") -> Figure:
    """How points come out of noise: ``(T, N, 2)``, a panel for each of the T labels."""
    figure = canvas(1.9 * len(frames), 2.2, title)
    for ax, frame, label in zip(figure.subplots(1, len(frames)), frames, labels, strict=True):
        points(frame, box, size=1.2, ax=ax)
        ax.set_title(label, fontsize=10, color=FAINT)
    return figure


def _within(ax: Axes, box: Array, title: str) -> None:
    bare(ax, title)
    ax.set(xlim=box[:, 0], ylim=box[:, 1], aspect="equal")
