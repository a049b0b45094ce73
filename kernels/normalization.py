"""Group and layer normalization, with their gradients.

Long sums run in float64 whatever the dtype: over a 28 × 28 image they would lose up to three digits in float32, and
memory, not arithmetic, sets the pace. The variance is the mean square of the differences from the mean, which takes a
second pass over a sample that the cache still holds, and never the cancelling difference of mean square and squared
mean.
"""

import math
from typing import Any

import numpy as np

from kernels.activation import NANOSECONDS, silu_slope
from kernels.arguments import Array, check
from kernels.calls import do, empty, empty_like
from kernels.compilation import jit
from kernels.elementary import sigmoid
from kernels.threads import run, share

FLAGS = {"contract", "reassoc"}
"""Sums may be taken in as many parallel lanes as a register has. The order is fixed when the kernel is compiled, if a
loop that sums does not write: else it would depend on where the arrays lie, as code is made for arrays that overlap."""

# -------------------------------------------------------------------------------------------------- group normalization


def group_norm(
    x: Array, groups: int, weight: Array, bias: Array, eps: float = 1e-5, activation: str = "identity"
) -> tuple[Array, Array, Array]:
    """`kernels.reference.group_norm`, compiled: ``(y, mean, rstd)``.

    Raises
    ------
    TypeError : arguments that are not arrays of one dtype, float32 or float64
    ValueError : shapes that do not fit, groups that do not divide C, or an activation but ``identity`` and ``silu``
    """
    silu = _is_silu("group_norm", activation)
    x = check("group_norm", "x", x)
    weight = check("group_norm", "weight", weight, "C", x.dtype)
    bias = check("group_norm", "bias", bias, "C", x.dtype)
    samples = _by_position("group_norm", x, groups)
    for name, vector in (("weight", weight), ("bias", bias)):
        _must_match("group_norm", name, vector, x, (x.shape[-1],))
    y = empty_like(samples)
    mean, rstd = empty((2, len(x), groups), x.dtype)
    run(_group_norm, x.size * (0.6 + NANOSECONDS[activation]), samples, weight, bias, eps, silu, y, mean, rstd)
    return y.reshape(x.shape), mean, rstd


def group_norm_grad(
    g: Array,
    x: Array,
    groups: int,
    weight: Array,
    bias: Array,
    mean: Array,
    rstd: Array,
    activation: str = "identity",
) -> tuple[Array, Array, Array]:
    """`kernels.reference.group_norm_grad`, compiled: the cotangents of x, weight and bias.

    Raises
    ------
    TypeError : arguments that are not arrays of one dtype, float32 or float64
    ValueError : shapes that do not fit, groups that do not divide C, or an activation but ``identity`` and ``silu``
    """
    silu = _is_silu("group_norm_grad", activation)
    x = check("group_norm_grad", "x", x)
    g = check("group_norm_grad", "g", g, dtype=x.dtype)
    weight = check("group_norm_grad", "weight", weight, "C", x.dtype)
    bias = check("group_norm_grad", "bias", bias, "C", x.dtype)
    mean = check("group_norm_grad", "mean", mean, "N,G", x.dtype)
    rstd = check("group_norm_grad", "rstd", rstd, "N,G", x.dtype)
    samples = _by_position("group_norm_grad", x, groups)
    _must_match("group_norm_grad", "g", g, x, x.shape)
    for name, vector in (("weight", weight), ("bias", bias)):
        _must_match("group_norm_grad", name, vector, x, (x.shape[-1],))
    for name, statistic in (("mean", mean), ("rstd", rstd)):
        _must_match("group_norm_grad", name, statistic, x, (len(x), groups))
    gx = empty_like(samples)
    # Each sample's share in the cotangents of weight and bias, so that their sum does not depend on the threads
    gw, gb = empty((2, len(x), x.shape[-1]), np.float64)
    nanoseconds = x.size * (0.8 + NANOSECONDS[activation])
    g = g.reshape(samples.shape)
    run(_group_norm_grad, nanoseconds, g, samples, weight, bias, mean, rstd, silu, gx, gw, gb)
    return gx.reshape(x.shape), *_summed(gw, gb, x.dtype)


def _is_silu(operation: str, activation: str) -> bool:
    if activation not in ("identity", "silu"):
        raise ValueError(f"{operation}: unknown activation {activation!r}; choose identity or silu")
    return activation == "silu"


