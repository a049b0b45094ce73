"""Sums over rows, for large matrices on several threads.

Each of a number of parts, which follows from the shape alone, is summed for itself, then the parts in order, so that
the bits do not depend on the number of threads.
"""

import numpy as np

from kernels.arguments import Array, check
from kernels.compilation import jit
from kernels.threads import run, share

PART = 512
"""Rows that one thread sums, at least: enough for what it does with them beside to outweigh the adding of parts."""

FEW = 64
"""Rows that are added up at once, so that roundings do not pile up."""


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
        sums = np.empty((count, c), x.dtype)
        run(_sum_parts, len(rows) * max(3.0, 0.1 * c), sums, rows)
        rows = sums
    return rows


def add_parts(parts: Array) -> Array:
    """The sum over the first axis of a contiguous array."""
    total = np.empty(parts.shape[1:], parts.dtype)
    run(_add_parts, parts.size * 0.1, total.reshape(-1), parts.reshape(len(parts), total.size))
    return total


@jit()
def add_up(total: Array, rows: Array, first: int, last: int, left: int) -> None:
    """Write the sum of some rows to ``total``, from column ``left`` on."""
    if total.size == 0:
        return
    total[:] = 0
    few = np.empty(total.size, total.dtype)
    for begin in range(first, last, FEW):
        few[:] = 0
        for i in range(begin, min(begin + FEW, last)):
            row = rows[i, left : left + total.size]
            for j in range(few.size):
                few[j] += row[j]
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
