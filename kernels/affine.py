"""The fused linear layer ``activate(x @ w + b)`` and its gradient.

A matrix product is the plainest use of `multiply_tile`: one run, rows of equal distance. B is read where it lies: its
panels are columns that start ``panel_width`` apart, and the last one overlaps its neighbour when the columns do not
come out even. The bias is the tile's initial value, and the activation is applied while a few rows are still in the
cache, so both are almost free.

Which way a product goes depends on its shape alone. With fewer columns than a panel most of a tile would be wasted: up
to `FEW` are scalar products, and those between are left to BLAS, as are right-hand sides too large to be read where
they lie (2 MB). Everything else is ours, which on one AVX2 core takes
0.8 to 1.2 of the time of OpenBLAS (64 × 32 × 128 to 8192 × 64 × 256, float32) and leaves none of its threads spinning.
"""

from typing import Any

import numpy as np

from kernels.activation import IDENTITY, NANOSECONDS, activate, backward, forward, kind_code
from kernels.microkernel import ROWS, multiply_tile, panel_width
from kernels.runtime import Array, check, jit, run, share, show

BLOCK = 4 * ROWS
"""Rows for which the whole right-hand side is passed through once, and that the cache holds until the activation."""


def linear(
    x: Array, w: Array, b: Array | None = None, activation: str = "identity", alpha: float = 0.0
) -> tuple[Array, Array]:
    """`kernels.reference.linear`, compiled: x (M, K), w (K, N), b (N,) give ``(y, saved)``. 2 M K N FLOPs.

    Raises
    ------
    TypeError : an argument is not an ndarray, or the dtypes are not all float32 or all float64
    ValueError : shapes that do not fit, or an unknown activation
    """
    kind = kind_code("linear", activation)
    x, w = check("linear", "x", x, "M,K"), check("linear", "w", w, "K,N", x.dtype)
    (m, k), n = x.shape, w.shape[1]
    if w.shape[0] != k:
        raise ValueError(f"linear: {show('x', 'M,K', x.shape)} and {show('w', 'K,N', w.shape)} differ in K")
    if b is not None:
        b = check("linear", "b", b, "N", x.dtype)
        if b.size != n:
            raise ValueError(f"linear: {show('b', 'N', b.shape)} and {show('w', 'K,N', w.shape)} differ in N")
    few = 0 < n <= FEW
    if k == 0 or (not few and _for_blas(m, n, k, x.dtype)):
        product: Array = x @ w
        if b is not None:
            product += b
        return (product, product) if kind == IDENTITY else activate(product, activation, alpha)
    bias = np.zeros(n, x.dtype) if b is None else b
    y = np.empty((m, n), x.dtype)
    z = np.empty_like(y) if activation in ("silu", "gelu") else y
    keep = kind == IDENTITY or z is not y
    nanoseconds = _duration(m, n, k, x.dtype) + m * n * NANOSECONDS[activation]
    if few:
        run(_multiply_few, nanoseconds, z, keep, x, w, bias, y, kind, alpha)
    else:
        run(_multiply, nanoseconds, z, keep, x, k, 1, w, bias, y, kind, alpha, panel_width(x.dtype))
    return y, z


