"""Sampling in PyTorch, in inference mode. `torch.compile` gets what a loop repeats, or all if there is none."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.sampling.problems import DRAWS, Reverse, reverse, summary
from benchmarks.steps import of_tinygen
from benchmarks.steps.of_torch import DDPM, WaveNet, as_tensor, model
from benchmarks.steps.problems import DILATIONS, SILENCE, Rng
from benchmarks.workload import Call

Maybe = Callable[[Any], Any]
Sampler = Callable[..., Tensor]


def diffusion(ddpm: DDPM, maybe: Maybe, visited: Reverse) -> Sampler:
    """From x_T and the noise of all steps that renew it."""
    *tables, fresh = (torch.from_numpy(table) for table in visited)
    steps = list(zip(ddpm.features(tables[0])[:, None], *tables[1:], strict=True))

    @maybe
    def move(x: Tensor, features: Tensor, carry: Tensor, turn: Tensor) -> Tensor:
        return carry * x + turn * ddpm.network(x, features)

    def sample(x: Tensor, renewals: Tensor) -> Tensor:
        for i, step in enumerate(steps):
            x = move(x, *step)
            if i < len(renewals):
                x = torch.add(x, renewals[i] * fresh[i])
        return x

    return sample


def wavenet(net: WaveNet, maybe: Maybe) -> Sampler:
    """Level after level, from uniform numbers; all queues lie in one tensor, from which a step takes a row of each."""
    dilations = torch.tensor(DILATIONS)
    first = torch.cumsum(dilations, 0) - dilations
    gates: Any = net.gates
    products = [gate.product() for gate in gates]

    @maybe
    def step(level: Tensor, queues: Tensor, now: Tensor, uniform: Tensor) -> Tensor:
        past, seen = queues.index_select(0, now).unbind(), []

        def convolve(layer: int, h: Tensor) -> Tensor:
            seen.append(h)
            both = torch.cat([past[layer], h], -1)
            return torch.nn.functional.linear(both, products[layer], gates[layer].bias)

        p = net.logits(level, convolve).softmax(1)
        queues.index_copy_(0, now, torch.stack(seen))
        return (p.cumsum(1)[:, :-1] < uniform[:, None]).sum(1)

    def sample(uniform: Tensor) -> Tensor:
        n = uniform.shape[1]
        queues, level, levels = torch.zeros(sum(DILATIONS), n, 32), torch.full((n,), SILENCE), []
        for now, u in zip(first + torch.arange(len(uniform))[:, None] % dilations, uniform, strict=True):
            level = step(level, queues, now, u)
            levels.append(level)
        return torch.stack(levels, 1)

    return sample


def build(name: str, channels_last: bool, compiled: bool) -> tuple[Sampler, Callable[[Rng, int], list[Tensor]]]:
    """A function of noise that samples, and tinygen's noise for it."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    made = model(name).to(memory_format=layout)

    def maybe(function: Any) -> Any:
        return torch.compile(function) if compiled else function

    def noise(rng: Rng, n: int) -> list[Tensor]:
        return [as_tensor(array, layout) for array in DRAWS[name].noise(rng, n)]

    with torch.inference_mode():
        match name:
            case "ddpm2d" | "unet28":
                sampler = diffusion(made, maybe, reverse(of_tinygen.model(name), **DRAWS[name].options))
            case "realnvp2d":
                sampler = maybe(made.inverse)
            case "vae784":
                sampler = maybe(lambda z: made.decoder(z).sigmoid())
            case "gan28":
                sampler = maybe(made.generator)
            case _:
                sampler = wavenet(made, maybe)
    return torch.inference_mode()(sampler), noise


def prepare(name: str, n: int, *, channels_last: bool = True, compiled: bool = False) -> Call:
    """Draw n examples."""
    sampler, noise = build(name, channels_last, compiled)
    like = noise(np.random.default_rng(2), n)
    draw = torch.rand_like if name == "wavenet" else torch.randn_like
    return lambda: sampler(*map(draw, like))


def numbers(name: str, n: int, *, channels_last: bool = True, compiled: bool = False) -> list[float]:
    """Those of samples from tinygen's noise."""
    sampler, noise = build(name, channels_last, compiled)
    samples = sampler(*noise(np.random.default_rng(2), n))
    return summary((samples.permute(0, 2, 3, 1) if samples.ndim == 4 else samples).numpy())
