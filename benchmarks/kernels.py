"""The kernels, over the shapes that the reference models use.

Gradients are measured alone, with what the forward pass saved for them.

Rows tell how much time a kernel has left to save, not which library is faster: tinygen's is the bare kernel, below its
engine, PyTorch's time includes its dispatcher and, for gradients, a pass of autograd, and JAX's that of calling a
compiled function. These cost some microseconds to tens of them, which decide the rows of small arrays.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

import kernels
from benchmarks.peers import IN_JAX, IN_TORCH, Array, Case, workload
from benchmarks.workload import Call, Workload
from kernels import reference


def _normal(*shape: int) -> Array:
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


# ------------------------------------------------------------------------------------------------------ linear layers


def matmul(size: int) -> Workload:
    """A large product: its fastest implementation sets the FLOP limit of the machine."""

    def make() -> Case:
        x, w = _normal(size, size), _normal(size, size)
        return Case((x, w), (x, w), lambda torch, x, w: x @ w, lambda jax, x, w: x @ w)

    return workload("linear", f"{size}x{size}x{size} without bias", make, 2.0 * size**3)


def linear(m: int, k: int, n: int, kind: str) -> list[Workload]:
    """The fused layer ``activate(x @ w + b)``, and the gradients of its three arguments."""

    def make(gradient: bool) -> Case:
        x, w, b, g = _normal(m, k), _normal(k, n), _normal(n), _normal(m, n)
        args: tuple[Any, ...] = (x, w, b, kind, 0.2)
        if gradient:
            args = g, x, w, reference.linear(*args)[1], kind, 0.2
        return Case(
            args,
            (x, w, b),
            lambda torch, x, w, b: IN_TORCH[kind](torch, torch.addmm(b, x, w)),
            lambda jax, x, w, b: IN_JAX[kind](jax, x @ w + b),
            g if gradient else None,
        )

    shapes = f"{m}x{k}x{n} {kind}"
    return [
        workload("linear", shapes, partial(make, False), 2.0 * m * k * n),
        workload("linear_grad", shapes, partial(make, True), 4.0 * m * k * n),
    ]


def activate(kind: str, *shape: int) -> list[Workload]:
    """An elementwise function and its gradient."""

    def make(gradient: bool) -> Case:
        x, g = _normal(*shape), _normal(*shape)
        args = (g, reference.activate(x, kind, 0.2)[1], kind, 0.2) if gradient else (x, kind, 0.2)
        return Case(args, (x,), IN_TORCH[kind], IN_JAX[kind], g if gradient else None)

    return _both("activate", f"{kind} {_show(shape)}", make)


def gated_tanh(m: int, c: int) -> list[Workload]:
    """The gate of WaveNet and its gradient."""

    def in_torch(torch: Any, x: Any) -> Any:
        a, b = x.chunk(2, -1)
        return torch.tanh(a) * torch.sigmoid(b)

    def in_jax(jax: Any, x: Any) -> Any:
        a, b = jax.numpy.split(x, 2, -1)
        return jax.numpy.tanh(a) * jax.nn.sigmoid(b)

    def make(gradient: bool) -> Case:
        x, g = _normal(m, 2 * c), _normal(m, c)
        args = (g, reference.gated_tanh(x)[1]) if gradient else (x,)
        return Case(args, (x,), in_torch, in_jax, g if gradient else None)

    return _both("gated_tanh", f"{m}x{2 * c}", make)


def sinusoids(m: int, f: int) -> Workload:
    """The features of times."""

    def features(library: Any, x: Any, frequencies: Any) -> Any:
        angle = x[:, None] * frequencies
        return library.concatenate([library.sin(angle), library.cos(angle)], 1)

    def make() -> Case:
        x, frequencies = np.linspace(0, 1, m, dtype=np.float32), np.linspace(0.1, 100, f, dtype=np.float32)
        return Case((x, frequencies), (x, frequencies), features, lambda jax, *args: features(jax.numpy, *args))

    return workload("sinusoids", f"{m}x{f}", make)


def bounded_affine(m: int, c: int) -> list[Workload]:
    """The map of an affine coupling, with its log-determinant, and its gradient."""

    def coupled(library: Any, x: Any, theta: Any, concatenate: Any) -> Any:
        s = 3 * library.tanh(theta[:, :c] / 3)
        return concatenate([x * library.exp(s) + theta[:, c:], s.sum(1, keepdims=True)], 1)

    def make(gradient: bool) -> Case:
        x, theta, g = _normal(m, c), _normal(m, 2 * c), _normal(m, c + 1)
        args = (g, x, theta, 3.0) if gradient else (x, theta, 3.0)
        return Case(
            args,
            (x, theta),
            lambda torch, x, theta: coupled(torch, x, theta, torch.cat),
            lambda jax, x, theta: coupled(jax.numpy, x, theta, jax.numpy.concatenate),
            g if gradient else None,
        )

    return _both("bounded_affine", f"{m}x{c}", make)


# -------------------------------------------------------------------------------------------------------------- images


def convolution(
    n: int, size: tuple[int, int], c_in: int, c_out: int, kernel: tuple[int, int], stride: int = 1, dilation: int = 1
) -> list[Workload]:
    """A convolution and both its gradients. One of rows alone is causal; others keep the size, but for a stride."""
    causal = size[0] == 1
    around = (kernel[0] - 1) // 2, dilation * (kernel[1] - 1) // 2
    padding = ((0, 0), (dilation, 0)) if causal else ((around[0],) * 2, (around[1],) * 2)
    geometry = (stride, stride), padding, (1, dilation)
    out = tuple(-(-s // stride) for s in size)

    def in_torch(torch: Any, x: Any, w: Any) -> Any:
        if causal and not w.requires_grad and not x.requires_grad:  # padded at both ends: fastest, but for gradients
            y = torch.nn.functional.conv2d(x, w, None, stride, (0, dilation), (1, dilation))
            return y[..., :-dilation]
        x = torch.nn.functional.pad(x, (dilation, 0)) if causal else x
        return torch.nn.functional.conv2d(x, w, None, stride, 0 if causal else around, (1, dilation))

    def in_jax(jax: Any, x: Any, w: Any) -> Any:
        return jax.lax.conv_general_dilated(
            x, w, (stride, stride), padding, rhs_dilation=(1, dilation), dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    def make(name: str) -> Case:
        x, w, g = _normal(n, *size, c_in), _normal(*kernel, c_in, c_out), _normal(n, *out, c_out)
        args: dict[str, tuple[Any, ...]] = {
            "conv2d": (x, w, None, *geometry),
            "conv2d_input_grad": (g, w, size, *geometry),
            "conv2d_weight_grad": (x, g, kernel, *geometry),
        }
        of = {"conv2d_input_grad": (0,), "conv2d_weight_grad": (1,)}.get(name)
        return Case(args[name], (x, w), in_torch, in_jax, g if of else None, of)

    details = f"{' /2' if stride > 1 else ''}{f' dilation {dilation}' if dilation > 1 else ''}"
    shapes = f"{_show(kernel)} {c_in}->{c_out} {n}x{_show(size)}{details}"
    flops = 2.0 * n * out[0] * out[1] * kernel[0] * kernel[1] * c_in * c_out
    names = ("conv2d", "conv2d_input_grad", "conv2d_weight_grad")
    return [workload(name, shapes, partial(make, name), flops, images=True) for name in names]


def pooling(n: int, size: tuple[int, int], c: int) -> list[Workload]:
    """Sums, maxima and copies of blocks of 2 x 2 pixels. The first and the last are each other's gradients."""
    half = (size[0] // 2, size[1] // 2)

    def sums(torch: Any, x: Any) -> Any:
        return torch.nn.functional.avg_pool2d(x, 2, divisor_override=1)

    def sums_in_jax(jax: Any, x: Any) -> Any:
        return x.reshape(n, half[0], 2, half[1], 2, c).sum((2, 4))

    def maxima(torch: Any, x: Any) -> Any:
        return torch.nn.functional.max_pool2d(x, 2)

    def maxima_in_jax(jax: Any, x: Any) -> Any:
        return jax.lax.reduce_window(x, -np.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")

    def copies(torch: Any, x: Any) -> Any:
        return torch.nn.functional.interpolate(x, scale_factor=2)

    def copies_in_jax(jax: Any, x: Any) -> Any:
        return x.repeat(2, axis=1).repeat(2, axis=2)

    def make(name: str) -> Case:
        x, y = _normal(n, *size, c), _normal(n, *half, c)
        if name == "max_pool2d_grad":
            return Case((y, x, reference.max_pool2d(x, (2, 2)), (2, 2)), (x,), maxima, maxima_in_jax, y)
        array, functions = {
            "sum_pool2d": (x, (sums, sums_in_jax)),
            "max_pool2d": (x, (maxima, maxima_in_jax)),
            "upsample2d": (y, (copies, copies_in_jax)),
        }[name]
        return Case((array, (2, 2)), (array,), *functions)

    names = ("sum_pool2d", "max_pool2d", "max_pool2d_grad", "upsample2d")
    return [workload(name, f"{n}x{_show(size)}x{c}", partial(make, name), images=True) for name in names]


# ------------------------------------------------------------------------------------------- normalization and the rest


def group_norm(n: int, size: tuple[int, int], c: int, kind: str) -> list[Workload]:
    """Group normalization in eight groups with an activation, and the gradients of its three arguments."""

    def in_torch(torch: Any, x: Any, weight: Any, bias: Any) -> Any:
        return IN_TORCH[kind](torch, torch.nn.functional.group_norm(x, 8, weight, bias))

    def in_jax(jax: Any, x: Any, weight: Any, bias: Any) -> Any:
        normal = _normalized(jax, x.reshape(n, *size, 8, c // 8), (1, 2, 4)).reshape(x.shape)
        return IN_JAX[kind](jax, normal * weight + bias)

    def make(gradient: bool) -> Case:
        x, g, weight, bias = _normal(n, *size, c), _normal(n, *size, c), _normal(c), _normal(c)
        args: tuple[Any, ...] = (x, 8, weight, bias, 1e-5, kind)
        if gradient:
            args = (g, x, 8, weight, bias, *reference.group_norm(*args)[1:], kind)
        return Case(args, (x, weight, bias), in_torch, in_jax, g if gradient else None)

    return _both("group_norm", f"{n}x{_show(size)}x{c} {kind}", make, images=True)


def layer_norm(m: int, c: int) -> list[Workload]:
    """Layer normalization, and the gradients of its three arguments."""

    def in_torch(torch: Any, x: Any, weight: Any, bias: Any) -> Any:
        return torch.nn.functional.layer_norm(x, (c,), weight, bias)

    def in_jax(jax: Any, x: Any, weight: Any, bias: Any) -> Any:
        return _normalized(jax, x, (1,)) * weight + bias

    def make(gradient: bool) -> Case:
        x, g, weight, bias = _normal(m, c), _normal(m, c), _normal(c), _normal(c)
        args = (g, x, weight, *reference.layer_norm(x, weight, bias)[1:]) if gradient else (x, weight, bias)
        return Case(args, (x, weight, bias), in_torch, in_jax, g if gradient else None)

    return _both("layer_norm", f"{m}x{c}", make)


def _normalized(jax: Any, x: Any, axes: tuple[int, ...]) -> Any:
    return (x - x.mean(axes, keepdims=True)) * jax.lax.rsqrt(x.var(axes, keepdims=True) + 1e-5)


def logits(m: int, c: int) -> list[Workload]:
    """Softmax and its logarithm over the last axis, and the logarithm at one label a row, with gradients."""

    def make(name: str, gradient: bool) -> Case:
        x, g = _normal(m, c), _normal(m, c)
        args = (g, getattr(reference, name)(x)) if gradient else (x,)
        return Case(
            args,
            (x,),
            lambda torch, x: getattr(torch, name)(x, -1),
            lambda jax, x: getattr(jax.nn, name)(x, -1),
            g if gradient else None,
        )

    def make_cross_entropy(gradient: bool) -> Case:
        x, g, labels = _normal(m, c), _normal(m), np.random.default_rng(0).integers(c, size=m)

        def in_torch(torch: Any, x: Any) -> Any:
            return torch.nn.functional.cross_entropy(x, torch.from_numpy(labels), reduction="none")

        def in_jax(jax: Any, x: Any) -> Any:
            return -jax.numpy.take_along_axis(jax.nn.log_softmax(x), labels[:, None], 1)[:, 0]

        args = (g, x, labels, *reference.cross_entropy(x, labels)[1:]) if gradient else (x, labels)
        return Case(args, (x,), in_torch, in_jax, g if gradient else None)

    def make_binary() -> Case:
        x, targets = _normal(m, c), np.random.default_rng(0).random((m, c), np.float32)

        def in_torch(torch: Any, x: Any) -> Any:
            logits = torch.nn.functional.binary_cross_entropy_with_logits
            return logits(x, torch.from_numpy(targets), reduction="none")

        return Case((x, targets), (x,), in_torch, lambda jax, x: jax.nn.softplus(x) - targets * x)

    shapes = f"{m}x{c}"
    names = ("softmax", "log_softmax")
    both = [each for name in names for each in _both(name, shapes, partial(make, name))]
    binary = workload("binary_cross_entropy", shapes, make_binary)
    return [*both, *_both("cross_entropy", shapes, make_cross_entropy), binary]


def sum_rows(n: int, m: int, c: int) -> Workload:
    """The sum over positions, as the gradient of a bias or, for n > 1, of one for each image."""

    def make() -> Case:
        x = _normal(n, m, c)
        return Case((x,), (x,), lambda torch, x: x.sum(1), lambda jax, x: x.sum(1))

    return workload("sum_rows", f"{n}x{m}x{c}", make)


def sum_columns(m: int, c: int) -> Workload:
    """The sum over the last axis, as of log-likelihoods."""

    def make() -> Case:
        x = _normal(m, c)
        return Case((x,), (x,), lambda torch, x: x.sum(1), lambda jax, x: x.sum(1))

    return workload("sum_columns", f"{m}x{c}", make)


def norm(size: int) -> Workload:
    """The Euclidean norm of all gradients."""

    def make() -> Case:
        x = _normal(size)
        return Case((x,), (x,), lambda torch, x: x.norm(), lambda jax, x: jax.numpy.linalg.norm(x))

    return workload("norm", f"{size} elements", make)


def adam(size: int) -> Workload:
    """One update of a flat vector of parameters."""

    def update(module: Any) -> Call:
        p, g, m, v = _normal(size), _normal(size), np.zeros(size, np.float32), np.zeros(size, np.float32)

        ends, steps, settings = np.array([size]), np.array([1]), np.array([1e-3, 0.9, 0.999, 1e-8, 0])

        def call() -> Array:
            module.adam(p, g, m, v, ends, steps, settings)
            return p

        return call

    def in_torch() -> Call:
        import torch

        p = torch.from_numpy(_normal(size)).requires_grad_()
        p.grad = torch.from_numpy(_normal(size))
        return torch.optim.Adam([p], lr=1e-3, fused=True).step

    def in_jax() -> Call:
        import jax
        import optax

        optimizer = optax.adam(1e-3)

        @partial(jax.jit, donate_argnums=(0, 1))
        def step(p: Any, state: Any, g: Any) -> tuple[Any, Any]:
            change, state = optimizer.update(g, state)
            return optax.apply_updates(p, change), state

        p, g = jax.numpy.array(_normal(size)), jax.numpy.array(_normal(size))
        state = optimizer.init(p)

        def call() -> None:
            nonlocal p, state
            p, state = jax.block_until_ready(step(p, state, g))

        return call

    prepare: dict[str, Callable[[], Call]] = {
        "tinygen": partial(update, kernels),
        "numpy": partial(update, reference),
        "torch": in_torch,
        "jax": in_jax,
    }
    return Workload(f"adam {size}", 0.0, prepare)


def _both(name: str, shapes: str, make: Callable[[bool], Case], images: bool = False) -> list[Workload]:
    """A kernel and its gradient."""
    return [
        workload(name, shapes, partial(make, False), images=images),
        workload(f"{name}_grad", shapes, partial(make, True), images=images),
    ]


def _show(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


LINEAR = [
    (256, 130, 128, "silu"),
    (256, 128, 128, "silu"),
    (256, 128, 2, "identity"),
    (256, 1, 64, "relu"),
    (256, 64, 64, "relu"),
    (256, 64, 2, "identity"),
    (128, 784, 400, "relu"),
    (128, 400, 40, "identity"),
    (128, 20, 400, "relu"),
    (128, 400, 784, "identity"),
    (64, 64, 3136, "identity"),
    (64, 3136, 1, "identity"),
    (64, 32, 128, "silu"),
    (64, 128, 64, "identity"),
    (50176, 96, 32, "identity"),  # the 1 x 1 convolutions of the U-Net and of WaveNet
    (8192, 32, 32, "identity"),
    (8192, 32, 256, "identity"),
]
ACTIVATIONS: list[tuple[Any, ...]] = [
    ("relu", 64, 28, 28, 16),
    ("leaky_relu", 64, 14, 14, 32),
    ("elu", 64, 28, 28, 32),
    ("silu", 64, 28, 28, 32),
    ("gelu", 64, 28, 28, 32),
    ("softplus", 128, 784),
    ("sigmoid", 8, 1024, 32),
    ("tanh", 8, 1024, 32),
]
CONVOLUTIONS: list[tuple[Any, ...]] = [
    (64, (28, 28), 1, 32, (3, 3)),
    (64, (28, 28), 32, 32, (3, 3)),
    (64, (28, 28), 96, 32, (3, 3)),
    (64, (28, 28), 32, 1, (3, 3)),
    (64, (28, 28), 32, 32, (3, 3), 2),
    (64, (14, 14), 32, 64, (3, 3)),
    (64, (14, 14), 128, 64, (3, 3)),
    (64, (7, 7), 64, 64, (3, 3)),
    (64, (28, 28), 1, 32, (3, 3), 2),  # of the GAN
    (64, (14, 14), 32, 64, (3, 3), 2),
    (64, (14, 14), 64, 32, (3, 3)),
    (64, (28, 28), 32, 16, (3, 3)),
    (8, (1, 1024), 32, 64, (1, 2), 1, 1),  # of WaveNet
    (8, (1, 1024), 32, 64, (1, 2), 1, 512),
]


def workloads() -> list[Workload]:
    """All of them; the first one measures the FLOP limit."""
    groups = [
        *(linear(*shape) for shape in LINEAR),
        *(activate(*shape) for shape in ACTIVATIONS),
        gated_tanh(8192, 32),
        bounded_affine(256, 1),
        [sinusoids(256, 64)],
        *(convolution(*shape) for shape in CONVOLUTIONS),
        pooling(64, (28, 28), 32),
        group_norm(64, (28, 28), 32, "silu"),
        group_norm(64, (14, 14), 128, "silu"),
        layer_norm(8192, 64),
        logits(8192, 256),
    ]
    return [
        matmul(1024),
        *(each for group in groups for each in group),
        sum_rows(1, 50176, 32),
        sum_rows(64, 784, 32),
        sum_columns(128, 784),
        sum_columns(50176, 32),
        norm(1_500_000),
        adam(1_500_000),
    ]
