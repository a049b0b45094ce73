"""The reference models in PyTorch: modules whose value is the loss. Attributes are named as in tinygen's models.

Adam is fused. Images have channels last or first in memory, as the variant says. What `torch.compile` is given, in its
default mode, is the loss, whose backward it compiles too; not Adam, since the fused one is a single call already.
Gradients are neither clipped nor measured.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.steps import of_tinygen
from benchmarks.steps.problems import (
    DDPM2D_STEPS,
    DILATIONS,
    FEATURES,
    PROBLEMS,
    UNET28_STEPS,
    UNET_FEATURES,
    Array,
)
from benchmarks.workload import Call
from tinygen.models import NoiseSchedule


class DDPM(nn.Module):
    """The mean squared error of a network that predicts ε."""

    signal: Tensor
    spread: Tensor
    frequencies: Tensor

    def __init__(self, network: nn.Module, steps: int, features: int, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.network, self.steps, self.shape = network, steps, shape
        alpha_bar = torch.from_numpy(NoiseSchedule.linear(steps).alpha_bar)
        self.register_buffer("signal", alpha_bar.sqrt().float(), persistent=False)
        self.register_buffer("spread", (1 - alpha_bar).sqrt().float(), persistent=False)
        frequencies = 100 * torch.exp(-math.log(1000) * torch.arange(features // 2) / (features // 2))
        self.register_buffer("frequencies", frequencies, persistent=False)

    def features(self, t: Tensor) -> Tensor:
        angle = (t / self.steps)[:, None] * self.frequencies
        return torch.cat([angle.sin(), angle.cos()], 1)

    def noise(self, n: int) -> tuple[Tensor, ...]:
        return torch.randint(1, self.steps + 1, (n,)), torch.randn(n, *self.shape)

    def forward(self, x0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        each = (-1,) + (1,) * (x0.ndim - 1)
        x = self.signal[t].view(each) * x0 + self.spread[t].view(each) * eps
        return F.mse_loss(self.network(x, self.features(t)), eps)


class TimeMLP(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.enter, self.time = nn.Linear(2, 128), nn.Linear(FEATURES, 128)
        self.hidden = nn.ModuleList([nn.Linear(128, 128) for _ in range(2)])
        self.last = nn.Linear(128, 2)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        h = F.silu(self.enter(x) + self.time(time))
        for layer in self.hidden:
            h = F.silu(layer(h))
        return self.last(h)


def ddpm2d() -> nn.Module:
    return DDPM(TimeMLP(), DDPM2D_STEPS, FEATURES, (2,))


class RealNVP(nn.Module):
    """The negative log-likelihood of eight affine couplings."""

    def __init__(self) -> None:
        super().__init__()
        self.conditioners = nn.ModuleList(
            nn.Sequential(nn.Linear(1, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2)) for _ in range(8)
        )

    def noise(self, n: int) -> tuple[Tensor, ...]:
        return ()

    def forward(self, x: Tensor) -> Tensor:
        a, b = x.split(1, dim=1)
        log_det: Any = 0.0
        for conditioner in self.conditioners:
            r, t = conditioner(a).split(1, dim=1)
            s = 3 * torch.tanh(r / 3)
            a, b = b * torch.exp(s) + t, a  # transformed, and reversed
            log_det = log_det + s
        return (0.5 * (a * a + b * b) + math.log(2 * math.pi) - log_det).mean()

    def inverse(self, z: Tensor) -> Tensor:
        b, a = z.split(1, dim=1)
        for conditioner in reversed(self.conditioners):
            r, t = conditioner(a).split(1, dim=1)
            b, a = a, (b - t) * torch.exp(-3 * torch.tanh(r / 3))
        return torch.cat([b, a], 1)


class VAE(nn.Module):
    """The negative ELBO with Bernoulli pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(784, 400), nn.ReLU(), nn.Linear(400, 40))
        self.decoder = nn.Sequential(nn.Linear(20, 400), nn.ReLU(), nn.Linear(400, 784))

    def noise(self, n: int) -> tuple[Tensor, ...]:
        return (torch.randn(n, 20),)

    def forward(self, x: Tensor, eps: Tensor) -> Tensor:
        mean, log_var = self.encoder(x).chunk(2, dim=1)
        logits = self.decoder(mean + torch.exp(0.5 * log_var) * eps)
        kl = 0.5 * (mean.square() + log_var.exp() - 1 - log_var).sum()
        return (F.binary_cross_entropy_with_logits(logits, x, reduction="sum") + kl) / len(x)


