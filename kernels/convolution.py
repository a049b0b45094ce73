"""Convolution of channels-last images and its input gradient, on `multiply_tile` and without a matrix of patches.

**Forward.** In an image padded with zeros, an output pixel is a sum over the kh * kw * C_in numbers of its window. They
lie at the same distances from the window's corner whatever the pixel is, and the weights (kh, kw, C_in, C_out) that
multiply them are the rows of a matrix with C_out columns. So a tile computes some pixels, for some of the channels.

**Input gradient.** The same correlation, of the cotangent with the kernel flipped and its channels exchanged. With a
stride s, the input rows ``y = first + s * t`` of one residue meet only the kernel rows i with ``i * dilation = y + top
(mod s)``: one correlation without stride for each pair of residues (a "phase"), and no product with the zeros that a
stride seems to put between the cotangents.

Most convolutions in float32 with 3 × 3 weights and without a stride, and their input gradients, are left to
`kernels.winograd`. The work of the others is divided into blocks, some images or a rectangle of one, whose padded
window is copied to a buffer that stays in the cache.
"""

from functools import lru_cache
from typing import Any

import numpy as np

from kernels.arguments import Array, check, show
from kernels.calls import computed, do, empty, zeros
from kernels.compilation import jit
from kernels.microkernel import ROWS, multiply_tile, panel_width
from kernels.product import Matrix, pack, transpose
from kernels.reference import Padding, Pair
from kernels.threads import run, share
from kernels.windows import (
    G_AXES,
    W_AXES,
    X_AXES,
    Blocks,
    Correlation,
    Offsets,
    bounds,
    check_output,
    copy_window,
    correlation,
    count_blocks,
    forward_phases,
    input_grad_phases,
    output_size,
)
from kernels.winograd import correlate_tiles


@jit()
def _correlate(
    worker: int,
    workers: int,
    y: Array,
    x: Array,
    packed: Array,
    bias: Array,
    blocks: Blocks,
    phases: Offsets,
    out_step: Pair,
    columns: Offsets,
) -> None:
    """Write the correlations of a `Correlation` to y. ``bias`` is as long as the panels together."""
    _, h, w, c = y.shape
    panels, taps, c_in, width = packed.shape
    flat, weights = y.reshape(-1), packed.reshape(-1)
    window = np.empty(blocks.images * blocks.window_rows * blocks.window_cols * x.shape[3], x.dtype)
    pixels = blocks.images * blocks.rows * blocks.cols + ROWS
    sources, targets, edges = np.empty(pixels, np.int64), np.empty(pixels, np.int64), np.arange(pixels) * width
    edge = np.empty(pixels * width if c % width else 0, x.dtype)  # a panel that is wider than what is left of y
    first_block, end_block = share(worker, workers, count_blocks(blocks))
    for block in range(first_block, end_block):
        copy_window(window, x, blocks, block, c_in)
        image, image_end, row, row_end, col, col_end = bounds(blocks, block)
        for phase in range(phases.shape[0]):
            first_y, first_x, begin, end = phases[phase]
            count = 0
            for n in range(image, image_end):
                for i in range(row, row_end):
                    for j in range(col, col_end):
                        out_y, out_x = first_y + i * out_step[0], first_x + j * out_step[1]
                        if out_y < h and out_x < w:
                            source_row = (n - image) * blocks.window_rows + (i - row) * blocks.step_y
                            sources[count] = (source_row * blocks.window_cols + (j - col) * blocks.step_x) * x.shape[3]
                            targets[count] = ((n * h + out_y) * w + out_x) * c
                            count += 1
            if count == 0 or begin == end:
                continue
            sources[count : count + ROWS] = sources[count - 1]  # the last tile repeats the last pixel
            targets[count : count + ROWS] = targets[count - 1]
            for panel in range(panels):
                at = panel * width
                whole = at + width <= c
                for tile in range(0, count, ROWS):
                    multiply_tile(
                        flat if whole else edge, at if whole else 0, targets if whole else edges,
                        bias, at, window, 0, sources, tile, columns, begin * c_in,
                        weights, (panel * taps + begin) * c_in * width, (end - begin) * c_in, width,
                    )  # fmt: skip
                if not whole:
                    for pixel in range(count):
                        for lane in range(c - at):
                            flat[targets[pixel] + at + lane] = edge[pixel * width + lane]


