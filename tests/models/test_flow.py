"""Flows: a density that integrates to one, samples that follow it, honest bits, and learning."""

import math
from copy import deepcopy

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygen as tg
from tinygen import data, nn
from tinygen.bijections import AffineCoupling, Chain, Inverse, Reverse
from tinygen.distributions import Mixture, Normal
from tinygen.errors import DataError
from tinygen.models.flow import Flow, bits_per_dim, dequantize, realnvp
from tinygen.testing import check_density, check_state_roundtrip, mostly_conclusive, parameters, rngs

seeds = st.integers(0, 2**32 - 1)
FALSE_ALARM = 1e-6


def smooth_flow(rng: np.random.Generator, dim: int = 2) -> Flow:
    """Of smooth conditioners, over a base that is not symmetric."""

    def conditioner(c_in: int, c_out: int) -> nn.Module:
        return nn.MLP([c_in, 6, c_out], rng, "tanh")

    couplings = [AffineCoupling(dim, conditioner, bound=0.5) for _ in range(3)]
    base = Mixture(np.log([0.3, 0.7]), Normal(np.array([[-1.0] * dim, [1.0] * dim]), np.full((2, dim), 0.8)))
    return Flow(base, Chain(couplings[0], Reverse(), couplings[1], Reverse(), Inverse(couplings[2])))


smooth_flows = parameters(rngs().map(smooth_flow))


@mostly_conclusive
@settings(max_examples=2)
@given(flow=smooth_flows)
def test_density_integrates_to_one(flow: Flow) -> None:
    check_density(flow)


@settings(max_examples=3)
@given(flow=smooth_flows, rng=rngs())
def test_samples_follow_the_density(flow: Flow, rng: np.random.Generator) -> None:
    """Shares of cells against the density's own mass there, by the midpoint rule: to 1e-3.

    A share is a mean of numbers in [0, 1]: Hoeffding's inequality bounds its error for any n.
    """
    first = flow.sample(2_000, rng)
    sides = [np.linspace(low - 2, high + 2, 500) for low, high in zip(first.min(0), first.max(0), strict=True)]
    grid = np.stack(np.meshgrid(*sides, indexing="ij"), -1).reshape(-1, 2)
    with tg.no_grad():
        p = np.exp(flow.log_prob(grid).data) * math.prod(t[1] - t[0] for t in sides)
    # Edges half way between points of the grid, near quantiles.
    places = [np.searchsorted(t, np.quantile(first[:, i], [0.2, 0.5, 0.8])) for i, t in enumerate(sides)]
    bins = [[-np.inf, *(t[k - 1] + t[k]) / 2, np.inf] for t, k in zip(sides, places, strict=True)]
    mass, _, _ = np.histogram2d(*grid.T, bins=bins, weights=p)
    n = 40_000
    counts, _, _ = np.histogram2d(*flow.sample(n, rng).T, bins=bins)
    assert np.abs(counts / n - mass).max() < math.sqrt(math.log(2 * mass.size / FALSE_ALARM) / (2 * n)) + 1e-3


@pytest.mark.parametrize("dim", [1, 2, 3, 5])
@settings(max_examples=3)
@given(data=st.data(), rng=rngs())
def test_gradient_of_the_loss(dim: int, data: st.DataObject, rng: np.random.Generator) -> None:
    """All parameters of couplings and normalisations together, along a random direction, against differences."""
    flow = data.draw(parameters(realnvp((dim,), rng, couplings=3, hidden=(5,)), scale=0.3))
    for module in flow.modules():
        if isinstance(module, nn.Linear) and module.activation == "relu":
            module.activation = "tanh"  # differences need smooth conditioners
    x = rng.standard_normal((6, dim))
    trained = list(flow.parameters())
    direction = [rng.standard_normal(p.shape) for p in trained]
    weight = rng.standard_normal(6)
    gradients = tg.grad(tg.sum(flow.log_prob(x) * weight), trained)
    slope = sum(float((g.data * v).sum()) for g, v in zip(gradients, direction, strict=True))
    start = [p.data for p in trained]

    def value(h: float) -> float:
        for p, a, v in zip(trained, start, direction, strict=True):
            p.data = a + h * v
        return float(flow.log_prob(x).data @ weight)

    wide, narrow = ((value(h) - value(-h)) / (2 * h) for h in (2e-3, 1e-3))
    expected = (4 * narrow - wide) / 3  # the error left is of order h⁴
    assert abs(slope - expected) <= 1e-7 + 0.01 * abs(narrow - wide)


