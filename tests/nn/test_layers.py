"""Layers, against what they are documented to compute."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygen as tg
from tinygen import nn

seeds = st.integers(0, 2**32 - 1)


@given(seeds, st.sampled_from([(), (5,), (2, 3)]))
def test_linear_keeps_leading_axes(seed, lead):
    rng = np.random.default_rng(seed)
    layer = nn.Linear(3, 4, rng, activation="tanh").astype(np.float64)
    x = rng.normal(size=(*lead, 3))
    np.testing.assert_allclose(layer(tg.tensor(x)).data, np.tanh(x @ layer.weight.data + layer.bias.data), rtol=1e-12)


@given(seeds, st.integers(0, 3))
def test_causal_convolution_sees_no_future(seed, place):
    rng = np.random.default_rng(seed)
    layer = nn.Conv1d(2, 3, 3, rng, dilation=2, causal=True).astype(np.float64)
    x = tg.tensor(rng.normal(size=(1, 8, 2)), requires_grad=True)
    y = layer(x)
    assert y.shape == (1, 8, 3)
    g = tg.grad((y[0, place] * rng.normal(size=3)).sum(), x).data[0]
    assert (g[place + 1 :] == 0).all()
    assert (g[place] != 0).all()


@given(seeds, st.sampled_from([(1, 0, 0), (2, 1, 1), (2, 0, 0)]))
def test_transposed_convolution_is_the_adjoint(seed, geometry):
    stride, padding, extra = geometry
    rng = np.random.default_rng(seed)
    layer = nn.ConvTranspose2d(2, 3, 3, rng, stride=stride, padding=padding, output_padding=extra, bias=False).astype(
        np.float64
    )
    x = rng.normal(size=(2, 4, 4, 2))
    y = layer(tg.tensor(x)).data
    u = rng.normal(size=y.shape)
    back = tg.conv2d(u, layer.weight.data.swapaxes(2, 3), None, stride, padding)
    np.testing.assert_allclose(np.vdot(y, u), np.vdot(x, back), rtol=1e-10)


@given(seeds)
def test_group_norm_applies_its_activation(seed):
    rng = np.random.default_rng(seed)
    plain = nn.GroupNorm(2, 6).astype(np.float64)
    layer = nn.GroupNorm(2, 6, activation="silu").astype(np.float64)
    for norm in (plain, layer):
        norm.weight.data, norm.bias.data = np.linspace(0.5, 2.0, 6), np.linspace(-1.0, 1.0, 6)
    x = tg.tensor(rng.normal(2.0, 3.0, size=(4, 5, 6)))
    # what is activated is at most 2 √15 + 1, so rounded by less than 1e-15 in each of its three operations
    np.testing.assert_allclose(layer(x).data, tg.silu(plain(x)).data, rtol=1e-12, atol=1e-14)


@given(seeds)
def test_batch_norm_standardises_and_remembers(seed):
    rng = np.random.default_rng(seed)
    layer = nn.BatchNorm(3, momentum=0.25, eps=0.0).astype(np.float64)
    layer.weight.data, layer.bias.data = rng.normal(size=3), rng.normal(size=3)
    x = rng.normal(2.0, 3.0, size=(4, 5, 3))
    y = layer(tg.tensor(x)).data
    np.testing.assert_allclose(y.mean((0, 1)), layer.bias.data, atol=1e-12)
    np.testing.assert_allclose(y.std((0, 1)), np.abs(layer.weight.data), rtol=1e-12)
    np.testing.assert_allclose(layer.running_mean, 0.25 * x.mean((0, 1)), rtol=1e-12)
    np.testing.assert_allclose(layer.running_var, 0.75 + 0.25 * x.var((0, 1), ddof=1), rtol=1e-12)
    standard = (x - layer.running_mean) / np.sqrt(layer.running_var)
    expected = standard * layer.weight.data + layer.bias.data
    np.testing.assert_allclose(layer.eval()(tg.tensor(x)).data, expected, rtol=1e-10, atol=1e-12)


@given(seeds)
def test_spectral_norm_bounds_the_largest_singular_value(seed):
    rng = np.random.default_rng(seed)
    inner = nn.Linear(5, 4, rng, bias=False).astype(np.float64)
    layer = nn.spectral_norm(inner, rng, steps=200)
    largest = np.linalg.norm(layer(tg.tensor(np.eye(5))).data, 2)
    # Power iteration approaches σ₁ from below; after 200 steps its error is at most σ₁ (σ₂/σ₁)^400 · dim-sized.
    second, first = np.sort(np.linalg.svd(inner.weight.data)[1])[-2:]
    assert 1 - 1e-9 <= largest <= 1 + 1e-9 + 100 * (second / first) ** 400


@given(seeds)
def test_embedding_sums_gradients_of_repeats(seed):
    rng = np.random.default_rng(seed)
    layer = nn.Embedding(6, 3, rng).astype(np.float64)
    index = rng.integers(0, 6, size=(4, 5))
    u = rng.normal(size=(4, 5, 3))
    g = tg.grad((layer(index) * u).sum(), layer.weight).data
    expected = np.array([u[index == i].sum(0) for i in range(6)])
    np.testing.assert_allclose(g, expected, rtol=1e-12, atol=1e-12)


@given(seeds)
def test_dropout_keeps_the_mean_and_rests_in_evaluation(seed):
    layer = nn.Dropout(0.25, np.random.default_rng(seed))
    y = layer(tg.tensor(np.ones(20_000, np.float32))).data
    assert set(np.unique(y)) == {np.float32(0), np.float32(1) / np.float32(0.75)}
    assert abs((y == 0).mean() - 0.25) < 5 * np.sqrt(0.25 * 0.75 / 20_000) + 0.001  # false alarm below 1e-6
    x = tg.tensor(np.ones(3, np.float32))
    assert layer.eval()(x) is x


@pytest.mark.parametrize("activation", ["relu", "silu"])
def test_mlp_ends_without_activation(activation):
    rng = np.random.default_rng(0)
    mlp = nn.MLP([2, 8, 8, 3], rng, activation)
    assert [layer.activation for layer in mlp.layers] == [activation, activation, "identity"]
    zero = nn.MLP([2, 8, 3], rng, activation, last_init=nn.init.zeros)
    assert (zero(tg.tensor(rng.normal(size=(4, 2)).astype(np.float32))).data == 0).all()
