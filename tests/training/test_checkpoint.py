"""Checkpoints: what is read is what was written, and a file that is not right is refused by name."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

import tinygen as tg
from tinygen import nn, optim, training
from tinygen.errors import CheckpointError, OutputError

seeds = st.integers(0, 2**32 - 1)


class Model(nn.Module):
    def __init__(self, seed, width=4):
        rng = np.random.default_rng(seed)
        self.net = nn.Sequential(nn.Linear(3, width, rng), nn.BatchNorm(width), nn.Dropout(0.5, rng))
        self.optimizer = optim.Adam(self.parameters())
        self.flag = np.array(False)
        self.steps = np.array(0)

    def improve(self, rng):
        x = tg.tensor(rng.normal(size=(8, 3)).astype(np.float32))
        self.optimizer.minimize((self.net(x) * rng.normal(size=4).astype(np.float32)).sum())
        self.flag[...] = True


def everything(model, ema):
    return model.state_dict() | model.optimizer.state_dict() | {f"ema {k}": v for k, v in ema.state_dict().items()}


def trained(seed):
    model = Model(seed)
    ema = optim.EMA(model, 0.9)
    for _ in range(3):
        model.improve(np.random.default_rng(seed))
        ema.update()
    return model, ema


@given(seed=seeds)
def test_round_trip_is_exact(tmp_path_factory, seed):
    path = tmp_path_factory.mktemp("run") / "c.safetensors"
    model, ema = trained(seed)
    training.save(path, model, ema=ema, notes={"step": 3, "text": "å"})
    twin = Model(seed + 1)
    twin_ema = optim.EMA(twin, 0.9)
    assert training.load(path, twin, ema=twin_ema) == {"step": 3, "text": "å"}
    restored, original = everything(twin, twin_ema), everything(model, ema)
    assert restored.keys() == original.keys()
    for name, array in original.items():
        assert restored[name].dtype == array.dtype
        assert np.array_equal(restored[name], array), name
    model.improve(np.random.default_rng(9))
    twin.improve(np.random.default_rng(9))
    assert np.array_equal(model.net.layers[0].weight.data, twin.net.layers[0].weight.data)


def test_weights_open_with_the_plain_library(tmp_path):
    model, ema = trained(0)
    training.save(tmp_path / "c.safetensors", model, ema=ema)
    assert np.array_equal(load_file(tmp_path / "c.safetensors")["net.layers.0.weight"], model.net.layers[0].weight.data)


def test_averaged_weights_can_be_asked_for(tmp_path):
    model, ema = trained(0)
    model.steps[...] = 77  # the name of a count that the average keeps too
    training.save(tmp_path / "c.safetensors", model, ema=ema)
    twin = Model(1)
    training.load(tmp_path / "c.safetensors", twin, averaged=True)
    assert np.array_equal(twin.net.layers[0].weight.data, ema.averages["net.layers.0.weight"])
    assert not np.array_equal(twin.net.layers[0].weight.data, model.net.layers[0].weight.data)
    assert twin.steps == 77


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "c.safetensors"
    training.save(path, *trained(0)[:1], notes={"step": 3})
    return path


def assert_refused(path, message, model=None):
    model = model or Model(5)
    ema = optim.EMA(model, 0.9)
    before = everything(model, ema)
    with pytest.raises(CheckpointError, match=message) as caught:
        training.load(path, model)
    assert path.name in str(caught.value)
    for name, array in everything(model, ema).items():
        assert np.array_equal(array, before[name]), name


@given(data=st.data())
def test_any_flipped_bit_is_noticed(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("run") / "c.safetensors"
    training.save(path, trained(0)[0], notes={"step": 3})
    content = bytearray(path.read_bytes())
    header = int.from_bytes(content[:8], "little")
    first, last = data.draw(st.sampled_from([(0, 8 + header - 1), (8 + header, len(content) - 1)]))
    content[data.draw(st.integers(first, last))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    assert_refused(path, "c.safetensors")


@pytest.mark.parametrize("keep", [0, 5, 200, -1])
def test_truncated_file_is_refused(checkpoint, keep):
    checkpoint.write_bytes(checkpoint.read_bytes()[:keep])
    assert_refused(checkpoint, "damaged")


def test_foreign_files_are_refused(tmp_path):
    save_file({"weight": np.ones(3)}, tmp_path / "foreign.safetensors")
    assert_refused(tmp_path / "foreign.safetensors", "not a checkpoint of tinygen")
    (tmp_path / "text.safetensors").write_text("hello, this is no checkpoint")
    assert_refused(tmp_path / "text.safetensors", "not a safetensors file")
    assert_refused(tmp_path / "nowhere.safetensors", "no such file")


def test_checkpoint_of_another_model_is_refused(checkpoint):
    assert_refused(checkpoint, r"net.layers.0.weight: .*\(3, 4\).*\(3, 5\)", Model(0, width=5))


def test_optimizers_in_lists_are_saved(tmp_path):
    model = Model(0)
    model.several = [optim.SGD(model.parameters(), 0.1, momentum=0.9)]
    training.save(tmp_path / "c.safetensors", model)
    assert "optimizer/several.0/velocity" in load_file(tmp_path / "c.safetensors")


def test_unfit_optimizer_state_leaves_the_weights_alone(checkpoint, tmp_path):
    model = Model(5)
    model.optimizer = optim.SGD(model.parameters(), 0.1)
    before = model.state_dict()
    with pytest.raises(CheckpointError, match="velocity"):
        training.load(checkpoint, model)
    for name, array in model.state_dict().items():
        assert np.array_equal(array, before[name])


def test_failed_write_keeps_the_old_file(checkpoint, monkeypatch):
    before = checkpoint.read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OutputError, match=r"c\.safetensors: No space left on device"):
        training.save(checkpoint, Model(1))
    assert checkpoint.read_bytes() == before
    assert list(checkpoint.parent.iterdir()) == [checkpoint]
