"""How a training run went."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from tinygen.viz.style import ACCENT, FAINT, INK, TITLE, canvas


def loss_curves(rows: Sequence[Mapping[str, float]], *, title: str = "") -> Figure:
    """Each metric of a run over its steps, in a panel of its own with its last value above.

    The scale leaves out the first twentieth of the run and spikes, a fiftieth of the values at each end, which would
    dwarf the rest; it is logarithmic where these bounds are a factor of 50 apart.

    Parameters
    ----------
    rows : of ``metrics.csv``: ``step``, ``seconds`` and metrics, which need not be in every row
    """
    names = [name for name in dict.fromkeys(key for row in rows for key in row) if name not in ("step", "seconds")]
    columns = min(3, max(1, len(names)))
    lines = max(1, -(-len(names) // columns))
    figure = canvas(4.0 * columns, 2.6 * lines, title)
    axes = figure.subplots(lines, columns, squeeze=False).flat
    for name, ax in zip(names, axes, strict=False):
        step, value = np.array([(row["step"], row[name]) for row in rows if name in row], float).T
        ax.plot(step, value, color=ACCENT, linewidth=1.4, marker="o" if len(step) == 1 else None)
        low, high = np.quantile(value[len(value) // 20 :], [0.02, 0.98])
        if 0 < 50 * low < high:
            ax.set_yscale("log")
        else:
            margin = 0.1 * (high - low) or 0.5 * abs(high) or 1.0
            ax.set_ylim(low - margin, high + margin)
        ax.set_title(name.replace("_", " "), **TITLE)
        ax.set_title(f"{value[-1]:.4g}", loc="right", fontsize=11, color=ACCENT)
        ax.spines[["top", "right"]].set_visible(False)
        ax.spines[["left", "bottom"]].set_color(FAINT)
        ax.tick_params(colors=INK, labelsize=9, color=FAINT)
        ax.locator_params(axis="x", nbins=5)
        ax.grid(axis="y", color=FAINT, alpha=0.2, linewidth=0.6)
        ax.set_xlabel("step", fontsize=9, color=FAINT)
    for ax in axes:  # those that are left
        ax.set_visible(False)
    return figure
