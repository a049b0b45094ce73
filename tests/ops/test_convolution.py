"""Convolutions are what their definitions say: gradients alone would agree with a convolution of other settings too."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygen as tg
from tinygen.testing import assert_close, rngs

Array = np.ndarray
Pair = tuple[int, int]
sizes = st.tuples(st.integers(1, 3), st.integers(1, 3))
spans = st.tuples(st.integers(0, 2), st.integers(0, 2))


def taps(x: Array, w: Array, stride: Pair, pads: tuple[Pair, Pair], dilation: Pair) -> Array:
    """y[i, j] = Σ over (p, q) of x[i s + p d, j s' + q d'] w[p, q], with zeros around x."""
    x = np.pad(x, ((0, 0), *pads, (0, 0)))
    (kh, kw), (sh, sw), (dh, dw) = w.shape[:2], stride, dilation
    rows = range(0, x.shape[1] - dh * (kh - 1), sh)
    columns = range(0, x.shape[2] - dw * (kw - 1), sw)
    windows = [[x[:, i : i + dh * (kh - 1) + 1 : dh, j : j + dw * (kw - 1) + 1 : dw] for j in columns] for i in rows]
    return np.einsum("ijnpqc,pqcd->nijd", np.array(windows), w)


@settings(max_examples=20)
@given(kernel=sizes, stride=sizes, dilation=sizes, pads=st.tuples(spans, spans), rng=rngs())
def test_conv2d(kernel: Pair, stride: Pair, dilation: Pair, pads: tuple[Pair, Pair], rng: np.random.Generator) -> None:
    x, w, b = (rng.standard_normal(shape) for shape in ((2, 7, 8, 2), (*kernel, 2, 3), (3,)))
    assert_close(tg.conv2d(x, w, b, stride, pads, dilation), taps(x, w, stride, pads, dilation) + b, error=1e-13)


@pytest.mark.parametrize("causal", [False, True])
@settings(max_examples=20)
@given(k=st.integers(1, 3), stride=st.integers(1, 3), dilation=st.integers(1, 3), padding=spans, rng=rngs())
def test_conv1d(causal: bool, k: int, stride: int, dilation: int, padding: Pair, rng: np.random.Generator) -> None:
    x, w, b = (rng.standard_normal(shape) for shape in ((2, 8, 2), (k, 2, 3), (3,)))
    before = padding[0] + causal * dilation * (k - 1)
    expected = taps(x[:, None], w[None], (1, stride), ((0, 0), (before, padding[1])), (1, dilation))[:, 0] + b
    assert_close(tg.conv1d(x, w, b, stride, padding, dilation, causal), expected, error=1e-13)


@settings(max_examples=20)
@given(kernel=sizes, stride=sizes, extra=spans, rng=rngs())
def test_conv_transpose2d(kernel: Pair, stride: Pair, extra: Pair, rng: np.random.Generator) -> None:
    """Each entry of x adds the kernel, times itself, at the place it is spread to; padding cuts the sides off."""
    extra = (extra[0] % stride[0], extra[1] % stride[1])
    x, w, b = (rng.standard_normal(shape) for shape in ((2, 3, 4, 2), (*kernel, 2, 3), (3,)))
    whole = np.zeros((2, *((n - 1) * s + k + e for n, s, k, e in zip((3, 4), stride, kernel, extra, strict=True)), 3))
    for i, j in np.ndindex(3, 4):
        top, left = i * stride[0], j * stride[1]
        whole[:, top : top + kernel[0], left : left + kernel[1]] += np.einsum("nc,pqcd->npqd", x[:, i, j], w)
    assert_close(tg.conv_transpose2d(x, w, b, stride, 0, extra), whole + b, error=1e-13)
    pads = tuple(int(rng.integers(0, (n - 1) // 2 + 1)) for n in whole.shape[1:3])
    cut = whole[:, pads[0] : whole.shape[1] - pads[0], pads[1] : whole.shape[2] - pads[1]]
    assert_close(tg.conv_transpose2d(x, w, b, stride, pads, extra), cut + b, error=1e-13)
