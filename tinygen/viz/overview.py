"""All model families in one picture."""

from collections.abc import Callable, Mapping

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tinygen.viz.style import FAINT, INK, canvas

Draw = Callable[[Axes], object]


def gallery(panels: Mapping[tuple[str, str], Draw], *, columns: int = 3, title: str = "") -> Figure:
    """Panels in rows, each under its name and a line in small letters.

    Parameters
    ----------
    panels : (name, line) to a function that draws into the panel's axes
    """
    rows = -(-len(panels) // columns)
    figure = canvas(4.2 * columns, 4.7 * rows, title)
    axes = figure.subplots(rows, columns, squeeze=False).flat
    for ((name, line), draw), ax in zip(panels.items(), axes, strict=False):
        draw(ax)
        ax.set_title(f"{name}\n", loc="left", fontsize=14, color=INK, fontweight="bold")
        ax.text(0, 1.025, line, transform=ax.transAxes, fontsize=10, color=FAINT)
    for ax in axes:  # those that are left
        ax.set_visible(False)
    return figure
