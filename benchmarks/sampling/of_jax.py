"""Sampling in JAX: one compiled function of a key, in which loops are scans."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.sampling.problems import DRAWS, reverse, summary
from benchmarks.steps import of_tinygen
from benchmarks.steps.of_jax import (
    Weights,
    generator,
    mlp,
    time_features,
    time_mlp,
    tree,
    unet,
    wavenet_logits,
)
from benchmarks.steps.problems import DDPM2D_STEPS, DILATIONS, FEATURES, SILENCE, UNET28_STEPS, UNET_FEATURES
from benchmarks.workload import Call

Sampler = Callable[..., Any]


def diffusion(name: str, network: Callable[..., Any], steps: int, width: int) -> Sampler:
    """From x_T and the noise of all steps that renew it."""
    visited = reverse(of_tinygen.model(name), **DRAWS[name].options)

    def sample(p: Weights, x: Any, renewals: Any) -> Any:
        features = time_features(jnp.asarray(visited.t / steps, jnp.float32), width)[:, None]

        def move(x: Any, step: Any) -> Any:
            features, carry, turn = step
            return carry * x + turn * network(p["network"], x, features)

        def renewed(x: Any, step: Any) -> tuple[Any, None]:
            *moving, fresh, z = step
            return move(x, moving) + fresh * z, None

        def kept(x: Any, step: Any) -> tuple[Any, None]:
            return move(x, step), None

        count, tables = len(renewals), (features, *map(jnp.asarray, visited[1:3]))
        first = *(table[:count] for table in tables), jnp.asarray(visited.fresh[:count]), renewals
        x, _ = jax.lax.scan(renewed, x, first)
        x, _ = jax.lax.scan(kept, x, [table[count:] for table in tables])
        return x

    return sample


def realnvp2d(p: Weights, z: Any) -> Any:
    b, a = jnp.split(z, 2, 1)
    for coupling in reversed(p["bijection"]["bijections"]):
        r, t = jnp.split(mlp(coupling["conditioner"], a), 2, 1)
        b, a = a, (b - t) * jnp.exp(-3 * jnp.tanh(r / 3))
    return jnp.concatenate([b, a], 1)


def vae784(p: Weights, z: Any) -> Any:
    return jax.nn.sigmoid(mlp(p["decoder"]["layers"][0], z))


def wavenet(p: Weights, uniform: Any) -> Any:
    """Level after level, from uniform numbers, with a queue for each layer."""
    n = uniform.shape[1]

    def step(state: Any, now: Any) -> tuple[Any, Any]:
        (level, queues), (t, u), kept = state, now, []

        def convolve(layer: int, gate: Weights, h: Any) -> Any:
            place = t % DILATIONS[layer]
            kept.append(queues[layer].at[place].set(h))
            return jnp.concatenate([queues[layer][place], h], 1) @ gate["weight"].reshape(64, 64) + gate["bias"]

        total = jnp.cumsum(jax.nn.softmax(wavenet_logits(p, level, convolve)), 1)
        level = jax.vmap(jnp.searchsorted)(total[:, :-1], u).astype(jnp.int32)
        return (level, kept), level

    state = jnp.full(n, SILENCE, jnp.int32), [jnp.zeros((d, n, 32)) for d in DILATIONS]
    _, levels = jax.lax.scan(step, state, (jnp.arange(len(uniform)), uniform))
    return levels.T


SAMPLERS: dict[str, Sampler] = {
    "ddpm2d": diffusion("ddpm2d", time_mlp, DDPM2D_STEPS, FEATURES),
    "realnvp2d": realnvp2d,
    "vae784": vae784,
    "gan28": lambda p, z: generator(p["generator"], z),
    "unet28": diffusion("unet28", unet, UNET28_STEPS, UNET_FEATURES),
    "wavenet": wavenet,
}


def prepare(name: str, n: int) -> Call:
    """Draw n examples."""
    weights = tree(of_tinygen.state(name))
    shapes = [array.shape for array in DRAWS[name].noise(np.random.default_rng(2), n)]
    draw = jax.random.uniform if name == "wavenet" else jax.random.normal

    @jax.jit
    def compiled(weights: Weights, key: Any) -> tuple[Any, Any]:
        key, *keys = jax.random.split(key, 1 + len(shapes))
        return SAMPLERS[name](weights, *map(draw, keys, shapes)), key

    key = jax.random.key(2)

    def call() -> Any:
        nonlocal key
        samples, key = compiled(weights, key)
        return jax.block_until_ready(samples)

    return call


def numbers(name: str, n: int) -> list[float]:
    """Those of samples from tinygen's noise."""
    noise = DRAWS[name].noise(np.random.default_rng(2), n)
    return summary(np.asarray(jax.jit(SAMPLERS[name])(tree(of_tinygen.state(name)), *noise)))
