"""The one training loop."""

import copy
import math
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from kernels.threads import get_num_threads
from tinygen.autograd import detect_anomaly
from tinygen.data import Dataset
from tinygen.errors import CheckpointError, DataError, NonFiniteError
from tinygen.nn import evaluation
from tinygen.optim import EMA
from tinygen.optim.schedules import Schedule, constant
from tinygen.training.checkpoint import load, optimizers, read, save
from tinygen.training.progress import Progress
from tinygen.training.run import MetricsFile, Run, versions

CHECKPOINT_SECONDS = 30.0
METRICS_ROWS = 200  # in a whole run


class Sampler(Protocol):
    """Data without end."""

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw n fresh examples."""


class Preview(Protocol):
    """Leaves a picture of how far a model is."""

    def __call__(self, folder: Path, step: int, rng: np.random.Generator) -> None:
        """Write to ``folder``; the model is in evaluation mode and has the average of its weights."""


@dataclass(frozen=True)
class Outcome:
    """How a call of `fit` ended.

    Attributes
    ----------
    steps, seconds : trained in all, with those before a resumption
    metrics : means over the last part of the run
    interrupted : whether Ctrl-C ended it early
    ema : the average of the weights, if one was kept
    """

    steps: int
    seconds: float
    metrics: dict[str, float]
    interrupted: bool
    ema: EMA | None


@dataclass
class _State:
    """What a resumed run must know, beside the model."""

    rng: np.random.Generator
    step: int = 0
    seconds: float = 0.0
    sums: dict[str, float] = field(default_factory=dict)  # of metrics since the last row
    counts: dict[str, int] = field(default_factory=dict)  # of steps in each sum: some report a metric now and then
    last: dict[str, float] = field(default_factory=dict)  # the last row

    def notes(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "seconds": self.seconds,
            "sums": self.sums,
            "counts": self.counts,
            "last": self.last,
            "rng": self.rng.bit_generator.state,
        }

    def restore(self, notes: Mapping[str, Any]) -> None:
        names = ("step", "seconds", "sums", "counts", "last")
        if missing := [name for name in (*names, "rng") if name not in notes]:
            raise CheckpointError(f"not a checkpoint of a training run: it does not note its {missing[0]}")
        for name in names:
            setattr(self, name, notes[name])
        self.rng.bit_generator.state = notes["rng"]


def fit(
    model: Any,
    data: np.ndarray | Dataset | Sampler,
    *,
    steps: int | None = None,
    seconds: float | None = None,
    batch_size: int = 128,
    seed: int = 0,
    schedule: Schedule | None = None,
    ema_decay: float | None = None,
    out: str | PathLike[str] | None = None,
    config: Mapping[str, Any] | None = None,
    resume: bool = False,
    preview: Preview | None = None,
    previews: int = 12,
    quiet: bool = False,
) -> Outcome:
    """Train a model: draw batches, call ``model.train_step``, show progress, and keep everything that a run leaves.

    Parameters
    ----------
    model : a Module with ``train_step(batch, rng) -> dict of numbers``; its optimizers are found among its attributes
    data : an array ``(N, ...)`` or a `tinygen.data.Dataset`, of which every epoch is a new permutation; or an object
        with ``sample(n, rng)``
    steps, seconds : how long to train, whichever comes first; at least one must be given
    batch_size : examples a step
    seed : of the order of the data and of all that is random in the steps; previews have generators of their own
    schedule : factor on the learning rates as a function of progress, see `tinygen.optim.schedules`
    ema_decay : keep the average of the weights with this decay, see `tinygen.optim.EMA`
    out : folder for ``config.json``, ``metrics.csv``, ``checkpoint.safetensors`` and ``summary.json``; without it
        nothing is written
    config : what to note in ``config.json``; on resuming without it, that file stays
    resume : go on from the checkpoint in ``out``. Bounded by ``steps``, the run ends with the same bits as
        an uninterrupted one.
    preview : called now and then to leave a picture, more often in the beginning
    previews : how often
    quiet : show nothing

    Raises
    ------
    ValueError : contradictory arguments
    NonFiniteError : a loss or a gradient is infinite or NaN; names the module and the operation. The last checkpoint,
        at most half a minute old, stays.
    DataError, CheckpointError, OutputError : something is unsuitable, does not fit, or cannot be written

    Notes
    -----
    Ctrl-C takes effect between two steps: the state is saved and the outcome says so. A second Ctrl-C ends the program
    at once.
    """
    if steps is None and seconds is None:
        raise ValueError("fit: give steps or seconds, to say how long to train")
    if min(1 if steps is None else steps, 1 if seconds is None else seconds) <= 0:
        raise ValueError(f"fit: steps={steps} and seconds={seconds} must be positive")
    if out is None and (preview or resume):
        raise ValueError("fit: preview and resume need out, the folder of the run")
    if isinstance(data, Dataset):
        data = data.x
    _check_data(data, batch_size)
    run = None if out is None else Run(Path(out))
    ema = None if ema_decay is None else EMA(model, ema_decay)
    state = _State(np.random.default_rng(seed))
    bar = Progress(type(model).__name__, steps, quiet)
    if run and resume:
        notes = read(run.checkpoint)[1]
        state.restore(notes)
        metrics_file = MetricsFile(run, state.step)
        load(run.checkpoint, model, ema=ema)
    elif run:
        metrics_file = MetricsFile(run, 0)
    if run and (config is not None or not resume):
        run.write_json(run.config, config or {})
    batches = _Batches(data, batch_size, seed)
    schedule = schedule or constant()
    owned = list(optimizers(model).values())

    def fraction() -> float:
        return max(state.step / steps if steps else 0.0, state.seconds / seconds if seconds else 0.0)

    def checkpoint() -> None:
        if run:
            save(run.checkpoint, model, ema=ema, notes=state.notes())

    model.train()
    frame = 1 + int(previews * math.sqrt(fraction()))
    if run and not resume:
        run.summary.unlink(missing_ok=True)
        checkpoint()  # so that there is one to go back to
    saved = time.monotonic()
    with closing(bar), _interruptible() as interrupted:
        while (before := fraction()) < 1 and not interrupted.is_set():
            for optimizer in owned:
                optimizer.lr_scale = schedule(before)
            batch = batches.draw(state.step, state.rng)
            rng_before = state.rng.bit_generator.state
            started = time.perf_counter()
            try:
                metrics = model.train_step(batch, state.rng)
                if not all(map(math.isfinite, metrics.values())):
                    raise NonFiniteError(f"train_step reports {metrics}")
            except NonFiniteError as error:
                raise _explained(error, model, batch, rng_before, state.step) from error
            if ema:
                ema.update()
            state.step += 1
            state.seconds += time.perf_counter() - started
            for name, value in metrics.items():
                state.sums[name] = state.sums.get(name, 0.0) + float(value)
                state.counts[name] = state.counts.get(name, 0) + 1
            now = fraction()
            bar.advance(state.step, now, metrics)
            if int(now * METRICS_ROWS) > int(before * METRICS_ROWS) or now >= 1:
                state.last = {name: total / state.counts[name] for name, total in state.sums.items()}
                state.sums, state.counts = {}, {}
                if run:
                    metrics_file.append({"step": state.step, "seconds": round(state.seconds, 3)} | state.last)
            if run and preview and frame <= previews and now >= (frame / previews) ** 2:
                _show(model, ema, preview, run.folder, state.step, seed)
                frame = 1 + int(previews * math.sqrt(now))
            if time.monotonic() - saved > CHECKPOINT_SECONDS:
                checkpoint()
                saved = time.monotonic()
        checkpoint()
    outcome = Outcome(state.step, state.seconds, state.last, interrupted.is_set(), ema)
    if run and not outcome.interrupted:
        run.write_json(run.summary, _summary(model, outcome))
    return outcome


def _summary(model: Any, outcome: Outcome) -> dict[str, Any]:
    return {
        "model": type(model).__name__,
        "parameters": sum(p.size for p in model.parameters()),
        "steps": outcome.steps,
        "seconds": round(outcome.seconds, 3),
        "metrics": outcome.metrics,
        "threads": get_num_threads(),
        "versions": versions(),
    }


def _show(model: Any, ema: EMA | None, preview: Preview, folder: Path, step: int, seed: int) -> None:
    with evaluation(model), ema.applied() if ema else nullcontext():
        preview(folder, step, np.random.default_rng([seed, step]))


class _Batches:
    """Batches as a function of the step: an interrupted epoch goes on where it was."""

    def __init__(self, data: np.ndarray | Sampler, size: int, seed: int) -> None:
        self.data, self.size, self.seed = data, size, seed
        self._epoch = -1

    def draw(self, step: int, rng: np.random.Generator) -> np.ndarray:
        if not isinstance(self.data, np.ndarray):
            return self.data.sample(self.size, rng)
        epoch, place = divmod(step, len(self.data) // self.size)
        if epoch != self._epoch:
            self._epoch = epoch
            self._order = np.random.default_rng([self.seed, epoch]).permutation(len(self.data))
        return self.data[self._order[place * self.size : (place + 1) * self.size]]


def _check_data(data: Any, batch_size: int) -> None:
    if not isinstance(data, np.ndarray):
        if not hasattr(data, "sample"):
            raise DataError(f"fit: data is a {type(data).__name__}; give an array (N, ...), a Dataset, or a sampler")
        return
    if not 1 <= batch_size <= len(data):
        raise DataError(f"fit: batch_size={batch_size} with {len(data)} examples; choose from 1 to {len(data)}")
    if data.dtype.kind == "f" and not np.isfinite(data).all():
        first = tuple(int(i) for i in np.argwhere(~np.isfinite(data))[0])
        raise DataError(
            f"fit: the data are not finite, first at index {first}: {data[first]}; clean them before training"
        )


def _explained(
    error: NonFiniteError, model: Any, batch: np.ndarray, rng_before: Mapping[str, Any], step: int
) -> NonFiniteError:
    """Run the step once more, on a copy and with every value checked, to find where it goes wrong."""
    cause = error
    rng = np.random.default_rng()
    rng.bit_generator.state = rng_before
    try:
        with detect_anomaly(), np.errstate(all="ignore"):
            copy.deepcopy(model).train_step(batch, rng)
    except NonFiniteError as found:
        cause = found
    return NonFiniteError(f"training stopped at step {step + 1}: {cause}")


@contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """An event that Ctrl-C sets. A KeyboardInterrupt could land in the middle of an update."""
    pressed = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield pressed  # only the main thread receives signals
        return

    def handle(*_: Any) -> None:
        pressed.set()
        signal.signal(signal.SIGINT, usual)

    usual = signal.signal(signal.SIGINT, handle)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, usual)