@settings(max_examples=3)
@given(data=st.data(), rng=rngs())
def test_image_density_includes_its_preparation(data: st.DataObject, rng: np.random.Generator) -> None:
    """One-pixel images: all mass lies between the images of -∞ and ∞, in the units of pixels."""
    flow = data.draw(parameters(realnvp((1, 1, 1), rng, couplings=2, hidden=(4,))))
    x = flow.bijection.inverse(np.linspace(-8, 8, 4001)[:, None])[0].data.ravel()
    x = x[(x > 0) & (x < 1)]  # Logit takes pixels only
    x = x[: (len(x) - 1) // 4 * 4 + 1]
    density = np.exp(flow.log_prob(x[:, None, None, None]).data)
    fine, middle, coarse = (np.trapezoid(density[::k], x[::k]) for k in (1, 2, 4))
    mass = (64 * fine - 20 * middle + coarse) / 45  # without the errors of order h² and h⁴ (Romberg 1955)
    z = flow.bijection(x[[0, -1], None, None, None])[0].data.ravel()
    expected = 0.5 * (math.erf(z[1] / math.sqrt(2)) - math.erf(z[0] / math.sqrt(2)))
    assert mass == pytest.approx(expected, abs=1e-7)


@settings(max_examples=5)
@given(seed=seeds)
def test_dequantisation_spreads_each_level(seed: int) -> None:
    rng = np.random.default_rng(seed)
    k = rng.integers(0, 256, (50, 4, 4, 1))
    x = (k / 255).astype(np.float32)
    y = dequantize(x, rng)
    assert y.dtype == np.float32
    np.testing.assert_array_equal(np.floor(256 * y), k)
    assert not np.array_equal(y, dequantize(x, rng))
    assert dequantize(np.ones((100, 28, 28, 1), np.float32), rng).max() < 1


def test_bits_per_dim_of_known_densities() -> None:
    """Uniform pixels cost 8 bits; a density that is ten times as high as uniform saves log2(10)."""
    assert bits_per_dim(0.0, 784) == pytest.approx(8)
    assert bits_per_dim(-5 * math.log(10), 5) == pytest.approx(8 - math.log2(10))


@settings(max_examples=2)
@given(seed=seeds)
def test_learns_moons(seed: int) -> None:
    """200 steps leave less than half of the distance at which a fitted Gaussian stands."""
    rng = np.random.default_rng(seed)
    moons = data.toy("moons")
    flow = realnvp((2,), rng, couplings=4, hidden=(32, 32), lr=5e-3)
    for _ in range(200):
        metrics = flow.train_step(moons.sample(256, rng), rng)
    assert metrics.keys() == {"loss", "grad_norm"}
    x = moons.sample(20_000, rng)
    log_p = moons.log_prob(x)
    with tg.no_grad():
        gap = np.mean(log_p - flow.log_prob(x).data)
    covariance = np.cov(moons.sample(100_000, rng).T)
    gaussian = 0.5 * np.linalg.slogdet(2 * math.pi * math.e * covariance)[1] - moons.entropy()
    assert -0.01 < gap < gaussian / 2


@settings(max_examples=2)
@given(seed=seeds)
def test_bits_of_a_step_are_those_of_the_density(seed: int) -> None:
    x = data.load("digits", size=7).x[:32]
    flow = realnvp((7, 7, 1), np.random.default_rng(seed), couplings=2, hidden=(8,))
    before = deepcopy(flow)
    metrics = flow.train_step(x, np.random.default_rng(seed))
    log_p = before.log_prob(dequantize(x, np.random.default_rng(seed))).data
    assert metrics["loss"] == pytest.approx(-log_p.mean(), rel=1e-5)
    assert metrics["bits_per_dim"] == pytest.approx(bits_per_dim(metrics["loss"], 49))
    assert not np.array_equal(before.log_prob(x).data, flow.log_prob(x).data)
    assert flow.sample(3, np.random.default_rng(seed)).shape == (3, 7, 7, 1)


def test_state_holds_everything() -> None:
    """Permutations are random and ActNorm has seen data: a flow of another seed has the same density after loading."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((64, 3)).astype(np.float32) * 3 + 1
    first, second = (realnvp((3,), np.random.default_rng(seed), couplings=3, hidden=(4,)) for seed in (1, 2))
    first.train_step(x, rng)
    check_state_roundtrip(first)
    second.load_state_dict(first.state_dict())
    np.testing.assert_array_equal(second.log_prob(x).data, first.log_prob(x).data)
    same = [deepcopy(first), deepcopy(first)]
    for flow in same:
        flow.train_step(x, rng)
    np.testing.assert_array_equal(same[0].log_prob(x).data, same[1].log_prob(x).data)


def test_pixels_beyond_white_are_refused() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(DataError, match="scale the data"):
        realnvp((2, 2, 1), rng, couplings=1).train_step(np.full((4, 2, 2, 1), 255, np.float32), rng)
