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
    narrow = vector_size(c)
    last_width = narrow if (right - left) % width <= narrow else width
    most = -(-min(CHUNK, bottom - top) // ROWS) * ROWS
    a_rows, c_rows, edge_rows = np.arange(most) * a.row, np.arange(most) * n, np.arange(most) * width
    a_columns = np.arange(min(k, DEPTH)) * a.column
    panels, start = np.empty(min(k, DEPTH) * GROUP * width, c.dtype), np.zeros(width, c.dtype)
    edge = np.empty(most * width if (right - left) % narrow else 0, c.dtype)
    for first in range(top, bottom, CHUNK):
        rows = min(CHUNK, bottom - first)
        for r in range(rows, -(-rows // ROWS) * ROWS):  # the last tile repeats the last row
            a_rows[r], c_rows[r] = a_rows[rows - 1], c_rows[rows - 1]
        for begin in range(0, max(k, 1), DEPTH):
            depth = min(DEPTH, k - begin)
            for group in range(left, right, GROUP * width):
                end = min(group + GROUP * width, right)
                if not is_panel:
                    whole = end - (end - group) % width
                    pack(panels, b, begin, depth, group, whole, width)
                    pack(panels[(whole - group) * depth :], b, begin, depth, whole, end, last_width)
                for at in range(group, end, width):
                    lanes = min(width, end - at)
                    tile_width = width if lanes == width else last_width
                    fits, c_at = lanes == tile_width, (first - c_first) * n + at
                    if begin == 0 and bias.size > 0:
                        for lane in range(lanes):
                            start[lane] = bias[at + lane]
                    if depth == 0:
                        for r in range(rows):
                            for lane in range(lanes):
                                c[c_at + c_rows[r] + lane] = start[lane]
                        continue
                    for r in range(0, rows, ROWS):
                        multiply_tile(
                            c if fits else edge, c_at if fits else 0, c_rows if fits else edge_rows,
                            start, 0 if begin == 0 else -1,
                            a.flat, first * a.row + begin * a.column, a_rows, r, a_columns, 0,
                            b.flat if is_panel else panels, begin * width if is_panel else (at - group) * depth,
                            depth, tile_width,
                        )  # fmt: skip
                    if not fits:
                        for r in range(rows):
                            for lane in range(lanes):
                                c[c_at + c_rows[r] + lane] = edge[r * width + lane]


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
        target, source = (whole - left) * depth + i * width, (begin + i) * b.row + whole * b.column
        for lane in range(right - whole):
            panels[target + lane] = b.flat[source + lane * b.column]
        for lane in range(right - whole, width):
            panels[target + lane] = 0


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
