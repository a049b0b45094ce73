"""The look that all pictures share, and how they are written."""

import io
from os import PathLike
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from tinygen.files import write_atomically

INK = "#22262e"  # text and data
FAINT = "#8a919e"  # what should be found, but not first
ACCENT = "#2f6db5"  # what the model makes

TITLE = {"fontsize": 12, "color": INK, "loc": "left", "pad": 8}


def canvas(width: float, height: float, title: str = "") -> Figure:
    """An empty figure of so many inches with room for its title, which stands at the left."""
    layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1)
    figure = Figure(figsize=(width, height + 0.4 * bool(title)), layout=layout, facecolor="white")
    if title:
        figure.suptitle(title, x=0.012, ha="left", fontsize=13, color=INK)
    return figure


def own_axes(ax: Axes | None, width: float, height: float) -> Axes:
    """The given axes, or those of a new figure of so many inches."""
    return canvas(width, height).add_subplot() if ax is None else ax


def bare(ax: Axes, title: str = "") -> None:
    """Take the frame and the ticks away, and set a title."""
    ax.set(xticks=[], yticks=[])
    for spine in ax.spines.values():
        spine.set_visible(False)
    if title:
        ax.set_title(title, **TITLE)  # type: ignore[arg-type]  # a mapping of mixed values


def figure_of(ax: Axes) -> Figure:
    """The figure that holds the axes."""
    figure = ax.get_figure(root=True)
    assert figure is not None, "axes lose their figure only when they are removed from it"
    return figure


def save(figure: Figure, path: str | PathLike[str], *, dpi: int = 110) -> None:
    """Write a figure as PNG, atomically.

    Parameters
    ----------
    figure : what a function of `tinygen.viz` returned
    path : the file
    dpi : pixels to the inch

    Raises
    ------
    OutputError : the file cannot be written
    """
    write_atomically(path, png(figure, dpi))


def png(figure: Figure, dpi: int) -> bytes:
    """The figure as the content of a PNG file."""
    buffer = io.BytesIO()
    plain: dict[str, Any] = {"Software": None}  # the same picture has the same bytes under any matplotlib
    figure.savefig(buffer, format="png", dpi=dpi, metadata=plain)
    return buffer.getvalue()
