"""The reference models in JAX: functions of the weights, which are trees with the names of tinygen's states.

A step is one compiled function, of the weights and the optimizer's state, whose memory it may reuse, a key and a batch.
Gradients are neither clipped nor measured.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.steps import of_tinygen
from benchmarks.steps.problems import DDPM2D_STEPS, DILATIONS, FEATURES, PROBLEMS, UNET28_STEPS, UNET_FEATURES, Array
from benchmarks.workload import Call
from tinygen.models import NoiseSchedule

Weights = Any
Noise = tuple[Any, ...]


class Model(NamedTuple):
    """A loss of (weights, batch, noise …), and the noise for n examples, from a key."""

    loss: Callable[..., Any]
    noise: Callable[[Any, int], Noise]


def linear(p: Weights, x: Any) -> Any:
    return x @ p["weight"] + p["bias"]


def conv2d(p: Weights, x: Any, stride: int = 1) -> Any:
    """With a padding of 1."""
    layouts = ("NHWC", "HWIO", "NHWC")
    y = jax.lax.conv_general_dilated(x, p["weight"], (stride, stride), ((1, 1), (1, 1)), dimension_numbers=layouts)
    return y + p["bias"]


def causal_conv1d(p: Weights, x: Any, dilation: int) -> Any:
    """With a kernel of two; a product of both places together, or two products, take a fifth longer in a step."""
    return (
        jax.lax.conv_general_dilated(
            x, p["weight"], (1,), ((dilation, 0),), rhs_dilation=(dilation,), dimension_numbers=("NWC", "WIO", "NWC")
        )
        + p["bias"]
    )


def mlp(p: Weights, x: Any) -> Any:
    *hidden, last = p["layers"]
    for layer in hidden:
        x = jax.nn.relu(linear(layer, x))
    return linear(last, x)


def upsample(x: Any) -> Any:
    return x.repeat(2, axis=1).repeat(2, axis=2)


def ddpm(network: Callable[..., Any], steps: int, features: int, *shape: int) -> Model:
    """The mean squared error of a network that predicts ε."""
    alpha_bar = NoiseSchedule.linear(steps).alpha_bar
    signal, spread = np.sqrt(alpha_bar).astype(np.float32), np.sqrt(1 - alpha_bar).astype(np.float32)

    def noise(key: Any, n: int) -> Noise:
        for_t, for_eps = jax.random.split(key)
        return jax.random.randint(for_t, (n,), 1, steps + 1), jax.random.normal(for_eps, (n, *shape))

    def loss(p: Weights, x0: Any, t: Any, eps: Any) -> Any:
        each = (-1,) + (1,) * len(shape)
        x = jnp.asarray(signal)[t].reshape(each) * x0 + jnp.asarray(spread)[t].reshape(each) * eps
        predicted = network(p["network"], x, time_features(t / steps, features))
        return jnp.mean(jnp.square(predicted - eps))

    return Model(loss, noise)


def time_features(time: Any, width: int) -> Any:
    frequencies = (100 * np.exp(-math.log(1000) * np.arange(width // 2) / (width // 2))).astype(np.float32)
    angle = time[:, None] * frequencies
    return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], 1)


def time_mlp(p: Weights, x: Any, time: Any) -> Any:
    h = jax.nn.silu(linear(p["enter"], x) + linear(p["time"], time))
    for layer in p["hidden"]:
        h = jax.nn.silu(linear(layer, h))
    return linear(p["last"], h)


def no_noise(key: Any, n: int) -> Noise:
    return ()


def realnvp2d_loss(p: Weights, x: Any) -> Any:
    """The negative log-likelihood of eight affine couplings."""
    a, b = x[:, :1], x[:, 1:]
    log_det: Any = 0.0
    for coupling in p["bijection"]["bijections"]:
        r, t = jnp.split(mlp(coupling["conditioner"], a), 2, 1)
        s = 3 * jnp.tanh(r / 3)
        a, b = b * jnp.exp(s) + t, a  # transformed, and reversed
        log_det = log_det + s
    return jnp.mean(0.5 * (a * a + b * b) + math.log(2 * math.pi) - log_det)


def vae784_noise(key: Any, n: int) -> Noise:
    return (jax.random.normal(key, (n, 20)),)


def vae784_loss(p: Weights, x: Any, eps: Any) -> Any:
    """The negative ELBO with Bernoulli pixels."""
    mean, log_var = jnp.split(mlp(p["encoder"]["layers"][0], x), 2, 1)
    logits = mlp(p["decoder"]["layers"][0], mean + jnp.exp(0.5 * log_var) * eps)
    kl = 0.5 * (jnp.square(mean) + jnp.exp(log_var) - 1 - log_var).sum(1)
    return jnp.mean((jax.nn.softplus(logits) - x * logits).sum(1) + kl)


def generator(p: Weights, z: Any) -> Any:
    enter, *convs, last = p["layers"]
    h = linear(enter, z).reshape(-1, 7, 7, 64)
    for layer in convs:
        h = jax.nn.relu(conv2d(layer, upsample(h)))
    return jnp.tanh(conv2d(last, h))


def discriminator(p: Weights, x: Any) -> Any:
    *convs, last = p["layers"]
    for layer in convs:
        x = jax.nn.leaky_relu(conv2d(layer, x, 2), 0.2)
    return linear(last, x.reshape(len(x), -1))


def discriminator_loss(p: Weights, real: Any, fake: Any) -> Any:
    return jnp.mean(jax.nn.softplus(-discriminator(p, real))) + jnp.mean(jax.nn.softplus(discriminator(p, fake)))


def generator_loss(p: Weights, fake: Any) -> Any:
    return jnp.mean(jax.nn.softplus(-discriminator(p, fake)))


def gan28_noise(key: Any, n: int) -> Noise:
    return (jax.random.normal(key, (n, 64)),)


def group_norm(p: Weights, x: Any) -> Any:
    """In eight groups."""
    grouped = x.reshape(*x.shape[:3], 8, -1)
    mean = grouped.mean((1, 2, 4), keepdims=True)
    var = grouped.var((1, 2, 4), keepdims=True)
    return ((grouped - mean) * jax.lax.rsqrt(var + 1e-5)).reshape(x.shape) * p["weight"] + p["bias"]


def residual_block(p: Weights, x: Any, time: Any) -> Any:
    h = conv2d(p["conv_in"], jax.nn.silu(group_norm(p["norm_in"], x))) + linear(p["time"], time)[:, None, None]
    h = conv2d(p["conv_out"], jax.nn.silu(group_norm(p["norm_out"], h)))
    return h + (linear(p["skip"], x) if "skip" in p else x)


def unet(p: Weights, x: Any, features: Any) -> Any:
    t = features
    for layer in p["time"]["layers"]:
        t = jax.nn.silu(linear(layer, t))
    h = conv2d(p["first"], x)
    skips = []
    for block, halve in zip(p["down"], p["halve"], strict=True):
        h = residual_block(block, h, t)
        skips.append(h)
        h = conv2d(halve, h, 2)
    for block in p["bottom"]:
        h = residual_block(block, h, t)
    for block in p["up"]:
        h = residual_block(block, jnp.concatenate([upsample(h), skips.pop()], 3), t)
    return conv2d(p["last"], jax.nn.silu(group_norm(p["norm"], h)))


def wavenet_logits(p: Weights, levels: Any, convolve: Callable[[int, Weights, Any], Any]) -> Any:
    """Those of the next level; ``convolve`` has a layer's number, the weights of its gate, and what it sees."""
    h, skipped = linear(p["first"], levels[..., None] / 127.5 - 1), []
    for layer, (gate, residual, skip) in enumerate(zip(p["gates"], [*p["residuals"], None], p["skips"], strict=True)):
        a, b = jnp.split(convolve(layer, gate, h), 2, -1)
        gated = jnp.tanh(a) * jax.nn.sigmoid(b)
        h = h + linear(residual, gated) if residual else h
        skipped.append(linear(skip, gated))
    return mlp(p["head"], jax.nn.relu(sum(skipped)))


