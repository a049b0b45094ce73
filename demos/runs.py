"""Training runs: what defines one, starting it, going on with it, and drawing from it."""

import copy
import io
import shlex
import sys
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from demos.examples import Examples, find, kind_of
from demos.pictures import FILES, PREVIEWS, Album
from demos.table import DEMOS, Demo, Recipe
from tinygen import training, viz
from tinygen.errors import CheckpointError, DataError, OutputError
from tinygen.files import write_atomically
from tinygen.models import Scaling
from tinygen.nn import evaluation
from tinygen.training import Run


class Interrupted(Exception):
    """Ctrl-C ended a training run at ``step``, its state is saved, and ``command`` goes on with it."""

    def __init__(self, step: int, command: str) -> None:
        super().__init__(f"interrupted at step {step}; go on with: {command}")
        self.step, self.command = step, command


_KINDS = {
    "data": str,
    "size": int | None,
    "steps": int | None,
    "seconds": int | float | None,
    "batch_size": int,
    "seed": int,
}
"""What the values in a configuration may be."""


@dataclass(frozen=True)
class Settings:
    """All that defines a run: what ``config.json`` holds.

    Attributes
    ----------
    demo : the name in `demos.table.DEMOS`
    data, size : as for `demos.examples.find`
    shape : of one example, so that the model can be built without the data
    steps, seconds : how long to train, whichever comes first
    batch_size, seed : as for `tinygen.training.fit`
    options : the model's
    """

    demo: str
    data: str
    size: int | None
    shape: tuple[int, ...]
    steps: int | None
    seconds: float | None
    batch_size: int
    seed: int
    options: Mapping[str, Any]

    @classmethod
    def read(cls, folder: Path) -> "Settings":
        """The settings of the run in a folder; `DataError` if there is none."""
        if not (folder / "config.json").is_file():
            raise DataError(
                f"{folder} holds no run: there is no config.json in it; train one first, or name its folder by --out"
            )
        run = Run(folder)
        content = run.read_json(run.config)
        try:
            defaults = {name: option.default for name, option in DEMOS[content["demo"]].options.items()}
            settings = cls(**content | {"shape": tuple(content["shape"]), "options": defaults | content["options"]})
        except (TypeError, KeyError) as error:
            raise DataError(f"{run.config}: not the configuration of a demo ({error!r})") from None
        for name, kinds in _KINDS.items():
            if not isinstance(getattr(settings, name), kinds):
                raise DataError(f"{run.config}: {name} cannot be {getattr(settings, name)!r}")
        if settings.options.keys() != defaults.keys():
            raise DataError(f"{run.config}: the options of {settings.demo} are {', '.join(defaults)}")
        return settings

    @property
    def family(self) -> Demo:
        """The entry in the table."""
        return DEMOS[self.demo]

    @property
    def recipe(self) -> Recipe:
        """How the family is trained on such data."""
        return self.family.recipe(kind_of(self.shape), self.data)

    def build(self, examples: Examples | None = None) -> Any:
        """The untrained model. Without examples it is one to load a checkpoint into, which holds their scaling."""
        scaling = Scaling(np.zeros(self.shape), 1.0)
        if examples and kind_of(self.shape) == "points":
            scaling = Scaling.of_data(examples.held_out)
        return self.family.build(self.shape, np.random.default_rng([self.seed, 3]), scaling, self.options)


def say(text: str) -> None:
    """Tell the person at the terminal; stdout is for ``--json``."""
    print(text, file=sys.stderr, flush=True)