@jit(fastmath=FLAGS)
def _group_norm(
    worker: int,
    workers: int,
    x: Array,
    weight: Array,
    bias: Array,
    eps: float,
    silu: bool,
    y: Array,
    mean: Array,
    rstd: Array,
) -> None:
    """For x (N, P, C), one sample after another; the inner loops run over channels, which are neighbours in memory."""
    positions, channels, groups = x.shape[1], x.shape[2], mean.shape[1]
    size = channels // groups
    total = np.empty(channels)
    center, scale = np.empty(channels, x.dtype), np.empty(channels, x.dtype)
    first, last = share(worker, workers, x.shape[0])
    for n in range(first, last):
        total[:] = 0
        for p in range(positions):
            for c in range(channels):
                total[c] += x[n, p, c]
        for group in range(groups):
            mean[n, group] = total[group * size : (group + 1) * size].sum() / (positions * size)
            center[group * size : (group + 1) * size] = mean[n, group]

        total[:] = 0
        for p in range(positions):
            for c in range(channels):
                difference = x[n, p, c] - center[c]
                total[c] += difference * difference
        for group in range(groups):
            variance = total[group * size : (group + 1) * size].sum() / (positions * size)
            rstd[n, group] = 1 / math.sqrt(variance + eps)
            for c in range(group * size, (group + 1) * size):
                scale[c] = rstd[n, group] * weight[c]

        for p in range(positions):
            if silu:
                for c in range(channels):
                    z = (x[n, p, c] - center[c]) * scale[c] + bias[c]
                    y[n, p, c] = z * sigmoid(z)
            else:
                for c in range(channels):
                    y[n, p, c] = (x[n, p, c] - center[c]) * scale[c] + bias[c]


