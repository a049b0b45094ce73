"""Convolution of channels-last images and its two gradients, all on `multiply_tile` and without a matrix of patches.

**Forward.** In an image padded with zeros, the window of an output pixel meets row i of the kernel in kw * C_in
*neighbouring* numbers, and the weights (kh, kw, C_in, C_out) that multiply them are kw * C_in neighbouring rows of a
matrix with C_out columns. So an output pixel is a sum of kh "runs" of products, and a tile computes ROWS pixels.

**Input gradient.** The same correlation, of the cotangent with the kernel flipped and its channels exchanged. With a
stride s, the input rows ``y = first + s * t`` of one residue meet only the kernel rows i with ``i * dilation = y + top
(mod s)``: one correlation without stride for each pair of residues (a "phase"), and no product with the zeros that a
stride seems to put between the cotangents.

**Weight gradient.** Its row (i, j, c) is a sum over the output pixels of one number of the padded image times the C_out
cotangents there: the same product, summed over pixels. Each of a fixed number of parts of the batch is summed for
itself, then the parts in order, so that the bits do not depend on the number of threads.

The work is divided into blocks, some images or a rectangle of one, whose padded window is copied to a buffer that stays
in the cache.
"""

from functools import lru_cache
from typing import Any

import numpy as np

from kernels.arguments import Array, check, show
from kernels.compilation import jit
from kernels.microkernel import ROWS, multiply_tile, pack_panels, panel_width
from kernels.reference import Padding, Pair
from kernels.threads import run, share
from kernels.windows import (
    Blocks,
    Correlation,
    Offsets,
    Taps,
    bounds,
    copy_window,
    correlation,
    count_blocks,
    divide,
    forward_phases,
    input_grad_phases,
)

X_AXES, W_AXES, G_AXES = "N,H,W,C", "kh,kw,C_in,C_out", "N,H',W',C_out"


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
        copy_window(window, x, blocks, block)
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
                        weights, (panel * taps + begin) * c_in * width, (end - begin) * c_in,
                    )  # fmt: skip
                if not whole:
                    for pixel in range(count):
                        for lane in range(c - at):
                            flat[targets[pixel] + at + lane] = edge[pixel * width + lane]


@jit()
def _correlate_few(
    worker: int, workers: int, y: Array, x: Array, packed: Array, bias: Array, blocks: Blocks, taps: Offsets
) -> None:
    """Write a correlation with few output channels, which would fill only a few columns of a tile.

    Here the columns are the output channels of all taps: each pixel of the window is multiplied by the weights of all
    taps at once, and an output pixel adds up what its taps want. ``packed`` has shape (panels, C_in, width); ``taps``
    counts pixels.
    """
    _, h, w, c = y.shape
    panels, c_in, width = packed.shape
    pixels = blocks.images * blocks.window_rows * blocks.window_cols
    columns = panels * width
    weights = packed.reshape(-1)
    window = np.empty(pixels * c_in, x.dtype)
    products = np.empty(pixels * columns, x.dtype)
    pixel = np.minimum(np.arange(pixels + ROWS), pixels - 1)
    sources, targets = pixel * c_in, pixel * columns
    channels, zeros = np.arange(c_in), np.zeros(width, x.dtype)
    first_block, end_block = share(worker, workers, count_blocks(blocks))
    for block in range(first_block, end_block):
        copy_window(window, x, blocks, block)
        image, image_end, row, row_end, col, col_end = bounds(blocks, block)
        for panel in range(panels):
            for tile in range(0, (image_end - image) * blocks.window_rows * blocks.window_cols, ROWS):
                multiply_tile(
                    products, panel * width, targets, zeros, 0, window, 0, sources, tile, channels, 0,
                    weights, panel * c_in * width, c_in,
                )  # fmt: skip
        for n in range(image, image_end):
            for i in range(row, row_end):
                for j in range(col, col_end):
                    source_row = (n - image) * blocks.window_rows + (i - row) * blocks.step_y
                    source = source_row * blocks.window_cols + (j - col) * blocks.step_x
                    for channel in range(c):
                        total = bias[channel]
                        for tap in range(taps.size):
                            total += products[(source + taps[tap]) * columns + tap * c + channel]
                        y[n, i, j, channel] = total


