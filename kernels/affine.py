"""The fused linear layer ``activate(x @ w + b)`` and its gradient.

The bias is what the products are added to, and the activation is applied while some rows are still in the cache, so
both are almost free. The products of the layer and its gradient are made by `multiply` or, where few numbers enter or
leave the layer, and for few examples, by `kernels.few`: an example alone is then up to four times as fast.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from kernels import reduction
from kernels.activation import IDENTITY, LEAKY_RELU, NANOSECONDS, activate_grad, backward, forward, kind_code
from kernels.arguments import Array, check, show
from kernels.calls import empty
from kernels.compilation import jit
from kernels.few import FEW, add_outer_products, multiples, scalar_products
from kernels.microkernel import ROWS, panel_width
from kernels.product import Matrix, multiply, rectangle
from kernels.reduction import add_up
from kernels.threads import run, share

FEW_ROWS = 16
"""Rows of the result that are computed at once where w has few rows or columns: they stay in the first cache."""

BLOCK = 2**16
"""Elements of the result that are computed before they are activated: they stay in the second cache meanwhile."""

PARTS, LEAST, LEAST_OF_FEW, SMALL = 8, 128, 64, 2**16
"""For so many weights at most, the gradient is computed in so many parts of the batch, each of at least so many rows: a
thread finds what it reads of a part where it wrote it, in its own second cache. Larger batches have larger parts, and,
beyond `kernels.reduction.PART` rows for each, more of them. Weights of `FEW` columns or rows have no other way."""


def linear(
    x: Array, w: Array, b: Array | None = None, activation: str = "identity", alpha: float = 0.0
) -> tuple[Array, Array | None]:
    """`kernels.reference.linear`, compiled: x (M, K), w (K, N), b (N,) give ``(y, saved)``. 2 M K N FLOPs.

    Raises
    ------
    TypeError : an argument is not an ndarray, or the dtypes are not all float32 or all float64
    ValueError : shapes that do not fit, or an unknown activation
    """
    x = check("linear", "x", x, "M,K")
    dtype = x.dtype
    w = check("linear", "w", w, "K,N", dtype)
    (m, k), (rows, n) = x.shape, w.shape
    if rows != k:
        raise ValueError(f"linear: {show('x', 'M,K', x.shape)} and {show('w', 'K,N', w.shape)} differ in K")
    if b is None:
        b = np.empty(0, dtype)
    else:
        b = check("linear", "b", b, "N", dtype)
        if b.size != n:
            raise ValueError(f"linear: {show('b', 'N', b.shape)} and {show('w', 'K,N', w.shape)} differ in N")
    plan = _plan(m, k, n, activation, dtype)
    y = empty((m, n), dtype)
    z = empty((m, n), dtype) if plan.saves_input else y
    run(plan.kernel, plan.nanoseconds, x, w, b, z, y, plan.kind, alpha, plan.width)
    return y, z if plan.kind != IDENTITY else None


class _Plan(NamedTuple):
    kernel: Any
    kind: int
    saves_input: bool
    """Whether the gradient wants the input of the activation, not its result."""
    width: int
    nanoseconds: float


@lru_cache(maxsize=1024)
def _plan(m: int, k: int, n: int, activation: str, dtype: np.dtype[Any]) -> _Plan:
    """What depends on the shapes alone."""
    kind, width = kind_code("linear", activation), panel_width(dtype)
    if min(m, k, n) <= FEW:
        kernel, product = _linear_few, m * k * n * 0.05
    else:
        kernel, product = _linear, _duration(m, k, n, width)
    nanoseconds = product + m * n * NANOSECONDS[activation]
    return _Plan(kernel, kind, activation in ("silu", "gelu"), width, nanoseconds)


def _duration(m: int, k: int, n: int, width: int) -> float:
    """Nanoseconds on one core: about 5 FLOPs for each column of a tile and nanosecond."""
    return 2 * m * n * k / (5 * width)


def linear_grad(
    g: Array,
    x: Array,
    w: Array,
    saved: Array | None,
    activation: str = "identity",
    alpha: float = 0.0,
    needs: tuple[bool, bool, bool] = (True, True, True),
) -> tuple[Array | None, Array | None, Array | None]:
    """`kernels.reference.linear_grad`, compiled: the cotangents of x, w and b, or None. 4 M K N FLOPs for all.

    Raises
    ------
    TypeError, ValueError : as `linear` does; g and saved, which is None for ``identity``, must have the shape (M, N)
    """
    g = check("linear_grad", "g", g, "M,N")
    dtype = g.dtype
    x, w = check("linear_grad", "x", x, "M,K", dtype), check("linear_grad", "w", w, "K,N", dtype)
    (m, k), n = x.shape, w.shape[1]
    if w.shape[0] != k or g.shape != (m, n):
        shapes = ", ".join(
            show(name, axes, array.shape) for name, axes, array in (("g", "M,N", g), ("x", "M,K", x), ("w", "K,N", w))
        )
        raise ValueError(f"linear_grad: the shapes {shapes} do not fit together")
    kind = kind_code("linear_grad", activation)
    saved = check("linear_grad", "saved", g if kind == IDENTITY else saved, "M,N", dtype)
    if saved.shape != g.shape:
        raise ValueError(f"linear_grad: {show('saved', 'M,N', saved.shape)} and {show('g', 'M,N', g.shape)} differ")
    width, few, parts = panel_width(dtype), min(k, n) <= FEW, _parts(m, k, n)
    product = m * k * n * 0.08 if few else _duration(m, k, n, width)
    nanoseconds = (needs[0] + needs[1]) * product + m * n * (0.1 + NANOSECONDS[activation])
    gx, gw, gb = (
        empty(shape if needed else (0,) * len(shape), dtype)
        for shape, needed in zip(((m, k), (k, n), (n,)), needs, strict=True)
    )
    if parts > 1:
        gws, gbs = empty((parts, *gw.shape), dtype), empty((parts, *gb.shape), dtype)
        run(_linear_grad_by_parts, nanoseconds, g, saved, x, w, gx, gws, gbs, kind, alpha, width)
        gw, gb = reduction.add_parts(gws), reduction.add_parts(gbs)
    elif few:
        run(_linear_grad_by_parts, nanoseconds, g, saved, x, w, gx, gw[None], gb[None], kind, alpha, width)
    else:
        gz = g if kind == IDENTITY else activate_grad(g, saved, activation, alpha)
        run(_linear_grad, nanoseconds, gz, x, w, gx, gw, gb, width)
    return gx if needs[0] else None, gw if needs[1] else None, gb if needs[2] else None


def _parts(m: int, k: int, n: int) -> int:
    """The number of parts of the batch."""
    few = min(k, n) <= FEW
    if k * n > SMALL and not few:
        return 1
    return max(1, min(m // (LEAST_OF_FEW if few else LEAST), PARTS), m // reduction.PART)


# -------------------------------------------------------------------------------------------------------------- kernels


@jit()
def _linear(
    worker: int,
    workers: int,
    x: Array,
    w: Array,
    b: Array,
    z: Array,
    y: Array,
    kind: int,
    alpha: float,
    width: int,
) -> None:
    """``z = x w + b`` and ``y = activate(z)``. If z is y, only y is wanted."""
    (m, k), n = x.shape, w.shape[1]
    # A vector and a single element may be activated with different roundings, unless that takes one operation at most.
    # So that the same ones are vectors on any number of threads, activations see tiles of whole rows.
    whole_rows = kind > LEAKY_RELU
    top, bottom, left, right = rectangle(worker, workers, m, k, n, width, whole_rows)
    if top == bottom or left == right:
        return
    left_factor, right_factor = Matrix(x.reshape(-1), k, 1), Matrix(w.reshape(-1), n, 1)
    flat_y, flat_z = y.reshape(-1), z.reshape(-1)
    rows = bottom - top
    if kind != IDENTITY:
        rows = min(rows, max(1, BLOCK // ((right - left) * ROWS)) * ROWS)
    temporary = kind != IDENTITY and z.ctypes.data == y.ctypes.data
    buffer = np.empty(rows * n, y.dtype) if temporary else flat_z
    for first in range(top, bottom, rows):
        last = min(first + rows, bottom)
        origin = first if temporary else 0
        multiply(buffer, origin, n, left_factor, right_factor, k, b, first, last, left, right, width)
        if kind != IDENTITY:
            step = ROWS if right - left == n else 1
            for row in range(first, last, step):
                size = (min(step, last - row) - 1) * n + right - left
                source, target = (row - origin) * n + left, row * n + left
                forward(buffer[source : source + size], flat_y[target : target + size], kind, alpha)


@jit()
def _linear_few(
    worker: int,
    workers: int,
    x: Array,
    w: Array,
    b: Array,
    z: Array,
    y: Array,
    kind: int,
    alpha: float,
    width: int,
) -> None:
    """What `_linear` does, where one of the sizes is small. There are no panels, so their width is not used."""
    m, n = len(x), w.shape[1]
    size = 1 if m <= FEW else FEW_ROWS
    temporary = kind != IDENTITY and z.ctypes.data == y.ctypes.data
    start, room = np.zeros(n, y.dtype), np.empty((size if temporary else 0, n), y.dtype)
    for j in range(b.size):
        start[j] = b[j]
    columns = np.ascontiguousarray(w.T if n <= FEW else w[:0])
    first, last = share(worker, workers, -(-m // size))
    for top in range(first * size, min(last * size, m), size):
        bottom = min(top + size, m)
        part = room[: bottom - top] if temporary else z[top:bottom]
        if n <= FEW:
            scalar_products(part, x[top:bottom], columns, start)
        else:
            multiples(part, x[top:bottom], w, start)
        if kind != IDENTITY:
            forward(part.reshape(-1), y[top:bottom].reshape(-1), kind, alpha)


@jit()
def _linear_grad(
    worker: int, workers: int, gz: Array, x: Array, w: Array, gx: Array, gw: Array, gb: Array, width: int
) -> None:
    """``gx = gz wᵀ``, ``gw = xᵀ gz``, and gb sums gz's rows; what is empty is not wanted."""
    (m, k), n = x.shape, w.shape[1]
    flat_gz, none = gz.reshape(-1), np.empty(0, gz.dtype)
    origin = np.intp(0)  # a literal is a type of its own, for which `multiply` would be compiled anew
    if gx.size:
        top, bottom, left, right = rectangle(worker, workers, m, n, k, width, False)
        factors = Matrix(flat_gz, n, 1), Matrix(w.reshape(-1), 1, n)
        multiply(gx.reshape(-1), origin, k, factors[0], factors[1], n, none, top, bottom, left, right, width)
    if gw.size:
        top, bottom, left, right = rectangle(worker, workers, k, m, n, width, False)
        factors = Matrix(x.reshape(-1), 1, k), Matrix(flat_gz, n, 1)
        multiply(gw.reshape(-1), origin, n, factors[0], factors[1], m, none, top, bottom, left, right, width)
    _sum_rows(worker, workers, gb, gz, width)