@jit(fastmath=FLAGS)
def _group_norm_grad(
    worker: int,
    workers: int,
    g: Array,
    x: Array,
    weight: Array,
    bias: Array,
    mean: Array,
    rstd: Array,
    silu: bool,
    gx: Array,
    gw: Array,
    gb: Array,
) -> None:
    """With x̂ = (x - mean) rstd: gx = rstd (g w - mean(g w) - x̂ mean(g w x̂)); both means follow from Σ g and Σ g x̂.

    Here g is the cotangent of z = w x̂ + b. That of silu(z) is first multiplied by the slope there, z being computed
    anew: a sample of it stays in the cache, the whole of it would not.
    """
    positions, channels, groups = x.shape[1], x.shape[2], mean.shape[1]
    size = channels // groups
    sum_g, sum_gx = np.empty(channels), np.empty(channels)
    center, gain = np.empty(channels, x.dtype), np.empty(channels, x.dtype)
    slope, shift = np.empty(channels, x.dtype), np.empty(channels, x.dtype)
    buffer = np.empty((positions if silu else 0, channels), x.dtype)
    first, last = share(worker, workers, x.shape[0])
    for n in range(first, last):
        for c in range(channels):
            center[c] = mean[n, c // size]
            gain[c] = rstd[n, c // size] * weight[c]
            sum_g[c] = sum_gx[c] = 0
        gz = buffer if silu else g[n]
        if silu:
            for p in range(positions):
                for c in range(channels):
                    gz[p, c] = g[n, p, c] * silu_slope((x[n, p, c] - center[c]) * gain[c] + bias[c])
        for p in range(positions):
            for c in range(channels):
                sum_g[c] += gz[p, c]
                sum_gx[c] += gz[p, c] * (x[n, p, c] - center[c])

        for group in range(groups):
            r = np.float64(rstd[n, group])
            mean_gw = mean_gwx = 0.0
            for c in range(group * size, (group + 1) * size):
                gb[n, c] = sum_g[c]
                gw[n, c] = sum_gx[c] * r
            for c in range(group * size, (group + 1) * size):
                mean_gw += weight[c] * gb[n, c] / (positions * size)
                mean_gwx += weight[c] * gw[n, c] / (positions * size)
            for c in range(group * size, (group + 1) * size):
                slope[c] = r * r * mean_gwx
                shift[c] = r * mean_gw

        for p in range(positions):
            for c in range(channels):
                gx[n, p, c] = gz[p, c] * gain[c] - ((x[n, p, c] - center[c]) * slope[c] + shift[c])


# -------------------------------------------------------------------------------------------------- layer normalization

ROWS = 64
"""Rows whose share in the cotangents of weight and bias is summed by one thread: a fixed partition."""


def layer_norm(x: Array, weight: Array, bias: Array, eps: float = 1e-5) -> tuple[Array, Array, Array]:
    """`kernels.reference.layer_norm`, compiled: ``(y, mean, rstd)``.

    Raises
    ------
    TypeError : arguments that are not arrays of one dtype, float32 or float64
    ValueError : shapes that do not fit
    """
    x = check("layer_norm", "x", x, "M,C")
    weight = check("layer_norm", "weight", weight, "C", x.dtype)
    bias = check("layer_norm", "bias", bias, "C", x.dtype)
    for name, vector in (("weight", weight), ("bias", bias)):
        _must_match("layer_norm", name, vector, x, (x.shape[1],))
    y = empty_like(x)
    mean, rstd = empty((2, len(x)), x.dtype)
    run(_layer_norm, x.size * 0.6, x, weight, bias, eps, y, mean, rstd)
    return y, mean, rstd


def layer_norm_grad(g: Array, x: Array, weight: Array, mean: Array, rstd: Array) -> tuple[Array, Array, Array]:
    """`kernels.reference.layer_norm_grad`, compiled: the cotangents of x, weight and bias.

    Raises
    ------
    TypeError : arguments that are not arrays of one dtype, float32 or float64
    ValueError : shapes that do not fit
    """
    x = check("layer_norm_grad", "x", x, "M,C")
    g = check("layer_norm_grad", "g", g, "M,C", x.dtype)
    weight = check("layer_norm_grad", "weight", weight, "C", x.dtype)
    mean = check("layer_norm_grad", "mean", mean, "M", x.dtype)
    rstd = check("layer_norm_grad", "rstd", rstd, "M", x.dtype)
    _must_match("layer_norm_grad", "g", g, x, x.shape)
    _must_match("layer_norm_grad", "weight", weight, x, (x.shape[1],))
    for name, statistic in (("mean", mean), ("rstd", rstd)):
        _must_match("layer_norm_grad", name, statistic, x, (len(x),))
    gx = empty_like(x)
    gw, gb = empty((2, -(-len(x) // ROWS), x.shape[1]), np.float64)
    run(_layer_norm_grad, x.size * 0.8, g, x, weight, mean, rstd, gx, gw, gb)
    return gx, *_summed(gw, gb, x.dtype)


@jit(fastmath=FLAGS)
def _layer_norm(
    worker: int, workers: int, x: Array, weight: Array, bias: Array, eps: float, y: Array, mean: Array, rstd: Array
) -> None:
    channels = x.shape[1]
    first, last = share(worker, workers, x.shape[0])
    for m in range(first, last):
        total = 0.0
        for c in range(channels):
            total += x[m, c]
        center = mean[m] = x.dtype.type(total / channels)
        total = 0.0
        for c in range(channels):
            difference = x[m, c] - center
            total += difference * difference
        scale = rstd[m] = x.dtype.type(1 / math.sqrt(total / channels + eps))
        for c in range(channels):
            y[m, c] = (x[m, c] - center) * scale * weight[c] + bias[c]


@jit(fastmath=FLAGS)
def _layer_norm_grad(
    worker: int,
    workers: int,
    g: Array,
    x: Array,
    weight: Array,
    mean: Array,
    rstd: Array,
    gx: Array,
    gw: Array,
    gb: Array,
) -> None:
    """The formula of `_group_norm_grad`; ``gw`` and ``gb`` have a row for each block of `ROWS` rows of x.

    Sums over a row, or over those of a block, are short enough for x's own dtype.
    """
    real, channels = x.dtype.type, x.shape[1]
    sum_gw, sum_gb = np.empty(channels, x.dtype), np.empty(channels, x.dtype)
    first, last = share(worker, workers, gw.shape[0])
    for block in range(first, last):
        sum_gw[:] = 0
        sum_gb[:] = 0
        for m in range(block * ROWS, min((block + 1) * ROWS, x.shape[0])):
            center, scale = mean[m], rstd[m]
            mean_gw = mean_gwx = real(0)
            for c in range(channels):
                normal = (x[m, c] - center) * scale
                mean_gw += g[m, c] * weight[c]
                mean_gwx += g[m, c] * weight[c] * normal
            shift, slope = mean_gw / real(channels), mean_gwx / real(channels)
            for c in range(channels):
                normal = (x[m, c] - center) * scale
                sum_gw[c] += g[m, c] * normal
                sum_gb[c] += g[m, c]
                gx[m, c] = scale * (g[m, c] * weight[c] - shift - normal * slope)
        for c in range(channels):
            gw[block, c] = sum_gw[c]
            gb[block, c] = sum_gb[c]


# ----------------------------------------------------------------------------------------------------- sums and shapes


def _summed(gw: Array, gb: Array, dtype: np.dtype[Any]) -> tuple[Array, Array]:
    """The cotangents of weight and bias, of which each row of ``gw`` and ``gb`` is a share."""
    sums = empty((2, gw.shape[1]), dtype)
    do(_add_shares, gw, gb, *sums)
    return sums[0], sums[1]


def _add_shares(gw: Array, gb: Array, sum_gw: Array, sum_gb: Array) -> None:
    sum_gw[...] = gw.sum(axis=0)
    sum_gb[...] = gb.sum(axis=0)


def _by_position(operation: str, x: Array, groups: int) -> Array:
    """The samples of x as (N, P, C), all positions P in one axis."""
    if x.ndim < 2:
        raise ValueError(f"{operation}: x must have axes (N,...,C) but has shape {x.shape}")
    if groups < 1 or x.shape[-1] % groups:
        raise ValueError(f"{operation}: groups={groups} must divide the C={x.shape[-1]} channels of x {x.shape}")
    return x.reshape(len(x), math.prod(x.shape[1:-1]), x.shape[-1])


def _must_match(operation: str, name: str, value: Array, x: Array, shape: tuple[int, ...]) -> None:
    if value.shape != shape:
        raise ValueError(f"{operation}: {name} has shape {value.shape} but x {x.shape} requires {shape}")