@jit()
def _sum_over_pixels(
    worker: int, workers: int, sums: Array, x: Array, g: Array, blocks: Blocks, a_rows: Offsets, sum_rows: Offsets
) -> None:
    """For each part of the batch, sum over pixels the numbers at ``a_rows`` from the window, times the pixel of g.

    ``sums`` has shape (parts, rows, panels, width); ``sum_rows`` is where a part's rows start in it.
    """
    parts, rows, panels, width = sums.shape
    c_in, c = x.shape[3], g.shape[3]
    flat = sums.reshape(-1)
    window = np.empty(blocks.images * blocks.window_rows * blocks.window_cols * c_in, x.dtype)
    packed = np.empty((panels, blocks.images * blocks.rows * blocks.cols, width), x.dtype)
    pixels = np.empty(blocks.images * blocks.rows * blocks.cols, np.int64)
    first_part, end_part = share(worker, workers, parts)
    for part in range(first_part, end_part):
        sums[part] = 0
        first_block, end_block = share(part, parts, count_blocks(blocks))
        for block in range(first_block, end_block):
            copy_window(window, x, blocks, block)
            image, image_end, row, row_end, col, col_end = bounds(blocks, block)
            pixel = 0
            for n in range(image, image_end):
                for i in range(row, row_end):
                    source_row = (n - image) * blocks.window_rows + (i - row) * blocks.step_y
                    for j in range(col, col_end):
                        pixels[pixel] = (source_row * blocks.window_cols + (j - col) * blocks.step_x) * c_in
                        for panel in range(panels):
                            for lane in range(min(width, c - panel * width)):
                                packed[panel, pixel, lane] = g[n, i, j, panel * width + lane]
                            for lane in range(c - panel * width, width):
                                packed[panel, pixel, lane] = 0
                        pixel += 1
            for panel in range(panels):
                for tile in range(0, rows, ROWS):
                    multiply_tile(
                        flat, (part * rows * panels + panel) * width, sum_rows, flat, -1,
                        window, 0, a_rows, tile, pixels, 0,
                        packed.reshape(-1), panel * packed.shape[1] * width, pixel,
                    )  # fmt: skip


# ----------------------------------------------------------------------------------------------------------- public