def wavenet_loss(p: Weights, levels: Any) -> Any:
    """The cross-entropy of the next level."""
    logits = wavenet_logits(p, levels[:, :-1], lambda layer, gate, h: causal_conv1d(gate, h, DILATIONS[layer]))
    return optax.softmax_cross_entropy_with_integer_labels(logits, levels[:, 1:]).mean()


MODELS = {
    "ddpm2d": ddpm(time_mlp, DDPM2D_STEPS, FEATURES, 2),
    "realnvp2d": Model(realnvp2d_loss, no_noise),
    "vae784": Model(vae784_loss, vae784_noise),
    "gan28": Model(generator_loss, gan28_noise),
    "unet28": ddpm(unet, UNET28_STEPS, UNET_FEATURES, 28, 28, 1),
    "wavenet": Model(wavenet_loss, no_noise),
}

ADAM = optax.adam(1e-3)


def tree(state: dict[str, Array]) -> Weights:
    """Nested dictionaries from dotted names; those whose keys are numbers are lists, of what has weights."""
    root: dict[str, Any] = {}
    for name, array in state.items():
        *path, last = name.split(".")
        node = root
        for key in path:
            node = node.setdefault(key, {})
        node[last] = jnp.array(array)  # a copy, whose memory a step may reuse

    def with_lists(node: Any) -> Any:
        if not isinstance(node, dict):
            return node
        inner = {key: with_lists(value) for key, value in node.items()}
        return list(inner.values()) if all(key.isdigit() for key in inner) else inner

    return with_lists(root)


