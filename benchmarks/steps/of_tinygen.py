"""The reference models in tinygen: its own, but for WaveNet."""

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

import tinygen as tg
from benchmarks.steps.problems import DDPM2D_STEPS, DILATIONS, PROBLEMS, SILENCE, UNET28_STEPS, Array, Rng
from benchmarks.workload import Call
from tinygen import Tensor, nn, optim
from tinygen.bijections import AffineCoupling, Chain, Reverse
from tinygen.distributions import Normal
from tinygen.models import DDPM, GAN, VAE, BernoulliLikelihood, Flow, NoiseSchedule, TimeMLP, UNet
from tinygen.nn import evaluation


def ddpm2d(rng: Rng) -> DDPM:
    """A perceptron that predicts ε of points in the plane."""
    return DDPM(TimeMLP(2, rng), NoiseSchedule.linear(DDPM2D_STEPS), (2,))


def realnvp2d(rng: Rng) -> Flow:
    """Eight affine couplings."""
    couplings = [AffineCoupling(2, lambda c_in, c_out: nn.MLP([c_in, 64, 64, c_out], rng)) for _ in range(8)]
    standard = Normal(np.zeros(2, np.float32), np.ones(2, np.float32))
    return Flow(standard, Chain(*(layer for coupling in couplings for layer in (coupling, Reverse()))))


class Binary(BernoulliLikelihood):
    """Of data that are binary already, so that nothing is drawn."""

    def observe(self, x: Array, rng: Rng) -> Array:
        return x


def vae784(rng: Rng) -> VAE:
    """One hidden layer each way."""
    return VAE.mlp((784,), 20, rng, likelihood=Binary())


def gan28(rng: Rng) -> GAN:
    """Upsampling and convolutions against strided convolutions."""
    generator = nn.Sequential(
        nn.Linear(64, 7 * 7 * 64, rng),
        lambda z: tg.reshape(z, (-1, 7, 7, 64)),
        lambda h: tg.upsample2d(h, 2),
        nn.Conv2d(64, 32, 3, rng, padding=1),
        tg.relu,
        lambda h: tg.upsample2d(h, 2),
        nn.Conv2d(32, 16, 3, rng, padding=1),
        tg.relu,
        nn.Conv2d(16, 1, 3, rng, padding=1),
        tg.tanh,
    )
    discriminator = nn.Sequential(
        nn.Conv2d(1, 32, 3, rng, stride=2, padding=1),
        lambda h: tg.leaky_relu(h, 0.2),
        nn.Conv2d(32, 64, 3, rng, stride=2, padding=1),
        lambda h: tg.leaky_relu(h, 0.2),
        lambda h: tg.reshape(h, (-1, 7 * 7 * 64)),
        nn.Linear(7 * 7 * 64, 1, rng),
    )
    return GAN(generator, discriminator, 64, r1=0, lr=1e-3, betas=(0.9, 0.999))


def unet28(rng: Rng) -> DDPM:
    """A U-Net that predicts ε of images."""
    network = UNet(1, rng, widths=(32, 64, 64), bottom=1, patch=1)
    return DDPM(network, NoiseSchedule.linear(UNET28_STEPS), (28, 28, 1))