def conv2d(
    x: Array,
    w: Array,
    b: Array | None = None,
    stride: Pair = (1, 1),
    padding: Padding = ((0, 0), (0, 0)),
    dilation: Pair = (1, 1),
) -> Array:
    """`reference.conv2d`, compiled: 2 N H' W' kh kw C_in C_out FLOPs in float32 or float64.

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
    out = _output_size("conv2d", x.shape[1:3], w.shape[:2], stride, padding, dilation)
    y = np.empty((x.shape[0], *out, w.shape[3]), x.dtype)
    plan = _forward_plan(x.shape, w.shape, stride, padding, dilation, x.dtype)
    _run_correlation(y, x, w, b, plan, w.shape[3], 1)
    return y


@lru_cache(maxsize=256)
def _forward_plan(
    x_shape: tuple[int, ...],
    w_shape: tuple[int, ...],
    stride: Pair,
    padding: Padding,
    dilation: Pair,
    dtype: np.dtype[Any],
) -> Correlation:
    out = _output_size("conv2d", x_shape[1:3], w_shape[:2], stride, padding, dilation)
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
    _check_output(name, g, size, w.shape[:2], stride, padding, dilation)
    plan = _input_grad_plan(g.shape, w.shape, size, stride, padding, dilation, g.dtype)
    met = all(begin < end for _, _, begin, end in plan.phases)  # pixels that no window meets
    y = (np.empty if met else np.zeros)((g.shape[0], *size, w.shape[2]), g.dtype)
    _run_correlation(y, g, w, None, plan, 1, w.shape[3])
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
    y: Array, x: Array, w: Array, b: Array | None, plan: Correlation, k_step: int, n_step: int
) -> None:
    """Fill y with the correlation of x and w, whose elements for one tap lie ``k_step`` and ``n_step`` apart."""
    c_in, c_out, taps, width = x.shape[3], y.shape[3], plan.taps.size, panel_width(y.dtype)
    panels, tap_panels = -(-c_out // width), -(-c_out * taps // width)
    bias = np.zeros(panels * width, y.dtype)
    if b is not None:
        bias[:c_out] = b
    if c_in == 0:
        y[...] = bias[:c_out]
    if y.size == 0 or c_in == 0:
        return
    nanoseconds = 2 * y.size * taps * c_in / (len(plan.phases) * 5 * width)
    blocks = plan.blocks
    window, positions = blocks.window_rows * blocks.window_cols, blocks.rows * blocks.cols
    if len(plan.phases) == 1 and 2 * tap_panels * window < panels * taps * positions:
        steps = np.arange(c_in)[:, None, None] * k_step + np.arange(c_out) * n_step
        weights = np.zeros((c_in, tap_panels * width), y.dtype)
        weights[:, : taps * c_out] = w.reshape(-1)[plan.weights[:, None] + steps].reshape(c_in, -1)
        packed = np.ascontiguousarray(weights.reshape(c_in, tap_panels, width).swapaxes(0, 1))
        run(_correlate_few, nanoseconds, y, x, packed, bias, blocks, plan.taps // c_in)
        return
    packed = np.empty((panels, taps, c_in, width), y.dtype)
    run(pack_panels, packed.size, packed, w.reshape(-1), plan.weights, k_step, c_out, n_step)
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
    _check_output(name, g, x.shape[1:3], kernel, stride, padding, dilation)
    (kh, kw), c_in, c_out = kernel, x.shape[3], g.shape[3]
    width = panel_width(x.dtype)

    def cost(rows: int, columns: int, pixels: int) -> int:
        return -(-rows // ROWS) * ROWS * -(-columns // width) * width * pixels

    # With few output channels most of a tile's columns would be empty. Without a stride, the roles can be exchanged:
    # input pixel q and kernel element i meet in output q + before - i * dilation.
    exchanged = stride == (1, 1) and cost(kh * kw * c_out, c_in, x.shape[1] * x.shape[2]) < cost(
        kh * kw * c_in, c_out, g.shape[1] * g.shape[2]
    )
    if exchanged:
        phases = [input_grad_phases(kernel[a], 1, padding[a][0], dilation[a])[0] for a in (0, 1)]
        return _weight_sums(g, x, phases, (1, 1), kernel).swapaxes(2, 3).copy()
    phases = [forward_phases(kernel[a], padding[a][0], dilation[a])[0] for a in (0, 1)]
    return _weight_sums(x, g, phases, stride, kernel)


def _weight_sums(x: Array, g: Array, taps: list[Taps], step: Pair, kernel: Pair) -> Array:
    """For each kernel element and channel of x, the sum over g's pixels of what the element meets in x times g."""
    (n, height, columns, c_out), c_in, width = g.shape, x.shape[3], panel_width(g.dtype)
    top, left = taps[0][0][0], taps[1][0][0]
    reach = (taps[0][-1][0] - taps[0][0][0] + 1, taps[1][-1][0] - taps[1][0][0] + 1)
    if x.size == 0 or g.size == 0:
        return np.zeros((*kernel, c_in, c_out), g.dtype)
    blocks = divide(n, (height, columns), c_in, step, (top, left), reach, g.itemsize)
    row_of = {i: offset - top for offset, i in taps[0]}
    col_of = {j: offset - left for offset, j in taps[1]}
    rows = np.array(
        [
            (row_of[i] * blocks.window_cols + col_of[j]) * c_in + c
            for i in range(kernel[0])
            for j in range(kernel[1])
            for c in range(c_in)
        ]
    )
    panels = -(-c_out // width)
    parts = max(4, min(32, 2**21 // (rows.size * panels * width * g.itemsize)))
    sums = np.empty((parts, rows.size, panels, width), g.dtype)
    pad = (0, ROWS)  # the last tile repeats the last row
    run(
        _sum_over_pixels, 2 * rows.size * g.size / (5 * width), sums, x, g, blocks,
        np.pad(rows, pad, mode="edge"), np.pad(np.arange(rows.size) * panels * width, pad, mode="edge"),
    )  # fmt: skip
    return np.ascontiguousarray(sums.sum(axis=0).reshape(rows.size, -1)[:, :c_out]).reshape(*kernel, c_in, c_out)


def _output_size(
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


def _check_output(
    name: str, g: Array, size: tuple[int, ...], kernel: tuple[int, ...], stride: Pair, padding: Padding, dilation: Pair
) -> None:
    out = _output_size(name, size, kernel, stride, padding, dilation)
    if g.shape[1:3] != out:
        raise ValueError(
            f"{name}: g has (H',W')={g.shape[1:3]} but an input of (H,W)={tuple(size)} gives (H',W')={out} with "
            f"kernel={tuple(kernel)}, stride={stride}, padding={padding}, dilation={dilation}"
        )
