"""Denoising diffusion: DDPM (Ho, Jain and Abbeel 2020), and its sampling in fewer steps, DDIM (Song et al. 2021)."""

import math
from collections.abc import Iterator
from typing import Any, Literal, Self

import numpy as np

import tinygen as tg
from tinygen import Tensor, nn, optim
from tinygen.models.common import Scaling, normal
from tinygen.models.denoisers import TimeMLP, UNet
from tinygen.nn import evaluation

Array = np.ndarray
Prediction = Literal["eps", "x0", "v"]


class NoiseSchedule:
    """How fast data become noise: x_t = √(1-β_t) x_{t-1} + √β_t ε for t = 1 … T, hence x_t = √ᾱ_t x_0 + √(1-ᾱ_t) ε.

    Parameters
    ----------
    beta : ``(T,)``, β_1 … β_T, between 0 and 1

    Attributes
    ----------
    steps : T
    beta, alpha_bar, posterior_var : tables ``(T + 1,)`` in float64 *whose index is t*: β_t, ᾱ_t = Π (1-β), and
        β̃_t = β_t (1-ᾱ_{t-1}) / (1-ᾱ_t), the variance of q(x_{t-1} | x_t, x_0) (Ho et al. 2020, eq. 7).
        At t = 0 are the data: β_0 = 0, ᾱ_0 = 1, β̃_0 = 0. So β̃_1 = 0: nothing is random in the last step.

    Raises
    ------
    ValueError : a β is out of range, or ᾱ_T > 0.01, so that x_T still shows the data and sampling could not start from
        pure noise
    """

    def __init__(self, beta: Array) -> None:
        if not np.all((beta > 0) & (beta < 1)):
            raise ValueError(
                f"NoiseSchedule: β must lie between 0 and 1, got {beta.min():.4g} to {beta.max():.4g}; take more steps"
            )
        self.steps = len(beta)
        self.beta = np.concatenate([[0.0], beta])
        self.alpha_bar = np.cumprod(1 - self.beta)
        if self.alpha_bar[-1] > 0.01:
            raise ValueError(
                f"NoiseSchedule: ᾱ_T = {self.alpha_bar[-1]:.3g} after T = {self.steps} steps leaves signal in the "
                "noise that sampling starts from; ᾱ_T must be at most 0.01: take larger β or more steps"
            )
        self.posterior_var = np.zeros(self.steps + 1)
        self.posterior_var[1:] = beta * (1 - self.alpha_bar[:-1]) / (1 - self.alpha_bar[1:])

    @classmethod
    def linear(cls, steps: int) -> Self:
        """β from 0.0001 to 0.02 for T = 1000 (Ho et al. 2020, section 4), times 1000/T so that ᾱ_T hardly changes."""
        return cls(np.linspace(1e-4, 0.02, steps) * 1000 / steps)

    @classmethod
    def cosine(cls, steps: int) -> Self:
        """ᾱ_t ∝ cos²(π/2 · (t/T + s)/(1 + s)) with s = 0.008, β at most 0.999 (Nichol and Dhariwal 2021, eq. 17)."""
        angle = (np.arange(steps + 1) / steps + 0.008) / 1.008 * math.pi / 2
        alpha_bar = np.cos(angle) ** 2
        return cls(np.minimum(1 - alpha_bar[1:] / alpha_bar[:-1], 0.999))

    def signal_and_noise(self, t: int | Array, x: Any) -> tuple[Array, Array]:
        """√ᾱ_t and √(1-ᾱ_t) in the dtype of x ``(N, ...)``, of a shape that broadcasts with it."""
        alpha_bar = self.alpha_bar[np.reshape(t, (-1,) + (1,) * (x.ndim - 1))]
        return np.sqrt(alpha_bar).astype(x.dtype), np.sqrt(1 - alpha_bar).astype(x.dtype)

    def diffuse(self, x0: Array, t: int | Array, eps: Array) -> Array:
        """A draw from q(x_t | x_0), given its noise ε."""
        a, s = self.signal_and_noise(t, x0)
        return a * x0 + s * eps

    def posterior_mean(self, x0: Array, x: Array, t: int) -> Array:
        """The mean of q(x_{t-1} | x_t, x_0) (Ho et al. 2020, eq. 7)."""
        before, now, beta = float(self.alpha_bar[t - 1]), float(self.alpha_bar[t]), float(self.beta[t])
        return math.sqrt(before) * beta / (1 - now) * x0 + math.sqrt(1 - beta) * (1 - before) / (1 - now) * x

    def step(self, x0: Array, x: Array, t: int, s: int, eta: float, rng: np.random.Generator) -> Array:
        """From x_t to x_s, s < t, if the data were ``x0`` (Song et al. 2021, eq. 12 and 16).

        Of the noise in x_s, variance σ² = η² (1-ᾱ_s)/(1-ᾱ_t) (1-ᾱ_t/ᾱ_s) is fresh and the rest is that of x_t. With η =
        0 nothing is fresh (DDIM). With η = 1 and s = t - 1 this draws from q(x_{t-1} | x_t, x_0), the ancestral step of
        Ho et al. At s = 0, σ = 0.
        """
        now, then = self.alpha_bar[t], self.alpha_bar[s]
        eps = (x - math.sqrt(now) * x0) / math.sqrt(1 - now)
        var = eta**2 * (1 - then) / (1 - now) * (1 - now / then)
        x_s = math.sqrt(then) * x0 + math.sqrt(max(1 - then - var, 0.0)) * eps
        return x_s + math.sqrt(var) * rng.standard_normal(x.shape, dtype=x.dtype.type) if var > 0 else x_s