class Generator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Linear(64, 7 * 7 * 64)
        self.convs = nn.ModuleList([nn.Conv2d(64, 32, 3, padding=1), nn.Conv2d(32, 16, 3, padding=1)])
        self.last = nn.Conv2d(16, 1, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        h = self.enter(z).view(-1, 7, 7, 64).permute(0, 3, 1, 2)
        for conv in self.convs:
            h = F.relu(conv(F.interpolate(h, scale_factor=2)))
        return torch.tanh(self.last(h))


class Discriminator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList([nn.Conv2d(1, 32, 3, 2, padding=1), nn.Conv2d(32, 64, 3, 2, padding=1)])
        self.last = nn.Linear(7 * 7 * 64, 1)

    def forward(self, x: Tensor) -> Tensor:
        for conv in self.convs:
            x = F.leaky_relu(conv(x), 0.2)
        return self.last(x.permute(0, 2, 3, 1).flatten(1))


class GAN(nn.Module):
    """Its parts; a step needs two losses, see `gan_step`."""

    def __init__(self) -> None:
        super().__init__()
        self.generator, self.discriminator = Generator(), Discriminator()

    def noise(self, n: int) -> tuple[Tensor, ...]:
        return (torch.randn(n, 64),)

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        return F.softplus(-self.discriminator(real)).mean() + F.softplus(self.discriminator(fake)).mean()

    def generator_loss(self, fake: Tensor) -> Tensor:
        return F.softplus(-self.discriminator(fake)).mean()


class ResidualBlock(nn.Module):
    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.norm_in = nn.GroupNorm(8, c_in)
        self.conv_in = nn.Conv2d(c_in, c_out, 3, padding=1)
        self.time = nn.Linear(128, c_out)
        self.norm_out = nn.GroupNorm(8, c_out)
        self.conv_out = nn.Conv2d(c_out, c_out, 3, padding=1)
        self.skip = nn.Conv2d(c_in, c_out, 1) if c_in != c_out else nn.Identity()

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        h = self.conv_in(F.silu(self.norm_in(x))) + self.time(time)[:, :, None, None]
        return self.conv_out(F.silu(self.norm_out(h))) + self.skip(x)


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.time = nn.Sequential(nn.Linear(UNET_FEATURES, 128), nn.SiLU(), nn.Linear(128, 128), nn.SiLU())
        self.first = nn.Conv2d(1, 32, 3, padding=1)
        self.down = nn.ModuleList([ResidualBlock(32, 32), ResidualBlock(32, 64)])
        self.halve = nn.ModuleList([nn.Conv2d(32, 32, 3, 2, padding=1), nn.Conv2d(64, 64, 3, 2, padding=1)])
        self.bottom = nn.ModuleList([ResidualBlock(64, 64)])
        self.up = nn.ModuleList([ResidualBlock(128, 64), ResidualBlock(96, 32)])
        self.norm = nn.GroupNorm(8, 32)
        self.last = nn.Conv2d(32, 1, 3, padding=1)

    def forward(self, x: Tensor, features: Tensor) -> Tensor:
        t = self.time(features)
        h = self.first(x)
        skips = []
        for block, halve in zip(self.down, self.halve, strict=True):
            h = block(h, t)
            skips.append(h)
            h = halve(h)
        for block in self.bottom:
            h = block(h, t)
        for block in self.up:
            h = block(torch.cat([F.interpolate(h, scale_factor=2), skips.pop()], 1), t)
        return self.last(F.silu(self.norm(h)))


def unet28() -> nn.Module:
    return DDPM(UNet(), UNET28_STEPS, UNET_FEATURES, (1, 28, 28))


class CausalConv(nn.Conv1d):
    """A kernel of two on sequences ``(N, L, C)``: one product of what lies behind, and of what is there."""

    def __init__(self, dilation: int) -> None:
        super().__init__(32, 64, 2, dilation=dilation)

    def product(self) -> Tensor:
        return self.weight.permute(0, 2, 1).reshape(64, 64)

    def forward(self, x: Tensor) -> Tensor:
        (shift,) = self.dilation
        return F.linear(torch.cat([F.pad(x, (0, 0, shift, 0))[:, :-shift], x], -1), self.product(), self.bias)


class WaveNet(nn.Module):
    """The cross-entropy of the next level, channels last: `Conv1d` takes a sixth longer, or more, compiled or not."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(1, 32)
        self.gates = nn.ModuleList(CausalConv(d) for d in DILATIONS)
        self.residuals = nn.ModuleList(nn.Linear(32, 32) for _ in DILATIONS[1:])
        self.skips = nn.ModuleList(nn.Linear(32, 32) for _ in DILATIONS)
        self.head = nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 256))

    def noise(self, n: int) -> tuple[Tensor, ...]:
        return ()

    def forward(self, levels: Tensor) -> Tensor:
        logits = self.logits(levels[:, :-1], lambda layer, h: self.gates[layer](h))
        return F.cross_entropy(logits.flatten(0, 1), levels[:, 1:].flatten())

    def logits(self, levels: Tensor, convolve: Callable[[int, Tensor], Tensor]) -> Tensor:
        h, skipped = self.first(levels[..., None] / 127.5 - 1), []
        for layer, (residual, skip) in enumerate(zip([*self.residuals, None], self.skips, strict=True)):
            a, b = convolve(layer, h).chunk(2, -1)
            gated = torch.tanh(a) * torch.sigmoid(b)
            h = h + residual(gated) if residual else h
            skipped.append(skip(gated))
        return self.head(F.relu(sum(skipped)))


MODELS: dict[str, Callable[[], Any]] = {
    "ddpm2d": ddpm2d,
    "realnvp2d": RealNVP,
    "vae784": VAE,
    "gan28": GAN,
    "unet28": unet28,
    "wavenet": WaveNet,
}


def model(name: str) -> Any:
    """The model with tinygen's weights, in the same order: ``(..., C_in, C_out)`` becomes ``(C_out, C_in, ...)``."""
    made = MODELS[name]()
    with torch.no_grad():
        for p, array in zip(made.parameters(), of_tinygen.state(name).values(), strict=True):
            moved = np.moveaxis(array, (-1, -2), (0, 1)) if array.ndim > 1 else array
            p.copy_(torch.from_numpy(moved.reshape(p.shape)))
    return made


Step = Callable[..., tuple[Tensor, ...]]


def trainer(name: str, made: Any, compiled: bool) -> Step:
    """A function of a batch and its noise that takes one step and returns the losses."""

    def maybe(function: Any) -> Any:
        return torch.compile(function) if compiled else function

    if name == "gan28":
        return gan_step(made, maybe)
    optimizer, loss_of = adam(made), maybe(made)

    def step(*batch_and_noise: Tensor) -> tuple[Tensor, ...]:
        optimizer.zero_grad()
        loss = loss_of(*batch_and_noise)
        loss.backward()
        optimizer.step()
        return (loss.detach(),)

    return step


def gan_step(gan: GAN, maybe: Callable[[Any], Any]) -> Step:
    """As `trainer`: one update of D, then one of G with the same images, while D's weights need no gradient."""
    optimizer_g, optimizer_d = adam(gan.generator), adam(gan.discriminator)
    generate, loss_d, loss_g = map(maybe, (gan.generator, gan.discriminator_loss, gan.generator_loss))

    def step(real: Tensor, z: Tensor) -> tuple[Tensor, ...]:
        fake = generate(z)
        optimizer_d.zero_grad()
        on_d = loss_d(real, fake.detach())
        on_d.backward()
        optimizer_d.step()
        optimizer_g.zero_grad()
        gan.discriminator.requires_grad_(False)
        on_g = loss_g(fake)
        on_g.backward()
        gan.discriminator.requires_grad_(True)
        optimizer_g.step()
        return on_d.detach(), on_g.detach()

    return step


def adam(made: nn.Module) -> torch.optim.Optimizer:
    """With its averages, which are otherwise made in the first step, and would count as memory that steps need."""
    optimizer = torch.optim.Adam(made.parameters(), lr=1e-3, fused=True)
    for p in made.parameters():
        averages = {key: torch.zeros_like(p, requires_grad=False) for key in ("exp_avg", "exp_avg_sq")}
        optimizer.state[p] = {"step": torch.zeros(()), **averages}
    return optimizer


def as_tensor(array: Array, layout: torch.memory_format) -> Tensor:
    """An array of tinygen's, with the channels of images as the second axis."""
    tensor = torch.from_numpy(array)
    return tensor.permute(0, 3, 1, 2).contiguous(memory_format=layout) if tensor.ndim == 4 else tensor


def build(name: str, n: int, channels_last: bool, compiled: bool) -> tuple[Any, torch.memory_format, Tensor, Step]:
    layout = torch.channels_last if channels_last else torch.contiguous_format
    made = model(name).to(memory_format=layout)
    batch = as_tensor(PROBLEMS[name].data(np.random.default_rng(0), n), layout)
    return made, layout, batch, trainer(name, made, compiled)


def prepare(name: str, n: int, *, channels_last: bool = True, compiled: bool = False) -> Call:
    """A step on n examples."""
    made, _, batch, step = build(name, n, channels_last, compiled)
    return lambda: step(batch, *made.noise(n))


def losses(name: str, n: int, steps: int, *, channels_last: bool = True, compiled: bool = False) -> list[float]:
    """Those of the first steps with tinygen's noise; of a GAN, both of each."""
    _, layout, batch, step = build(name, n, channels_last, compiled)
    rng, found = np.random.default_rng(2), []
    for _ in range(steps):
        noise = [as_tensor(array, layout) for array in PROBLEMS[name].noise(rng, n)]
        found += [loss.item() for loss in step(batch, *noise)]
    return found