def train(settings: Settings, folder: Path, *, resume: bool = False) -> dict[str, Any]:
    """Train, or go on training, and leave everything in the folder; returns the summary.

    Raises
    ------
    Interrupted : by Ctrl-C, between two steps
    """
    examples = find(settings.data, settings.size, settings.seed)
    if examples.shape != settings.shape:
        raise DataError(
            f"{settings.data}: examples have shape {examples.shape}, but the run began with {settings.shape}"
        )
    recipe, model = settings.recipe, settings.build(examples)
    _rehearse(model, examples, settings.batch_size)
    run = Run(folder)
    album = Album(settings.family.title, model, examples, settings.seed)
    if not resume:
        picture = album.data()  # before anything is removed: it shows whether the data can be drawn
        _clear(run)
        viz.save(picture, run.folder / "data.png")
        say(f"{settings.family.title} on {examples.name}: pictures appear in {run.folder}/; Ctrl-C saves and stops")
    outcome = training.fit(
        model,
        examples.train,
        steps=settings.steps,
        seconds=settings.seconds,
        batch_size=settings.batch_size,
        seed=settings.seed,
        schedule=recipe.schedule,
        ema_decay=recipe.ema_decay,
        out=folder,
        config=asdict(settings),
        resume=resume,
        preview=album.preview,
    )
    if outcome.interrupted:
        raise Interrupted(outcome.steps, f"python -m demos {settings.demo} --resume --out {shlex.quote(str(folder))}")
    with outcome.ema.applied() if outcome.ema else nullcontext(), evaluation(model):
        pictures = album.finish(run, f"{outcome.steps:,} steps · {outcome.seconds:.0f} s")
    say(f"wrote {', '.join(path.name for path in pictures)} to {run.folder}/")
    return report(settings, run)


def report(settings: Settings, run: Run) -> dict[str, Any]:
    """What ``--json`` prints about a finished run."""
    pictures = sorted(str(path) for path in run.folder.iterdir() if path.suffix in (".png", ".gif"))
    return {
        "demo": settings.demo,
        "data": settings.data,
        "folder": str(run.folder),
        "pictures": pictures,
    } | run.read_json(run.summary)


def finished(folder: Path) -> tuple[Settings, Any, dict[str, Any]]:
    """The settings, the model with the average of its weights, and the checkpoint's notes of the run in a folder."""
    settings = Settings.read(folder)
    model = settings.build()
    checkpoint = Run(folder).checkpoint
    notes = training.load(checkpoint, model, averaged=True)
    if not {"step", "seconds"} <= notes.keys():
        raise CheckpointError(f"{checkpoint}: not a checkpoint of a training run")
    return settings, model, notes


def sample(folder: Path, n: int, seed: int | None) -> dict[str, Any]:
    """Draw from a run's model into ``samples.npy`` and ``samples.png``; returns what ``--json`` prints."""
    settings, model, notes = finished(folder)
    rng = np.random.default_rng([settings.seed if seed is None else seed, 4])
    with evaluation(model):
        x = model.sample(n, rng)
    title = f"{settings.family.title} · {n:,} samples · step {notes['step']:,}"
    images = kind_of(settings.shape) == "images"
    figure = viz.image_grid(x, title=title) if images else viz.points(x, viz.box_of(x), title=title)
    array, picture = folder / "samples.npy", folder / "samples.png"
    buffer = io.BytesIO()
    np.save(buffer, x)
    write_atomically(array, buffer.getvalue())
    viz.save(figure, picture)
    say(f"wrote {picture} and {array}, {x.dtype} of shape {x.shape}")
    return {
        "demo": settings.demo,
        "folder": str(folder),
        "samples": str(array),
        "shape": x.shape,
        "picture": str(picture),
    }


def _rehearse(model: Any, examples: Examples, batch_size: int) -> None:
    """Take one step with a copy of the model.

    What does not fit shows before a file is touched, and kernels compile before the clock of training starts.
    """
    rng = np.random.default_rng(0)
    if not isinstance(examples.train, np.ndarray):
        batch = examples.train.sample(batch_size, rng)
    elif batch_size <= len(examples.train):
        batch = examples.train[:batch_size]
    else:
        raise DataError(f"--batch-size {batch_size}: {examples.name} has {len(examples.train)} examples; choose fewer")
    copy.deepcopy(model).train_step(batch, rng)


def _clear(run: Run) -> None:
    """Remove what an earlier run left, so that nothing of it is taken for the new one's."""
    if not run.config.is_file():
        return
    say(f"{run.folder}/ holds an earlier run, which this one replaces")
    names = [f"{name}.png" for name in FILES] + ["animation.gif", "samples.npy"]
    old = [run.summary, run.checkpoint, *(run.folder / name for name in names), *(run.folder / PREVIEWS).glob("*.png")]
    for path in old:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(f"cannot remove {path}: {error.strerror}; choose another folder with --out") from None
