"""Matrix products, of which each worker computes a rectangle.

B is read once for every tile of rows, and a tile reads columns side by side: a "panel". Each is first copied to where
its rows lie one behind the other, because in a matrix whose rows are a power of two apart they displace each other
from the cache. Then all rows of A, which is read where it lies, are multiplied by it (Goto and van de Geijn 2008).
"""

from typing import NamedTuple

import numpy as np

from kernels.arguments import Array
from kernels.compilation import jit
from kernels.microkernel import ROWS, copy_columns, copy_row, multiply_tile, vector_size

CHUNK = 40 * ROWS
"""Rows of A that are multiplied by a panel: `DEPTH` columns of so many stay in the second cache."""

GROUP = 8
"""Panels that are packed together, so that longer pieces of B's rows are read at once."""

DEPTH = 256
"""Rows of a panel: so many stay in the first cache."""


class Matrix(NamedTuple):
    """A matrix in a flat array: its element (i, j) is ``flat[i * row + j * column]``."""

    flat: Array
    row: int
    column: int


MULTIPLY, PACK, MEET = 0.4, 3.0, 100.0
"""Nanoseconds to multiply an element of A by a row of a panel, to pack such a row, and that two workers lose for each
row of the result in which they write to the same line of the cache."""


@jit()
def rectangle(
    worker: int, workers: int, m: int, k: int, n: int, width: int, whole_rows: bool
) -> tuple[int, int, int, int]:
    """One worker's part of an (m, k) by (k, n) product: first and last row, first and last column.

    Tiles of rows are shared or, unless ``whole_rows`` are wanted, panels of columns, if that takes less time.
    """
    tiles, panels = -(-m // ROWS), -(-n // width)
    by_rows = panels * k * (-(-tiles // workers) * ROWS * MULTIPLY + PACK)
    by_columns = -(-panels // workers) * k * (tiles * ROWS * MULTIPLY + PACK) + m * MEET
    if by_columns < by_rows and not whole_rows:
        return 0, m, panels * worker // workers * width, min(panels * (worker + 1) // workers * width, n)
    return tiles * worker // workers * ROWS, min(tiles * (worker + 1) // workers * ROWS, m), 0, n


@jit()
def multiply(
    c: Array,
    c_first: int,
    n: int,
    a: Matrix,
    b: Matrix,
    k: int,
    bias: Array,
    top: int,
    bottom: int,
    left: int,
    right: int,
    width: int,
) -> None:
    """Write a rectangle of ``A B + bias``, where A has k columns, to the rows of c, whose first one is row ``c_first``.

    The sum of an element has the same order whatever the rectangle is. An empty ``bias`` is zero.
    """
    is_panel = b.row == width and b.column == 1  # all of it, as it lies, so that it need not be copied
    for first in range(top, bottom, CHUNK):
        rows = min(CHUNK, bottom - first)
        tiled = -(-rows // ROWS) * ROWS
        a_rows, c_rows, edge_rows = np.empty(tiled, np.int64), np.empty(tiled, np.int64), np.arange(tiled) * width
        for r in range(tiled):
            i = first + min(r, rows - 1)  # the last tile repeats the last row
            a_rows[r], c_rows[r] = i * a.row, (i - c_first) * n
        panels, start = np.empty(min(k, DEPTH) * GROUP * width, c.dtype), np.zeros(width, c.dtype)
        a_columns = np.arange(min(k, DEPTH)) * a.column
        edge = np.empty(tiled * width if (right - left) % width else 0, c.dtype)
        for begin in range(0, max(k, 1), DEPTH):
            depth = min(DEPTH, k - begin)
            for group in range(left, right, GROUP * width):
                if not is_panel:
                    pack(panels, b, begin, depth, group, min(group + GROUP * width, right), width)
                for at in range(group, min(group + GROUP * width, right), width):
                    lanes = min(width, right - at)
                    whole = lanes == width
                    if begin == 0 and bias.size > 0:
                        for lane in range(lanes):
                            start[lane] = bias[at + lane]
                    if depth == 0:
                        for r in range(rows):
                            for lane in range(lanes):
                                c[c_rows[r] + at + lane] = start[lane]
                        continue
                    for r in range(0, rows, ROWS):
                        multiply_tile(
                            c if whole else edge, at if whole else 0, c_rows if whole else edge_rows,
                            start, 0 if begin == 0 else -1,
                            a.flat, begin * a.column, a_rows, r, a_columns, 0,
                            b.flat if is_panel else panels, begin * width if is_panel else (at - group) * depth,
                            depth, width,
                        )  # fmt: skip
                    if not whole:
                        for r in range(rows):
                            for lane in range(lanes):
                                c[c_rows[r] + at + lane] = edge[r * width + lane]


@jit()
def pack(panels: Array, b: Matrix, begin: int, depth: int, left: int, right: int, width: int) -> None:
    """Copy the columns ``left <= j < right`` of ``depth`` rows of B into panels, the last filled up with zeros."""
    whole = left + (right - left) // width * width
    lanes = vector_size(panels)
    vectors = depth // lanes * lanes if b.row == 1 else 0
    if b.column == 1:
        for i in range(depth):
            for at in range(left, whole, width):
                copy_row(panels, (at - left) * depth + i * width, b.flat, (begin + i) * b.row + at, width)
    else:
        for at in range(left, whole, lanes):
            target = (at - left) // width * width * depth + (at - left) % width
            for i in range(0, vectors, lanes):
                copy_columns(panels, target + i * width, width, b.flat, begin + i + at * b.column, b.column)
            for i in range(vectors, depth):
                for lane in range(lanes):
                    panels[target + i * width + lane] = b.flat[(begin + i) * b.row + (at + lane) * b.column]
    for i in range(depth if whole < right else 0):
        for lane in range(width):
            value = b.flat[(begin + i) * b.row + (whole + lane) * b.column] if whole + lane < right else 0
            panels[(whole - left) * depth + i * width + lane] = value


@jit()
def transpose(target: Array, source: Array, rows: int, columns: int) -> None:
    """Write the transpose of a flat matrix of ``rows`` times ``columns``."""
    lanes = vector_size(target)
    tall, wide = rows // lanes * lanes, columns // lanes * lanes
    for j in range(0, wide, lanes):
        for i in range(0, tall, lanes):
            copy_columns(target, j * rows + i, rows, source, i * columns + j, columns)
    for i in range(rows):
        for j in range(wide if i < tall else 0, columns):
            target[j * rows + i] = source[i * columns + j]