@jit()
def _linear_grad_by_parts(
    worker: int,
    workers: int,
    g: Array,
    saved: Array,
    x: Array,
    w: Array,
    gx: Array,
    gws: Array,
    gbs: Array,
    kind: int,
    alpha: float,
    width: int,
) -> None:
    """What `_linear_grad` does, and the activation's gradient before it.

    The entries of gws and gbs are what each part of the batch adds to gw and gb.
    """
    parts = len(gbs)
    (m, k), n = x.shape, w.shape[1]
    flat_x, flat_g, flat_saved, flat_gx = x.reshape(-1), g.reshape(-1), saved.reshape(-1), gx.reshape(-1)
    none, origin = np.empty(0, g.dtype), np.intp(0)  # a literal is a type of its own: `multiply` would compile anew
    room = np.empty(0 if kind == IDENTITY else -(-m // parts) * n, g.dtype)
    zeros, columns = np.zeros(k, g.dtype), np.ascontiguousarray(w.T if n <= FEW else w[:0])
    first, last = share(worker, workers, parts)
    for part in range(first, last):
        top, bottom = share(part, parts, m)
        size, gz = bottom - top, flat_g[top * n : bottom * n]
        if kind != IDENTITY:
            backward(gz, flat_saved[top * n : bottom * n], room[: size * n], kind, alpha)
            gz = room[: size * n]
        if gx.size and k <= FEW:
            scalar_products(gx[top:bottom], gz.reshape(size, n), w, zeros)
        elif gx.size and n <= FEW:
            multiples(gx[top:bottom], gz.reshape(size, n), columns, zeros)
        elif gx.size:
            factors = Matrix(gz, n, 1), Matrix(w.reshape(-1), 1, n)
            multiply(flat_gx[top * k :], origin, k, *factors, n, none, origin, size, origin, k, width)
        if gws.size and min(k, n) <= FEW:
            add_outer_products(gws[part], x[top:bottom], gz.reshape(size, n))
        elif gws.size:
            factors = Matrix(flat_x[top * k :], 1, k), Matrix(gz, n, 1)
            multiply(gws[part].reshape(-1), origin, n, *factors, size, none, origin, k, origin, n, width)
        if gbs.size:
            add_up(gbs[part], gz.reshape(size, n), 0, size, 0)


@jit()
def _sum_rows(worker: int, workers: int, total: Array, rows: Array, width: int) -> None:
    """One worker's columns of the sum of all rows."""
    panels = -(-total.size // width)
    first, last = share(worker, workers, panels)
    left, right = first * width, min(last * width, total.size)
    add_up(total[left:right], rows, 0, len(rows), left)
