"""Layers with weights. Each takes the generator that draws its initial weights; weights are float32."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinygen import ops
from tinygen.autograd import Tensor, effect
from tinygen.nn import init as initial
from tinygen.nn.module import Module, Parameter


class _Weighted(Module):
    """A layer with a weight, whose last two axes are (C_in, C_out), and perhaps a bias."""

    def __init__(
        self,
        shape: tuple[int, ...],
        rng: np.random.Generator,
        bias: bool,
        init: initial.Init,
        fan_in: int | None = None,
    ) -> None:
        fan_in = fan_in or math.prod(shape[:-1])
        self.weight = Parameter(init(rng, shape, fan_in))
        self.bias = Parameter(init(rng, shape[-1:], fan_in)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return self.apply(x, self.weight)

    def apply(self, x: Tensor, weight: Tensor) -> Tensor:
        """The layer with another weight in place of its own."""
        raise NotImplementedError


class Linear(_Weighted):
    """``activation(x @ weight + bias)`` on the last axis.

    Parameters
    ----------
    c_in, c_out : widths
    rng : draws the initial weights
    bias : whether there is one
    activation, alpha : as in `tinygen.linear`
    init : initial weights, see `tinygen.nn.init`
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        rng: np.random.Generator,
        *,
        bias: bool = True,
        activation: str = "identity",
        alpha: float = 0.01,
        init: initial.Init = initial.uniform,
    ) -> None:
        super().__init__((c_in, c_out), rng, bias, init)
        self.activation, self.alpha = activation, alpha

    def apply(self, x: Tensor, weight: Tensor) -> Tensor:
        return ops.linear(x, weight, self.bias, self.activation, self.alpha)