class WaveNet(nn.Module):
    """Dilated causal convolutions that predict the next of 256 levels (van den Oord et al. 2016)."""

    def __init__(self, rng: Rng) -> None:
        self.first = nn.Linear(1, 32, rng)
        self.gates = [nn.Conv1d(32, 64, 2, rng, dilation=d, causal=True) for d in DILATIONS]
        self.residuals = [
            nn.Linear(32, 32, rng) for _ in DILATIONS[1:]
        ]  # what the last layer passed on, none would read
        self.skips = [nn.Linear(32, 32, rng) for _ in DILATIONS]
        self.head = nn.Sequential(nn.Linear(32, 32, rng, activation="relu"), nn.Linear(32, 256, rng))
        self.optimizer = optim.Adam(self.parameters(), 1e-3)

    def forward(self, x: Array) -> Tensor:
        """The logits of the next level, from levels scaled to [-1, 1], ``(N, L, 1)``."""
        return self._logits(x, lambda layer, h: self.gates[layer](h))

    def _logits(self, x: Any, convolve: Callable[[int, Tensor], Tensor]) -> Tensor:
        h, skipped = self.first(x), []
        for layer, (residual, skip) in enumerate(zip([*self.residuals, None], self.skips, strict=True)):
            gated = tg.gated_tanh(convolve(layer, h))
            h = h + residual(gated) if residual else h
            skipped.append(skip(gated))
        return self.head(tg.relu(sum(skipped)))

    def train_step(self, batch: Array, rng: Rng) -> dict[str, float]:
        """One step of Adam on levels ``(N, L + 1)``."""
        loss, norm = self._descend((batch[:, :-1, None] / 127.5 - 1).astype(np.float32), batch[:, 1:])
        return {"loss": loss.item(), "grad_norm": norm.item()}

    @tg.replayed
    def _descend(self, x: Any, levels: Any) -> tuple[Tensor, Tensor]:
        loss = tg.mean(tg.cross_entropy(self(x), levels))
        return loss, self.optimizer.minimize(loss)

    @tg.replayed
    def _step(self, x: Any, past: Any) -> tuple[Tensor, Tensor]:
        """The next level's probabilities, and what the layers see now, from what they saw a dilation ago."""
        seen = []

        def convolve(layer: int, h: Tensor) -> Tensor:
            seen.append(h)
            gate = self.gates[layer]
            return tg.linear(tg.concatenate([past[layer], h], -1), tg.reshape(gate.weight, (64, 64)), gate.bias)

        return tg.softmax(self._logits(x, convolve)), tg.stack(seen)

    def sample(self, n: int, rng: Rng, length: int) -> Array:
        """Levels ``(n, length)`` after silence.

        Each layer needs what it saw a dilation ago, and has a queue of as many places (Paine et al. 2016, "Fast Wavenet
        generation algorithm"): one step for each level, instead of all levels so far through all layers.
        """
        dilations = np.array(DILATIONS)
        first = np.cumsum(dilations) - dilations  # place of each layer's queue
        places = first + np.arange(length)[:, None] % dilations
        scaled = (np.arange(256, dtype=np.float32)[:, None] / 127.5 - 1).astype(np.float32)
        queues = np.zeros((sum(DILATIONS), n, 32), np.float32)
        level, levels = np.full(n, SILENCE), []
        with evaluation(self):
            for place, uniform in zip(places, rng.random((length, n, 1), np.float32), strict=True):
                p, seen = self._step(scaled[level], queues[place])
                queues[place] = seen.data
                level = (np.cumsum(p.data, 1)[:, :-1] < uniform).sum(1)  # where the sum passes it
                levels.append(level)
        return np.stack(levels, 1)


MODELS = {
    "ddpm2d": ddpm2d,
    "realnvp2d": realnvp2d,
    "vae784": vae784,
    "gan28": gan28,
    "unet28": unet28,
    "wavenet": WaveNet,
}


def model(name: str) -> Any:
    """The model that every implementation starts from.

    All its weights are moved, since a last layer of zeros would hide what the layers before it compute; and gradients
    are not clipped, since the peers do not clip.
    """
    rng = np.random.default_rng(1)
    made = MODELS[name](rng)
    for p in made.parameters():
        p.data += 0.05 * rng.standard_normal(p.shape, dtype=np.float32)
    for attribute in vars(made).values():
        if isinstance(attribute, optim.Optimizer):
            attribute.max_norm = math.inf
    return made


@cache
def state(name: str) -> dict[str, Array]:
    """The arrays that the peers begin with, to be copied."""
    return {key: p.data for key, p in model(name).named_parameters()}


def prepare(name: str, n: int) -> Call:
    """A step on n examples."""
    made, rng = model(name), np.random.default_rng(2)
    batch = PROBLEMS[name].data(np.random.default_rng(0), n)
    return lambda: made.train_step(batch, rng)


def losses(name: str, n: int, steps: int) -> list[float]:
    """Those of the first steps; of a GAN, both of each."""
    step = prepare(name, n)
    return [value for _ in range(steps) for key, value in step().items() if key in ("loss", "d_loss", "g_loss")]
