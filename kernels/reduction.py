"""Sums over the rows or the columns of matrices, and of squares.

Each of a number of parts, which follows from the shape alone, is summed for itself, then the parts in order, so that
the bits do not depend on the number of threads.
"""

import math
from typing import Any

import numpy as np

from kernels.arguments import Array, check
from kernels.calls import empty
from kernels.compilation import jit
from kernels.threads import run, share

PART = 512
"""Rows that one thread sums, at least: enough for what it does with them beside to outweigh the adding of parts."""

FEW = 64
"""Rows that are added up at once, so that roundings do not pile up."""

PIECE = 256
"""Elements of a row likewise; each register's lanes add up their own share of them."""

BLOCK = 4096
"""Elements whose squares a thread adds up at a time."""


def sum_rows(x: Array) -> Array:
    """`kernels.reference.sum_rows`, compiled.

    Raises
    ------
    TypeError : x is not an array of float32 or float64
    ValueError : x is not (N, M, C)
    """
    x = check("sum_rows", "x", x, "N,M,C")
    n, m, c = x.shape
    parts = max(1, m // PART)
    rows = x.reshape(n * m, c)
    for count in (n * parts, n) if parts > 1 else (n,):
        sums = empty((count, c), x.dtype)
        run(_sum_parts, len(rows) * max(3.0, 0.1 * c), sums, rows)
        rows = sums
    return rows


def sum_columns(x: Array) -> Array:
    """`kernels.reference.sum_columns`, compiled.

    Raises
    ------
    TypeError : x is not an array of float32 or float64
    ValueError : x is not (M, C)
    """
    x = check("sum_columns", "x", x, "M,C")
    total = empty(len(x), x.dtype)
    run(_sum_columns, x.shape[0] * (2.0 + 0.04 * x.shape[1]), total, x)
    return total


def norm(x: Array) -> Array:
    """`kernels.reference.norm`, compiled.

    Raises
    ------
    TypeError : x is not an array of float32 or float64
    ValueError : x is not flat
    """
    x = check("norm", "x", x, "P")
    parts, root = empty(-(-x.size // BLOCK), np.float64), empty(1, np.float64)
    run(_sum_squares, x.size * 0.07, parts, x)
    run(_root_of_sum, 1.0, root, parts)
    return root.reshape(())


def add_parts(parts: Array) -> Array:
    """The sum over the first axis of a contiguous array."""
    total = empty(parts.shape[1:], parts.dtype)
    run(_add_parts, parts.size * 0.1, total.reshape(-1), parts.reshape(len(parts), total.size))
    return total


@jit()
def add_up(total: Array, rows: Array, first: int, last: int, left: int) -> None:
    """Write the sum of some rows to ``total``, from column ``left`` on."""
    if total.size == 0:
        return
    total[:] = 0
    many = last - first > FEW
    few = np.empty(total.size, total.dtype) if many else total
    for begin in range(first, last, FEW):
        if many:
            few[:] = 0
        end = min(begin + FEW, last)
        fours = end - (end - begin) % 4
        for i in range(begin, fours, 4):  # for `few` is loaded and stored each time
            a, b, c, d = rows[i, left:], rows[i + 1, left:], rows[i + 2, left:], rows[i + 3, left:]
            for j in range(few.size):
                few[j] += (a[j] + b[j]) + (c[j] + d[j])
        for i in range(fours, end):
            row = rows[i, left:]
            for j in range(few.size):
                few[j] += row[j]
        if many:
            for j in range(few.size):
                total[j] += few[j]


@jit()
def _sum_parts(worker: int, workers: int, parts: Array, x: Array) -> None:
    """Sum equal parts of the rows, each to a row of ``parts``."""
    first, last = share(worker, workers, len(parts))
    for part in range(first, last):
        top, bottom = share(part, len(parts), len(x))
        add_up(parts[part], x, top, bottom, 0)


@jit()
def _add_parts(worker: int, workers: int, total: Array, parts: Array) -> None:
    left, right = share(worker, workers, total.size)
    add_up(total[left:right], parts, 0, len(parts), left)


@jit()
def _sum_columns(worker: int, workers: int, total: Array, x: Array) -> None:
    first, last = share(worker, workers, len(x))
    for m in range(first, last):
        row = 0.0
        for begin in range(0, x.shape[1], PIECE):
            row += _add_lanes(x[m, begin : begin + PIECE])
        total[m] = row


@jit(fastmath={"reassoc"})
def _add_lanes(piece: Array) -> Any:
    """The sum of a few elements, in as many parallel lanes as registers have."""
    total = piece.dtype.type(0)
    for i in range(piece.size):
        total += piece[i]
    return total


@jit()
def _sum_squares(worker: int, workers: int, parts: Array, x: Array) -> None:
    first, last = share(worker, workers, parts.size)
    for part in range(first, last):
        parts[part] = _add_squares(x[part * BLOCK : (part + 1) * BLOCK])


@jit()
def _root_of_sum(worker: int, workers: int, root: Array, parts: Array) -> None:
    if worker == 0:
        root[0] = math.sqrt(parts.sum())


@jit(fastmath={"contract", "reassoc"})
def _add_squares(block: Array) -> Any:
    """In float64, in which the squares of float32 do not overflow."""
    total = 0.0
    for i in range(block.size):
        element: Any = np.float64(block[i])
        total += element * element
    return total
