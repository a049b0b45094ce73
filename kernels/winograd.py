"""Convolution with 3×3 weights, and its weight gradient, by minimal filtering: see `kernels.transforms`.

The tiles of a block are transformed; then, for each (i, j), elements (i, j) of all tiles and channels are a matrix,
which `multiply_tile` multiplies by that of the weights; and the 36 products are transformed back. The tiles and
products of a block stay in the second cache. Transformed tiles lie in panels of channels, as (panels, 36, tiles,
width), where they can be the left side of a product as well as the right.

The weight gradient is the transposed map, with another argument held fixed: dW = Gᵀ [Σ (Bᵀ d B) ⊙ (A dY Aᵀ)] G. The
sum over tiles makes 36 products again. Beyond the edge of the image, dY is zero.
"""

import numpy as np

from kernels.arguments import Array
from kernels.compilation import jit
from kernels.microkernel import ROWS, multiply_tile, vector_size
from kernels.threads import share
from kernels.transforms import (
    ELEMENTS,
    PATCH,
    TAPS,
    TILE,
    transform_input,
    transform_output,
    transform_output_grad,
    transform_weights,
    transform_weights_grad,
)
from kernels.windows import Blocks, bounds, copy_window, count_blocks


@jit()
def correlate_tiles(
    worker: int, workers: int, y: Array, x: Array, packed: Array, bias: Array, addend: Array, blocks: Blocks
) -> None:
    """Write the correlation of x with weights, packed as (panels, 9, C_in, width), to y.

    To it are added the ``bias``, of which there is one row for each image or for all, and the ``addend``, which has as
    many elements as y, or none.
    """
    panels, taps, c_in, width = packed.shape
    lanes, depth, pitch = vector_size(x), c_in * width, _pitch(blocks, width)
    window, tiles = _window(blocks, x, lanes), np.empty(-(-c_in // width) * ELEMENTS * pitch, x.dtype)
    products, zeros = np.empty(panels * ELEMENTS * pitch, x.dtype), np.zeros(width, x.dtype)
    rows, columns = np.arange(pitch // width) * width, np.empty(c_in, np.int64)
    for channel in range(c_in):
        columns[channel] = _offset(0, channel, pitch, width)
    weights, flat_packed = np.empty(panels * ELEMENTS * depth, x.dtype), packed.reshape(-1)
    for panel in range(panels):
        for at in range(0, depth, lanes):
            transform_weights(
                weights, panel * ELEMENTS * depth + at, PATCH * depth, depth,
                flat_packed, panel * taps * depth + at, TAPS * depth, depth,
            )  # fmt: skip
    line = blocks.cols * TILE * y.shape[3] + lanes  # what the last vector of the last pixel writes to, too
    results, bias_line = np.empty(blocks.images * blocks.rows * TILE * line, x.dtype), np.empty(line, x.dtype)
    first_block, end_block = share(worker, workers, count_blocks(blocks))
    for block in range(first_block, end_block):
        copy_window(window, x, blocks, block, c_in)
        count = _transform_tiles(tiles, window, blocks, block, c_in, width, True)
        for panel in range(panels):
            for element in range(ELEMENTS):
                for tile in range(0, count, ROWS):
                    at = panel * ELEMENTS + element
                    multiply_tile(
                        products, at * pitch, rows, zeros, 0,
                        tiles, element * pitch, rows, tile, columns, 0, weights, at * depth, c_in, width,
                    )  # fmt: skip
        _transform_back(y, results, bias, bias_line, addend, products, blocks, block, width)


@jit()
def sum_over_tiles(
    worker: int, workers: int, sums: Array, x: Array, g: Array, x_blocks: Blocks, g_blocks: Blocks, exchanged: bool
) -> None:
    """For each part of the batch, write its weight gradient to ``sums``, of shape (parts, 9 * C_left, panels, width).

    The product's rows are the channels of x, and its columns those of g, unless these are ``exchanged``.
    """
    parts, row_count, panels, width = sums.shape
    c_in, c_out, c_left = x.shape[3], g.shape[3], row_count // (TAPS * TAPS)
    lanes, pitch = vector_size(x), _pitch(x_blocks, width)
    x_window, x_tiles = _window(x_blocks, x, lanes), np.empty(-(-c_in // width) * ELEMENTS * pitch, x.dtype)
    g_window, g_tiles = _window(g_blocks, g, lanes), np.empty(-(-c_out // width) * ELEMENTS * pitch, x.dtype)
    left, right = (g_tiles, x_tiles) if exchanged else (x_tiles, g_tiles)
    depth, flat = (c_left + 1) * width, sums.reshape(-1)
    products, zeros = np.empty(panels * ELEMENTS * depth, x.dtype), np.zeros(width, x.dtype)
    rows, targets = np.empty(c_left + ROWS, np.int64), np.empty(c_left + ROWS, np.int64)
    for row in range(c_left + ROWS):
        channel = min(row, c_left - 1)  # the last tile repeats the last row
        rows[row], targets[row] = _offset(0, channel, pitch, width), channel * width
    columns = np.arange(pitch // width) * width
    first_part, end_part = share(worker, workers, parts)
    for part in range(first_part, end_part):
        first_block, end_block = share(part, parts, count_blocks(x_blocks))
        for block in range(first_block, end_block):
            copy_window(x_window, x, x_blocks, block, c_in)
            copy_window(g_window, g, g_blocks, block, c_out)
            count = _transform_tiles(x_tiles, x_window, x_blocks, block, c_in, width, True)
            _transform_tiles(g_tiles, g_window, g_blocks, block, c_out, width, False)
            for panel in range(panels):
                for element in range(ELEMENTS):
                    for row in range(0, c_left, ROWS):
                        at = panel * ELEMENTS + element
                        multiply_tile(
                            products, at * depth, targets, zeros, 0 if block == first_block else -1,
                            left, element * pitch, rows, row, columns, 0, right, at * pitch, count, width,
                        )  # fmt: skip
        step = panels * width
        for panel in range(panels):
            for row in range(c_left):
                for at in range(0, width, lanes):
                    transform_weights_grad(
                        flat, (part * row_count + row) * step + panel * width + at, TAPS * c_left * step, c_left * step,
                        products, panel * ELEMENTS * depth + row * width + at, PATCH * depth, depth,
                    )  # fmt: skip


@jit()
def _pitch(blocks: Blocks, width: int) -> int:
    """How far the matrices of a transformed block lie apart: not a power of two, or they displaced one another."""
    return (-(-blocks.images * blocks.rows * blocks.cols // ROWS) * ROWS + 1) * width


@jit()
def _window(blocks: Blocks, x: Array, lanes: int) -> Array:
    """A buffer for a window, and for what the last vector of its last pixel reads beyond."""
    return np.empty(blocks.images * blocks.window_rows * blocks.window_cols * x.shape[3] + lanes, x.dtype)


@jit()
def _offset(tile: int, channel: int, pitch: int, width: int) -> int:
    """Where a channel of a tile lies in the first of the matrices."""
    return channel // width * ELEMENTS * pitch + tile * width + channel % width


@jit()
def _transform_tiles(
    tiles: Array, window: Array, blocks: Blocks, block: int, c: int, width: int, are_inputs: bool
) -> int:
    """Transform the tiles of a block, of inputs or of the cotangents of outputs; how many there are."""
    pitch, lanes = _pitch(blocks, width), vector_size(tiles)
    image, image_end, row, row_end, col, col_end = bounds(blocks, block)
    tile = 0
    for n in range(image_end - image):
        for i in range(row_end - row):
            for j in range(col_end - col):
                at = ((n * blocks.window_rows + i * TILE) * blocks.window_cols + j * TILE) * c
                for channel in range(0, c, lanes):
                    target, source, step = _offset(tile, channel, pitch, width), at + channel, blocks.window_cols * c
                    if are_inputs:
                        transform_input(tiles, target, PATCH * pitch, pitch, window, source, step, c)
                    else:
                        transform_output_grad(tiles, target, PATCH * pitch, pitch, window, source, step, c)
                tile += 1
    return tile


@jit()
def _transform_back(
    y: Array,
    results: Array,
    bias: Array,
    bias_line: Array,
    addend: Array,
    products: Array,
    blocks: Blocks,
    block: int,
    width: int,
) -> None:
    """Transform the products of a block, and copy to y what lies inside, with what is added to it."""
    _, h, w, c = y.shape
    pitch, lanes, line = _pitch(blocks, width), vector_size(y), bias_line.size
    image, image_end, row, row_end, col, col_end = bounds(blocks, block)
    tile = 0
    for n in range(image_end - image):
        for i in range(row_end - row):
            for j in range(col_end - col):
                at = (n * blocks.rows + i) * TILE * line + j * TILE * c
                # The last vector of a pixel may reach into the next one, whose first is written after it.
                for channel in range((c - 1) // lanes * lanes, -1, -lanes):
                    source = _offset(tile, channel, pitch, width)
                    transform_output(results, at + channel, line, c, products, source, PATCH * pitch, pitch)
                tile += 1
    flat, size = y.reshape(-1), (min(col_end * TILE, w) - col * TILE) * c
    for n in range(image, image_end):
        for at in range(0, size, c):
            for channel in range(c):
                bias_line[at + channel] = bias[min(n, len(bias) - 1), channel]
        for i in range(row * TILE, min(row_end * TILE, h)):
            at, source = ((n * h + i) * w + col * TILE) * c, ((n - image) * blocks.rows - row) * TILE + i
            target, origin = flat[at : at + size], results[source * line : source * line + size]
            for k in range(size):
                target[k] = origin[k] + bias_line[k]
            if addend.size:
                added = addend[at : at + size]
                for k in range(size):
                    target[k] += added[k]