class DDPM(nn.Module):
    """A network that undoes a little noise, applied many times.

    With a = √ᾱ_t and s = √(1-ᾱ_t), noisy data are x_t = a x_0 + s ε. The network sees x_t and t and learns one of

        ε,    x_0,    v = a ε - s x_0  (Salimans and Ho 2022, appendix D),

    any of which gives the others: x_0 = (x_t - s ε) / a = a x_t - s v. The loss is the mean squared error at a t drawn
    uniformly from 1 … T (Ho et al. 2020, eq. 14). To sample, x_T ~ N(0, I) goes down to x_0 by `NoiseSchedule.step`.

    Parameters
    ----------
    network : (x ``(N, *shape)``, t/T ``(N,)``, of one dtype) to an array shaped as x; in training, both are Tensors
    schedule : see `NoiseSchedule`
    shape : of one example
    prediction : what the network learns: "eps", "x0" or "v"
    scaling : from data to the network's units, in which they should have a size of about 1
    clip : whether the data fill a known range, which ``scaling`` maps to [-1, 1]. Estimates of x_0 are clipped to it
        then.
    sample_steps : how many steps `sample` takes if not told; None is all T
    lr, max_norm : of Adam, and the bound of the gradient's norm
    """

    def __init__(
        self,
        network: nn.Module,
        schedule: NoiseSchedule,
        shape: tuple[int, ...],
        *,
        prediction: Prediction = "eps",
        scaling: Scaling | None = None,
        clip: bool = False,
        sample_steps: int | None = None,
        lr: float = 1e-3,
        max_norm: float = 1.0,
    ) -> None:
        if prediction not in ("eps", "x0", "v"):
            raise ValueError(f"DDPM: prediction={prediction!r} is none of 'eps', 'x0', 'v'")
        self.network, self.schedule, self.shape = network, schedule, shape
        self.prediction, self.clip, self.sample_steps = prediction, clip, sample_steps
        self.scaling = scaling or Scaling()
        self.optimizer = optim.Adam(network.parameters(), lr, max_norm=max_norm)

    @classmethod
    def mlp(
        cls,
        rng: np.random.Generator,
        *,
        scaling: Scaling | None = None,
        schedule: NoiseSchedule | None = None,
        prediction: Prediction = "eps",
        lr: float = 1e-3,
    ) -> Self:
        """For points of the plane: `TimeMLP`, T = 100."""
        schedule = schedule or NoiseSchedule.cosine(100)
        return cls(TimeMLP(2, rng), schedule, (2,), prediction=prediction, scaling=scaling, lr=lr)

    @classmethod
    def unet(
        cls,
        shape: tuple[int, int, int],
        rng: np.random.Generator,
        *,
        schedule: NoiseSchedule | None = None,
        prediction: Prediction = "v",
        sample_steps: int | None = 50,
        lr: float = 2e-3,
    ) -> Self:
        """For images of ``shape`` (H, W, C) in [0, 1]: `UNet`, T = 200."""
        return cls(
            UNet(shape[2], rng),
            schedule or NoiseSchedule.cosine(200),
            shape,
            prediction=prediction,
            scaling=Scaling.of_range(0, 1),
            clip=True,
            sample_steps=sample_steps,
            lr=lr,
        )

    def train_step(self, batch: Array, rng: np.random.Generator) -> dict[str, float]:
        """One step of Adam on a batch; the mean squared error."""
        loss, norm = self._descend(*self._noisy(self.scaling(batch), rng))
        return {"loss": loss.item(), "grad_norm": norm.item()}

    @tg.replayed
    def _descend(self, x: Tensor, time: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        loss = self._error(x, time, target)
        return loss, self.optimizer.minimize(loss)

    def loss(self, x0: Array, rng: np.random.Generator) -> Tensor:
        """The mean squared error of the prediction for scaled data, each with a noise and a t of its own."""
        return self._error(*self._noisy(x0, rng))

    def _error(self, x: Any, time: Any, target: Any) -> Tensor:
        return tg.mean(tg.square(self.network(x, time) - target))

    def _noisy(self, x0: Array, rng: np.random.Generator) -> tuple[Array, Array, Array]:
        """Noisy data x_t, their times t/T, and what the network should say of them."""
        t = rng.integers(1, self.schedule.steps, len(x0), endpoint=True)
        eps = rng.standard_normal(x0.shape, dtype=x0.dtype.type)
        time = (t / self.schedule.steps).astype(x0.dtype)
        return self.schedule.diffuse(x0, t, eps), time, self.target(x0, eps, t)

    def target(self, x0: Array, eps: Array, t: int | Array) -> Array:
        """What the network should say."""
        match self.prediction:
            case "eps":
                return eps
            case "x0":
                return x0
            case _:
                a, s = self.schedule.signal_and_noise(t, x0)
                return a * eps - s * x0

    def to_x0(self, x: Array, predicted: Any, t: int | Array) -> Any:
        """x_0 from x_t and what the network says."""
        a, s = self.schedule.signal_and_noise(t, x)
        match self.prediction:
            case "eps":
                return (x - s * predicted) / a
            case "x0":
                return predicted
            case _:
                return a * x - s * predicted

    def denoise(self, x: Array, t: int) -> Array:
        """The estimate of x_0 from x_t, in scaled units."""
        with evaluation(self):
            x0 = self.to_x0(x, self.network(x, np.full(len(x), t / self.schedule.steps, x.dtype)), t).numpy()
        return np.clip(x0, -1, 1) if self.clip else x0

    def sample(self, n: int, rng: np.random.Generator, *, steps: int | None = None, eta: float = 1.0) -> Array:
        """Generate n examples, in the units of data.

        Parameters
        ----------
        n, rng : how many, and from which random numbers
        steps : network evaluations for each; T of them with ``eta=1`` is the ancestral sampling of Ho et al. (2020)
        eta : 1 to renew the noise in each step, 0 to keep it (DDIM), which needs fewer steps
        """
        *_, last = self._reverse(n, rng, steps, eta)
        return self.scaling.inverse(last)

    def sample_path(
        self, n: int, rng: np.random.Generator, *, frames: int = 10, steps: int | None = None, eta: float = 1.0
    ) -> Array:
        """The way of `sample` from noise, the first frame, to data, the last: ``(frames, n, ...)``."""
        states = list(self._reverse(n, rng, steps, eta))
        chosen = np.linspace(0, len(states) - 1, frames).round().astype(int)
        return self.scaling.inverse(np.stack([states[i] for i in chosen]))

    def _reverse(self, n: int, rng: np.random.Generator, steps: int | None, eta: float) -> Iterator[Array]:
        """The states from noise to data, in scaled units."""
        longest = self.schedule.steps
        times = self.times(min(self.sample_steps or longest, longest) if steps is None else steps)
        x = normal(self, (n, *self.shape), rng)
        yield x
        for t, s in zip(times[:-1], times[1:], strict=True):
            x = self.schedule.step(self.denoise(x, t), x, t, s, eta, rng)
            yield x

    def times(self, steps: int) -> list[int]:
        """The times that sampling visits, evenly spaced, from the first to 0.

        An error δ in ε is one of δ √(1-ᾱ_t)/√ᾱ_t in x_0. Without clipping, that throws long steps far off where that
        ratio is in the hundreds; they begin where it is at most 25 then, for x_t is all but noise there too.
        """
        if not 1 <= steps <= self.schedule.steps:
            raise ValueError(f"DDPM: steps={steps} must be from 1 to T={self.schedule.steps}")
        usable = self.schedule.alpha_bar >= (0 if self.clip else 1 / (1 + 25**2))
        first = max(int(np.flatnonzero(usable)[-1]), 1)
        return np.linspace(first, 0, min(steps, first) + 1).round().astype(int).tolist()

    def elbo(self, x: Array, rng: np.random.Generator) -> Array:
        """A lower bound of log p(x) in nats, ``(N,)``, unbiased, from T evaluations of the network.

        The model's reverse step is N(x_{t-1}; μ(x_t), β_t), so the bound (Ho et al. 2020, eq. 5) is

            log N(x_0; μ(x_1), β_1) - Σ_{t>1} KL(N(μ̃_t, β̃_t) ‖ N(μ(x_t), β_t)) - KL(q(x_T | x_0) ‖ N(0, I)),

        and log|d scaled/dx| for the scaling. With β̃ as the model's variance, it would be much lower.
        """
        table, dims = self.schedule, math.prod(self.shape)
        x0 = self.scaling(x)
        axes = tuple(range(1, x0.ndim))
        log_scale = np.broadcast_to(np.log(self.scaling.scale), self.shape).sum()
        a2 = float(table.alpha_bar[-1])
        bound = -0.5 * (a2 * np.square(x0).sum(axes) - dims * (a2 + math.log1p(-a2))) - log_scale
        for t in range(table.steps, 0, -1):
            x_t = table.diffuse(x0, t, rng.standard_normal(x0.shape, dtype=x0.dtype.type))
            error = table.posterior_mean(x0, x_t, t) - table.posterior_mean(self.denoise(x_t, t), x_t, t)
            beta, ratio = float(table.beta[t]), float(table.posterior_var[t] / table.beta[t])
            bound = bound - np.square(error).sum(axes) / (2 * beta)
            bound -= dims / 2 * (math.log(2 * math.pi * beta) if t == 1 else ratio - 1 - math.log(ratio))
        return bound
