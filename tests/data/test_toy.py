"""The 2-D densities: the likelihood is that of the sampler, integrates to one, and has the stated entropy."""

import re
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinygen.data import TOYS, Density, SeparateModes, toy
from tinygen.errors import DataError, ShapeError

DENSITIES = {name: toy(name) for name in TOYS} | {"moons .1": toy("moons", sigma=0.1)}
every_density = pytest.mark.parametrize("density", DENSITIES.values(), ids=DENSITIES)
seeds = st.integers(0, 2**32 - 1)
few = settings(max_examples=2)

FALSE_ALARM = 1e-6


@cache
def cells(density: Density) -> tuple[np.ndarray, np.ndarray]:
    """Edges (17, 2) of a grid over the box, and the mass (16, 16) of each cell by 20×20 Gauss-Legendre nodes.

    On 8ring, whose modes are the narrowest for their box, the nodes are 1.05 σ apart where they are sparsest: such a
    sum over a Gaussian errs by 2 exp(-2π²/1.05²) = 3e-8.
    """
    n, nodes = 16, 20
    edges = np.linspace(*density.box, n + 1)
    t, weight = np.polynomial.legendre.leggauss(nodes)
    width = (density.box[1] - density.box[0]) / n
    x, y = (edges[:-1, None, axis] + width[axis] * (t + 1) / 2 for axis in (0, 1))
    points = np.stack(np.broadcast_arrays(x[:, None, :, None], y[None, :, None, :]), axis=-1)
    p = np.exp(density.log_prob(points.reshape(-1, 2))).reshape(n, n, nodes, nodes)
    return edges, np.einsum("abij,i,j->ab", p, weight, weight) * width.prod() / 4


@every_density
def test_integrates_to_one(density: Density) -> None:
    _, mass = cells(density)
    assert mass.sum() == pytest.approx(1, abs=1e-6)


@every_density
@few
@given(seed=seeds)
def test_sampler_has_this_density(density: Density, seed: int) -> None:
    """Chernoff: a share p̂ of n draws has n KL(p̂ ‖ p) > log(2/α) with probability below α, exactly and for any n."""
    n = 100_000
    x = density.sample(n, np.random.default_rng(seed))
    assert x.shape == (n, 2)
    assert x.dtype == np.float32
    edges, mass = cells(density)
    counts, _, _ = np.histogram2d(*x.T, bins=list(edges.T))
    p = np.clip(np.append(mass, 1 - mass.sum()), 1e-12, 1 - 1e-12)
    share = np.append(counts, n - counts.sum()) / n
    kl = sum(np.where(a > 0, a * np.log(np.maximum(a, 1e-300) / b), 0.0) for a, b in ((share, p), (1 - share, 1 - p)))
    assert n * kl.max() < np.log(2 * p.size / FALSE_ALARM)


@every_density
@few
@given(seed=seeds)
def test_fresh_points_have_the_entropy_on_average(density: Density, seed: int) -> None:
    """Six standard errors: an error of 0.02 nats in either is sure to be seen."""
    log_p = density.log_prob(density.sample(100_000, np.random.default_rng(seed)))
    assert abs(-log_p.mean() - density.entropy()) <= 6 * log_p.std() / np.sqrt(len(log_p)) + 1e-9


# EVALUATION's table, to its printed digits; where modes do not touch, ln K + ln(2πe σ²).
PUBLISHED = {
    "moons": (0.2892, 5e-5),
    "moons .1": (1.0076, 5e-5),
    "8gaussians": (2.832, 5e-4),
    "25grid": (np.log(25 * 2 * np.pi * np.e * 0.05**2), 1e-7),
    "8ring": (np.log(8 * 2 * np.pi * np.e * 0.01**2), 1e-7),
    "checkerboard": (np.log(32), 1e-12),
}


@pytest.mark.parametrize(("name", "expected", "tolerance"), [(k, *v) for k, v in PUBLISHED.items()], ids=PUBLISHED)
def test_entropy_is_the_published_one(name: str, expected: float, tolerance: float) -> None:
    assert DENSITIES[name].entropy() == pytest.approx(expected, abs=tolerance)


def log_blurred(points: np.ndarray, arcs: list[np.ndarray], weight: np.ndarray, sigma: float) -> np.ndarray:
    """Log-density of curves given at equal steps, by Simpson's rule, unlike the package's, on a far finer grid."""
    simpson = np.full(len(weight), 4 / 3)
    simpson[::2] = 2 / 3
    simpson[[0, -1]] = 1 / 3
    mass = weight * simpson / (2 * np.pi * sigma**2)
    squared = ((points[:, None, None] - np.stack(arcs)) ** 2).sum(axis=-1)
    nearest = squared.min(axis=(1, 2))
    kernel = np.exp((nearest[:, None, None] - squared) / (2 * sigma**2))
    return np.log((kernel * mass).sum(axis=(1, 2))) - nearest / (2 * sigma**2)


