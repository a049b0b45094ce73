"""Distributions: normalised, sampled as they say, differentiable, and entropies and divergences that fit."""

import math
from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygen as tg
from tinygen import distributions
from tinygen.distributions import (
    Bernoulli,
    Categorical,
    Distribution,
    Mixture,
    MultivariateNormal,
    Normal,
    kl_divergence,
)
from tinygen.errors import DataError, DTypeError, GraphError, ShapeError
from tinygen.testing import check_density, check_kl, check_sampler, check_vjp, mostly_conclusive

Array = np.ndarray
seeds = st.integers(0, 2**32 - 1)
few = settings(max_examples=3)


def factor(rng: np.random.Generator, *shape: int) -> Array:
    """Lower triangular with a diagonal in [.5, 1.5], and rubbish above, which must not be read."""
    raw = rng.standard_normal(shape)
    diagonal = rng.uniform(0.5, 1.5, shape[:-1])[..., None] * np.eye(shape[-1])
    return raw * (1 - np.eye(shape[-1])) + diagonal


def normal(rng: np.random.Generator, *shape: int) -> Normal:
    return Normal(rng.standard_normal(shape), rng.uniform(0.3, 2, shape))


def multivariate(rng: np.random.Generator, *shape: int) -> MultivariateNormal:
    return MultivariateNormal(rng.standard_normal(shape), factor(rng, *shape, shape[-1]))


def mixture(rng: np.random.Generator, *shape: int) -> Mixture:
    """Three components, one of which has little weight and lies far away."""
    means = rng.standard_normal((*shape[:-1], 3, shape[-1])) + np.array([0.0, 2.0, 9.0])[:, None]
    return Mixture(
        np.log([0.5, 0.45, 0.05]) * np.ones((*shape[:-1], 3)), Normal(means, rng.uniform(0.5, 1, means.shape))
    )


def bernoulli(rng: np.random.Generator, *shape: int) -> Bernoulli:
    return Bernoulli(2 * rng.standard_normal(shape))


def categorical(rng: np.random.Generator, *shape: int) -> Categorical:
    return Categorical(2 * rng.standard_normal(shape))


Make = Callable[..., Distribution]
CONTINUOUS: dict[str, Make] = {"normal": normal, "multivariate": multivariate, "mixture": mixture}
DISCRETE: dict[str, Make] = {"bernoulli": bernoulli, "categorical": categorical}
continuous = pytest.mark.parametrize("make", CONTINUOUS.values(), ids=CONTINUOUS)
discrete = pytest.mark.parametrize("make", DISCRETE.values(), ids=DISCRETE)


def outcomes(p: Distribution) -> Array:
    """Everything that an event of a discrete distribution without a batch can be."""
    if isinstance(p, Bernoulli):
        return np.array(list(product([0.0, 1.0], repeat=p.event_shape[0])))
    return np.arange(p.logits.shape[-1])


def test_every_distribution_is_tested() -> None:
    made = {type(make(np.random.default_rng(0), 3)) for make in (CONTINUOUS | DISCRETE).values()}
    assert {getattr(distributions, name) for name in distributions.__all__} == made | {Distribution, kl_divergence}


@continuous
@pytest.mark.parametrize("dim", [1, 2])
@mostly_conclusive
@few
@given(seed=seeds)
def test_density_integrates_to_one(make: Make, dim: int, seed: int) -> None:
    check_density(make(np.random.default_rng(seed), dim))


@discrete
@few
@given(seed=seeds, k=st.integers(1, 5))
def test_probabilities_add_to_one_and_give_the_entropy(make: Make, seed: int, k: int) -> None:
    p = make(np.random.default_rng(seed), k)
    log_p = p.log_prob(outcomes(p))
    np.testing.assert_allclose(np.exp(log_p).sum(), 1, rtol=1e-12)
    np.testing.assert_allclose(p.entropy(), -np.exp(log_p) @ log_p, rtol=1e-10, atol=1e-12)


