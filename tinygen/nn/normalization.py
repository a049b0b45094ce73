"""Layers that normalise, and dropout."""

import numpy as np

from tinygen import ops
from tinygen.autograd import Tensor, effect
from tinygen.nn.module import Module, Parameter


class GroupNorm(Module):
    """Group normalization of ``(N, ..., C)``, and an activation; see `tinygen.group_norm`."""

    def __init__(self, groups: int, channels: int, eps: float = 1e-5, activation: str = "identity") -> None:
        self.groups, self.eps, self.activation = groups, eps, activation
        self.weight = Parameter(np.ones(channels, np.float32))
        self.bias = Parameter(np.zeros(channels, np.float32))

    def forward(self, x: Tensor) -> Tensor:
        return ops.group_norm(x, self.groups, self.weight, self.bias, self.eps, self.activation)


class LayerNorm(Module):
    """Layer normalization of the last axis; see `tinygen.layer_norm`."""

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        self.eps = eps
        self.weight = Parameter(np.ones(channels, np.float32))
        self.bias = Parameter(np.zeros(channels, np.float32))

    def forward(self, x: Tensor) -> Tensor:
        return ops.layer_norm(x, self.weight, self.bias, self.eps)


class BatchNorm(Module):
    """Batch normalization of ``(..., C)`` over all axes but the last (Ioffe and Szegedy 2015).

    Training uses the batch's own mean and variance, and moves the running ones towards them by ``momentum``; evaluation
    uses the running ones. The running variance is the unbiased one.
    """

    def __init__(self, channels: int, *, momentum: float = 0.1, eps: float = 1e-5) -> None:
        self.momentum, self.eps = momentum, eps
        self.weight = Parameter(np.ones(channels, np.float32))
        self.bias = Parameter(np.zeros(channels, np.float32))
        self.running_mean = np.zeros(channels, np.float32)
        self.running_var = np.ones(channels, np.float32)

    def forward(self, x: Tensor) -> Tensor:
        x = x if isinstance(x, Tensor) else Tensor(x)
        if not self.training:
            scale = self.weight / ops.sqrt(ops.add(self.running_var, self.eps))
            return x * scale + (self.bias - scale * self.running_mean)
        axes = tuple(range(x.ndim - 1))
        mean = ops.mean(x, axes)
        centred = x - mean
        var = ops.mean(centred * centred, axes)
        effect(self._follow, mean, var, x.size // x.shape[-1])
        return centred * (self.weight / ops.sqrt(var + self.eps)) + self.bias

    def _follow(self, mean: np.ndarray, var: np.ndarray, count: int) -> None:
        self.running_mean += self.momentum * (mean - self.running_mean)
        self.running_var += self.momentum * (var * (count / max(count - 1, 1)) - self.running_var)


class Dropout(Module):
    """`tinygen.dropout` in training, the identity in evaluation. The generator is part of the state."""

    def __init__(self, p: float, rng: np.random.Generator) -> None:
        self.p, self.rng = p, rng

    def forward(self, x: Tensor) -> Tensor:
        return ops.dropout(x, self.p, self.rng) if self.training else x
