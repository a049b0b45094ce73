"""The adversarial game: each loss is its formula, each step moves one player, and R1 has the right gradient."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygen as tg
from tinygen import nn
from tinygen.errors import ShapeError
from tinygen.models.common import Scaling
from tinygen.models.gan import GAN, discriminator_loss, generator_loss, r1_penalty

seeds = st.integers(0, 2**32 - 1)
few = settings(max_examples=10)


def small(seed: int, **options: object) -> GAN:
    rng = np.random.default_rng(seed)
    return GAN(nn.MLP([3, 8, 4], rng), nn.MLP([4, 8, 1], rng, "silu"), 3, **options)


def batch_for(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(6, 4)).astype(np.float32)


def values(module: nn.Module) -> list[np.ndarray]:
    return [p.data.copy() for p in module.parameters()]


def same(before: list[np.ndarray], after: list[np.ndarray]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


@given(seed=seeds)
def test_losses_are_expected_log_probabilities(seed: int) -> None:
    real, fake = np.random.default_rng(seed).normal(size=(2, 5, 1)) * 3
    p_real, p_fake = 1 / (1 + np.exp(-real)), 1 / (1 + np.exp(-fake))
    expected = -np.log(p_real).mean() - np.log(1 - p_fake).mean()
    np.testing.assert_allclose(discriminator_loss(tg.tensor(real), tg.tensor(fake)).data, expected, rtol=1e-12)
    np.testing.assert_allclose(generator_loss(tg.tensor(fake)).data, -np.log(p_fake).mean(), rtol=1e-12)


def test_losses_and_their_gradients_stay_finite_where_d_is_sure() -> None:
    logits = tg.tensor(np.array([[-1000.0], [1000.0]]), requires_grad=True)
    np.testing.assert_allclose(generator_loss(logits).data, 500)
    np.testing.assert_allclose(discriminator_loss(logits, logits).data, 1000)
    np.testing.assert_allclose(tg.grad(generator_loss(logits), logits).data, [[-0.5], [0]])


@few
@given(seed=seeds)
def test_r1_is_half_the_mean_squared_slope(seed: int) -> None:
    """For D(x) = w·x the slope is w everywhere; for D(x) = ½ x·A x it is ½ (A + Aᵀ) x, another one in each row."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(5, 3))
    layer = nn.Linear(3, 1, rng)
    layer.weight.data = layer.weight.data.astype(np.float64)
    layer.bias.data = layer.bias.data.astype(np.float64)
    np.testing.assert_allclose(r1_penalty(layer, x).data, 0.5 * (layer.weight.data**2).sum(), rtol=1e-12)
    a = rng.normal(size=(3, 3))
    slope = x @ (a + a.T) / 2
    penalty = r1_penalty(lambda inputs: 0.5 * tg.sum(inputs * (inputs @ a), 1), x)
    np.testing.assert_allclose(penalty.data, 0.5 * (slope**2).sum(axis=1).mean(), rtol=1e-12)


