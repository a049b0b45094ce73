"""The training loop: order of data, resumption, interruption, and what it refuses."""

import json
import math
import os
import signal
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygen as tg
from tinygen import nn, optim, training
from tinygen.data import Dataset
from tinygen.errors import CheckpointError, DataError, NonFiniteError, OutputError

seeds = st.integers(0, 2**32 - 1)


class Model(nn.Module):
    """Fits a line, and remembers what it was given."""

    def __init__(self, seed=0):
        rng = np.random.default_rng(seed)
        self.net = nn.Sequential(nn.Linear(1, 4, rng), nn.Dropout(0.2, rng), nn.Linear(4, 1, rng))
        self.optimizer = optim.Adam(self.parameters(), 0.01)
        self._batches = []
        self._action = lambda step: None

    def train_step(self, batch, rng):
        self._action(len(self._batches))
        self._batches.append(batch)
        x = tg.tensor(batch + rng.normal(size=batch.shape).astype(np.float32))
        loss = ((self.net(x) - 3 * x) ** 2).mean()
        return {"loss": loss.item(), "norm": self.optimizer.minimize(loss)}


def numbers(n):
    return np.arange(n, dtype=np.float32).reshape(n, 1)


def weights(folder):
    return training.read(folder / "checkpoint.safetensors")[0]


@given(seeds, st.integers(1, 7), st.integers(7, 20))
@settings(max_examples=20)
def test_every_epoch_is_a_new_permutation(seed, batch_size, n):
    model = Model()
    per_epoch = n // batch_size
    training.fit(model, numbers(n), steps=2 * per_epoch, batch_size=batch_size, seed=seed, quiet=True)
    epochs = [np.concatenate(model._batches[i : i + per_epoch]).ravel() for i in (0, per_epoch)]
    for seen in epochs:
        assert len(set(seen)) == len(seen) == per_epoch * batch_size
    if len(epochs[0]) >= 7:
        assert not np.array_equal(*epochs)  # equal by chance in one of 5,040 draws, and hypothesis draws 20


@given(seed=seeds, stop=st.integers(1, 39))
@settings(max_examples=15)
def test_interrupted_and_resumed_is_uninterrupted(tmp_path_factory, seed, stop):
    options = {"steps": 40, "batch_size": 8, "seed": seed, "ema_decay": 0.9, "quiet": True}
    options["schedule"] = optim.schedules.cosine(warmup=0.1)
    whole, parts = tmp_path_factory.mktemp("whole"), tmp_path_factory.mktemp("parts")
    training.fit(Model(), numbers(30), out=whole, **options)
    model = Model()
    model._action = lambda step: step == stop - 1 and os.kill(os.getpid(), signal.SIGINT)
    outcome = training.fit(model, numbers(30), out=parts, **options)
    assert outcome.interrupted
    assert outcome.steps == stop
    assert not (parts / "summary.json").exists()
    resumed = training.fit(Model(seed=1), numbers(30), out=parts, resume=True, **options)
    assert (resumed.steps, resumed.interrupted) == (40, False)
    for name, array in weights(whole).items():
        assert np.array_equal(array, weights(parts)[name]), name
    rows = [
        [{k: v for k, v in row.items() if k != "seconds"} for row in training.Run(folder).read_metrics()]
        for folder in (whole, parts)
    ]
    assert rows[0] == rows[1]


def test_usual_handler_returns_after_training():
    usual = signal.getsignal(signal.SIGINT)
    training.fit(Model(), numbers(8), steps=1, batch_size=8, quiet=True)
    assert signal.getsignal(signal.SIGINT) is usual


def test_trains_in_another_thread():
    outcomes = []
    thread = threading.Thread(
        target=lambda: outcomes.append(training.fit(Model(), numbers(8), steps=2, batch_size=4, quiet=True))
    )
    thread.start()
    thread.join()
    assert outcomes[0].steps == 2


def test_run_folder_says_what_happened(tmp_path):
    out = tmp_path / "deep" / "run"
    outcome = training.fit(Model(), numbers(8), steps=5, batch_size=4, out=out, config={"lr": 0.01}, quiet=True)
    summary = json.loads((out / "summary.json").read_text())
    assert json.loads((out / "config.json").read_text()) == {"lr": 0.01}
    assert summary["steps"] == 5
    assert summary["parameters"] == 4 + 4 + 4 + 1
    assert summary["metrics"] == outcome.metrics
    assert set(summary["versions"]) >= {"python", "numpy", "numba", "tinygen"}
    rows = training.Run(out).read_metrics()
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5]
    assert {name: rows[-1][name] for name in outcome.metrics} == outcome.metrics


def test_seconds_bound_a_run():
    outcome = training.fit(Model(), numbers(8), seconds=0.2, batch_size=4, quiet=True)
    assert outcome.seconds >= 0.2
    assert outcome.steps > 1


def test_previews_see_averaged_weights_in_evaluation_and_change_nothing(tmp_path):
    seen = []
    model = Model()

    def preview(folder, step, rng):
        assert not model.training
        assert not tg.tensor([1.0], requires_grad=True).__mul__(2.0).requires_grad
        rng.normal(size=100)
        seen.append((step, model.net.layers[0].weight.data.copy()))

    options = {"steps": 48, "batch_size": 4, "ema_decay": 0.5, "quiet": True}
    outcome = training.fit(model, numbers(8), out=tmp_path / "a", preview=preview, previews=4, **options)
    training.fit(Model(), numbers(8), out=tmp_path / "b", **options)
    assert [step for step, _ in seen] == [3, 12, 27, 48]  # at the squares of equal parts
    assert np.array_equal(seen[-1][1], outcome.ema.averages["net.layers.0.weight"])
    for name, array in weights(tmp_path / "b").items():
        assert np.array_equal(array, weights(tmp_path / "a")[name])


