"""All model families in one picture: what ``make demo`` runs."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from demos.examples import find, kind_of
from demos.pictures import Album
from demos.runs import Interrupted, Settings, finished, report, say, train
from demos.table import DEMOS
from tinygen import viz
from tinygen.errors import CheckpointError, DataError
from tinygen.nn import evaluation
from tinygen.training import Run


@dataclass(frozen=True)
class Panel:
    """One run of the gallery.

    Attributes
    ----------
    demo : its name in the table
    steps, seconds : how long to train: the steps, unless the machine is so slow that the seconds come first
    points : the density on the plane, or None for the gallery's images
    """

    demo: str
    steps: int
    seconds: float
    points: str | None = None


PANELS = {
    "vae": Panel("vae", 4000, 50),
    "gan": Panel("gan", 3500, 90),
    "ddpm": Panel("ddpm", 6000, 190),
    "flow": Panel("flow", 1500, 45),
    "flow-points": Panel("flow", 4000, 40, "moons"),
    "ddpm-points": Panel("ddpm", 8000, 25, "8gaussians"),
}


def make(
    out: Path,
    *,
    data: str = "digits",
    size: int | None = None,
    steps: int | None = None,
    seconds: float | None = None,
    batch_size: int | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Train what is not trained yet, each run in ``out/gallery/``, and write ``out/gallery.png``.

    A run with the same settings that is there already is kept if it is finished and resumed if it is not; one with
    other settings, or that cannot be read, is replaced.

    Parameters
    ----------
    out : the folder
    data, size : the images
    steps, batch_size : of every run, in place of its own
    seconds : for all together, shared out as the runs' own are
    seed : of every run
    """
    images = find(data, size, seed)
    if kind_of(images.shape) != "images":
        raise DataError(f"--data {data}: the gallery's --data are images; its densities on the plane are fixed")
    share = 1.0 if seconds is None else seconds / sum(panel.seconds for panel in PANELS.values())
    results = {}
    for name, panel in PANELS.items():
        name_of_data = panel.points or data
        shape = (2,) if panel.points else images.shape
        demo = DEMOS[panel.demo]
        settings = Settings(
            demo=panel.demo,
            data=name_of_data,
            size=None if panel.points else size,
            shape=shape,
            steps=steps or (panel.steps if seconds is None else None),
            seconds=panel.seconds * share,
            batch_size=batch_size or demo.recipe(kind_of(shape), name_of_data).batch_size,
            seed=seed,
            options={key: option.default for key, option in demo.options.items()},
        )
        results[name] = _ensure(settings, out / "gallery" / name)
    figure = viz.gallery(dict(_panel(out / "gallery" / name) for name in PANELS))
    path = out / "gallery.png"
    viz.save(figure, path, dpi=80)
    say(f"\nthe gallery: {path.resolve()}")
    return {"gallery": str(path), "runs": results}


def _ensure(settings: Settings, folder: Path) -> dict[str, Any]:
    """Train, resume or keep the run in the folder."""
    run = Run(folder)
    same = _fits(settings, run)
    if same and run.summary.is_file() and (folder / "samples.png").is_file():
        say(f"{folder}/ is finished already, and kept")
        return report(settings, run)
    try:
        return train(settings, folder, resume=same)
    except Interrupted as stop:
        raise Interrupted(
            stop.step, f"python -m demos gallery --out {folder.parent.parent} (and the same options)"
        ) from None


def _fits(settings: Settings, run: Run) -> bool:
    """Whether a run folder holds a run with these settings, whose model is what the settings build today."""
    if not run.checkpoint.is_file():
        return False
    try:
        return finished(run.folder)[0] == settings
    except (CheckpointError, DataError) as error:
        say(f"{error}; training anew")
        return False


def _panel(folder: Path) -> tuple[tuple[str, str], Callable[[Axes], object]]:
    """The heading of a panel, and what draws it."""
    settings, model, notes = finished(folder)
    examples = find(settings.data, settings.size, settings.seed)
    album = Album(settings.family.title, model, examples, settings.seed)
    line = f"{examples.name} · {notes['step']:,} steps · {notes['seconds']:.0f} s"

    def draw(ax: Axes) -> None:
        with evaluation(model):
            if hasattr(model, "log_prob") and kind_of(settings.shape) == "points":
                viz.density_map(album.log_prob, album.box, ax=ax)
            else:
                album.samples(ax=ax)

    return (settings.family.title, line), draw
