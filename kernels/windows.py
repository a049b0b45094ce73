"""The geometry of convolution: which pixels a kernel's windows meet, and how the work is cut into blocks."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.arguments import Array
from kernels.compilation import jit
from kernels.microkernel import ROWS, copy_row
from kernels.reference import Padding, Pair
from kernels.transforms import ELEMENTS, PATCH, TAPS, TILE

Offsets = NDArray[np.int64]

MOST_WEIGHTS = 2**24
"""Bytes of transformed weights beyond which `kernels.winograd` does not pay, for each worker makes all of them."""

X_AXES, W_AXES, G_AXES = "N,H,W,C", "kh,kw,C_in,C_out", "N,H',W',C_out"


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
    taps: Offsets  # the pixel that each tap (kernel element) meets, in the window
    weights: Offsets  # and where the tap's weights do
    columns: Offsets  # where the number that each tap and channel meets lies, in the window
    tiles: Blocks | None  # for `kernels.winograd`, where that is faster


Taps = list[tuple[int, int]]
"""Along one axis: (offset of the source pixel from the window position, kernel index), by increasing offset."""


def output_size(
    name: str, size: tuple[int, ...], kernel: tuple[int, ...], stride: Pair, padding: Padding, dilation: Pair
) -> Pair:
    """The size of `conv2d`'s result, after a check of the geometry."""
    if not all(isinstance(v, int | np.integer) for v in (*stride, *dilation, *padding[0], *padding[1], *kernel)):
        raise TypeError(f"{name}: stride={stride}, padding={padding} and dilation={dilation} must be whole numbers")
    if min(*stride, *dilation) < 1 or min(*padding[0], *padding[1]) < 0 or min(kernel) < 1:
        raise ValueError(
            f"{name}: kernel={kernel}, stride={stride} and dilation={dilation} must be at least 1, "
            f"padding={padding} at least 0"
        )
    span = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    padded = [s + sum(p) for s, p in zip(size, padding, strict=True)]
    if padded[0] < span[0] or padded[1] < span[1]:
        raise ValueError(
            f"{name}: the kernel spans {tuple(span)} pixels but the padded image has only (H,W)={tuple(padded)}; "
            "pad more or use a smaller kernel or dilation"
        )
    return (padded[0] - span[0]) // stride[0] + 1, (padded[1] - span[1]) // stride[1] + 1


def check_output(
    name: str, g: Array, size: tuple[int, ...], kernel: tuple[int, ...], stride: Pair, padding: Padding, dilation: Pair
) -> None:
    """Refuse a cotangent that does not have the size of `conv2d`'s result."""
    out = output_size(name, size, kernel, stride, padding, dilation)
    if g.shape[1:3] != out:
        raise ValueError(
            f"{name}: g has (H',W')={g.shape[1:3]} but an input of (H,W)={tuple(size)} gives (H',W')={out} with "
            f"kernel={tuple(kernel)}, stride={stride}, padding={padding}, dilation={dilation}"
        )


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
                    pixels.append((y - top) * blocks.window_cols + x - left)
                    weights.append((i * w_shape[1] + j) * w_shape[2] * w_shape[3])
            table.append((row, col, begin, len(pixels)))
    taps = np.array(pixels)
    columns = (taps[:, None] * c + np.arange(c)).reshape(-1)
    tiles = None
    if step == out_step == (1, 1) and all(o == list(range(o[0], o[0] + TAPS)) for o in offsets):
        tiles = divide_tiles(n, positions, w_shape[2:], (top, left), dtype)
    return Correlation(blocks, np.array(table), out_step, taps, np.array(weights), columns, tiles)


def divide(
    n: int,
    positions: Pair,
    c: int,
    step: Pair,
    origin: Pair,
    reach: Pair,
    itemsize: int,
    most: int = 784,
    least: int = 8 * ROWS,
) -> Blocks:
    """Choose blocks whose windows fit a core's cache, but at least eight of them if there is enough to do.

    ``most`` and ``least`` are how many positions a block should have.
    """
    height, width = positions
    target = max(least, min(most, 196_608 // (itemsize * max(c, 1) * step[0] * step[1]), n * height * width // 8))
    cols = -(-width // -(-width // target))
    rows = -(-height // -(-height // max(1, target // width)))
    images = 1 << (max(1, target // (height * width)).bit_length() - 1)  # a power of two, to divide batches evenly
    window = ((rows - 1) * step[0] + reach[0], (cols - 1) * step[1] + reach[1])
    return Blocks(n, height, width, images, rows, cols, *step, *origin, *window)


def divide_tiles(n: int, size: Pair, channels: tuple[int, ...], origin: Pair, dtype: np.dtype[Any]) -> Blocks | None:
    """Choose blocks of the tiles that `kernels.winograd` divides results of this size into, or None.

    It is for float32, as who wants float64 wants the last bits; and pays where there are channels and tiles enough to
    make up for the transforms, and half of what tiles hold are results.
    """
    tiles = (-(-size[0] // TILE), -(-size[1] // TILE))
    count = n * tiles[0] * tiles[1]
    if dtype.itemsize > 4 or min(channels) < 8 or count < 32 or 2 * n * size[0] * size[1] < count * TILE * TILE:
        return None
    if ELEMENTS * channels[0] * channels[1] * dtype.itemsize > MOST_WEIGHTS:
        return None
    return divide(n, tiles, max(channels), (TILE, TILE), origin, (PATCH, PATCH), dtype.itemsize, 49, ROWS)


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
def copy_window(window: Array, x: Array, blocks: Blocks, block: int, group: int) -> None:
    """Copy the part of the images x that a block's windows meet, with zeros where they reach beyond.

    Channels are copied in groups, of which each has all pixels, side by side: all of them, or as many as a panel is
    wide.
    """
    _, h, w, c = x.shape
    flat = x.reshape(-1)
    image, image_end, row, _, col, _ = bounds(blocks, block)
    top, left = blocks.top + row * blocks.step_y, blocks.left + col * blocks.step_x
    first, end = min(max(-left, 0), blocks.window_cols), min(max(w - left, 0), blocks.window_cols)
    pixels = blocks.images * blocks.window_rows * blocks.window_cols
    for begin in range(0, c, group):
        lanes = min(group, c - begin)
        at = begin * pixels
        for n in range(image, image_end):
            for y in range(top, top + blocks.window_rows):
                inside = 0 <= y < h and first < end
                before, after = (first, end) if inside else (blocks.window_cols, blocks.window_cols)
                window[at : at + before * group] = 0
                window[at + after * group : at + blocks.window_cols * group] = 0
                source = ((n * h + y) * w + left + before) * c + begin
                if inside and group == c:
                    size = (after - before) * c
                    target, origin = window[at + before * c : at + before * c + size], flat[source : source + size]
                    for i in range(size):
                        target[i] = origin[i]
                elif inside:
                    for pixel in range(before, after):
                        if lanes == group:
                            copy_row(window, at + pixel * group, flat, source + (pixel - before) * c, group)
                        else:
                            for lane in range(lanes):
                                window[at + pixel * group + lane] = flat[source + (pixel - before) * c + lane]
                at += blocks.window_cols * group