def test_non_finite_step_names_its_operation_and_keeps_the_checkpoint_before(tmp_path, monkeypatch):
    class Diverging(Model):
        """Moves a buffer and one of its optimizers before it fails, as a GAN with batch norm can."""

        def __init__(self, fails_at):
            super().__init__()
            self.norm = nn.BatchNorm(1)
            self.second = optim.SGD(self.norm.parameters(), 0.1)
            self._fails_at = fails_at

        def train_step(self, batch, rng):
            metrics = super().train_step(batch, rng)
            y = self.norm(tg.tensor(batch))
            self.second.minimize((tg.log(y * 0) if len(self._batches) >= self._fails_at else y * y).sum())
            return metrics

    monkeypatch.setattr(training.loop, "CHECKPOINT_SECONDS", -1.0)  # after every step
    options = {"batch_size": 4, "quiet": True}
    model = Diverging(4)
    with pytest.raises(NonFiniteError, match=r"stopped at step 4: log .*-inf"), np.errstate(divide="ignore"):
        training.fit(model, numbers(8), steps=10, out=tmp_path / "failed", **options)
    assert all(np.isfinite(p.data).all() for p in model.parameters())
    training.fit(Diverging(math.inf), numbers(8), steps=3, out=tmp_path / "good", **options)
    for name, array in weights(tmp_path / "good").items():
        assert np.array_equal(weights(tmp_path / "failed")[name], array), name


def test_failing_at_once_leaves_the_initial_state(tmp_path):
    class Failing(Model):
        def train_step(self, batch, rng):
            return {"loss": math.nan}

    with pytest.raises(NonFiniteError, match="reports"):
        training.fit(Failing(), numbers(8), steps=2, batch_size=4, out=tmp_path, quiet=True)
    assert np.array_equal(weights(tmp_path)["net.layers.0.weight"], Model().net.layers[0].weight.data)


def test_metrics_may_come_now_and_then(tmp_path):
    class Sometimes(Model):
        def train_step(self, batch, rng):
            rare = {"rare": float(len(self._batches))} if len(self._batches) % 3 == 2 else {}
            return {"loss": super().train_step(batch, rng)["loss"]} | rare

    training.fit(Sometimes(), numbers(8), steps=6, batch_size=4, out=tmp_path, quiet=True)
    assert [row.get("rare") for row in training.Run(tmp_path).read_metrics()] == [None, None, 2, None, None, 5]


def test_a_new_run_replaces_an_old_summary(tmp_path):
    training.fit(Model(), numbers(8), steps=2, batch_size=4, out=tmp_path, quiet=True)
    model = Model()
    model._action = lambda step: os.kill(os.getpid(), signal.SIGINT)
    training.fit(model, numbers(8), steps=9, batch_size=4, out=tmp_path, quiet=True)
    assert not (tmp_path / "summary.json").exists()


def test_named_data_are_taken_as_they_are_loaded():
    model = Model()
    data = Dataset(numbers(8), None, "numbers")
    assert training.fit(model, data, steps=2, batch_size=4, quiet=True).steps == 2


@pytest.mark.parametrize(
    ("data", "options", "error", "message"),
    [
        (numbers(0), {}, DataError, "0 examples"),
        (numbers(3), {"batch_size": 4}, DataError, "batch_size=4 with 3 examples"),
        (np.array([[0.0], [np.nan]], np.float32), {"batch_size": 1}, DataError, r"index \(1, 0\): nan"),
        ([1.0, 2.0], {}, DataError, "data is a list"),
        (numbers(8), {"steps": None}, ValueError, "steps or seconds"),
        (numbers(8), {"steps": 0}, ValueError, "positive"),
        (numbers(8), {"seconds": -1.0}, ValueError, "positive"),
        (numbers(8), {"resume": True}, ValueError, "need out"),
    ],
)
def test_unsuitable_arguments_are_refused_before_anything_is_written(data, options, error, message):
    model = Model()
    with pytest.raises(error, match=message):
        training.fit(model, data, **{"steps": 2, "batch_size": 4, "quiet": True} | options)
    assert model._batches == []


def test_resume_without_a_checkpoint_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="no such file"):
        training.fit(Model(), numbers(8), steps=2, batch_size=4, out=tmp_path, resume=True, quiet=True)


def test_resume_from_a_checkpoint_that_no_run_wrote_changes_nothing(tmp_path):
    model = Model()
    before = model.state_dict()
    training.save(tmp_path / "checkpoint.safetensors", Model(seed=1))
    with pytest.raises(CheckpointError, match="not a checkpoint of a training run"):
        training.fit(model, numbers(8), steps=2, batch_size=4, out=tmp_path, resume=True, quiet=True)
    for name, array in model.state_dict().items():
        assert np.array_equal(array, before[name])


def test_unwritable_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        training.fit(Model(), numbers(8), steps=2, batch_size=4, out=tmp_path / "file" / "run", quiet=True)
