"""The kernels, over the shapes that the reference models use. NumPy does the products alone, without the rest."""

from typing import Any

import numpy as np

import kernels
from benchmarks.workload import Call, Workload

PADDING = ((1, 1), (1, 1))


def _normal(*shape: int) -> Any:
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


def matmul(size: int) -> Workload:
    """A large product: its fastest implementation sets the FLOP limit of the machine."""

    def numpy() -> Call:
        x, w = _normal(size, size), _normal(size, size)
        return lambda: x @ w

    def tinygen() -> Call:
        x, w = _normal(size, size), _normal(size, size)
        return lambda: kernels.linear(x, w)

    def torch() -> Call:
        import torch

        x, w = torch.from_numpy(_normal(size, size)), torch.from_numpy(_normal(size, size))
        return lambda: x @ w

    return Workload(f"matmul {size}", 2.0 * size**3, {"tinygen": tinygen, "numpy": numpy, "torch": torch})


def linear(m: int, k: int, n: int, activation: str) -> Workload:
    """The fused layer ``activate(x @ w + b)``."""
    x, w, b = _normal(m, k), _normal(k, n), _normal(n)

    def tinygen() -> Call:
        return lambda: kernels.linear(x, w, b, activation)

    def numpy() -> Call:
        return lambda: x @ w

    def torch() -> Call:
        import torch

        tx, tw, tb = torch.from_numpy(x), torch.from_numpy(w), torch.from_numpy(b)
        functions = {"identity": lambda z: z, "relu": torch.relu, "silu": torch.nn.functional.silu}
        return lambda: functions[activation](torch.addmm(tb, tx, tw))

    name = f"linear {m}x{k}x{n} {activation}"
    return Workload(name, 2.0 * m * k * n, {"tinygen": tinygen, "numpy": numpy, "torch": torch})


def linear_grad(m: int, k: int, n: int, activation: str) -> Workload:
    """The gradients of that layer's three arguments."""
    x, w, b, g = _normal(m, k), _normal(k, n), _normal(n), _normal(m, n)

    def tinygen() -> Call:
        _, saved = kernels.linear(x, w, b, activation)
        return lambda: kernels.linear_grad(g, x, w, saved, activation)

    def numpy() -> Call:
        return lambda: (g @ w.T, x.T @ g)

    return Workload(f"linear_grad {m}x{k}x{n} {activation}", 4.0 * m * k * n, {"tinygen": tinygen, "numpy": numpy})


def convolution(c_in: int, c_out: int, size: int, backward: bool) -> Workload:
    """A 3x3 convolution of 64 images, alone or with both its gradients."""
    x, w, g = _normal(64, size, size, c_in), _normal(3, 3, c_in, c_out), _normal(64, size, size, c_out)

    def tinygen() -> Call:
        def forward() -> Any:
            return kernels.conv2d(x, w, None, (1, 1), PADDING)

        def both() -> Any:
            gx = kernels.conv2d_input_grad(g, w, (size, size), (1, 1), PADDING)
            return forward(), gx, kernels.conv2d_weight_grad(x, g, (3, 3), (1, 1), PADDING)

        return both if backward else forward

    def torch(channels_last: bool) -> Call:
        import torch

        layout = torch.channels_last if channels_last else torch.contiguous_format
        tx, tg = (torch.from_numpy(a).permute(0, 3, 1, 2).contiguous(memory_format=layout) for a in (x, g))
        tw = torch.from_numpy(w).permute(3, 2, 0, 1).contiguous(memory_format=layout)

        def forward() -> Any:
            return torch.nn.functional.conv2d(tx, tw, padding=1)

        if backward:
            tx.requires_grad_()
            tw.requires_grad_()
            return lambda: torch.autograd.grad(forward(), (tx, tw), tg)
        return forward

    name = f"conv3x3 {c_in}->{c_out}@{size}x{size} {'forward+backward' if backward else 'forward'}"
    flops = 2.0 * 64 * size * size * 9 * c_in * c_out * (3 if backward else 1)
    prepare = {"tinygen": tinygen, "torch": lambda: torch(True), "torch-channels-first": lambda: torch(False)}
    return Workload(name, flops, prepare)