def linear_grad(
    g: Array,
    x: Array,
    w: Array,
    saved: Array,
    activation: str = "identity",
    alpha: float = 0.0,
    needs: tuple[bool, bool, bool] = (True, True, True),
) -> tuple[Array | None, Array | None, Array | None]:
    """`kernels.reference.linear_grad`, compiled: the cotangents of x, w and b, or None. 4 M K N FLOPs for all.

    Raises
    ------
    TypeError, ValueError : as `linear` does; g and saved must have the shape (M, N)
    """
    kind = kind_code("linear_grad", activation)
    g = check("linear_grad", "g", g, "M,N")
    x, w = check("linear_grad", "x", x, "M,K", g.dtype), check("linear_grad", "w", w, "K,N", g.dtype)
    saved = check("linear_grad", "saved", saved, "M,N", g.dtype)
    (m, k), n = x.shape, w.shape[1]
    if w.shape[0] != k or g.shape != (m, n) or saved.shape != (m, n):
        shapes = ", ".join(
            show(name, axes, array.shape)
            for name, axes, array in (("g", "M,N", g), ("x", "M,K", x), ("w", "K,N", w), ("saved", "M,N", saved))
        )
        raise ValueError(f"linear_grad: the shapes {shapes} do not fit together")
    gz = g if kind == IDENTITY else np.empty_like(g)
    parts = np.empty((-(-m // PART), n), g.dtype)
    if kind != IDENTITY or needs[2]:
        run(_output_grad, m * n * (NANOSECONDS[activation] + 0.1), g, saved, gz, parts, kind, alpha)
    return (
        _product_transposed(gz, w) if needs[0] else None,
        _transposed_product(x, gz) if needs[1] else None,
        parts.sum(axis=0) if needs[2] else None,
    )


FEW = 4
"""Columns up to which `linear` computes each element by itself, as a scalar product."""

DEPTH = 512
"""Rows of the right-hand side that are passed through at once."""

PART = 64
"""Rows whose cotangents are added up at once for the bias: fixed, so that threads do not change the sum."""


def _for_blas(m: int, n: int, k: int, dtype: np.dtype[Any]) -> bool:
    """Whether an (m, k) by (k, n) product is better left to BLAS."""
    return n < panel_width(dtype) or m == 0 or k == 0 or k * n * dtype.itemsize > 2**21


def _duration(m: int, n: int, k: int, dtype: np.dtype[Any]) -> float:
    """Nanoseconds on one core: about 5 FLOPs for each column of a tile and nanosecond."""
    return 2 * m * n * k / (5 * panel_width(dtype))


def _product_transposed(gz: Array, w: Array) -> Array:
    """``gz @ w.T``."""
    (m, n), k = gz.shape, w.shape[0]
    if _for_blas(m, k, n, gz.dtype):
        return gz @ w.T
    transposed = np.empty((n, k), w.dtype)
    run(_transpose, 0.5 * w.size, w, transposed)
    return _multiplied(gz, n, 1, transposed, m)


def _transposed_product(x: Array, gz: Array) -> Array:
    """``x.T @ gz``."""
    (m, k), n = x.shape, gz.shape[1]
    if _for_blas(k, n, m, gz.dtype):
        return x.T @ gz
    return _multiplied(x, 1, k, gz, k)


def _multiplied(a: Array, a_row: int, a_step: int, b: Array, m: int) -> Array:
    """The plain product of b with the matrix of m rows that `_multiply` sees in a."""
    k, n = b.shape
    z, none = np.empty((m, n), b.dtype), np.zeros(n, b.dtype)
    width = panel_width(b.dtype)
    run(_multiply, _duration(m, n, k, b.dtype), z, True, a, a_row, a_step, b, none, z, IDENTITY, 0.0, width)
    return z


# -------------------------------------------------------------------------------------------------------------- kernels


@jit()
def _multiply(
    worker: int,
    workers: int,
    z: Array,
    keep: bool,
    a: Array,
    a_row: int,
    a_step: int,
    b: Array,
    bias: Array,
    y: Array,
    kind: int,
    alpha: float,
    width: int,
) -> None:
    """``z = A b + bias`` and ``y = activate(z)``, where A's element (i, j) is ``a.flat[i * a_row + j * a_step]``.

    z is only written if ``keep``; for the identity it is the result. ``width`` is that of a panel.
    """
    (m, n), k = y.shape, b.shape[0]
    flat_a, flat_b, flat_y = a.reshape(-1), b.reshape(-1), y.reshape(-1)
    buffer = z.reshape(-1) if keep else np.empty(BLOCK * n, y.dtype)
    a_rows, z_rows, run = np.empty(BLOCK, np.int64), np.empty(BLOCK, np.int64), np.zeros(1, np.int64)
    first, end = share(worker, workers, -(-m // ROWS))
    for row in range(first * ROWS, end * ROWS, BLOCK):
        rows = min(BLOCK, end * ROWS - row)
        base = 0 if keep else row * n
        for r in range(rows):
            i = min(row + r, m - 1)  # the last tile repeats the last row
            a_rows[r], z_rows[r] = i * a_row, i * n - base
        for panel in range(-(-n // width)):
            at = min(panel * width, n - width)
            for begin in range(0, k, DEPTH):
                length = min(DEPTH, k - begin)
                for r in range(0, rows, ROWS):
                    multiply_tile(
                        buffer, at, z_rows, bias, at if begin == 0 else -1,
                        flat_a, begin * a_step, a_rows, r, run, a_step,
                        flat_b, begin * n + at, run, n, 0, 1, length,
                    )  # fmt: skip
        if kind != IDENTITY:
            for r in range(row, min(row + rows, m), ROWS):  # by tiles, so that vectors begin where they always do
                last = min(r + ROWS, m) * n
                forward(buffer[r * n - base : last - base], flat_y[r * n : last], kind, alpha)


@jit(fastmath={"contract", "reassoc"})
def _multiply_few(
    worker: int, workers: int, z: Array, keep: bool, x: Array, w: Array, bias: Array, y: Array, kind: int, alpha: float
) -> None:
    """What `_multiply` does, by scalar products, whose sums the compiler may reorder so as to use vectors."""
    (m, k), n = x.shape, w.shape[1]
    columns = np.empty((n, k), w.dtype)
    for j in range(n):
        for i in range(k):
            columns[j, i] = w[i, j]
    buffer, flat_y = z.reshape(-1) if keep else np.empty(ROWS * n, y.dtype), y.reshape(-1)
    first, end = share(worker, workers, -(-m // ROWS))
    for row in range(first * ROWS, min(end * ROWS, m), ROWS):
        last = min(row + ROWS, m)
        base = 0 if keep else row * n
        for r in range(row, last):
            for j in range(n):
                total = x.dtype.type(0)
                for i in range(k):
                    total += x[r, i] * columns[j, i]
                buffer[r * n + j - base] = total + bias[j]
        if kind != IDENTITY:
            forward(buffer[row * n - base : last * n - base], flat_y[row * n : last * n], kind, alpha)


@jit()
def _transpose(worker: int, workers: int, w: Array, transposed: Array) -> None:
    k, n = w.shape
    first, end = share(worker, workers, -(-k // 16))
    for row in range(first * 16, min(end * 16, k), 16):  # whole cache lines of the result
        for j in range(n):
            for i in range(row, min(row + 16, k)):
                transposed[j, i] = w[i, j]


@jit()
def _output_grad(
    worker: int, workers: int, g: Array, saved: Array, gz: Array, sums: Array, kind: int, alpha: float
) -> None:
    """The cotangent gz of the activation's input, and for every `PART` rows its sum."""
    m, n = g.shape
    first, end = share(worker, workers, sums.shape[0])
    for part in range(first, end):
        begin, last = part * PART, min(part * PART + PART, m)
        if kind != IDENTITY:
            elements = slice(begin * n, last * n)
            backward(g.reshape(-1)[elements], saved.reshape(-1)[elements], gz.reshape(-1)[elements], kind, alpha)
        for j in range(n):
            sums[part, j] = 0
        for i in range(begin, last):
            for j in range(n):
                sums[part, j] += gz[i, j]
