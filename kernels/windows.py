"""The geometry of convolution: which pixels a kernel's windows meet, and how the work is cut into blocks."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.arguments import Array
from kernels.compilation import jit
from kernels.microkernel import ROWS
from kernels.reference import Pair

Offsets = NDArray[np.int64]


class Blocks(NamedTuple):
    """A division of the window positions of a batch into blocks, and where a block's window lies in its image."""

    n: int
    height: int  # window positions, not pixels
    width: int
    images: int  # of one block
    rows: int
    cols: int
    step_y: int  # pixels between neighbouring window positions
    step_x: int
    top: int  # the image row of the first window's first row, negative in the padding
    left: int
    window_rows: int  # of a whole block, with what its last window reaches
    window_cols: int


class Correlation(NamedTuple):
    """One correlation, or several that interleave, as tables of offsets."""

    blocks: Blocks
    phases: Offsets  # (phases, 4): first output row and column, first tap, end of taps
    out_step: Pair  # output pixels between neighbouring window positions
    taps: Offsets  # where the pixel that each tap (kernel element) meets starts, in the window
    weights: Offsets  # and where the tap's weights do
    columns: Offsets  # where the number that each tap and channel meets lies, in the window


Taps = list[tuple[int, int]]
"""Along one axis: (offset of the source pixel from the window position, kernel index), by increasing offset."""


def forward_phases(kernel: int, before: int, dilation: int) -> list[Taps]:
    """Along one axis, `conv2d` has one phase: output t meets input ``t * stride + i * dilation - before``."""
    return [[(i * dilation - before, i) for i in range(kernel)]]


def input_grad_phases(kernel: int, stride: int, before: int, dilation: int) -> list[Taps]:
    """The equation solved for the output: ``first + t * stride`` meets t + (first + before - i * dilation) / stride."""
    return [
        [
            (numerator // stride, i)
            for i in reversed(range(kernel))
            if (numerator := first + before - i * dilation) % stride == 0
        ]
        for first in range(stride)
    ]


def correlation(
    n: int,
    c: int,
    positions: Pair,
    step: Pair,
    out_step: Pair,
    phases: tuple[list[Taps], list[Taps]],
    w_shape: tuple[int, ...],
    dtype: np.dtype[Any],
) -> Correlation:
    """Lay out a correlation of n images of c channels at ``positions`` windows, with the phases of rows and columns."""
    offsets = [[offset for taps in axis for offset, _ in taps] for axis in phases]
    top, left = (min(o) for o in offsets)
    reach = (max(offsets[0]) - top + 1, max(offsets[1]) - left + 1)
    blocks = divide(n, positions, c, step, (top, left), reach, dtype.itemsize)

    table: list[tuple[int, int, int, int]] = []
    pixels: list[int] = []
    weights: list[int] = []
    for row, row_taps in enumerate(phases[0]):
        for col, col_taps in enumerate(phases[1]):
            begin = len(pixels)
            for y, i in row_taps:
                for x, j in col_taps:
                    pixels.append(((y - top) * blocks.window_cols + x - left) * c)
                    weights.append((i * w_shape[1] + j) * w_shape[2] * w_shape[3])
            table.append((row, col, begin, len(pixels)))
    taps = np.array(pixels)
    columns = (taps[:, None] + np.arange(c)).reshape(-1)
    return Correlation(blocks, np.array(table), out_step, taps, np.array(weights), columns)


def divide(n: int, positions: Pair, c: int, step: Pair, origin: Pair, reach: Pair, itemsize: int) -> Blocks:
    """Choose blocks whose windows fit a core's cache, but at least eight of them if there is enough to do."""
    height, width = positions
    target = max(8 * ROWS, min(784, 196_608 // (itemsize * max(c, 1) * step[0] * step[1]), n * height * width // 8))
    cols = -(-width // -(-width // target))
    rows = -(-height // -(-height // max(1, target // width)))
    images = 1 << (max(1, target // (height * width)).bit_length() - 1)  # a power of two, to divide batches evenly
    window = ((rows - 1) * step[0] + reach[0], (cols - 1) * step[1] + reach[1])
    return Blocks(n, height, width, images, rows, cols, *step, *origin, *window)


@jit()
def count_blocks(blocks: Blocks) -> int:
    """The number of blocks."""
    return -(-blocks.n // blocks.images) * -(-blocks.height // blocks.rows) * -(-blocks.width // blocks.cols)


@jit()
def bounds(blocks: Blocks, block: int) -> tuple[int, int, int, int, int, int]:
    """First and end of one block's images, rows and columns of window positions."""
    down, across = -(-blocks.height // blocks.rows), -(-blocks.width // blocks.cols)
    image = block // (down * across) * blocks.images
    row = block // across % down * blocks.rows
    col = block % across * blocks.cols
    return (
        image,
        min(image + blocks.images, blocks.n),
        row,
        min(row + blocks.rows, blocks.height),
        col,
        min(col + blocks.cols, blocks.width),
    )


@jit()
def copy_window(window: Array, x: Array, blocks: Blocks, block: int) -> None:
    """Copy the part of the images x that a block's windows meet, with zeros where they reach beyond."""
    _, h, w, c = x.shape
    image, image_end, row, _, col, _ = bounds(blocks, block)
    top, left = blocks.top + row * blocks.step_y, blocks.left + col * blocks.step_x
    first, end = min(max(-left, 0), blocks.window_cols), min(max(w - left, 0), blocks.window_cols)
    at = 0
    for n in range(image, image_end):
        for y in range(top, top + blocks.window_rows):
            if 0 <= y < h and first < end:
                for i in range(at, at + first * c):
                    window[i] = 0
                source = x[n, y, first + left : end + left].reshape(-1)
                for i in range(source.size):
                    window[at + first * c + i] = source[i]
                for i in range(at + end * c, at + blocks.window_cols * c):
                    window[i] = 0
            else:
                for i in range(at, at + blocks.window_cols * c):
                    window[i] = 0
            at += blocks.window_cols * c