def group_norm(c: int, size: int) -> Workload:
    """Group normalization in eight groups, forward and backward."""
    x, g, weight, bias = _normal(64, size, size, c), _normal(64, size, size, c), _normal(c), _normal(c)

    def tinygen() -> Call:
        def call() -> Any:
            y, mean, rstd = kernels.group_norm(x, 8, weight, bias)
            return y, kernels.group_norm_grad(g, x, 8, weight, mean, rstd)

        return call

    def torch() -> Call:
        import torch

        tx, tg = (torch.from_numpy(a).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last) for a in (x, g))
        leaves = (
            tx.requires_grad_(),
            torch.from_numpy(weight).requires_grad_(),
            torch.from_numpy(bias).requires_grad_(),
        )
        return lambda: torch.autograd.grad(torch.nn.functional.group_norm(leaves[0], 8, *leaves[1:]), leaves, tg)

    return Workload(f"group_norm {c}@{size}x{size} forward+backward", 0.0, {"tinygen": tinygen, "torch": torch})


def softmax(m: int, c: int) -> Workload:
    """Softmax over the last axis."""
    x = _normal(m, c)

    def torch() -> Call:
        import torch

        tx = torch.from_numpy(x)
        return lambda: torch.softmax(tx, dim=-1)

    return Workload(f"softmax {m}x{c}", 0.0, {"tinygen": lambda: lambda: kernels.softmax(x), "torch": torch})


def cross_entropy(m: int, c: int) -> Workload:
    """Softmax and logarithm at one label a row, forward and backward."""
    x, labels, g = _normal(m, c), np.random.default_rng(0).integers(c, size=m), _normal(m)

    def tinygen() -> Call:
        def call() -> Any:
            y, *moments = kernels.cross_entropy(x, labels)
            return y, kernels.cross_entropy_grad(g, x, labels, *moments)

        return call

    def torch() -> Call:
        import torch

        tx, tg, at = torch.from_numpy(x).requires_grad_(), torch.from_numpy(g), torch.from_numpy(labels)
        return lambda: torch.autograd.grad(torch.nn.functional.cross_entropy(tx, at, reduction="none"), tx, tg)

    return Workload(f"cross_entropy {m}x{c} forward+backward", 0.0, {"tinygen": tinygen, "torch": torch})


def adam(size: int) -> Workload:
    """One update of a flat vector of parameters."""

    def tinygen() -> Call:
        p, g, m, v = _normal(size), _normal(size), np.zeros(size, np.float32), np.zeros(size, np.float32)
        return lambda: kernels.adam(p, g, m, v, 1, 1e-3, 0.9, 0.999, 1e-8)

    def torch() -> Call:
        import torch

        p = torch.from_numpy(_normal(size)).requires_grad_()
        p.grad = torch.from_numpy(_normal(size))
        return torch.optim.Adam([p], lr=1e-3, fused=True).step

    return Workload(f"adam {size}", 0.0, {"tinygen": tinygen, "torch": torch})


LINEAR = [
    (256, 130, 128, "silu"),
    (256, 128, 128, "silu"),
    (256, 128, 2, "identity"),
    (256, 1, 64, "relu"),
    (256, 64, 64, "relu"),
    (256, 64, 2, "identity"),
    (128, 784, 400, "relu"),
    (128, 400, 20, "identity"),
    (128, 20, 400, "relu"),
    (128, 400, 784, "identity"),
    (64, 64, 3136, "identity"),
    (64, 3136, 1, "identity"),
    (64, 32, 128, "silu"),
    (64, 128, 64, "identity"),
    (8192, 32, 32, "identity"),
    (8192, 32, 256, "identity"),
]
CONVOLUTIONS = [(32, 32, 28), (32, 64, 14), (64, 64, 14), (128, 128, 7), (1, 32, 28), (32, 1, 28)]


def workloads() -> list[Workload]:
    """All of them; the first one measures the FLOP limit."""
    return [
        matmul(1024),
        *(linear(*shape) for shape in LINEAR),
        *(linear_grad(*shape) for shape in LINEAR[:2] + LINEAR[6:10] + LINEAR[-2:]),
        *(convolution(*shape, backward) for shape in CONVOLUTIONS for backward in (False, True)),
        group_norm(32, 28),
        softmax(8192, 256),
        cross_entropy(8192, 256),
        adam(1_500_000),
    ]