@jit()
def _pack_weights(
    worker: int, workers: int, packed: Array, w: Array, taps: Offsets, k_step: int, n: int, n_step: int
) -> None:
    """Pack the weights of each tap: its element (i, j) is ``w[taps[t] + i * k_step + j * n_step]``, with n columns.

    ``packed`` has shape (panels, taps.size, C_in, width).
    """
    panels, _, depth, width = packed.shape
    flat, size = packed.reshape(-1), depth * width
    for panel in range(worker, panels, workers):
        for t in range(taps.size):
            target, left = (panel * taps.size + t) * size, panel * width
            weights = Matrix(w[taps[t] :], k_step, n_step)
            pack(flat[target : target + size], weights, 0, depth, left, min(left + width, n), width)


@jit()
def _correlate_few(
    worker: int,
    workers: int,
    y: Array,
    x: Array,
    packed: Array,
    bias: Array,
    blocks: Blocks,
    phases: Offsets,
    out_step: Pair,
    taps: Offsets,
) -> None:
    """Write the correlations of a `Correlation` whose few output channels would fill few columns of a tile.

    Here the columns are the output channels of all taps: each pixel of the window is multiplied by the weights of all
    taps at once. The products are transposed, to a plane for each tap and channel, and an output channel adds up the
    planes of its taps, shifted by them. ``packed`` has shape (panels, C_in, width); ``taps`` counts pixels.
    """
    _, h, w, c = y.shape
    panels, c_in, width = packed.shape
    pixels = blocks.images * blocks.window_rows * blocks.window_cols
    columns = panels * width
    flat, weights = y.reshape(-1), packed.reshape(-1)
    window = np.empty(pixels * c_in, x.dtype)
    products, planes = np.empty(pixels * columns, x.dtype), np.empty(pixels * columns, x.dtype)
    pixel = np.minimum(np.arange(pixels + ROWS), pixels - 1)
    sources, targets = pixel * c_in, pixel * columns
    channels, zeros, totals = np.arange(c_in), np.zeros(width, x.dtype), np.empty(pixels - taps.max(), x.dtype)
    first_block, end_block = share(worker, workers, count_blocks(blocks))
    for block in range(first_block, end_block):
        copy_window(window, x, blocks, block, c_in)
        image, image_end, row, row_end, col, col_end = bounds(blocks, block)
        for panel in range(panels):
            for tile in range(0, (image_end - image) * blocks.window_rows * blocks.window_cols, ROWS):
                multiply_tile(
                    products, panel * width, targets, zeros, 0, window, 0, sources, tile, channels, 0,
                    weights, panel * c_in * width, c_in, width,
                )  # fmt: skip
        transpose(planes, products, pixels, columns)
        for phase in range(phases.shape[0]):
            first_y, first_x, begin, end = phases[phase]
            for channel in range(c):
                totals[:] = bias[channel]
                for tap in range(begin, end):
                    shifted = planes[(tap * c + channel) * pixels + taps[tap] :]
                    for i in range(totals.size):
                        totals[i] += shifted[i]
                last_row = min(row_end, -(-(h - first_y) // out_step[0]))
                last_col = min(col_end, -(-(w - first_x) // out_step[1]))
                for n in range(image, image_end):
                    for i in range(row, last_row):
                        source = ((n - image) * blocks.window_rows + (i - row) * blocks.step_y) * blocks.window_cols
                        target = ((n * h + first_y + i * out_step[0]) * w + first_x + col * out_step[1]) * c + channel
                        for j in range(last_col - col):
                            flat[target + j * out_step[1] * c] = totals[source + j * blocks.step_x]


@jit()
def _pack_few_weights(
    worker: int, workers: int, packed: Array, w: Array, taps: Offsets, k_step: int, n: int, n_step: int
) -> None:
    """What `_pack_weights` does, for `_correlate_few`: ``packed`` has shape (panels, C_in, width)."""
    panels, c_in, width = packed.shape
    for panel in range(worker, panels, workers):
        for lane in range(width):
            tap, j = divmod(panel * width + lane, n)
            for i in range(c_in):
                packed[panel, i, lane] = w[taps[tap] + i * k_step + j * n_step] if tap < taps.size else 0


# ----------------------------------------------------------------------------------------------------------- public


def conv2d(
    x: Array,
    w: Array,
    b: Array | None = None,
    stride: Pair = (1, 1),
    padding: Padding = ((0, 0), (0, 0)),
    dilation: Pair = (1, 1),
    addend: Array | None = None,
) -> Array:
    """`reference.conv2d`, compiled: 2 N H' W' kh kw C_in C_out FLOPs in float32 or float64.

    In float32, 3 × 3 weights without stride or dilation take half the time if there are 8 channels or more and enough
    pixels: see `kernels.winograd`. Rounding errors are about twice as large then, and a NaN or an infinity in x
    may reach all results of the tiles of 4 × 4 that meet it.

    Sequences are fastest as images (N, 1, L, C): neighbouring pixels should be neighbouring columns.

    Raises
    ------
    TypeError : an argument is not an ndarray or has another dtype
    ValueError : shapes that do not fit, a stride or dilation below 1, negative padding, a kernel beyond the image
    """
    x, w = check("conv2d", "x", x, X_AXES), check("conv2d", "w", w, W_AXES, x.dtype)
    if b is not None:
        b = check("conv2d", "b", b, "C_out", x.dtype)
        if b.shape != w.shape[3:]:
            raise ValueError(f"conv2d: {show('b', 'C_out', b.shape)} does not fit {show('w', W_AXES, w.shape)}")
    if x.shape[3] != w.shape[2]:
        raise ValueError(
            f"conv2d: x has C={x.shape[3]} in {show('x', X_AXES, x.shape)} but w expects C_in={w.shape[2]} in "
            f"{show('w', W_AXES, w.shape)}"
        )
    out = output_size("conv2d", x.shape[1:3], w.shape[:2], stride, padding, dilation)
    y = empty((x.shape[0], *out, w.shape[3]), x.dtype)
    if addend is not None:
        addend = check("conv2d", "addend", addend, G_AXES, x.dtype)
        if addend.shape not in (y.shape, (len(y), 1, 1, y.shape[3]), (1, 1, 1, y.shape[3])):
            raise ValueError(
                f"conv2d: {show('addend', G_AXES, addend.shape)} must be {y.shape}, or one pixel for each image or all"
            )
    plan = _forward_plan(x.shape, w.shape, stride, padding, dilation, x.dtype)
    _run_correlation(y, x, w, b, addend, plan, w.shape[3], 1)
    return y if addend is None or plan.tiles is not None else computed(np.add, y, addend)


@lru_cache(maxsize=256)
def _forward_plan(
    x_shape: tuple[int, ...],
    w_shape: tuple[int, ...],
    stride: Pair,
    padding: Padding,
    dilation: Pair,
    dtype: np.dtype[Any],
) -> Correlation:
    out = output_size("conv2d", x_shape[1:3], w_shape[:2], stride, padding, dilation)
    rows, cols = (forward_phases(w_shape[a], padding[a][0], dilation[a]) for a in (0, 1))
    return correlation(x_shape[0], x_shape[3], out, stride, (1, 1), (rows, cols), w_shape, dtype)


def conv2d_input_grad(
    g: Array,
    w: Array,
    size: Pair,
    stride: Pair = (1, 1),
    padding: Padding = ((0, 0), (0, 0)),
    dilation: Pair = (1, 1),
) -> Array:
    """`reference.conv2d_input_grad`, compiled: as many FLOPs as `conv2d`, whatever the stride.

    Raises
    ------
    TypeError, ValueError : as `conv2d` does, or ``size`` is not one that `conv2d` would have mapped to g's
    """
    name = "conv2d_input_grad"
    g, w = check(name, "g", g, G_AXES), check(name, "w", w, W_AXES, g.dtype)
    if g.shape[3] != w.shape[3]:
        raise ValueError(f"{name}: {show('g', G_AXES, g.shape)} and {show('w', W_AXES, w.shape)} differ in C_out")
    check_output(name, g, size, w.shape[:2], stride, padding, dilation)
    if 0 in size:
        return zeros((g.shape[0], *size, w.shape[2]), g.dtype)
    plan = _input_grad_plan(g.shape, w.shape, size, stride, padding, dilation, g.dtype)
    met = all(begin < end for _, _, begin, end in plan.phases)  # pixels that no window meets
    y = (empty if met else zeros)((g.shape[0], *size, w.shape[2]), g.dtype)
    _run_correlation(y, g, w, None, None, plan, 1, w.shape[3])
    return y


@lru_cache(maxsize=256)
def _input_grad_plan(
    g_shape: tuple[int, ...],
    w_shape: tuple[int, ...],
    size: Pair,
    stride: Pair,
    padding: Padding,
    dilation: Pair,
    dtype: np.dtype[Any],
) -> Correlation:
    positions = (-(-size[0] // stride[0]), -(-size[1] // stride[1]))
    rows, cols = (input_grad_phases(w_shape[a], stride[a], padding[a][0], dilation[a]) for a in (0, 1))
    return correlation(g_shape[0], g_shape[3], positions, (1, 1), stride, (rows, cols), w_shape, dtype)


def _run_correlation(
    y: Array,
    x: Array,
    w: Array,
    b: Array | None,
    addend: Array | None,
    plan: Correlation,
    k_step: int,
    n_step: int,
) -> None:
    """Fill y with the correlation of x and w, whose elements for one tap lie ``k_step`` and ``n_step`` apart."""
    c_in, c_out, taps = x.shape[3], y.shape[3], plan.taps.size
    width = panel_width(y.dtype, c_out)
    panels = -(-c_out // width)
    bias = zeros((panels * width,), y.dtype)
    if b is not None:
        do(np.copyto, bias[:c_out], b)
    if c_in == 0:
        do(np.copyto, y, bias[:c_out])
    if y.size == 0 or c_in == 0:
        return
    nanoseconds = 2 * y.size * taps * c_in / (len(plan.phases) * 5 * width)
    blocks = plan.blocks
    window, positions = blocks.window_rows * blocks.window_cols, blocks.rows * blocks.cols
    # With few output channels: the products of all taps at once, half as fast as there is more to do with them.
    tap_width = panel_width(y.dtype, c_out * taps)
    tap_panels = -(-c_out * taps // tap_width)
    if plan.tiles is None and 2 * tap_panels * tap_width * window < panels * width * taps * positions:
        packed = empty((tap_panels, c_in, tap_width), y.dtype)
        run(_pack_few_weights, packed.size, packed, w.reshape(-1), plan.weights, k_step, c_out, n_step)
        run(_correlate_few, nanoseconds, y, x, packed, bias, blocks, plan.phases, plan.out_step, plan.taps)
        return
    packed = empty((panels, taps, c_in, width), y.dtype)
    run(_pack_weights, 0.5 * packed.size, packed, w.reshape(-1), plan.weights, k_step, c_out, n_step)
    if plan.tiles is not None:
        biases, added = bias[None], np.empty(0, y.dtype)
        if addend is not None and addend.shape == y.shape:
            added = addend.reshape(-1)
        elif addend is not None:
            biases = computed(np.add, addend[:, 0, 0], bias[:c_out])
        run(correlate_tiles, nanoseconds / 3, y, x, packed, biases, added, plan.tiles)
        return
    run(
        _correlate,
        nanoseconds,
        y,
        x,
        packed,
        bias,
        blocks,
        plan.phases,
        plan.out_step,
        plan.columns,
    )
