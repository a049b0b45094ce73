"""A picture of the training steps: how long each implementation takes, compared with tinygen.

Bars and their numbers are ratios of median times. The table's ratios are medians of those of each turn, and differ a
little.
"""

from matplotlib.figure import Figure
from matplotlib.patches import Patch

from benchmarks.compare import Row
from benchmarks.steps.problems import PROBLEMS
from tinygen.viz.style import ACCENT, FAINT, INK, canvas

LOOKS = {
    "tinygen": ("tinygen", ACCENT),
    "torch": ("PyTorch", "#e3a857"),
    "torch-channels-first": ("PyTorch, channels first", "#f0d3a6"),
    "torch-compile": ("torch.compile", "#c07a2c"),
    "jax": ("JAX jit", "#8a919e"),
}
WIDTH = 0.16
"""Of a bar, where steps are 1 apart."""

HIGHEST = 5.0
"""Where the axis ends at the latest; the number beside a higher bar tells how high it is."""


def draw_steps(rows: list[Row]) -> Figure:
    """Bars of each step's times, divided by tinygen's. Lines end at the least and the most time.

    Parameters
    ----------
    rows : of `compare`, of which those are drawn that are of steps with their own batch, on the most cores

    Raises
    ------
    ValueError : no row is left
    """
    cores = max((row["threads"] for row in rows), default=0)
    steps = {name: [row for row in rows if row["workload"] == name and row["threads"] == cores] for name in PROBLEMS}
    steps = {name: own for name, own in steps.items() if own and own[0]["implementation"] == "tinygen"}
    if not steps:
        raise ValueError("there is no training step with its own batch to be drawn")
    figure = canvas(10, 4, f"Time of a training step on {cores} cores, tinygen = 1")
    ax = figure.add_subplot()
    top = 0.0
    for place, own in enumerate(steps.values()):
        unit = own[0]["ms_median"]
        fastest = min((row["ms_median"] for row in own[1:]), default=None)
        for i, row in enumerate(own):
            x = place + WIDTH * (i - (len(own) - 1) / 2)
            height, least, most = (row[key] / unit for key in ("ms_median", "ms_min", "ms_max"))
            ax.bar(x, height, 0.9 * WIDTH, color=LOOKS[row["implementation"]][1])
            ax.vlines(x, least, most, color=INK, linewidth=0.8)
            top = max(top, min(most, HIGHEST))
            if i:
                bold = row["ms_median"] == fastest
                ax.text(
                    x,
                    min(max(most, height), HIGHEST) + 0.04,
                    f"{height:.1f}",
                    ha="center",
                    fontsize=9 if bold else 8,
                    weight="bold" if bold else "normal",
                    color=INK if bold else FAINT,
                    bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},  # where a line goes on above it
                )
    ax.axhline(1, color=ACCENT, linewidth=0.8, zorder=0)
    ax.set(ylim=(0, top * 1.1), xlim=(-0.6, len(steps) - 0.4), yticks=range(int(top) + 1))
    ax.set_xticks(range(len(steps)), [f"{name}\n{own[0]['ms_median']:.3g} ms" for name, own in steps.items()])
    ax.tick_params(length=0, colors=INK)
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.spines["bottom"].set_color(FAINT)
    seen = {row["implementation"] for own in steps.values() for row in own}
    patches = [Patch(color=color, label=label) for name, (label, color) in LOOKS.items() if name in seen]
    ax.legend(
        handles=patches,
        ncols=len(patches),
        frameon=False,
        fontsize=9,
        loc="lower left",
        bbox_to_anchor=(0, 1),
        labelcolor=INK,
    )
    return figure