class Conv2d(_Weighted):
    """Convolution of images ``(N, H, W, C_in)`` to ``(N, H', W', C_out)``; see `tinygen.conv2d`.

    ``kernel`` is a number or (kh, kw); the other parameters are those of `Linear` and `tinygen.conv2d`. A call may be
    given an ``addend`` too, which is added to the result.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        kernel: int | tuple[int, int],
        rng: np.random.Generator,
        *,
        stride: int | tuple[int, int] = 1,
        padding: Any = 0,
        dilation: int | tuple[int, int] = 1,
        bias: bool = True,
        init: initial.Init = initial.uniform,
    ) -> None:
        size = (kernel, kernel) if isinstance(kernel, int) else kernel
        super().__init__((*size, c_in, c_out), rng, bias, init)
        self.stride, self.padding, self.dilation = stride, padding, dilation

    def forward(self, x: Tensor, addend: Tensor | None = None) -> Tensor:
        return self.apply(x, self.weight, addend)

    def apply(self, x: Tensor, weight: Tensor, addend: Tensor | None = None) -> Tensor:
        return ops.conv2d(x, weight, self.bias, self.stride, self.padding, self.dilation, addend)


class Conv1d(_Weighted):
    """Convolution of sequences ``(N, L, C_in)`` to ``(N, L', C_out)``; see `tinygen.conv1d`."""

    def __init__(
        self,
        c_in: int,
        c_out: int,
        kernel: int,
        rng: np.random.Generator,
        *,
        stride: int = 1,
        padding: int | tuple[int, int] = 0,
        dilation: int = 1,
        causal: bool = False,
        bias: bool = True,
        init: initial.Init = initial.uniform,
    ) -> None:
        super().__init__((kernel, c_in, c_out), rng, bias, init)
        self.stride, self.padding, self.dilation, self.causal = stride, padding, dilation, causal

    def apply(self, x: Tensor, weight: Tensor) -> Tensor:
        return ops.conv1d(x, weight, self.bias, self.stride, self.padding, self.dilation, self.causal)


class ConvTranspose2d(_Weighted):
    """Transposed convolution of images, which enlarges them by ``stride``; see `tinygen.conv_transpose2d`."""

    def __init__(
        self,
        c_in: int,
        c_out: int,
        kernel: int | tuple[int, int],
        rng: np.random.Generator,
        *,
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        output_padding: int | tuple[int, int] = 0,
        bias: bool = True,
        init: initial.Init = initial.uniform,
    ) -> None:
        size = (kernel, kernel) if isinstance(kernel, int) else kernel
        steps = (stride, stride) if isinstance(stride, int) else stride
        inputs = max(1, math.prod(size) * c_in // math.prod(steps))  # a stride spreads the inputs out
        super().__init__((*size, c_in, c_out), rng, bias, init, inputs)
        self.stride, self.padding, self.output_padding = stride, padding, output_padding

    def apply(self, x: Tensor, weight: Tensor) -> Tensor:
        return ops.conv_transpose2d(x, weight, self.bias, self.stride, self.padding, self.output_padding)


class SpectralNorm(Module):
    """A layer with its weight divided by its largest singular value (Miyato et al. 2018).

    The value, of the weight as a matrix ``(inputs, C_out)``, is estimated by power iteration: ``steps`` at each call in
    training, from where the last call stopped. Gradients pass through the division with the singular vectors held fixed
    (their eq. 11).
    """

    def __init__(self, layer: _Weighted, rng: np.random.Generator, steps: int = 1) -> None:
        self.layer = layer
        self.steps = steps
        self.left = rng.standard_normal(math.prod(layer.weight.shape[:-1])).astype(layer.weight.dtype)
        self.right = np.zeros(layer.weight.shape[-1], layer.weight.dtype)
        self._iterate(max(steps, 1))

    def _iterate(self, steps: int) -> None:
        matrix = self.layer.weight.data.reshape(len(self.left), -1)
        for _ in range(steps):
            self.right[...] = _unit(self.left @ matrix)
            self.left[...] = _unit(matrix @ self.right)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            effect(self._iterate, self.steps)
        matrix = self.layer.weight.reshape((len(self.left), -1))
        sigma = ops.matmul(ops.matmul(self.left, matrix), self.right)
        return self.layer.apply(x, self.layer.weight / sigma)


def _unit(v: np.ndarray) -> np.ndarray:
    return v / max(float(np.linalg.norm(v)), 1e-12)


def spectral_norm(layer: _Weighted, rng: np.random.Generator, steps: int = 1) -> SpectralNorm:
    """Constrain a layer's largest singular value to 1; see `SpectralNorm`."""
    return SpectralNorm(layer, rng, steps)


class Embedding(Module):
    """A table of vectors: integers of any shape to ``(..., width)``. Initial values are standard normal."""

    def __init__(self, number: int, width: int, rng: np.random.Generator) -> None:
        self.weight = Parameter(rng.standard_normal((number, width)).astype(np.float32))

    def forward(self, index: Any) -> Tensor:
        return ops.take(self.weight, index, 0)


class Sequential(Module):
    """Layers, or plain functions, one after another."""

    def __init__(self, *layers: Callable) -> None:
        self.layers = list(layers)

    def forward(self, x: Any) -> Any:
        for layer in self.layers:
            x = layer(x)
        return x


class MLP(Sequential):
    """A multilayer perceptron: `Linear` layers with an activation after each but the last.

    Parameters
    ----------
    sizes : widths from input to output
    rng : draws the initial weights
    activation, alpha : as in `tinygen.linear`
    last_init : initial weights of the last layer, for example `tinygen.nn.init.zeros`
    """

    def __init__(
        self,
        sizes: Sequence[int],
        rng: np.random.Generator,
        activation: str = "relu",
        *,
        alpha: float = 0.01,
        last_init: initial.Init = initial.uniform,
    ) -> None:
        hidden = [
            Linear(a, b, rng, activation=activation, alpha=alpha) for a, b in zip(sizes[:-2], sizes[1:-1], strict=True)
        ]
        super().__init__(*hidden, Linear(sizes[-2], sizes[-1], rng, init=last_init))
