"""A kernel beside its naive reference in NumPy and the same function of PyTorch and JAX."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

import kernels
from benchmarks.workload import Call, Workload
from kernels import reference

Array = np.ndarray
Function = Callable[..., Any]


@dataclass(frozen=True)
class Case:
    """The data of a kernel, and what peers call instead.

    Parameters
    ----------
    args : of the kernel
    arrays : of the peers' functions, which take a library before them: if they have four axes, the first are images
        ``(N, H, W, C)`` and others weights ``(kh, kw, C_in, C_out)``
    torch, jax : these functions
    cotangent : of what they return, if the kernel is a gradient
    of : the arrays that have a gradient; None is all
    """

    args: tuple[Any, ...]
    arrays: tuple[Array, ...]
    torch: Function
    jax: Function
    cotangent: Array | None = None
    of: tuple[int, ...] | None = None


def workload(kernel: str, shapes: str, make: Callable[[], Case], flops: float = 0.0, images: bool = False) -> Workload:
    """A kernel in all implementations; the data are made only where they are used."""
    prepare: dict[str, Callable[[], Call]] = {
        "tinygen": lambda: partial(getattr(kernels, kernel), *make().args),
        "numpy": lambda: partial(getattr(reference, kernel), *make().args),
        "torch": lambda: in_torch(make(), channels_last=True),
        "jax": lambda: in_jax(make()),
    }
    if images:
        prepare["torch-channels-first"] = lambda: in_torch(make(), channels_last=False)
    return Workload(f"{kernel} {shapes}", flops, prepare)


def in_torch(case: Case, channels_last: bool) -> Call:
    """The call in PyTorch, whose images are ``(N, C, H, W)`` and weights ``(C_out, C_in, kh, kw)``, in either order."""
    import torch

    def tensor(array: Array, axes: tuple[int, ...] = (3, 2, 0, 1)) -> Any:
        if array.ndim != 4:
            return torch.from_numpy(array)
        layout = torch.channels_last if channels_last else torch.contiguous_format
        return torch.from_numpy(array).permute(axes).contiguous(memory_format=layout)

    images = (0, 3, 1, 2)
    leaves = [tensor(case.arrays[0], images), *map(tensor, case.arrays[1:])]
    if case.cotangent is None:
        return lambda: case.torch(torch, *leaves)
    chosen = [leaves[i].requires_grad_() for i in case.of or range(len(leaves))]
    y, g = case.torch(torch, *leaves), tensor(case.cotangent, images)
    return lambda: torch.autograd.grad(y, chosen, g, retain_graph=True)


def in_jax(case: Case) -> Call:
    """The call in JAX, compiled; a gradient is another function, of what the first one saved."""
    import jax

    values, chosen = [jax.numpy.asarray(array) for array in case.arrays], case.of or range(len(case.arrays))
    if case.cotangent is None:
        forward = jax.jit(partial(case.jax, jax))
        return lambda: jax.block_until_ready(forward(*values))

    def of_chosen(*some: Any) -> Any:
        given = dict(zip(chosen, some, strict=True))
        return case.jax(jax, *(given.get(i, value) for i, value in enumerate(values)))

    _, pullback = jax.jit(lambda *some: jax.vjp(of_chosen, *some))(*(values[i] for i in chosen))
    backward, g = jax.jit(lambda pullback, g: pullback(g)), jax.numpy.asarray(case.cotangent)
    return lambda: jax.block_until_ready(backward(pullback, g))


IN_TORCH: dict[str, Function] = {
    "identity": lambda torch, z: z,
    "relu": lambda torch, z: torch.relu(z),
    "leaky_relu": lambda torch, z: torch.nn.functional.leaky_relu(z, 0.2),
    "elu": lambda torch, z: torch.nn.functional.elu(z, 0.2),
    "silu": lambda torch, z: torch.nn.functional.silu(z),
    "gelu": lambda torch, z: torch.nn.functional.gelu(z),
    "softplus": lambda torch, z: torch.nn.functional.softplus(z),
    "sigmoid": lambda torch, z: torch.sigmoid(z),
    "tanh": lambda torch, z: torch.tanh(z),
}
IN_JAX: dict[str, Function] = {
    "identity": lambda jax, z: z,
    "relu": lambda jax, z: jax.nn.relu(z),
    "leaky_relu": lambda jax, z: jax.nn.leaky_relu(z, 0.2),
    "elu": lambda jax, z: jax.nn.elu(z, 0.2),
    "silu": lambda jax, z: jax.nn.silu(z),
    "gelu": lambda jax, z: jax.nn.gelu(z, approximate=False),
    "softplus": lambda jax, z: jax.nn.softplus(z),
    "sigmoid": lambda jax, z: jax.nn.sigmoid(z),
    "tanh": lambda jax, z: jax.numpy.tanh(z),
}
