"""The networks that denoise: functions of noisy data and of the time step."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

import tinygen as tg
from tinygen import Tensor, nn
from tinygen.errors import ShapeError
from tinygen.nn.init import he_normal, zeros

Array = np.ndarray


def time_features(time: Any, width: int, dtype: np.dtype) -> Any:
    """Sines and cosines (Vaswani et al. 2017) of times ``(N,)`` in [0, 1], frequencies 100 to 0.1: ``(N, width)``."""
    frequencies = 100 * np.exp(-math.log(1000) * np.arange(width // 2) / (width // 2))
    return tg.sinusoids(time if time.dtype == dtype else time.astype(dtype), frequencies.astype(dtype))


def shared(time: Any) -> Any:
    """One time ``(1,)`` where all of an array ``(N,)`` are equal, as in sampling: what follows from it broadcasts.

    Nothing is chosen by the values of a Tensor, whose operations may be recorded to be replayed for others.
    """
    return time[:1] if isinstance(time, np.ndarray) and np.all(time == time[:1]) else time


class TimeMLP(nn.Module):
    """A multilayer perceptron with SiLU on points ``(N, D)``; features of their times ``(N,)`` enter its first layer.

    Points and features each have He's initial weights for their own number of inputs: smaller ones leave the layers
    almost linear, and learning takes several times as many steps.
    """

    def __init__(
        self, size: int, rng: np.random.Generator, *, width: int = 128, depth: int = 3, features: int = 128
    ) -> None:
        self.features = features
        self.enter = nn.Linear(size, width, rng, init=he_normal)
        self.time = nn.Linear(features, width, rng, init=he_normal)
        self.hidden = [nn.Linear(width, width, rng, activation="silu", init=he_normal) for _ in range(depth - 1)]
        self.last = nn.Linear(width, size, rng, init=zeros)

    def forward(self, x: Any, time: Array) -> Tensor:
        h = tg.silu(self.enter(x) + self.time(time_features(shared(time), self.features, x.dtype)))
        for layer in self.hidden:
            h = layer(h)
        return self.last(h)


class ResidualBlock(nn.Module):
    """x + conv(silu(norm(conv(silu(norm(x))) + t))) with a bias t from the time; ``skip`` adapts x's channels."""

    def __init__(self, c_in: int, c_out: int, time_width: int, rng: np.random.Generator, groups: int = 8) -> None:
        self.norm_in = nn.GroupNorm(groups, c_in, activation="silu")
        self.conv_in = nn.Conv2d(c_in, c_out, 3, rng, padding=1, init=he_normal)
        self.time = nn.Linear(time_width, c_out, rng, init=he_normal)
        self.norm_out = nn.GroupNorm(groups, c_out, activation="silu")
        self.conv_out = nn.Conv2d(c_out, c_out, 3, rng, padding=1, init=zeros)  # starts as the identity
        self.skip = nn.Linear(c_in, c_out, rng) if c_in != c_out else None

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        h = self.conv_in(self.norm_in(x), addend=tg.reshape(self.time(time), (len(time), 1, 1, -1)))
        return self.conv_out(self.norm_out(h), addend=x if self.skip is None else self.skip(x))


class UNet(nn.Module):
    """The U-Net (Ronneberger et al. 2015) with residual blocks that know the time (Ho et al. 2020), without attention.

    Going down, each level has a residual block and a convolution that halves the image; at the bottom, where a few
    convolutions see all of it, there are ``bottom`` blocks; going up, the image is doubled, the same level's image from
    the way down is put beside it, and a block joins the two.

    Parameters
    ----------
    channels : of the images, ``(N, H, W, channels)``
    rng : draws the initial weights
    widths : channels at each level, from the largest image to the smallest; multiples of 8, for group norm
    bottom : residual blocks at the smallest level
    patch : squares of patch × patch pixels become channels first, so that the largest level is smaller by that factor
    features : number of time features
    """

    def __init__(
        self,
        channels: int,
        rng: np.random.Generator,
        *,
        widths: Sequence[int] = (32, 64),
        bottom: int = 2,
        patch: int = 2,
        features: int = 32,
        time_width: int = 128,
    ) -> None:
        self.patch, self.features = patch, features
        self.factor = patch * 2 ** (len(widths) - 1)
        self.time = nn.Sequential(
            nn.Linear(features, time_width, rng, activation="silu", init=he_normal),
            nn.Linear(time_width, time_width, rng, activation="silu", init=he_normal),
        )
        self.first = nn.Conv2d(channels * patch**2, widths[0], 3, rng, padding=1)

        def block(c_in: int, c_out: int) -> ResidualBlock:
            return ResidualBlock(c_in, c_out, time_width, rng)

        *upper, lowest = widths
        entering = [widths[0], *upper]  # the channels that each level receives from above
        self.down = [block(a, b) for a, b in zip(entering, upper, strict=False)]
        self.halve = [nn.Conv2d(width, width, 3, rng, stride=2, padding=1) for width in upper]
        self.bottom = [block(entering[-1], lowest), *[block(lowest, lowest) for _ in range(bottom - 1)]]
        self.up = [block(below + width, width) for width, below in zip(upper, widths[1:], strict=True)][::-1]
        self.norm = nn.GroupNorm(8, widths[0], activation="silu")
        self.last = nn.Conv2d(widths[0], channels * patch**2, 3, rng, padding=1, init=zeros)

    def forward(self, x: Any, time: Array) -> Tensor:
        if x.ndim != 4 or x.shape[1] % self.factor or x.shape[2] % self.factor:
            raise ShapeError(
                f"UNet: x must be (N,H,W,C) with H and W divisible by {self.factor}, got {x.shape}; pad the images"
            )
        t = self.time(time_features(shared(time), self.features, x.dtype))
        h = self.first(space_to_channels(x, self.patch))
        skips = []
        for block, halve in zip(self.down, self.halve, strict=True):
            h = block(h, t)
            skips.append(h)
            h = halve(h)
        for block in self.bottom:
            h = block(h, t)
        for block in self.up:
            h = block(tg.concatenate([tg.upsample2d(h, 2), skips.pop()], 3), t)
        return channels_to_space(self.last(self.norm(h)), self.patch)


def space_to_channels(x: Any, size: int) -> Any:
    """Images ``(N, H, W, C)`` to ``(N, H/size, W/size, size² C)``: squares become the channels of one pixel."""
    n, h, w, c = x.shape
    blocks = tg.reshape(x, (n, h // size, size, w // size, size, c))
    return tg.reshape(tg.transpose(blocks, (0, 1, 3, 2, 4, 5)), (n, h // size, w // size, size * size * c))


def channels_to_space(x: Any, size: int) -> Any:
    """The inverse of `space_to_channels`."""
    n, h, w, c = x.shape
    blocks = tg.reshape(x, (n, h, w, size, size, c // size**2))
    return tg.reshape(tg.transpose(blocks, (0, 1, 3, 2, 4, 5)), (n, h * size, w * size, c // size**2))
