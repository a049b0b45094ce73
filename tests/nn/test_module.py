"""Modules: what they hold, and their state."""

import copy

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygen as tg
from tinygen import nn
from tinygen.autograd.context import module_path
from tinygen.errors import CheckpointError

seeds = st.integers(0, 2**32 - 1)


class Block(nn.Module):
    def __init__(self, rng):
        self.first = nn.Linear(3, 4, rng)
        self.pair = [nn.Linear(4, 4, rng), nn.Dropout(0.5, np.random.default_rng(1))]
        self.named = {"norm": nn.BatchNorm(4)}
        self.scale = nn.Parameter(rng.normal(size=4).astype(np.float32))
        self._mask = np.ones(4)
        self.shared = self.first

    def forward(self, x):
        for layer in (self.first, *self.pair, self.named["norm"]):
            x = layer(x)
        return x * self.scale


def test_names_follow_the_attributes():
    names = [name for name, _ in Block(np.random.default_rng(0)).named_parameters()]
    assert names == [
        "scale",
        "first.weight",
        "first.bias",
        "pair.0.weight",
        "pair.0.bias",
        "named.norm.weight",
        "named.norm.bias",
    ]


def test_buffers_are_public_arrays_only():
    names = [name for name, _ in Block(np.random.default_rng(0)).named_buffers()]
    assert names == ["named.norm.running_mean", "named.norm.running_var"]


@given(seeds)
def test_state_makes_a_twin(seed):
    rng = np.random.default_rng(seed)
    one, other = Block(rng), Block(rng)
    x = rng.normal(size=(5, 3)).astype(np.float32)
    one(tg.tensor(x))  # moves the running statistics and the dropout generator
    other.load_state_dict(one.state_dict())
    assert np.array_equal(one(tg.tensor(x)).data, other(tg.tensor(x)).data)
    assert np.array_equal(one.eval()(tg.tensor(x)).data, other.eval()(tg.tensor(x)).data)


@given(seeds, st.sampled_from([np.float32, np.float64]))
def test_another_dtype_is_a_copy_that_shares_what_was_shared(seed, dtype):
    block = Block(np.random.default_rng(seed))
    block.named["norm"].weight.requires_grad = False
    before = block.state_dict()
    other = block.astype(dtype)
    assert other.shared is other.first and other.training == block.training
    for (name, p), (same_name, q) in zip(block.named_parameters(), other.named_parameters(), strict=True):
        assert name == same_name and type(q) is nn.Parameter and p.requires_grad == q.requires_grad
        assert q.dtype == dtype and np.array_equal(p.data, q.data) and not np.shares_memory(p.data, q.data)
    for (name, a), (_, b) in zip(block.named_buffers(), other.named_buffers(), strict=True):
        assert b.dtype == dtype and np.array_equal(a, b) and not np.shares_memory(a, b), name
    x = np.random.default_rng(seed).normal(size=(5, 3))
    assert other(x.astype(dtype)).dtype == dtype
    assert all(np.array_equal(value, before[name]) for name, value in block.state_dict().items())


def test_another_dtype_leaves_whole_numbers_and_flags_alone():
    holder = Block(np.random.default_rng(0))
    holder.order, holder.pair[1].seen = np.arange(3), np.zeros((), bool)
    kinds = {name: b.dtype.kind for name, b in holder.astype(np.float64).named_buffers()}
    assert (kinds["order"], kinds["pair.1.seen"]) == ("i", "b")


@pytest.mark.parametrize("fault", ["missing", "unknown", "shape", "dtype", "generator"])
def test_unfit_state_changes_nothing(fault):
    rng = np.random.default_rng(0)
    block, state = Block(rng), Block(rng).state_dict()
    before = block.state_dict()
    if fault == "missing":
        del state["pair.0.bias"]
    elif fault == "unknown":
        state["extra"] = np.zeros(1)
    elif fault == "generator":
        state["pair.1.rng"] = state["pair.1.rng"][:-1]
    else:
        state["pair.0.bias"] = np.zeros(5, np.float32) if fault == "shape" else np.zeros(4)
    with pytest.raises(
        CheckpointError, match={"unknown": "extra", "generator": "pair.1.rng"}.get(fault, "pair.0.bias")
    ):
        block.load_state_dict(state)
    for name, array in block.state_dict().items():
        assert np.array_equal(array, before[name])


def test_deepcopy_shares_nothing():
    block = Block(np.random.default_rng(0))
    twin = copy.deepcopy(block)
    for mine, its in zip(block.parameters(), twin.parameters(), strict=True):
        assert isinstance(its, nn.Parameter)
        assert its.requires_grad
        assert not np.shares_memory(mine.data, its.data)
    assert twin.shared is twin.first


def test_modes_reach_every_module():
    block = Block(np.random.default_rng(0)).eval()
    assert not any(module.training for module in block.modules())
    assert all(module.training for module in block.train().modules())


def test_requires_grad_reaches_every_parameter():
    block = Block(np.random.default_rng(0)).requires_grad_(False)
    assert not block(tg.tensor(np.ones((2, 3), np.float32))).requires_grad


def test_operations_know_their_module():
    class Outer(nn.Module):
        def __init__(self):
            self.inner = nn.Sequential(lambda x: seen.append(module_path.get()) or x)

        def forward(self, x):
            return self.inner(x)

    seen = []
    Outer()(tg.tensor([1.0]))
    assert seen == ["Outer.inner"]
    assert module_path.get() == ""


def test_module_without_forward_says_so():
    with pytest.raises(TypeError, match="Module has no forward"):
        nn.Module()(1)


def test_lists_of_parameters_are_trained_and_saved():
    module = nn.Module()
    module.tables = [
        nn.Parameter(np.ones(2)),
        {"deep": [nn.Parameter(np.ones(3)), nn.Linear(1, 1, np.random.default_rng(0))]},
    ]
    assert [name for name, _ in module.named_parameters()] == [
        "tables.0",
        "tables.1.deep.0",
        "tables.1.deep.1.weight",
        "tables.1.deep.1.bias",
    ]


@pytest.mark.parametrize("kind", [np.random.PCG64, np.random.MT19937, np.random.Philox])
def test_every_kind_of_generator_is_part_of_the_state(kind):
    one, other = (nn.Dropout(0.5, np.random.Generator(kind(seed))) for seed in (1, 2))
    one.rng.normal(size=5)
    other.load_state_dict(one.state_dict())
    assert np.array_equal(one.rng.normal(size=9), other.rng.normal(size=9))


def test_evaluation_restores_each_module():
    block = Block(np.random.default_rng(0))
    block.named["norm"].eval()
    with nn.evaluation(block):
        assert not any(module.training for module in block.modules())
        assert not block(tg.tensor(np.ones((2, 3), np.float32))).requires_grad
    assert [module.training for module in block.modules() if isinstance(module, nn.BatchNorm)] == [False]
    assert block.training