@settings(max_examples=20)
@given(seed=seeds, sigma=st.floats(0.03, 0.5))
def test_moons_are_half_circles_blurred(seed: int, sigma: float) -> None:
    moons = toy("moons", sigma=sigma)
    t, step = np.linspace(0, np.pi, 10_001, retstep=True)
    arcs = [np.stack([np.cos(t), np.sin(t)], axis=-1), np.stack([1 - np.cos(t), 0.5 - np.sin(t)], axis=-1)]
    x = np.random.default_rng(seed).uniform(*moons.box, size=(10, 2))
    expected = log_blurred(x, arcs, np.full_like(t, step / np.pi / 2), sigma)
    np.testing.assert_allclose(moons.log_prob(x), expected, rtol=1e-7, atol=1e-6)


@settings(max_examples=10)
@given(seed=seeds)
def test_spirals_are_two_arms_blurred(seed: int) -> None:
    spirals = toy("spirals")
    t, step = np.linspace(0, 3 * np.pi, 40_001, retstep=True)
    arm = np.stack([-t * np.cos(t), t * np.sin(t)], axis=-1) / 3
    x = np.random.default_rng(seed).uniform(*spirals.box, size=(4, 2))
    expected = log_blurred(x, [arm, -arm], t * step / (3 * np.pi) ** 2, 0.1)
    np.testing.assert_allclose(spirals.log_prob(x), expected, rtol=1e-7, atol=1e-6)


@given(seed=seeds)
def test_pinwheel_has_five_equal_blades(seed: int) -> None:
    x = np.random.default_rng(seed).uniform(-3, 3, size=(20, 2))
    angle = 2 * np.pi / 5
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    pinwheel = toy("pinwheel")
    np.testing.assert_allclose(pinwheel.log_prob(x @ turn), pinwheel.log_prob(x), rtol=1e-9)
    assert np.abs(pinwheel.log_prob(-x) - pinwheel.log_prob(x)).max() > 1e-3


@given(seed=seeds)
def test_checkerboard_squares(seed: int) -> None:
    board = toy("checkerboard")
    x = np.random.default_rng(seed).uniform(-6, 6, size=(50, 2))
    white = (np.abs(x).max(axis=1) < 4) & ((np.floor(x[:, 0] / 2) + np.floor(x[:, 1] / 2)) % 2 == 0)
    np.testing.assert_array_equal(board.log_prob(x), np.where(white, -np.log(32), -np.inf))
    sample = board.sample(1000, np.random.default_rng(seed))
    np.testing.assert_array_equal(board.log_prob(sample), np.full(1000, -np.log(32)))


@pytest.mark.parametrize(
    ("name", "count", "sigma", "extent"),
    [("25grid", 25, 0.05, 4), ("8ring", 8, 0.01, 1), ("8gaussians", 8, 0.5 / 1.414, 4 / 1.414)],
)
def test_separate_modes(name: str, count: int, sigma: float, extent: float) -> None:
    density = toy(name)
    assert isinstance(density, SeparateModes)
    assert density.modes.shape == (count, 2)
    assert density.sigma == sigma
    assert np.abs(density.modes).max() == pytest.approx(extent)
    peak = -np.log(count * 2 * np.pi * sigma**2)
    # Beside its own Gaussian a mode has its two neighbours', 6.1 σ away on 8gaussians: 2 exp(-6.1²/2) = 1.5e-8
    np.testing.assert_allclose(density.log_prob(density.modes), peak, atol=1e-7)


def test_far_away_the_density_is_tiny_but_finite() -> None:
    x = np.array([[1e6, -1e6], [1e3, -1e3], [50.0, 0.0]])
    for name in set(TOYS) - {"checkerboard"}:
        assert np.isfinite(toy(name).log_prob(x)).all()


@every_density
def test_arguments(density: Density) -> None:
    rng = np.random.default_rng(0)
    assert density.sample(0, rng).shape == (0, 2)
    assert density.log_prob(np.empty((0, 2))).shape == (0,)
    x = density.sample(7, rng)
    assert density.log_prob(x).dtype == np.float64
    np.testing.assert_array_equal(density.log_prob(np.asfortranarray(x)), density.log_prob(x.astype(float)))
    np.testing.assert_array_equal(
        density.sample(5, np.random.default_rng(1)), density.sample(5, np.random.default_rng(1))
    )
    for bad in (np.zeros(2), np.zeros((3, 3)), np.zeros((2, 2, 2))):
        with pytest.raises(ShapeError, match=re.escape(f"log_prob of {density.name}: x has shape {bad.shape}")):
            density.log_prob(bad)


@pytest.mark.parametrize(
    ("name", "sigma", "complaint"),
    [
        ("mons", None, "pinwheel: did you mean 'moons'?"),
        ("xyz", None, "'xyz' is none of moons, 8gaussians, 25grid"),
        ("moons", 0.0, "sigma=0.0 must be positive"),
        ("moons", -1.0, "sigma=-1.0 must be positive"),
        ("moons", float("nan"), "sigma=nan must be positive"),
        ("moons", float("inf"), "sigma=inf must be positive"),
        ("checkerboard", 0.1, "'checkerboard' has no sigma"),
    ],
)
def test_bad_names_and_sigmas(name: str, sigma: float | None, complaint: str) -> None:
    with pytest.raises(DataError, match=re.escape(complaint)):
        toy(name, sigma=sigma)
