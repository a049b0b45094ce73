"""The gradient of `kernels.convolution.conv2d` with respect to its weights.

Its row (i, j, c) is a sum over the output pixels of one number of the padded image times the C_out cotangents there: a
product, summed over pixels, of which `multiply_tile` computes some rows and columns. The channels of a window are kept
in groups of as many as a panel is wide, one group after the other, so that what the tiles of a group read stays in the
fastest cache; or `kernels.winograd` does it. Each of a fixed number of parts of the batch is summed for itself, then
the parts in order, so that the bits do not depend on the number of threads.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from kernels.arguments import Array, check, show
from kernels.calls import empty, zeros
from kernels.compilation import jit
from kernels.microkernel import ROWS, copy_row, multiply_tile, panel_width
from kernels.reference import Padding, Pair
from kernels.threads import run, share
from kernels.transforms import TILE
from kernels.windows import (
    G_AXES,
    X_AXES,
    Blocks,
    Offsets,
    Taps,
    bounds,
    check_output,
    copy_window,
    count_blocks,
    divide,
    divide_tiles,
    forward_phases,
    input_grad_phases,
)
from kernels.winograd import sum_over_tiles


def conv2d_weight_grad(
    x: Array,
    g: Array,
    kernel: Pair,
    stride: Pair = (1, 1),
    padding: Padding = ((0, 0), (0, 0)),
    dilation: Pair = (1, 1),
) -> Array:
    """`reference.conv2d_weight_grad`, compiled: as many FLOPs as `conv2d`.

    Raises
    ------
    TypeError, ValueError : as `conv2d` does, or g does not have the shape of `conv2d`'s result
    """
    name = "conv2d_weight_grad"
    x, g = check(name, "x", x, X_AXES), check(name, "g", g, G_AXES, x.dtype)
    if x.shape[0] != g.shape[0]:
        raise ValueError(f"{name}: {show('x', X_AXES, x.shape)} and {show('g', G_AXES, g.shape)} differ in N")
    check_output(name, g, x.shape[1:3], kernel, stride, padding, dilation)
    if x.size == 0 or g.size == 0:
        return zeros((*kernel, x.shape[3], g.shape[3]), x.dtype)
    plan = _plan(x.shape, g.shape, kernel, stride, padding, dilation, x.dtype)
    left, right = (g, x) if plan.exchanged else (x, g)
    (taps, c_left), c_right, blocks = plan.shape, right.shape[3], plan.blocks
    width = panel_width(x.dtype, c_right)
    sums = empty((plan.parts, taps * c_left, -(-c_right // width), width), x.dtype)
    if plan.tiles is not None:
        run(sum_over_tiles, plan.nanoseconds / 3, sums, x, g, *plan.tiles, plan.exchanged)
    else:
        run(_sum_over_pixels, plan.nanoseconds, sums, left, right, blocks, plan.rows, plan.targets, plan.group)
    gw = empty((*kernel, x.shape[3], g.shape[3]), x.dtype)
    steps = (1, c_left) if plan.exchanged else (c_right, 1)
    run(_add_parts, 0.2 * sums.size, gw.reshape(-1), sums, c_left, c_right, *steps)
    return gw


class _Plan(NamedTuple):
    exchanged: bool
    """Whether the channels of g are the rows of the product, and those of x its columns."""
    shape: Pair
    """Kernel elements, and channels for each, that are rows of the product."""
    blocks: Blocks
    rows: Offsets
    """Where the numbers of each row start in a window, group by group."""
    targets: Offsets
    """And where the row starts in the sums."""
    group: int
    """Channels that are kept together."""
    parts: int
    nanoseconds: float
    tiles: tuple[Blocks, Blocks] | None
    """Of x and of g, for `kernels.winograd`, where that is faster."""


@lru_cache(maxsize=256)
def _plan(
    x_shape: tuple[int, ...],
    g_shape: tuple[int, ...],
    kernel: Pair,
    stride: Pair,
    padding: Padding,
    dilation: Pair,
    dtype: np.dtype[Any],
) -> _Plan:
    (kh, kw), c_in, c_out = kernel, x_shape[3], g_shape[3]

    def cost(rows: int, columns: int, pixels: int) -> int:
        width = panel_width(dtype, columns)
        return -(-rows // ROWS) * ROWS * -(-columns // width) * width * pixels

    # With few output channels most of a tile's columns would be empty. Without a stride, the roles can be exchanged:
    # input pixel q and kernel element i meet in output q + before - i * dilation.
    exchanged = stride == (1, 1) and cost(kh * kw * c_out, c_in, x_shape[1] * x_shape[2]) < cost(
        kh * kw * c_in, c_out, g_shape[1] * g_shape[2]
    )
    taps: list[Taps]
    if exchanged:
        (n, height, columns, c_right), c_left = x_shape, c_out
        taps = [input_grad_phases(kernel[a], 1, padding[a][0], dilation[a])[0] for a in (0, 1)]
    else:
        (n, height, columns, c_right), c_left = g_shape, c_in
        taps = [forward_phases(kernel[a], padding[a][0], dilation[a])[0] for a in (0, 1)]
    (top, bottom), (left, right) = ((axis[0][0], axis[-1][0]) for axis in taps)
    group, width = min(c_left, panel_width(dtype)), panel_width(dtype, c_right)
    reach = (bottom - top + 1, right - left + 1)
    blocks = divide(n, (height, columns), group, stride, (top, left), reach, dtype.itemsize, PIXELS)

    offsets = np.empty(kernel, np.int64)
    for y, i in taps[0]:
        for x, j in taps[1]:
            offsets[i, j] = (y - top) * blocks.window_cols + x - left
    window = blocks.images * blocks.window_rows * blocks.window_cols
    panels = -(-c_right // width)
    rows, targets = [], []
    for first in range(0, c_left, group):
        for tap, offset in enumerate(offsets.reshape(-1)):
            for channel in range(min(group, c_left - first)):
                rows.append((first // group * window + offset) * group + channel)
                targets.append((tap * c_left + first + channel) * panels * width)
    repeat_last = (0, ROWS)  # in the last tile
    size = len(rows) * panels * width
    parts = max(8, min(32, 2**19 // (size * dtype.itemsize)))
    tiles = None
    if kernel == (3, 3) and stride == dilation == (1, 1):
        origin = (-padding[0][0], -padding[1][0])
        x_tiles = divide_tiles(n, (g_shape[1], g_shape[2]), (c_in, c_out), origin, dtype)
        if x_tiles is not None:
            g_tiles = x_tiles._replace(top=0, left=0, window_rows=x_tiles.rows * TILE, window_cols=x_tiles.cols * TILE)
            tiles = x_tiles, g_tiles
            parts = min(parts, count_blocks.py_func(x_tiles))
    return _Plan(
        exchanged,
        (kh * kw, c_left),
        blocks,
        np.pad(rows, repeat_last, mode="edge"),
        np.pad(targets, repeat_last, mode="edge"),
        group,
        parts,
        2 * n * height * columns * size / (5 * width),
        tiles,
    )


PIXELS = 200
"""Pixels that are summed at once, at most: a group of channels of so many, and of their cotangents, nearly fill the
fastest cache."""


@jit()
def _sum_over_pixels(
    worker: int,
    workers: int,
    sums: Array,
    x: Array,
    g: Array,
    blocks: Blocks,
    rows: Offsets,
    targets: Offsets,
    group: int,
) -> None:
    """For each part of the batch, sum over pixels the numbers at ``rows`` from the window, times the pixel of g.

    ``sums`` has shape (parts, rows, panels, width); ``targets`` is where a part's rows start in it, and ``group`` how
    many channels are kept together.
    """
    parts, row_count, panels, width = sums.shape
    c_left, c = x.shape[3], g.shape[3]
    group_rows = -(-row_count // c_left * group // ROWS) * ROWS
    most, whole = blocks.images * blocks.rows * blocks.cols, c // width
    flat, flat_g = sums.reshape(-1), g.reshape(-1)
    window = np.empty(blocks.images * blocks.window_rows * blocks.window_cols * -(-c_left // group) * group, x.dtype)
    is_panel = c == width and blocks.cols == blocks.width  # g is, as it lies
    packed = flat_g if is_panel else np.zeros(panels * most * width, x.dtype)
    pixels = np.empty(most, np.int64)
    first_part, end_part = share(worker, workers, parts)
    for part in range(first_part, end_part):
        sums[part] = 0
        first_block, end_block = share(part, parts, count_blocks(blocks))
        for block in range(first_block, end_block):
            copy_window(window, x, blocks, block, group)
            image, image_end, row, row_end, col, col_end = bounds(blocks, block)
            pixel, packed_at = 0, (image * g.shape[1] + row) * g.shape[2] * c if is_panel else 0
            for n in range(image, image_end):
                for i in range(row, row_end):
                    source_row = (n - image) * blocks.window_rows + (i - row) * blocks.step_y
                    for j in range(col, col_end):
                        pixels[pixel] = (source_row * blocks.window_cols + (j - col) * blocks.step_x) * group
                        pixel += 1
                        if is_panel:
                            continue
                        at = ((n * g.shape[1] + i) * g.shape[2] + j) * c
                        for panel in range(whole):
                            copy_row(packed, (panel * most + pixel - 1) * width, flat_g, at + panel * width, width)
                        last, source = (whole * most + pixel - 1) * width, at + whole * width
                        for lane in range(c - whole * width):
                            packed[last + lane] = flat_g[source + lane]
            for first in range(0, row_count, group_rows):
                for panel in range(panels):
                    for tile in range(first, min(first + group_rows, row_count), ROWS):
                        multiply_tile(
                            flat, (part * row_count * panels + panel) * width, targets, flat, -1,
                            window, 0, rows, tile, pixels, 0, packed, packed_at + panel * most * width, pixel, width,
                        )  # fmt: skip


@jit()
def _add_parts(
    worker: int, workers: int, gw: Array, sums: Array, c_left: int, c_right: int, left_step: int, right_step: int
) -> None:
    """Add up the parts; the channels of one kernel element lie ``left_step`` and ``right_step`` apart in gw."""
    parts, rows, panels, width = sums.shape
    flat, row_size = sums.reshape(-1), panels * width
    total = np.empty(row_size, sums.dtype)
    first, end = share(worker, workers, rows)
    for row in range(first, end):
        total[:] = 0
        for part in range(parts):
            source = flat[(part * rows + row) * row_size : (part * rows + row + 1) * row_size]
            for j in range(row_size):
                total[j] += source[j]
        at = row // c_left * c_left * c_right + row % c_left * left_step
        for j in range(c_right):
            gw[at + j * right_step] = total[j]
