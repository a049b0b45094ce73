"""Which arguments each public kernel is tried with: one entry for each, beside nothing else to write for a new kernel.

Arguments follow from *settings*, such as sizes, which hypothesis draws, and from random numbers. Sizes lie around what
a kernel divides its work by, where its loops begin and end.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from kernels import activation, affine, coupling, microkernel, normalization, optimizer, product, reduction, reference
from tests.kernels import minimal_filtering

Numbers = Callable[..., np.ndarray]
"""Normal numbers of a shape and, unless it is 1, a scale."""


@dataclass(frozen=True)
class Case:
    arguments: Callable[..., tuple[Any, ...]]
    """Of numbers and settings."""
    settings: SearchStrategy[tuple[Any, ...]]
    large: tuple[tuple[Any, ...], ...] = ()
    """Settings that are always tried: work for several threads, and paths that small sizes do not take."""
    roundings: float = 16
    """See `check_kernel`; 0 for kernels that only move or choose numbers."""
    scale: Callable[..., Any] | None = None
    """See `check_kernel`."""
    in_place: tuple[int, ...] = ()
    """The arguments that the kernel changes instead of returning something."""


def sides(*tiles: int, least: int = 0) -> SearchStrategy[int]:
    """Sizes: none, one, primes, and those around some tiles."""
    around = {tile + d for tile in (4, *tiles) for d in (-1, 0, 1)}
    return st.sampled_from(sorted(n for n in {0, 1, 2, 7, 13, 31} | around if n >= least))


pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))
kinds = st.sampled_from(reference.ACTIVATIONS)
alphas = st.sampled_from([0.0, 0.25, 1.5])  # numbers of float32, so that nothing rounds them


def elements(block: int) -> SearchStrategy[tuple[int, ...]]:
    """Shapes of any number of axes, or of about so many elements."""
    few = st.lists(st.integers(0, 9), max_size=4).map(tuple)
    return few | sides(8, block).map(lambda n: (n,))


# --------------------------------------------------------------------------------------------------- activation, linear


def activate(normal: Numbers, shape: tuple[int, ...], kind: str, alpha: float, scale: float) -> tuple:
    return normal(*shape, scale=scale), kind, alpha


def activate_grad(normal: Numbers, shape: tuple[int, ...], kind: str, alpha: float, scale: float) -> tuple:
    return normal(*shape), np.asarray(reference.activate(normal(*shape, scale=scale), kind, alpha)[1]), kind, alpha


def gated_tanh(normal: Numbers, m: int, c: int, scale: float) -> tuple:
    return (normal(m, 2 * c, scale=scale),)


def gated_tanh_grad(normal: Numbers, m: int, c: int, scale: float) -> tuple:
    return normal(m, c), reference.gated_tanh(*gated_tanh(normal, m, c, scale))[1]


def gated_tanh_grad_scale(g: Any, saved: Any) -> Any:
    """The distance of tanh and σ from 1, to which they may be near."""
    return np.abs(np.tile(g, 2))


gates = st.tuples(sides(), sides(8, 16), st.sampled_from([0.1, 1.0, 30.0]))
activations = st.tuples(elements(activation.BLOCK), kinds, alphas, st.sampled_from([0.1, 1.0, 5.0, 40.0]))
many_activations = tuple(((5 * activation.BLOCK + 3,), kind, 0.25, 3.0) for kind in reference.ACTIVATIONS)


def sinusoids(normal: Numbers, m: int, f: int, scale: float) -> tuple:
    return normal(m), normal(f, scale=scale)


def sinusoids_scale(x: Any, frequencies: Any) -> Any:
    """The rounding of an angle, beside which a sine may be small."""
    return 1 + np.tile(np.abs(np.multiply.outer(x, frequencies)), 2)


def bounded_affine(normal: Numbers, m: int, c: int, scale: float, bound: float, inverse: bool) -> tuple:
    return normal(m, c), normal(m, 2 * c, scale=scale), bound, inverse


def bounded_affine_scale(x: Any, theta: Any, bound: float, inverse: bool) -> Any:
    """The log-scales, which may cancel while their slopes vanish."""
    log_scale = bound * np.tanh(theta[:, : x.shape[1]] / bound)
    return np.concatenate([np.zeros_like(x), np.abs(log_scale).sum(1, keepdims=True)], axis=1)


def bounded_affine_grad(normal: Numbers, m: int, c: int, *settings: Any) -> tuple:
    return normal(m, c + 1), *bounded_affine(normal, m, c, *settings)


def bounded_affine_grad_scale(g: Any, x: Any, theta: Any, bound: float, inverse: bool) -> tuple[Any, Any]:
    """The distance of tanh from 1, to which it may be near."""
    r, t = np.split(theta, 2, axis=1)
    log_scale = (-bound if inverse else bound) * np.tanh(r / bound)
    to_log_scale = np.abs(g[:, :-1] * (x - inverse * t)) * np.exp(log_scale) + np.abs(g[:, -1:])
    return 0.0, np.concatenate([to_log_scale, np.zeros_like(t)], axis=1)


couplings = st.tuples(
    sides(coupling.BLOCK),
    sides(8, 16),
    st.sampled_from([0.1, 1.0, 30.0]),
    st.sampled_from([0.5, 3.0]),  # numbers of float32
    st.booleans(),
)
many_rows = tuple((20 * coupling.BLOCK + 3, 3, 1.0, 3.0, inverse) for inverse in (False, True))


def linear(normal: Numbers, m: int, k: int, n: int, kind: str, alpha: float, with_bias: bool) -> tuple:
    w = normal(k, n, scale=max(k, 1) ** -0.5)  # or all activations were saturated
    return normal(m, k), w, normal(n) if with_bias else None, kind, alpha


def linear_grad(normal: Numbers, m: int, k: int, n: int, kind: str, alpha: float, needs: tuple[bool, ...]) -> tuple:
    x, w, b, _, _ = linear(normal, m, k, n, kind, alpha, True)
    return normal(m, n), x, w, reference.linear(x, w, b, kind, alpha)[1], kind, alpha, needs


products = (
    (700, 300, 130),  # several blocks of rows, two passes over several groups of panels, the last panel ragged
    (40, 64, 800),
    (64, 32, 128),
    (25, 4 * product.DEPTH + 1, 33),
    (200, 1, 64),
    (70, 64, 2),
    (200, 33, 1),
    (1, 40, 40),
    (affine.PARTS * reduction.PART + 3, 24, microkernel.panel_width(np.dtype(np.float32))),  # g is a panel already
)
some_kinds = ("identity", "silu", "elu", "relu", "gelu", "softplus", "leaky_relu", "tanh", "identity")
matrices = (sides(microkernel.ROWS, reduction.FEW), sides(8, 16, product.DEPTH), sides(affine.FEW, 8, 16, 32))

# ---------------------------------------------------------------------------------------------------------- convolution


def conv2d(normal: Numbers, n: int, size: tuple, c_in: int, c_out: int, kernel: tuple, *geometry: Any) -> tuple:
    bias = normal(c_out) if (n + c_out) % 4 else None
    return normal(n, *size, c_in), normal(*kernel, c_in, c_out), bias, *geometry


def conv2d_with_addend(normal: Numbers, *settings: Any) -> tuple:
    """None, one pixel for each image, one for all, or an image for each."""
    args = conv2d(normal, *settings)
    n, h, w, c = reference.conv2d(*args).shape
    shape = (None, (n, 1, 1, c), (1, 1, 1, c), (n, h, w, c))[(n + settings[2]) % 4]
    return *args, None if shape is None else normal(*shape)


def conv2d_input_grad(normal: Numbers, *settings: Any) -> tuple:
    x, w, b, *geometry = conv2d(normal, *settings)
    return normal(*reference.conv2d(x, w, b, *geometry).shape), w, settings[1], *geometry


def conv2d_weight_grad(normal: Numbers, *settings: Any) -> tuple:
    x, w, b, *geometry = conv2d(normal, *settings)
    return x, normal(*reference.conv2d(x, w, b, *geometry).shape), settings[4], *geometry


@st.composite
def convolutions(draw: DrawFn) -> tuple:
    """Every kind of geometry, with just enough pixels or a few more: what `conv2d` above takes."""
    kernel, stride, dilation = (draw(st.tuples(st.integers(1, n), st.integers(1, n))) for n in (4, 3, 3))
    padding = draw(st.tuples(*2 * [st.tuples(st.integers(0, 4), st.integers(0, 4))]))
    spare = draw(st.tuples(st.integers(0, 8), st.integers(0, 8)))
    size = tuple(max(0, dilation[a] * (kernel[a] - 1) + 1 - sum(padding[a])) + spare[a] for a in (0, 1))
    channels = st.integers(1, 6) | st.sampled_from([0, 8, 16, 17, 32, 35])
    return draw(st.integers(0, 3)), size, draw(channels), draw(channels), kernel, stride, padding, dilation


@st.composite
def tiled_convolutions(draw: DrawFn) -> tuple:
    """Those that `kernels.winograd` computes, in float32."""
    padding = draw(st.tuples(*2 * [st.tuples(st.integers(0, 3), st.integers(0, 3))]))
    out = draw(st.sampled_from([(3, 3), (4, 4), (6, 4), (7, 8), (9, 7), (3, 12), (15, 2), (13, 11)]))
    size = tuple(max(1, out[a] + 2 - sum(padding[a])) for a in (0, 1))
    channels = st.sampled_from([8, 13, 16, 17, 32, 35])
    n = draw(st.integers(33, 40)) // (-(-out[0] // 4) * -(-out[1] // 4)) + 1
    return n, size, draw(channels), draw(channels), (3, 3), (1, 1), padding, (1, 1)


def same(size: tuple[int, int], n: int = 2, c_in: int = 3, c_out: int = 5, stride: int = 1) -> tuple:
    """A kernel of 3 × 3 that keeps the size (but for the stride)."""
    return n, size, c_in, c_out, (3, 3), (stride, stride), ((1, 1), (1, 1)), (1, 1)


geometries = (
    same((7, 7), n=9, c_in=20, c_out=32),  # several images in a block, the last block not full
    same((70, 90), n=1),  # several blocks in an image
    same((3, 2000), n=1, c_in=2),  # several blocks in a row
    same((28, 29), c_in=1, c_out=32),
    same((28, 29), c_in=32, c_out=1),
    same((28, 27), n=3, c_in=16, c_out=1),  # a single vector of columns
    same((29, 28), n=5, c_in=1, c_out=32, stride=2),  # several phases of few output channels, in its input gradient
    same((28, 29), c_in=8, c_out=16, stride=2),
    (2, (1, 300), 4, 8, (1, 2), (1, 1), ((0, 0), (64, 0)), (1, 64)),  # causal and dilated
    (1, (2, 2), 3, 3, (4, 4), (1, 1), ((1, 1), (2, 1)), (1, 1)),  # a kernel larger than the image
    (2, (0, 5), 3, 4, (2, 1), (1, 1), ((1, 2), (0, 0)), (1, 1)),  # nothing but padding
    (2, (28, 29), 4, 4, (1, 1), (3, 5), ((0, 0), (0, 0)), (1, 1)),  # pixels that no window meets
    same((28, 28), n=5, c_in=32, c_out=16),  # from here on as `tiled_convolutions`: whole tiles
    same((16, 15), n=24, c_in=32, c_out=40),  # several blocks in a part of the batch
    same((7, 7), n=33, c_in=17, c_out=35),  # several images in a block, the last block not full
    same((14, 150), n=1, c_in=70, c_out=40),  # several blocks in a row
)

# ------------------------------------------------------------------------------------------------ normalization, logits


def group_norm(
    normal: Numbers, shape: tuple, groups: int, size: int, offset: float, eps: float, activation: str
) -> tuple:
    channels = groups * size
    x = normal(*shape, channels)
    return x + x.dtype.type(offset), groups, normal(channels), normal(channels), eps, activation


def group_norm_grad(normal: Numbers, shape: tuple, groups: int, *rest: Any) -> tuple:
    x, _, weight, bias, eps, activation = group_norm(normal, shape, groups, *rest)
    _, *statistics = reference.group_norm(x, groups, weight, bias, eps)
    return normal(*x.shape), x, groups, weight, bias, *statistics, activation


def layer_norm(normal: Numbers, m: int, c: int, offset: float, eps: float) -> tuple:
    x, _, *rest, _ = group_norm(normal, (m,), 1, c, offset, eps, "identity")
    return x, *rest


def layer_norm_grad(normal: Numbers, *settings: Any) -> tuple:
    x, weight, bias, eps = layer_norm(normal, *settings)
    return normal(*x.shape), x, weight, *reference.layer_norm(x, weight, bias, eps)[1:]


def by_channel(statistic: Any, x: Any) -> Any:
    """A statistic of each group, (N, G), beside the numbers of x that it belongs to."""
    channels = np.repeat(statistic, x.shape[-1] // statistic.shape[1], axis=1)
    return channels.reshape(len(x), *[1] * (x.ndim - 2), x.shape[-1])


STEEPEST = {"identity": 1.0, "silu": 1.1}
"""What bounds an activation's slope, and so how much larger a rounding before it is afterwards."""


