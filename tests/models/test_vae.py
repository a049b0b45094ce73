"""Autoencoder and VAE: the bound is a bound, its parts are what the formulas say, and state and seeds behave."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygen as tg
from tinygen import nn
from tinygen.errors import ShapeError
from tinygen.models.vae import VAE, Autoencoder, BernoulliLikelihood, GaussianLikelihood, kl_to_prior

seeds = st.integers(0, 2**32 - 1)
few = settings(max_examples=10)


def small(kind: type[Autoencoder], seed: int, form: str = "mlp", **options: object) -> Autoencoder:
    rng = np.random.default_rng(seed)
    shape = (8, 4, 2) if form == "conv" else (5,)
    return getattr(kind, form)(shape, 3, rng, width=8, **options)


@given(seed=seeds)
def test_kl_is_that_of_its_definition(seed: int) -> None:
    """KL = E_q[log q - log p] = ½ Σ (-log σ² - 1) + ½ Σ E[z²], here by Gauss-Hermite quadrature, exact for squares."""
    rng = np.random.default_rng(seed)
    mean, log_var = rng.normal(size=(2, 4, 3))
    e, weight = np.polynomial.hermite_e.hermegauss(8)
    weight /= weight.sum()
    z = mean[..., None] + np.exp(log_var / 2)[..., None] * e
    log_q = -0.5 * (e**2 + log_var[..., None])
    expected = ((log_q + 0.5 * z**2) @ weight).sum(axis=1)
    np.testing.assert_allclose(kl_to_prior(mean, log_var), expected, rtol=1e-12)


@given(seed=seeds, scale=st.sampled_from([1e-3, 1.0, 5.0]))
def test_kl_is_positive_and_zero_at_the_prior(seed: int, scale: float) -> None:
    mean, log_var = np.random.default_rng(seed).normal(size=(2, 4, 3)) * scale
    assert (kl_to_prior(mean, log_var) > 0).all()
    np.testing.assert_array_equal(kl_to_prior(0 * mean, 0 * log_var), np.zeros(4))


def linear_gaussian(seed: int) -> tuple[VAE, np.ndarray, np.ndarray]:
    """x = W z + b + σ ε in float64, with a random encoder; also mean and covariance of x."""
    rng = np.random.default_rng(seed)
    sigma = float(rng.uniform(0.3, 2))
    model = VAE(nn.Linear(3, 4, rng), nn.Linear(2, 3, rng), 2, GaussianLikelihood(sigma)).astype(np.float64)
    sigma = model.likelihood.sigma
    w, b = model.decoder.weight.data, model.decoder.bias.data
    return model, b, w.T @ w + sigma**2 * np.eye(3)


def log_normal(x: np.ndarray, mean: np.ndarray, cov: np.ndarray) -> np.ndarray:
    d = x - mean
    return -0.5 * (np.einsum("ni,ij,nj->n", d, np.linalg.inv(cov), d) + np.linalg.slogdet(2 * np.pi * cov)[1])


@few
@given(seed=seeds)
def test_elbo_is_below_the_likelihood_by_the_kl_to_the_posterior(seed: int) -> None:
    """log p(x) - E[ELBO] = KL(q(z | x) ‖ p(z | x)), closed for Gaussians; n draws come within 6 standard errors."""
    model, mean, cov = linear_gaussian(seed)
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(1, 3))
    draws = np.asarray(model.elbo(np.repeat(x, 20_000, axis=0), rng).data)
    sigma = model.likelihood.sigma
    w, b = model.decoder.weight.data, model.decoder.bias.data
    posterior_cov = np.linalg.inv(np.eye(2) + w @ w.T / sigma**2)
    posterior_mean = (posterior_cov @ w @ (x - b).T / sigma**2)[:, 0]
    q_mean, q_log_var = (t.data[0] for t in model.posterior(x))
    d, precision = q_mean - posterior_mean, np.linalg.inv(posterior_cov)
    gap = 0.5 * (np.trace(precision @ np.diag(np.exp(q_log_var))) - 2 + d @ precision @ d)
    gap += 0.5 * (np.linalg.slogdet(posterior_cov)[1] - q_log_var.sum())
    error = log_normal(x, mean, cov)[0] - draws.mean() - gap
    assert gap > 0
    assert abs(error) < 6 * draws.std() / math.sqrt(len(draws)) + 1e-12


@few
@given(seed=seeds)
def test_samples_with_noise_have_the_models_distribution(seed: int) -> None:
    """Each whitened moment of a Gaussian's n draws is within 6 standard errors of its value."""
    model, mean, cov = linear_gaussian(seed)
    n = 20_000
    x = model.sample(n, np.random.default_rng(seed), noise=True)
    u = np.linalg.solve(np.linalg.cholesky(cov), (x - mean).T)
    assert np.abs(u.mean(axis=1)).max() < 6 / math.sqrt(n)
    assert np.abs(u @ u.T / n - np.eye(3)).max() < 6 * math.sqrt(2 / n)


@given(seed=seeds)
def test_bernoulli_likelihood_sums_to_one_over_all_images(seed: int) -> None:
    logits = tg.tensor(np.random.default_rng(seed).normal(size=(1, 2, 2, 1)) * 3)
    images = ((np.arange(16)[:, None] >> np.arange(4)) & 1).astype(float).reshape(16, 2, 2, 1)
    log_p = BernoulliLikelihood().log_prob(images, logits)
    assert log_p.shape == (16,)
    assert np.exp(log_p.data).sum() == pytest.approx(1, abs=1e-12)


