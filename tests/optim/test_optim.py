"""Optimizers follow the published rules; clipping, averages and schedules do what they say."""

import math
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygen as tg
from tinygen import nn, optim
from tinygen.errors import CheckpointError, DTypeError, NonFiniteError
from tinygen.optim import schedules
from tinygen.testing import adam_rule, check_optimizer, check_state_roundtrip, rngs, sgd_rule

seeds = st.integers(0, 2**32 - 1)


def parameters(rng, shapes=((3, 2), (4,), ())):
    return [nn.Parameter(rng.normal(size=shape)) for shape in shapes]


def set_gradients(ps, rng, reached):
    gradients = [rng.normal(size=p.shape) if yes else None for p, yes in zip(ps, reached, strict=True)]
    for p, g in zip(ps, gradients, strict=True):
        p.grad = None if g is None else tg.tensor(g)
    return gradients


def both(make, rule, **options):
    return partial(make, **options), partial(rule, **options)


CASES = {
    "adam": both(optim.Adam, adam_rule, lr=0.03, betas=(0.8, 0.95), eps=1e-3),
    "adam by default": (optim.Adam, adam_rule),
    "adamw": both(optim.AdamW, adam_rule, lr=0.03, betas=(0.8, 0.95), eps=1e-3, weight_decay=0.1),
    "adamw by default": (optim.AdamW, partial(adam_rule, weight_decay=0.01)),
    "sgd": both(optim.SGD, sgd_rule, lr=0.03),
    "sgd with all": both(optim.SGD, sgd_rule, lr=0.03, momentum=0.7, weight_decay=0.1),
}


def test_every_optimizer_is_tested():
    tested = {type(make(parameters(np.random.default_rng(0)))) for make, _ in CASES.values()}
    public = [getattr(optim, name) for name in optim.__all__]
    assert {c for c in public if isinstance(c, type) and issubclass(c, optim.Optimizer)} == tested | {optim.Optimizer}


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=25)
@given(rng=rngs())
def test_the_update_is_the_published_one_and_the_state_is_whole(name, rng):
    make, rule = CASES[name]
    check_optimizer(make, rule, rng=rng)
    ps = parameters(rng)
    optimizer = make(ps)
    for reached in ((True, True, False), (True, False, False)):
        set_gradients(ps, rng, reached)
        optimizer.step()
    check_state_roundtrip(optimizer)


@given(seeds)
def test_lr_scale_multiplies_the_rate(seed):
    rng = np.random.default_rng(seed)
    ps = parameters(rng)
    optimizer, before = optim.SGD(ps, 0.1), [p.data.copy() for p in ps]
    optimizer.lr_scale = 0.5
    gradients = set_gradients(ps, rng, (True, True, True))
    optimizer.step()
    for p, b, g in zip(ps, before, gradients, strict=True):
        np.testing.assert_allclose(p.data, b - 0.05 * g, rtol=1e-12, atol=1e-15)


def test_unfit_state_changes_nothing():
    rng = np.random.default_rng(0)
    ps = parameters(rng)
    optimizer = optim.Adam(ps)
    set_gradients(ps, rng, (True, True, True))
    optimizer.step()
    before = optimizer.state_dict()
    with pytest.raises(CheckpointError, match="mean_square"):
        optimizer.load_state_dict(before | {"mean": before["mean"] + 1, "mean_square": np.zeros(2)})
    assert np.array_equal(optimizer.mean, before["mean"])


@given(seeds)
def test_replaced_parameter_arrays_are_adopted(seed):
    rng = np.random.default_rng(seed)
    ps = parameters(rng)
    optimizer = optim.SGD(ps, 0.1)
    fresh = rng.normal(size=ps[1].shape)
    ps[1].data = fresh.copy()
    _, g, _ = set_gradients(ps, rng, (True, True, True))
    optimizer.step()
    np.testing.assert_allclose(ps[1].data, fresh - 0.1 * g, rtol=1e-12, atol=1e-15)


def test_parameters_share_a_dtype():
    with pytest.raises(DTypeError, match="float32, float64"):
        optim.SGD([nn.Parameter(np.ones(2)), nn.Parameter(np.ones(2, np.float32))], 0.1)