@continuous
@pytest.mark.parametrize("dim", [1, 2])
@mostly_conclusive
@few
@given(seed=seeds)
def test_sampler_has_this_density(make: Make, dim: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    p = make(rng, dim)
    check_sampler(p.sample, p.log_prob, detect=0.02 * dim, rng=rng)


@discrete
@few
@given(seed=seeds, k=st.integers(1, 5))
def test_draws_have_these_probabilities(make: Make, seed: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    p = make(rng, k)
    check_sampler(p.sample, p.log_prob, support=outcomes(p), rng=rng)


@pytest.mark.parametrize("make", [normal, multivariate])
@few
@given(seed=seeds, dim=st.integers(1, 5))
def test_entropy_is_the_mean_surprise(make: Make, seed: int, dim: int) -> None:
    rng = np.random.default_rng(seed)
    p = make(rng, dim)
    log_p = p.log_prob(p.sample(40_000, rng))
    assert abs(p.entropy() + log_p.mean()) <= 6 * log_p.std() / math.sqrt(len(log_p))


@pytest.mark.parametrize("make", [normal, multivariate, bernoulli, categorical])
@mostly_conclusive
@few
@given(seed=seeds)
def test_divergence_is_the_mean_log_ratio(make: Make, seed: int) -> None:
    rng = np.random.default_rng(seed)
    p, q = make(rng, 3), make(rng, 3)
    check_kl(p, q, support=outcomes(p) if make in DISCRETE.values() else None, rng=rng)


@pytest.mark.parametrize("make", [normal, multivariate, mixture, bernoulli, categorical])
@few
@given(seed=seeds)
def test_a_batch_is_its_members_side_by_side(make: Make, seed: int) -> None:
    rng = np.random.default_rng(seed)
    p, q = make(rng, 4, 3), make(rng, 4, 3)
    x = p.sample(5, rng)
    assert p.batch_shape == (4,)
    assert x.shape == (5, 4, *p.event_shape)
    log_p = p.log_prob(x)
    assert log_p.shape == (5, 4)
    for i in range(4):
        np.testing.assert_allclose(member(p, i).log_prob(x[:, i]), log_p[:, i], rtol=1e-12)
        if not isinstance(p, Mixture):
            np.testing.assert_allclose(member(p, i).entropy(), p.entropy()[i], rtol=1e-12)
            np.testing.assert_allclose(kl_divergence(member(p, i), member(q, i)), kl_divergence(p, q)[i], rtol=1e-10)


def member(p: Distribution, i: int) -> Distribution:
    match p:
        case Normal():
            return Normal(p.mean[i], p.std[i])
        case MultivariateNormal():
            return MultivariateNormal(p.mean[i], p.factor[i])
        case Mixture():
            return Mixture(p.choice.logits[i], member(p.components, i))
        case Bernoulli() | Categorical():
            return type(p)(p.logits[i])
    raise TypeError(p)


# Each function of parameters with what is drawn for them: differentiable, in x as well where it is continuous.
GRADIENTS: dict[str, tuple[Callable, Callable[[np.random.Generator], list[Array]]]] = {
    "normal log_prob": (
        lambda m, s, x: Normal(m, s).log_prob(x),
        lambda r: [r.standard_normal(3), r.uniform(0.5, 2, 3), r.standard_normal((4, 3))],
    ),
    "normal entropy": (lambda s: Normal(np.zeros(3), s).entropy(), lambda r: [r.uniform(0.5, 2, (2, 3))]),
    "normal sample": (
        lambda m, s: Normal(m, s).sample(4, np.random.default_rng(7)),
        lambda r: [r.standard_normal(3), r.uniform(0.5, 2, (2, 3))],
    ),
    "normal divergence": (
        lambda m, s, n, t: kl_divergence(Normal(m, s), Normal(n, t)),
        lambda r: [r.standard_normal((2, 3)), r.uniform(0.5, 2, (2, 3)), r.standard_normal(3), r.uniform(0.5, 2, 3)],
    ),
    "multivariate log_prob": (
        lambda m, l, x: MultivariateNormal(m, l).log_prob(x),
        lambda r: [r.standard_normal(3), factor(r, 3, 3), r.standard_normal((4, 3))],
    ),
    "multivariate entropy": (lambda l: MultivariateNormal(np.zeros(3), l).entropy(), lambda r: [factor(r, 2, 3, 3)]),
    "multivariate sample": (
        lambda m, l: MultivariateNormal(m, l).sample(4, np.random.default_rng(7)),
        lambda r: [r.standard_normal((2, 3)), factor(r, 2, 3, 3)],
    ),
    "multivariate divergence": (
        lambda m, l, n, k: kl_divergence(MultivariateNormal(m, l), MultivariateNormal(n, k)),
        lambda r: [r.standard_normal(3), factor(r, 2, 3, 3), r.standard_normal(3), factor(r, 3, 3)],
    ),
    "bernoulli log_prob": (
        lambda l: Bernoulli(l).log_prob(np.array([[0.0, 1.0, 1.0], [0.0, 0.0, 1.0]])),
        lambda r: [r.standard_normal(3)],
    ),
    "bernoulli entropy": (lambda l: Bernoulli(l).entropy(), lambda r: [r.standard_normal((2, 3))]),
    "bernoulli divergence": (
        lambda l, k: kl_divergence(Bernoulli(l), Bernoulli(k)),
        lambda r: [r.standard_normal((2, 3)), r.standard_normal(3)],
    ),
    "categorical log_prob": (
        lambda l: Categorical(l).log_prob(np.array([[0, 2], [1, 1]])),
        lambda r: [r.standard_normal((2, 3))],
    ),
    "categorical entropy": (lambda l: Categorical(l).entropy(), lambda r: [r.standard_normal((2, 3))]),
    "categorical divergence": (
        lambda l, k: kl_divergence(Categorical(l), Categorical(k)),
        lambda r: [r.standard_normal((2, 3)), r.standard_normal(3)],
    ),
    "mixture log_prob": (
        lambda l, m, s, x: Mixture(l, Normal(m, s)).log_prob(x),
        lambda r: [
            r.standard_normal(3),
            r.standard_normal((3, 2)),
            r.uniform(0.5, 2, (3, 2)),
            r.standard_normal((4, 2)),
        ],
    ),
}


@pytest.mark.parametrize(("f", "draw"), GRADIENTS.values(), ids=GRADIENTS)
@mostly_conclusive
@few
@given(seed=seeds)
def test_gradients(f: Callable, draw: Callable[[np.random.Generator], list[Array]], seed: int) -> None:
    rng = np.random.default_rng(seed)
    check_vjp(f, *draw(rng), rng=rng)


def test_draws_of_choices_carry_no_gradient() -> None:
    """The gradient through a mixture's components alone would be wrong, so there is none."""
    rng = np.random.default_rng(0)
    logits, mean = (tg.tensor(rng.standard_normal(shape), requires_grad=True) for shape in ((3,), (3, 2)))
    for p in (Bernoulli(logits), Categorical(logits), Mixture(logits, Normal(mean, np.ones((3, 2))))):
        assert not p.sample(2, rng).requires_grad
    assert Normal(mean, np.ones(2)).sample(2, rng).requires_grad


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype_is_that_of_the_parameters(dtype: type) -> None:
    rng = np.random.default_rng(0)
    mean, eye = np.zeros((3, 2), dtype), np.eye(2, dtype=dtype)
    mixed = Mixture(np.zeros(3, dtype), Normal(mean, 1.0))
    for p in (Normal(mean, 1.0), MultivariateNormal(mean, eye), mixed, Bernoulli(mean)):
        x = p.sample(2, rng)
        assert x.dtype == p.log_prob(x).dtype == dtype
        if not isinstance(p, Mixture):
            assert p.entropy().dtype == kl_divergence(p, p).dtype == dtype
    p = Categorical(mean)
    assert p.log_prob(p.sample(2, rng)).dtype == p.entropy().dtype == kl_divergence(p, p).dtype == dtype
    assert Normal([0.0, 0.0], 1.0).sample(1, rng).dtype == np.float32


def test_events_may_have_any_number_of_axes() -> None:
    rng = np.random.default_rng(0)
    image = Normal(np.zeros((2, 3, 1)), 1.0, event_ndim=3)
    x = image.sample(4, rng)
    assert x.shape == (4, 2, 3, 1)
    np.testing.assert_allclose(image.log_prob(x), Normal(np.zeros(6), 1.0).log_prob(x.reshape(4, 6)), rtol=1e-13)
    np.testing.assert_allclose(image.entropy(), 3 * (1 + math.log(2 * math.pi)), rtol=1e-13)
    assert Normal(0.0, 1.0, event_ndim=0).sample(3, rng).shape == (3,)


def test_extreme_logits_stay_finite() -> None:
    l = np.array([-800.0, 800.0])
    with np.errstate(all="raise", under="ignore"):
        assert Bernoulli(l).log_prob(np.array([0.0, 1.0])) == 0
        assert Bernoulli(l).log_prob(np.array([1.0, 0.0])) == -1600
        assert kl_divergence(Bernoulli(l), Bernoulli(-l)) == 1600
        assert Categorical(l).log_prob(np.array(0)) == -1600


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: Normal(np.zeros(2), np.ones(3)), ShapeError, "mean (2,), std (3,)"),
        (lambda: Normal(0.0, 1.0), ShapeError, "event_ndim=1"),
        (lambda: Normal(np.zeros(2), 1.0, event_ndim=-1), ShapeError, "event_ndim=-1"),
        (lambda: Normal(np.zeros(2), 1.0).log_prob(np.zeros((4, 1))), ShapeError, r"(..., 2)"),
        (lambda: Normal(tg.tensor(np.zeros(2)), 1.0).log_prob(np.zeros((4, 2), np.float32)), DTypeError, "float32"),
        (lambda: MultivariateNormal(np.zeros(2), np.eye(3)), ShapeError, "(...,D)=(2,)"),
        (lambda: Categorical(1.0), ShapeError, "(...,K)"),
        (lambda: Categorical(np.zeros(3)).log_prob(np.array([3])), DataError, "K-1=2"),
        (lambda: Categorical(np.zeros(3)).log_prob(np.array([0, 5])), DataError, "K-1=2"),
        (lambda: Categorical(np.zeros(3)).log_prob(np.array([-1])), DataError, "K-1=2"),
        (lambda: Categorical(np.zeros(3)).log_prob(np.array([0.5])), DataError, "integers"),
        (lambda: Bernoulli(np.zeros(1)).log_prob(np.array([[0.5]])), DataError, "rng.random(x.shape) < x"),
        (lambda: Bernoulli(np.zeros(1)).log_prob(tg.tensor([1.0], requires_grad=True)), GraphError, "cannot carry"),
        (lambda: Mixture(np.zeros(2), Normal(np.zeros((3, 1)), 1.0)), ShapeError, "(...,K)=(2,)"),
        (lambda: Mixture(np.zeros(2), Normal(np.zeros((2, 1)), 1.0)).entropy(), TypeError, "closed form"),
        (lambda: kl_divergence(Normal(np.zeros(2), 1.0), Bernoulli(np.zeros(2))), TypeError, "Normal and Bernoulli"),
        (lambda: kl_divergence(Normal(np.zeros(2), 1.0), Normal(np.zeros(3), 1.0)), ShapeError, "(2,) and (3,)"),
        (lambda: kl_divergence(Categorical(np.zeros(2)), Categorical(np.zeros(3))), ShapeError, "K=2"),
    ],
)
def test_bad_input_is_explained(call: Callable, error: type[Exception], text: str) -> None:
    with pytest.raises(error) as raised:
        call()
    assert text in str(raised.value)