def update(loss: Callable[..., Any], weights: Weights, optimizer: Any, *data: Any) -> tuple[Weights, Any, Any]:
    """One step of Adam down the loss of (weights, data …)."""
    value, gradient = jax.value_and_grad(loss)(weights, *data)
    change, optimizer = ADAM.update(gradient, optimizer)
    return optax.apply_updates(weights, change), optimizer, value


def gan_update(weights: Weights, optimizer: Any, real: Any, z: Any) -> tuple[Weights, Any, Any]:
    """One step of D, then one of G with the same images."""
    fake, pullback = jax.vjp(lambda p: generator(p, z), weights["generator"])
    d, optimizer_d, loss_d = update(
        discriminator_loss, weights["discriminator"], optimizer["discriminator"], real, fake
    )
    loss_g, gradient = jax.value_and_grad(generator_loss, argnums=1)(d, fake)
    change, optimizer_g = ADAM.update(*pullback(gradient), optimizer["generator"])
    g = optax.apply_updates(weights["generator"], change)
    return (
        {"generator": g, "discriminator": d},
        {"generator": optimizer_g, "discriminator": optimizer_d},
        (loss_d, loss_g),
    )


def build(name: str, n: int) -> tuple[Weights, Any, Any, Callable[..., tuple[Weights, Any, Any]]]:
    """The weights, the state of Adam, a batch, and a step from these with a noise to the next and the loss."""
    weights = tree(of_tinygen.state(name))
    optimizer = {key: ADAM.init(part) for key, part in weights.items()} if name == "gan28" else ADAM.init(weights)
    step = gan_update if name == "gan28" else partial(update, MODELS[name].loss)
    return weights, optimizer, jnp.asarray(PROBLEMS[name].data(np.random.default_rng(0), n)), step


def prepare(name: str, n: int) -> Call:
    """A step on n examples."""
    weights, optimizer, batch, step = build(name, n)

    @partial(jax.jit, donate_argnums=(0, 1, 2))
    def compiled(weights: Weights, optimizer: Any, key: Any, batch: Any) -> tuple[Weights, Any, Any, Any]:
        key, now = jax.random.split(key)
        return *step(weights, optimizer, batch, *MODELS[name].noise(now, n)), key

    key = jax.random.key(2)

    def call() -> Any:
        nonlocal weights, optimizer, key
        weights, optimizer, loss, key = compiled(weights, optimizer, key, batch)
        return jax.block_until_ready(loss)

    return call


def losses(name: str, n: int, steps: int) -> list[float]:
    """Those of the first steps with tinygen's noise; of a GAN, both of each."""
    weights, optimizer, batch, step = build(name, n)
    compiled = jax.jit(step, donate_argnums=(0, 1))
    rng, found = np.random.default_rng(2), []
    for _ in range(steps):
        noise = PROBLEMS[name].noise(rng, n)
        weights, optimizer, loss = compiled(weights, optimizer, batch, *noise)
        found += [float(value) for value in jax.tree.leaves(loss)]
    return found