@given(seeds, st.floats(0.01, 10))
def test_clipping_keeps_the_direction(seed, bound):
    rng = np.random.default_rng(seed)
    ps = parameters(rng)
    gradients = set_gradients(ps, rng, (True, True, True))
    whole = np.concatenate([g.ravel() for g in gradients])
    assert math.isclose(optim.clip_grad_norm(ps, bound), np.linalg.norm(whole), rel_tol=1e-12)
    clipped = np.concatenate([p.grad.data.ravel() for p in ps])
    np.testing.assert_allclose(clipped, whole * min(1.0, bound / np.linalg.norm(whole)), rtol=1e-12)


@pytest.mark.parametrize("size", [1e19, 8e37])  # float32 goes up to 3.4e38
def test_clipping_large_finite_gradients(size):
    p = nn.Parameter(np.ones(2, np.float32))
    p.grad = tg.tensor(np.array([3 * size, 4 * size], np.float32))
    assert math.isclose(optim.clip_grad_norm([p], 1.0), 5 * size, rel_tol=1e-6)
    np.testing.assert_allclose(p.grad.data, [0.6, 0.8], rtol=1e-6)


def test_a_parameter_that_changes_dtype_is_refused():
    p = nn.Parameter(np.ones(2, np.float32))
    optimizer = optim.SGD([p], 0.1)
    p.data = p.data.astype(np.float64)
    p.grad = tg.tensor(np.ones(2))
    with pytest.raises(DTypeError, match="float64 after its optimizer"):
        optimizer.step()


@pytest.mark.parametrize("bad", ["loss", "gradient"])
def test_non_finite_step_is_refused_and_changes_nothing(bad):
    p = nn.Parameter(np.array([1.0, 0.0]))
    optimizer = optim.Adam([p])
    with np.errstate(all="ignore"):
        loss = (tg.log(p) if bad == "loss" else tg.sqrt(p)).sum()
    with pytest.raises(NonFiniteError, match=bad), np.errstate(all="ignore"):
        optimizer.minimize(loss)
    assert np.array_equal(p.data, [1.0, 0.0])
    assert optimizer.steps[0] == 0


def test_minimize_leaves_other_parameters_alone():
    mine, other = nn.Parameter(np.ones(2)), nn.Parameter(np.ones(2))
    norm = optim.SGD([mine], 0.1).minimize((mine * other * np.array([3.0, 4.0])).sum())
    assert math.isclose(norm, 5.0)
    assert other.grad is None
    np.testing.assert_allclose(mine.data, [0.7, 0.6])


@given(seeds, st.integers(1, 5))
def test_average_follows_its_recurrence_and_swaps(seed, steps):
    rng = np.random.default_rng(seed)
    layer = nn.BatchNorm(3)
    ema = optim.EMA(layer, 0.6)
    expected = layer.weight.data.astype(np.float64)
    for t in range(1, steps + 1):
        layer.weight.data[...] = rng.normal(size=3)
        layer.running_mean[...] = rng.normal(size=3)
        ema.update()
        d = min(0.6, (1 + t) / (10 + t))
        expected = d * expected + (1 - d) * layer.weight.data
    last, last_mean = layer.weight.data.copy(), layer.running_mean.copy()
    with ema.applied():
        np.testing.assert_allclose(layer.weight.data, expected, rtol=1e-5, atol=1e-6)
        assert not np.array_equal(layer.running_mean, last_mean)
    assert np.array_equal(layer.weight.data, last)
    assert np.array_equal(layer.running_mean, last_mean)
    np.testing.assert_allclose(ema.averages["weight"], expected, rtol=1e-5, atol=1e-6)


@given(st.floats(0.01, 0.5), st.floats(0, 1), st.floats(0, 1))
def test_schedules_rise_and_fall(warmup, final, progress):
    """In a line, or in a half wave, which is a sine about its middle."""
    along = (progress - warmup) / (1 - warmup)
    falls = {
        schedules.linear: 1 + along * (final - 1),
        schedules.cosine: (1 + final) / 2 + (1 - final) / 2 * math.sin(math.pi * (0.5 - along)),
    }
    for make, fallen in falls.items():
        schedule = make(warmup=warmup, final=final)
        assert math.isclose(schedule(progress), progress / warmup if progress < warmup else fallen, abs_tol=1e-12)
    assert schedules.constant()(progress) == 1