def group_norm_scale(x: Any, groups: int, weight: Any, bias: Any, eps: float, activation: str = "identity") -> tuple:
    """The mean, which is subtracted after it was rounded, also where y is ±1 for any two numbers."""
    _, mean, rstd = reference.group_norm(x, groups, weight, bias, eps)
    return STEEPEST[activation] * np.abs(weight * by_channel(mean * rstd, x)), 0.0, 0.0


def group_norm_grad_scale(
    g: Any, x: Any, groups: int, weight: Any, bias: Any, mean: Any, rstd: Any, activation: str = "identity"
) -> tuple:
    """What a group of one number cancels: its cotangent, less the mean of all, is zero whatever it is."""
    return STEEPEST[activation] * np.abs(g * weight) * by_channel(rstd, x), 0.0, 0.0


def layer_norm_scale(x: Any, weight: Any, bias: Any, eps: float) -> tuple:
    return group_norm_scale(x, 1, weight, bias, eps)


def layer_norm_grad_scale(g: Any, x: Any, weight: Any, mean: Any, rstd: Any) -> tuple:
    return group_norm_grad_scale(g, x, 1, weight, None, mean[:, None], rstd[:, None])


offsets = st.sampled_from([0.0, 0.5, -30.0]), st.sampled_from([1e-6, 1e-2])
images = st.tuples(st.integers(0, 4), st.integers(1, 6)) | st.tuples(*[st.integers(1, 5)] * 3) | st.tuples(sides())
group_sizes = st.integers(1, 4), sides(8, least=1).filter(lambda n: n < 20)
norm_settings = st.tuples(images, *group_sizes, *offsets, st.sampled_from(sorted(STEEPEST)))
large_norms = tuple(((9, 21, 20), 4, 6, 1.0, 1e-5, activation) for activation in STEEPEST)
rows_and_channels = sides(8, normalization.ROWS), sides(8, 64, least=1)


