"""Diffusion: the tables are those of the chain, one sampling step is Bayes' rule, and the bound is one."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygen as tg
from tinygen import nn
from tinygen.errors import ShapeError
from tinygen.models.common import Scaling
from tinygen.models.ddpm import DDPM, NoiseSchedule
from tinygen.models.denoisers import TimeMLP, UNet, channels_to_space, space_to_channels, time_features
from tinygen.testing import check_diffusion, rngs, schedules

seeds = st.integers(0, 2**32 - 1)
predictions = st.sampled_from(["eps", "x0", "v"])
noise_schedules = schedules(st.integers(1, 60)).map(NoiseSchedule)
few = settings(max_examples=10)


class Exact(nn.Module):
    """The best prediction for data N(mean, sd² I), which is linear in x_t. It notes the times it is asked for."""

    def __init__(self, schedule: NoiseSchedule, prediction: str, mean: float, sd: float) -> None:
        self.schedule, self.prediction, self.mean, self.sd = schedule, prediction, mean, sd
        self.anchor = nn.Parameter(np.zeros(1))  # float64: so the sampler is
        self._seen: list[int] = []  # private: a Module walks its public lists

    def forward(self, x: np.ndarray, time: np.ndarray) -> tg.Tensor:
        t = np.rint(time * self.schedule.steps).astype(int)
        self._seen += t.tolist()
        a, s = (np.sqrt(v)[:, None] for v in (self.schedule.alpha_bar[t], 1 - self.schedule.alpha_bar[t]))
        x0 = self.mean + a * self.sd**2 / (a**2 * self.sd**2 + s**2) * (x - a * self.mean)
        eps = (x - a * x0) / s
        return tg.tensor({"eps": eps, "x0": x0, "v": a * eps - s * x0}[self.prediction]) + 0 * self.anchor


def exact(
    schedule: NoiseSchedule, prediction: str = "eps", mean: float = 0.5, sd: float = 0.7, **options: object
) -> DDPM:
    return DDPM(Exact(schedule, prediction, mean, sd), schedule, (2,), prediction=prediction, **options)


@settings(max_examples=50)
@given(schedule=noise_schedules, rng=rngs())
def test_everything_follows_from_beta(schedule: NoiseSchedule, rng: np.random.Generator) -> None:
    check_diffusion(schedule, rng=rng)
    assert schedule.alpha_bar.dtype == schedule.posterior_var.dtype == np.float64


@few
@given(steps=st.integers(21, 1000), rng=rngs())
def test_the_usual_schedules(steps: int, rng: np.random.Generator) -> None:
    """Linear: β from 0.0001 to 0.02, times 1000/T. Cosine: ᾱ_t ∝ cos² of an angle that ends at π/2."""
    linear, cosine = NoiseSchedule.linear(steps), NoiseSchedule.cosine(steps)
    np.testing.assert_allclose(linear.beta[[1, -1]] * steps, [0.1, 20], rtol=1e-12)
    np.testing.assert_allclose(np.diff(linear.beta[1:], 2), 0, atol=1e-15)
    angle = (np.arange(steps) / steps + 0.008) / 1.008 * math.pi / 2
    np.testing.assert_allclose(cosine.alpha_bar[:-1], (np.cos(angle) / np.cos(angle[0])) ** 2, rtol=1e-9)
    for schedule in (linear, cosine):
        check_diffusion(schedule, rng=rng)


@given(schedule=noise_schedules, seed=seeds, dtype=st.sampled_from([np.float32, np.float64]))
def test_a_step_takes_from_the_generator_only_what_it_needs(schedule: NoiseSchedule, seed: int, dtype: type) -> None:
    x0, x = np.random.default_rng(seed).normal(size=(2, 3, 2)).astype(dtype)
    for t in range(1, schedule.steps + 1):
        for eta in (0.0, 1.0):
            rng = np.random.default_rng(seed)
            before = rng.bit_generator.state
            assert schedule.step(x0, x, t, t - 1, eta, rng).dtype == dtype
            assert (rng.bit_generator.state == before) == (t == 1 or eta == 0)


@pytest.mark.parametrize("beta", [np.linspace(1e-4, 0.02, 50), np.full(3, 0.5)], ids=["unscaled", "few"])
def test_a_schedule_that_leaves_signal_is_refused(beta: np.ndarray) -> None:
    with pytest.raises(ValueError, match=f"ᾱ_T = .* after T = {len(beta)} steps leaves signal"):
        NoiseSchedule(beta)


def test_the_limit_of_the_signal_is_one_hundredth() -> None:
    assert NoiseSchedule(np.full(2, 0.9001)).alpha_bar[-1] < 0.01
    with pytest.raises(ValueError, match="leaves signal"):
        NoiseSchedule(np.full(2, 0.8999))


@pytest.mark.parametrize("beta", [np.array([0.5, 1.0]), np.array([0.0, 0.999])])
def test_beta_out_of_range_is_refused(beta: np.ndarray) -> None:
    with pytest.raises(ValueError, match="β must lie between 0 and 1"):
        NoiseSchedule(beta)


def test_unknown_prediction_and_number_of_steps_are_refused() -> None:
    with pytest.raises(ValueError, match="prediction='noise' is none of"):
        exact(NoiseSchedule.cosine(10), "noise")
    for steps in (-1, 11):
        with pytest.raises(ValueError, match=f"steps={steps} must be from 1 to T=10"):
            exact(NoiseSchedule.cosine(10)).sample(1, np.random.default_rng(0), steps=steps)


@given(schedule=noise_schedules, prediction=predictions, seed=seeds)
def test_every_prediction_gives_x0_back(schedule: NoiseSchedule, prediction: str, seed: int) -> None:
    model = exact(schedule, prediction)
    x0, eps = np.random.default_rng(seed).normal(size=(2, schedule.steps, 2))
    t = np.arange(1, schedule.steps + 1)
    target = model.target(x0, eps, t)
    back = model.to_x0(schedule.diffuse(x0, t, eps), target, t)
    scale = 1 / np.sqrt(schedule.alpha_bar[t])[:, None]  # by which ε-prediction magnifies rounding
    assert (np.abs(back - x0) < 1e-14 * (10 + 10 * scale)).all()
    a, s = np.sqrt(schedule.alpha_bar[t])[:, None], np.sqrt(1 - schedule.alpha_bar[t])[:, None]
    np.testing.assert_array_equal(target, {"eps": eps, "x0": x0, "v": a * eps - s * x0}[prediction])


@few
@given(schedule=noise_schedules, prediction=predictions, seed=seeds)
def test_loss_is_the_mean_squared_error(schedule: NoiseSchedule, prediction: str, seed: int) -> None:
    """A network that knows its data, which are all one point, errs by nothing; shifted by c, by c²."""
    model = exact(schedule, prediction, mean=0.5, sd=0.0)
    x0 = np.full((64, 2), 0.5)
    assert model.loss(x0, np.random.default_rng(seed)).item() == pytest.approx(0, abs=1e-20)
    inner = model.network.forward
    model.network.forward = lambda x, time: inner(x, time) + 0.3
    assert model.loss(x0, np.random.default_rng(seed)).item() == pytest.approx(0.09, rel=1e-9)


@few
@given(schedule=noise_schedules, seed=seeds)
def test_every_time_is_trained_equally_often(schedule: NoiseSchedule, seed: int) -> None:
    """Counts of n draws over T times are within 6 standard deviations of n/T: the first and the last time too."""
    model, n = exact(schedule), 20_000
    model.loss(np.zeros((n, 2)), np.random.default_rng(seed))
    counts = np.bincount(model.network._seen, minlength=schedule.steps + 1)
    assert len(counts) == schedule.steps + 1
    assert counts[0] == 0
    assert np.abs(counts[1:] - n / schedule.steps).max() < 6 * math.sqrt(n / schedule.steps)


def randomise(module: nn.Module, rng: np.random.Generator) -> None:
    """No zeros: a network that starts at zero hides what it depends on."""
    for p in module.parameters():
        p.data = p.data + rng.normal(0, 0.2, p.shape).astype(p.dtype)


def networks(rng: np.random.Generator) -> list[tuple[nn.Module, tuple[int, ...]]]:
    return [
        (TimeMLP(2, rng, width=16, depth=2, features=16), (2,)),
        (UNet(1, rng, widths=(8, 16), patch=2, features=8, time_width=8), (8, 4, 1)),
        (UNet(3, rng, widths=(8, 8, 16), patch=1, features=8, time_width=8), (4, 8, 3)),
    ]


@few
@given(seed=seeds)
@pytest.mark.parametrize("which", range(3))
def test_the_network_depends_on_time_and_not_on_its_neighbours(which: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    network, shape = networks(rng)[which]
    randomise(network, rng)
    t = np.arange(1, 41, dtype=np.float32) / 40
    x = np.repeat(rng.normal(size=(1, *shape)).astype(np.float32), 40, axis=0)
    with tg.no_grad():
        y = network(x, t).data
        alone = network(x[3:5], t[3:5]).data
        at_one_time = network(x[:2], t[[3, 3]]).data
    assert y.shape == x.shape
    assert y.dtype == np.float32
    assert np.abs(np.diff(y.reshape(40, -1), axis=0)).max(axis=1).min() > 1e-4
    np.testing.assert_allclose(y[3:5], alone, atol=1e-4 * np.abs(y).max())
    np.testing.assert_allclose(np.stack([y[3], y[3]]), at_one_time, atol=1e-4 * np.abs(y).max())


@few
@given(seed=seeds, size=st.integers(1, 3))
def test_space_to_channels_is_inverted_and_keeps_squares_together(seed: int, size: int) -> None:
    x = np.random.default_rng(seed).normal(size=(2, 2 * size, 3 * size, 2))
    y = space_to_channels(x, size)
    assert y.shape == (2, 2, 3, 2 * size**2)
    np.testing.assert_array_equal(channels_to_space(y, size), x)
    np.testing.assert_array_equal(y[:, 1, 2], x[:, size:, 2 * size :].reshape(2, -1))


def test_pixels_fill_the_range_that_estimates_are_clipped_to() -> None:
    pixels = np.array([0.0, 1.0], np.float32)
    np.testing.assert_array_equal(DDPM.unet((4, 4, 1), np.random.default_rng(0)).scaling(pixels), [-1, 1])


@pytest.mark.parametrize("steps", [0, 201])
def test_steps_that_the_schedule_has_not_are_refused(steps: int) -> None:
    with pytest.raises(ValueError, match=f"steps={steps} must be from 1 to T=200"):
        DDPM.unet((4, 4, 1), np.random.default_rng(0)).times(steps)


def test_frequencies_of_time_are_geometric() -> None:
    t, n = 1e-6, 8
    frequencies = time_features(np.array([t]), 2 * n, np.dtype(np.float64))[0, :n] / t  # sin(t f) is t f here
    np.testing.assert_allclose(frequencies, 100 * 1000 ** (-np.arange(n) / n), rtol=1e-8)


def test_times_may_have_another_dtype_than_points() -> None:
    network, x = TimeMLP(2, np.random.default_rng(0)), np.ones((3, 2), np.float32)
    network.last.weight.data += 1
    times = np.array([0.25, 0.5, 1])
    np.testing.assert_array_equal(network(x, times).data, network(x, times.astype(np.float32)).data)


@pytest.mark.parametrize(("h", "w"), [(26, 28), (28, 26)])
def test_images_that_cannot_be_halved_are_refused(h: int, w: int) -> None:
    model = DDPM.unet((h, w, 1), np.random.default_rng(0))
    with pytest.raises(ShapeError, match=rf"H and W divisible by 4, got \(2, {h}, {w}, 1\)"):
        model.train_step(np.zeros((2, h, w, 1), np.float32), np.random.default_rng(0))


@few
@given(
    prediction=predictions,
    eta=st.sampled_from([0.0, 0.5, 1.0]),
    steps=st.integers(1, 40),
    clip=st.booleans(),
    seed=seeds,
)
def test_one_point_is_sampled_exactly(prediction: str, eta: float, steps: int, clip: bool, seed: int) -> None:
    """Data that are all one point leave no doubt, so any sampler ends there, if its last step adds no noise."""
    schedule = NoiseSchedule.cosine(40)
    model = exact(schedule, prediction, 0.3, 0.0, scaling=Scaling(5, 2), clip=clip)
    x = model.sample(4, np.random.default_rng(seed), steps=steps, eta=eta)
    np.testing.assert_allclose(x, 5.6, rtol=1e-9)
    first = 40 if clip else np.flatnonzero(np.sqrt(1 / schedule.alpha_bar - 1) <= 25)[-1]
    assert model.network._seen[0] == first
    assert len(model.network._seen) == 4 * min(steps, first)


@few
@given(prediction=predictions, eta=st.sampled_from([0.0, 1.0]), seed=seeds)
def test_a_gaussian_is_sampled(prediction: str, eta: float, seed: int) -> None:
    """With the best predictions, 400 steps come within 3 % of the standard deviation; 6 standard errors are added."""
    model, n = exact(NoiseSchedule.cosine(400), prediction, 0.5, 0.7), 4000
    x = model.sample(n, np.random.default_rng(seed), eta=eta)
    assert np.abs(x.mean(axis=0) - 0.5).max() < 0.7 * 6 / math.sqrt(n) + 0.01
    assert np.abs(x.std(axis=0) / 0.7 - 1).max() < 6 / math.sqrt(2 * n) + 0.03


@few
@given(seed=seeds, steps=st.sampled_from([20, 100]))
def test_elbo_is_below_the_likelihood_and_near_it(seed: int, steps: int) -> None:
    """With the best predictions only the discretisation is lost, the less the more steps there are."""
    model = exact(NoiseSchedule.cosine(steps), "v", 0.5, 0.7, scaling=Scaling(np.array([1.0, -1.0]), 3.0))
    rng, n = np.random.default_rng(seed), 4000
    u = rng.normal(size=(n, 2))
    x = (0.5 + 0.7 * u) * 3.0 + np.array([1.0, -1.0])
    log_p = -0.5 * (u**2).sum(axis=1) - math.log(2 * math.pi) - 2 * math.log(0.7 * 3.0)
    gap = log_p - model.elbo(x, rng)
    error = 6 * gap.std() / math.sqrt(n)
    assert gap.shape == (n,)
    assert gap.mean() > -error
    assert gap.mean() < 10 / steps + error


@few
@given(seed=seeds)
@pytest.mark.parametrize("which", range(3))
def test_the_same_seed_gives_the_same_bits_also_through_a_saved_state(which: int, seed: int) -> None:
    def make(seed: int) -> DDPM:
        network, shape = networks(np.random.default_rng(seed))[which]
        return DDPM(network, NoiseSchedule.cosine(10), shape, scaling=Scaling.of_range(0, 2), clip=which > 0)

    model, other = make(seed), make(seed + 1)
    x = np.random.default_rng(seed).random((6, *model.shape), dtype=np.float32)
    model.train_step(x, np.random.default_rng(seed))
    other.load_state_dict(model.state_dict())
    other.optimizer.load_state_dict(model.optimizer.state_dict())
    assert model.train_step(x, np.random.default_rng(seed)) == other.train_step(x, np.random.default_rng(seed))
    samples = [m.sample(3, np.random.default_rng(seed)) for m in (model, other)]
    np.testing.assert_array_equal(*samples)
    path = model.sample_path(3, np.random.default_rng(seed), frames=4)
    assert path.shape == (4, *samples[0].shape)
    assert type(path) is type(samples[0]) is np.ndarray
    assert path.dtype == samples[0].dtype == np.float32
    np.testing.assert_array_equal(path[-1], samples[0])
    noise = np.random.default_rng(seed).standard_normal(samples[0].shape, dtype=np.float32)
    np.testing.assert_allclose(path[0], noise + 1, rtol=1e-6)
    if which:  # images
        assert (samples[0] >= 0).all() and (samples[0] <= 2).all()


@few
@given(seed=seeds)
def test_a_step_of_training_lowers_the_loss(seed: int) -> None:
    model = DDPM.mlp(np.random.default_rng(seed))
    x = np.random.default_rng(seed).normal(size=(64, 2)).astype(np.float32)
    losses = [model.train_step(x, np.random.default_rng(seed))["loss"] for _ in range(5)]
    assert losses[-1] < losses[0]  # the same noise each time