@given(seed=seeds)
def test_grey_is_binarised_anew_and_binary_is_kept(seed: int) -> None:
    rng = np.random.default_rng(seed)
    grey = rng.uniform(0.2, 0.8, size=(2, 50)).astype(np.float32)
    likelihood = BernoulliLikelihood()
    drawn = np.stack([likelihood.observe(grey, rng) for _ in range(400)])
    assert set(np.unique(drawn)) == {0, 1}
    assert drawn.dtype == np.float32
    assert np.abs(drawn.mean(axis=0) - grey).max() < 6 * 0.5 / math.sqrt(400)
    np.testing.assert_array_equal(likelihood.observe(drawn[0], rng), drawn[0])


@few
@given(seed=seeds)
@pytest.mark.parametrize("likelihood", [BernoulliLikelihood, GaussianLikelihood])
def test_gradient_of_elbo_is_that_of_finite_differences(likelihood: type, seed: int) -> None:
    """Reparameterised: with the noise held, the bound is a smooth function of every parameter."""
    rng = np.random.default_rng(seed)
    model = VAE(nn.MLP([5, 8, 6], rng, "silu"), nn.MLP([3, 8, 5], rng, "silu"), 3, likelihood()).astype(np.float64)
    x = (rng.random((4, 5)) < 0.5).astype(float)

    def bound() -> tg.Tensor:
        return tg.sum(model.elbo(x, np.random.default_rng(seed)))

    parameters = list(model.parameters())
    directions = [np.random.default_rng(seed + 1).normal(size=p.shape) for p in parameters]
    slope = sum((g.data * d).sum() for g, d in zip(tg.grad(bound(), parameters), directions, strict=True))
    h, values = 1e-5, []
    for step in (h, -2 * h):
        for p, d in zip(parameters, directions, strict=True):
            p.data = p.data + step * d
        values.append(bound().item())
    # Central differences err by rounding, some ε |f| / h = 1e-9, and by h² / 6 = 2e-11 of the third derivative.
    assert slope == pytest.approx((values[0] - values[1]) / (2 * h), rel=1e-7, abs=1e-6)


@few
@given(seed=seeds)
@pytest.mark.parametrize("form", ["mlp", "conv"])
@pytest.mark.parametrize("kind", [Autoencoder, VAE])
def test_a_step_lowers_the_loss_and_repeats_bit_for_bit(kind: type[Autoencoder], form: str, seed: int) -> None:
    models = [small(kind, seed, form, lr=1e-3) for _ in range(2)]
    shape = (6, 8, 4, 2) if form == "conv" else (6, 5)
    batch = (np.random.default_rng(seed).random(shape) < 0.5).astype(np.float32)
    losses = [[m.train_step(batch, np.random.default_rng(seed))["loss"] for _ in range(3)] for m in models]
    assert losses[0] == losses[1]
    assert losses[0][2] < losses[0][0]  # the same batch and the same noise each time
    for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True):
        np.testing.assert_array_equal(a.data, b.data)


@few
@given(seed=seeds)
@pytest.mark.parametrize("form", ["mlp", "conv"])
@pytest.mark.parametrize("kind", [Autoencoder, VAE])
def test_state_is_everything_and_values_are_plain_arrays(kind: type[Autoencoder], form: str, seed: int) -> None:
    model, other = small(kind, seed, form), small(kind, seed + 1, form)
    other.load_state_dict(model.state_dict())
    shape = (8, 4, 2) if form == "conv" else (5,)
    x = np.random.default_rng(seed).random((4, *shape), dtype=np.float32)
    samples = [m.sample(4, np.random.default_rng(seed)) for m in (model, other)]
    np.testing.assert_array_equal(*samples)
    drawn = model.sample(4, np.random.default_rng(seed), noise=True)
    for array in (samples[0], drawn, model.reconstruct(x)):
        assert type(array) is np.ndarray
        assert array.shape == (4, *shape)
        assert array.dtype == np.float32
        assert (array >= 0).all() and (array <= 1).all()
    assert model.encode(x).shape == (4, 3)
    np.testing.assert_array_equal(model.reconstruct(x), model.decode(model.encode(x)))
    assert model.training


def test_loss_is_the_mean_negative_elbo() -> None:
    model, rng = small(VAE, 0), np.random.default_rng(1)
    x = (rng.random((6, 5)) < 0.5).astype(np.float32)
    elbo = model.elbo(x, np.random.default_rng(2))
    parts = model.train_step(x, np.random.default_rng(2))
    assert elbo.shape == (6,)
    assert parts["loss"] == pytest.approx(-float(elbo.data.mean()), rel=1e-6)
    assert parts["loss"] == pytest.approx(parts["reconstruction"] + parts["kl"], rel=1e-6)


def test_images_that_four_does_not_divide_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"VAE\.conv: four must divide H and W of \(H,W,C\)=\(28, 27, 1\)"):
        VAE.conv((28, 27, 1), 2, np.random.default_rng(0))
    VAE.conv((8, 12, 1), 2, np.random.default_rng(0))  # these four divides