@few
@given(seed=seeds)
@pytest.mark.parametrize("form", ["mlp", "conv"])
def test_gradient_of_r1_is_that_of_finite_differences(form: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    if form == "mlp":
        critic, x = nn.MLP([4, 6, 6, 1], rng, "silu"), rng.normal(size=(3, 4))
    else:
        layers = nn.Conv2d(2, 3, 3, rng, stride=2, padding=1), tg.silu, lambda h: tg.reshape(h, (3, -1))
        critic, x = nn.Sequential(*layers, nn.Linear(12, 1, rng)), rng.normal(size=(3, 4, 4, 2))
    parameters = list(critic.parameters())
    for p in parameters:
        p.data = p.data.astype(np.float64) * 2
    directions = [rng.normal(size=p.shape) for p in parameters]
    gradients = tg.grad(r1_penalty(critic, x), parameters, allow_unused=True)
    slope = sum((g.data * d).sum() for g, d in zip(gradients, directions, strict=True) if g is not None)
    assert gradients[0] is not None
    h, ends = 1e-5, []
    for step in (h, -2 * h):
        for p, d in zip(parameters, directions, strict=True):
            p.data = p.data + step * d
        ends.append(r1_penalty(critic, x).item())
    # Central differences err by rounding, some ε |f| / h, and by h² / 6 of the third derivative.
    scale = 1 + max(map(abs, ends))
    assert slope == pytest.approx((ends[0] - ends[1]) / (2 * h), rel=1e-6, abs=1e-7 * scale)


@few
@given(seed=seeds, every=st.integers(1, 3))
def test_the_step_is_that_of_the_written_losses(seed: int, every: int) -> None:
    """Two steps beside the same written out: D's loss with its penalty where it is due, then G's with the new D."""
    model, other = (small(seed, r1=0.7, r1_every=every) for _ in range(2))
    for step in range(2):
        x = batch_for(seed + step)
        parts = model.train_step(x, np.random.default_rng(seed + step))
        z = np.random.default_rng(seed + step).standard_normal((6, 3), dtype=np.float32)
        g, d = other.generator, other.discriminator
        loss_d = tg.mean(tg.softplus(-d(x))) + tg.mean(tg.softplus(d(g(z).detach())))
        assert parts["d_loss"] == pytest.approx(loss_d.item(), rel=1e-6)
        if step % every == 0:
            penalty = 0.7 * every * r1_penalty(d, x)
            assert parts["penalty"] == pytest.approx(penalty.item(), rel=1e-6)
            loss_d = loss_d + penalty
        else:
            assert parts["penalty"] == 0
        other.discriminator_optimizer.minimize(loss_d)
        loss_g = tg.mean(tg.softplus(-d(g(z))))
        assert parts["g_loss"] == pytest.approx(loss_g.item(), rel=1e-6)
        assert parts["g_grad_norm"] == pytest.approx(other.generator_optimizer.minimize(loss_g).item(), rel=1e-4)
        for ours, written in zip(values(model), values(other), strict=True):
            np.testing.assert_allclose(ours, written, atol=2e-5)  # Adam's first steps amplify rounding where g ≈ 0


@few
@given(seed=seeds, player=st.sampled_from(["generator", "discriminator"]))
def test_each_optimizer_moves_its_own_player_only(seed: int, player: str) -> None:
    model = small(seed)
    idle = model.discriminator_optimizer if player == "generator" else model.generator_optimizer
    idle.lr_scale = 0.0
    before = {name: values(getattr(model, name)) for name in ("generator", "discriminator")}
    model.train_step(batch_for(seed), np.random.default_rng(seed))
    for name, old in before.items():
        assert same(old, values(getattr(model, name))) == (name != player)


@few
@given(seed=seeds)
def test_accuracy_counts_both_sides(seed: int) -> None:
    model = small(seed)
    x, z = batch_for(seed), np.random.default_rng(seed).standard_normal((6, 3), dtype=np.float32)
    right = (model.discriminator(x).data > 0).sum() + (model.discriminator(model.generator(z)).data < 0).sum()
    assert model.train_step(x, np.random.default_rng(seed))["accuracy"] == pytest.approx(right / 12)


def conv(seed: int) -> GAN:
    return GAN.conv((8, 4, 2), np.random.default_rng(seed), latent=3, width=4)


@few
@given(seed=seeds)
@pytest.mark.parametrize("make", [small, conv, lambda seed: GAN.mlp(np.random.default_rng(seed), width=8)])
def test_the_same_seed_gives_the_same_bits_also_through_a_saved_state(make: object, seed: int) -> None:
    model, other = make(seed), make(seed + 1)
    shape = {small: (6, 4), conv: (6, 8, 4, 2)}.get(make, (6, 2))
    x = np.random.default_rng(seed).random(shape, dtype=np.float32)
    model.train_step(x, np.random.default_rng(seed))
    other.load_state_dict(model.state_dict())
    for name in ("generator_optimizer", "discriminator_optimizer"):
        getattr(other, name).load_state_dict(getattr(model, name).state_dict())
    for _ in range(4):  # past the next lazy penalty: the count of steps is in the state
        parts = [m.train_step(x, np.random.default_rng(seed)) for m in (model, other)]
        assert parts[0] == parts[1]
    assert same(values(model), values(other))
    samples = [m.sample(5, np.random.default_rng(seed)) for m in (model, other)]
    np.testing.assert_array_equal(*samples)
    assert type(samples[0]) is np.ndarray
    assert samples[0].shape == (5, *shape[1:])
    assert samples[0].dtype == np.float32


def test_sampling_is_in_evaluation_mode_and_in_the_units_of_data() -> None:
    model = conv(0)
    x = np.random.default_rng(0).random((6, 8, 4, 2), dtype=np.float32)
    model.train_step(x, np.random.default_rng(0))
    state = model.state_dict()
    samples = model.sample(50, np.random.default_rng(1))
    alone = model.sample(1, np.random.default_rng(1))
    np.testing.assert_allclose(samples[:1], alone, atol=1e-5)  # no statistics of the batch
    assert (samples >= 0).all() and (samples <= 1).all()
    assert model.training
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, state[name])


@given(seed=seeds)
def test_scaling_is_inverted_and_standardises(seed: int) -> None:
    x = np.random.default_rng(seed).normal(2, 3, size=(50, 2)).astype(np.float32)
    scaling = Scaling.of_data(x)
    np.testing.assert_allclose(scaling(x).mean(axis=0), 0, atol=1e-5)
    assert scaling(x).var(axis=0).mean() == pytest.approx(1, rel=1e-5)
    np.testing.assert_allclose(scaling.inverse(scaling(x)), x, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(Scaling.of_range(0, 1)(np.array([0.0, 0.25, 1.0])), [-1, -0.5, 1])


def test_images_that_four_does_not_divide_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"GAN\.conv: four must divide H and W of \(H,W,C\)=\(26, 28, 1\)"):
        GAN.conv((26, 28, 1), np.random.default_rng(0))
