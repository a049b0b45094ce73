"""`kernels.winograd` in plain NumPy: for its tables, and for the size of the numbers that it adds up."""

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from kernels import convolution, transforms, weight_gradient
from kernels.transforms import PATCH, TILE

TABLES = tuple(transforms._PAIRS @ factor for factor in (transforms._WEIGHTS, transforms._INPUT, transforms._OUTPUT))
"""G, Bᵀ and A."""

FLOAT32 = np.dtype("f")


def correlate(x: Any, w: Any, tables: Any) -> Any:
    """Of (N,H,W,C) with (3,3,C,C'): results are (N,H-2,W-2,C')."""
    g, bt, a = tables
    u, v = np.einsum("pi,qj,ijcd->pqcd", g, g, w), _inputs(x, bt)
    y = np.einsum("pi,qj,pqcd,nyxcpq->nyixjd", a, a, u, v, optimize=True)
    n, rows, _, columns, _, c = y.shape
    return y.reshape(n, rows * TILE, columns * TILE, c)[:, : x.shape[1] - 2, : x.shape[2] - 2]


def weight_grad(x: Any, g: Any, tables: Any) -> Any:
    """Of (N,H,W,C) and (N,H-2,W-2,C'): the gradient is (3,3,C,C')."""
    gt, bt, a = tables
    v = _inputs(x, bt)
    tiles = _padded(g, *(TILE * size for size in v.shape[1:3])).reshape(len(g), v.shape[1], TILE, -1, TILE, g.shape[3])
    sums = np.einsum("pi,qj,nyixjd,nyxcpq->pqcd", a, a, tiles, v, optimize=True)
    return np.einsum("pi,qj,pqcd->ijcd", gt, gt, sums)


def _inputs(x: Any, bt: Any) -> Any:
    """Transformed patches (N,rows,columns,C,6,6)."""
    rows, columns = (-(-(size - 2) // TILE) * TILE + 2 for size in x.shape[1:3])
    patches = sliding_window_view(_padded(x, rows, columns), (PATCH, PATCH), axis=(1, 2))[:, ::TILE, ::TILE]
    return bt @ patches @ bt.T


def _padded(x: Any, rows: int, columns: int) -> Any:
    return np.pad(x, ((0, 0), (0, rows - x.shape[1]), (0, columns - x.shape[2]), (0, 0)))


# ------------------------------------------------------------------------------------------ scales, see `check_kernel`:
# the same sums of absolute values. Intermediate numbers may be larger than results, and their roundings with them.

SIZES = tuple(np.abs(table) for table in TABLES)


def conv2d_scale(x: Any, w: Any, b: Any, *rest: Any) -> Any:
    *geometry, _ = rest
    if convolution._forward_plan(x.shape, w.shape, *geometry, FLOAT32).tiles is None:
        return 0.0
    return correlate(np.pad(np.abs(x), ((0, 0), *geometry[1], (0, 0))), np.abs(w), SIZES)


def conv2d_input_grad_scale(g: Any, w: Any, size: Any, *geometry: Any) -> Any:
    if 0 in size or convolution._input_grad_plan(g.shape, w.shape, size, *geometry, FLOAT32).tiles is None:
        return 0.0
    (top, _), (left, _) = geometry[1]
    padded = np.pad(np.abs(g), ((0, 0), (2, 2), (2, 2), (0, 0)))
    met = padded[:, top : top + size[0] + 2, left : left + size[1] + 2]
    return correlate(met, np.abs(w)[::-1, ::-1].swapaxes(2, 3), SIZES)


def conv2d_weight_grad_scale(x: Any, g: Any, kernel: Any, *geometry: Any) -> Any:
    if 0 in (x.size, g.size) or weight_gradient._plan(x.shape, g.shape, kernel, *geometry, FLOAT32).tiles is None:
        return 0.0
    return weight_grad(np.pad(np.abs(x), ((0, 0), *geometry[1], (0, 0))), np.abs(g), SIZES)