def rows(normal: Numbers, m: int, c: int, scale: float) -> tuple:
    return (normal(m, c, scale=scale),)


def softmax_grad(normal: Numbers, m: int, c: int, scale: float) -> tuple:
    return normal(m, c), np.exp(-np.abs(normal(m, c, scale=scale)))


def log_softmax_grad(normal: Numbers, m: int, c: int, scale: float) -> tuple:
    return normal(m, c), -np.abs(normal(m, c, scale=scale))


def labels(m: int, c: int) -> np.ndarray:
    """Numbers below c, of which most occur."""
    return (np.arange(m) * 7 + np.arange(m) // c) % c


def cross_entropy(normal: Numbers, m: int, c: int, scale: float) -> tuple:
    return normal(m, c, scale=scale), labels(m, c)


def cross_entropy_scale(x: Any, labels: Any) -> tuple:
    """What the logarithm, of a sum that may be near 1, and the distance from the maximum have added up."""
    return 1.0, 0.0, 1.0


def cross_entropy_grad(normal: Numbers, *settings: Any) -> tuple:
    x, labels = cross_entropy(normal, *settings)
    return normal(len(x)), x, labels, *reference.cross_entropy(x, labels)[1:]


def cross_entropy_grad_scale(g: Any, x: Any, labels: Any, top: Any, log_sum: Any) -> Any:
    """At the label 1 is subtracted, which a probability of nearly 1 cancels."""
    at_label = np.zeros_like(x)
    at_label[np.arange(len(x)), labels] = np.abs(g)
    return at_label


def binary_cross_entropy(normal: Numbers, shape: tuple[int, ...], scale: float) -> tuple:
    return normal(*shape, scale=scale), reference.activate(normal(*shape, scale=scale), "sigmoid")[0]


def log_softmax_grad_scale(g: Any, y: Any) -> Any:
    """Both terms of the difference, which cancel where a probability is nearly 1."""
    return np.abs(g) + np.exp(y) * np.abs(g).sum(axis=-1, keepdims=True)


logits = Case(rows, st.tuples(*rows_and_channels, st.sampled_from([0.1, 1.0, 30.0])), ((301, 101, 3.0),))
logarithms = replace(logits, scale=lambda x: 1.0)  # the logarithm of a sum of 1 and more that may be small
logits_grads = st.tuples(rows_and_channels[0], sides(8, 64), st.sampled_from([0.1, 1.0, 30.0]))

# --------------------------------------------------------------------------------------------------- pooling, optimizer


def pooled(normal: Numbers, n: int, h: int, w: int, c: int, size: tuple[int, int]) -> tuple:
    return normal(n, h * size[0], w * size[1], c), size


def ties(normal: Numbers, *settings: Any) -> tuple:
    x, size = pooled(normal, *settings)
    return np.round(x), size


def max_pool2d_grad(normal: Numbers, *settings: Any) -> tuple:
    x, size = ties(normal, *settings)
    y = reference.max_pool2d(x, size)
    return normal(*y.shape), x, y, size


def upsample2d(normal: Numbers, n: int, h: int, w: int, c: int, scale: tuple[int, int]) -> tuple:
    return normal(n, h, w, c), scale


bands = st.tuples(st.integers(0, 3), st.integers(0, 4), st.integers(0, 4), sides(8, 16), pairs)
many_bands = ((5, 14, 7, 21, (3, 2)),)


def adam(normal: Numbers, sizes: list[int], steps: list[int], lr: float, *rest: float) -> tuple:
    p, g, m, v = (normal(sum(sizes)) for _ in range(4))
    steps = np.resize(np.array(steps), len(sizes))
    return p, g, m, v * v, np.cumsum(sizes, dtype=np.int64), steps, np.array([lr, *rest])


def adam_scale(p: Any, g: Any, m: Any, v: Any, ends: Any, steps: Any, settings: Any) -> tuple:
    """``m + (1 - beta1) (g - m)`` cancels most of m if beta1 is small; and p is changed by a multiple of that."""
    lr, beta1, beta2, eps, _ = settings
    step = np.repeat(steps, np.diff(ends, prepend=0))
    root = np.sqrt((beta2 * v + (1 - beta2) * g * g) / (1 - beta2**step))
    change = lr * (abs(g) + abs(m)) / ((1 - beta1**step) * (root + eps))
    return np.where(step > 0, change, 0), abs(g) + abs(m), 0.0


adam_settings = st.tuples(
    st.lists(sides(8, optimizer.BLOCK), max_size=4),
    st.lists(st.sampled_from([0, 1, 2, 10_000]), min_size=1, max_size=4),
    st.floats(1e-5, 1),
    st.floats(0, 0.99),
    st.floats(0.5, 0.9999),
    st.floats(1e-8, 1e-2),
    st.floats(0, 0.1),
)

CASES = {
    "activate": Case(activate, activations, many_activations, roundings=6),
    "activate_grad": Case(activate_grad, activations, many_activations, roundings=6),
    "gated_tanh": Case(gated_tanh, gates, ((301, 40, 3.0),)),
    "gated_tanh_grad": Case(gated_tanh_grad, gates, ((301, 40, 3.0),), scale=gated_tanh_grad_scale),
    "sinusoids": Case(
        sinusoids,
        st.tuples(sides(), sides(8, 16), st.sampled_from([0.1, 100.0, 1e6])),
        ((256, 64, 100.0),),
        scale=sinusoids_scale,
    ),
    "bounded_affine": Case(bounded_affine, couplings, many_rows, scale=bounded_affine_scale),
    "bounded_affine_grad": Case(bounded_affine_grad, couplings, many_rows, scale=bounded_affine_grad_scale),
    "linear": Case(
        linear,
        st.tuples(*matrices, kinds, alphas, st.booleans()),
        tuple((*shape, kind, 0.5, True) for shape, kind in zip(products, some_kinds, strict=True)),
    ),
    "linear_grad": Case(
        linear_grad,
        st.tuples(*matrices, kinds, alphas, st.tuples(*[st.booleans()] * 3)),
        (
            *((*shape, kind, 0.5, (True,) * 3) for shape, kind in zip(products, some_kinds, strict=True)),
            (2 * affine.LEAST + 3, 2, 40, "relu", 0.5, (True,) * 3),
            (2 * affine.LEAST + 3, 40, 2, "identity", 0.5, (True,) * 3),
            (affine.PARTS * reduction.PART + 3, 24, 20, "relu", 0.5, (False, True, False)),
            (affine.PARTS * reduction.PART, 20, 24, "silu", 0.5, (True, False, True)),
        ),
    ),
    "conv2d": Case(
        conv2d_with_addend,
        convolutions() | tiled_convolutions(),
        geometries,
        scale=minimal_filtering.conv2d_scale,
    ),
    "conv2d_input_grad": Case(
        conv2d_input_grad,
        convolutions() | tiled_convolutions(),
        geometries,
        scale=minimal_filtering.conv2d_input_grad_scale,
    ),
    "conv2d_weight_grad": Case(
        conv2d_weight_grad,
        convolutions() | tiled_convolutions(),
        geometries,
        scale=minimal_filtering.conv2d_weight_grad_scale,
    ),
    "group_norm": Case(group_norm, norm_settings, large_norms, scale=group_norm_scale),
    "group_norm_grad": Case(group_norm_grad, norm_settings, large_norms, scale=group_norm_grad_scale),
    "layer_norm": Case(
        layer_norm, st.tuples(*rows_and_channels, *offsets), ((501, 24, 1.0, 1e-5),), scale=layer_norm_scale
    ),
    "layer_norm_grad": Case(
        layer_norm_grad, st.tuples(*rows_and_channels, *offsets), ((501, 24, 1.0, 1e-5),), scale=layer_norm_grad_scale
    ),
    "softmax": logits,
    "log_softmax": logarithms,
    "softmax_grad": Case(softmax_grad, logits_grads, ((301, 101, 3.0),)),
    "log_softmax_grad": Case(log_softmax_grad, logits_grads, ((301, 101, 3.0),), scale=log_softmax_grad_scale),
    "cross_entropy": replace(logits, arguments=cross_entropy, scale=cross_entropy_scale),
    "cross_entropy_grad": replace(logits, arguments=cross_entropy_grad, scale=cross_entropy_grad_scale),
    "binary_cross_entropy": Case(
        binary_cross_entropy,
        st.tuples(elements(activation.BLOCK), st.sampled_from([0.1, 1.0, 30.0])),
        (((5 * activation.BLOCK + 3,), 3.0),),
    ),
    "sum_rows": Case(
        lambda normal, *shape: (normal(*shape),),
        st.tuples(st.integers(0, 3), sides(reduction.FEW), sides(8)),
        ((1, 1601, 40), (3, 1601, 40)),
    ),
    "sum_columns": Case(
        lambda normal, *shape: (normal(*shape),), st.tuples(sides(8), sides(8, reduction.PIECE)), ((701, 1301),)
    ),
    "norm": Case(
        lambda normal, size: (normal(size),), st.tuples(sides(8, reduction.BLOCK)), ((5 * reduction.BLOCK + 3,),)
    ),
    "sum_pool2d": Case(pooled, bands, many_bands),
    "upsample2d": Case(upsample2d, bands, many_bands, roundings=0),
    "max_pool2d": Case(ties, bands, many_bands, roundings=0),
    "max_pool2d_grad": Case(max_pool2d_grad, bands, many_bands, roundings=2),
    "adam": Case(
        adam,
        adam_settings,
        (([5 * optimizer.BLOCK + 3, 7, 0, 2 * optimizer.BLOCK, 1], [3, 0, 9, 1, 2], 1e-2, 0.9, 0.999, 1e-8, 0.01),),
        scale=adam_scale,
        in_place=(0, 2, 3),
    ),
}
