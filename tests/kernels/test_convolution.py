from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kernels import convolution, reference, threads, weight_gradient
from tests.kernels.support import (
    assert_close,
    assert_same_bits_on_all_thread_counts,
    dtypes,
    lay_out,
    layouts,
    normal,
    seeds,
)


class Case(NamedTuple):
    n: int
    size: tuple[int, int]
    c_in: int
    c_out: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[tuple[int, int], tuple[int, int]]
    dilation: tuple[int, int]

    @property
    def geometry(self):
        return self.stride, self.padding, self.dilation

    def draw(self, rng, dtype):
        """x, w, b and a cotangent."""
        x = normal(rng, (self.n, *self.size, self.c_in), dtype)
        w = normal(rng, (*self.kernel, self.c_in, self.c_out), dtype)
        b = normal(rng, (self.c_out,), dtype)
        return x, w, b, normal(rng, reference.conv2d(x, w, b, *self.geometry).shape, dtype)


@st.composite
def cases(draw):
    """Every kind of geometry, with just enough pixels or a few more."""
    pair = lambda least, most: draw(st.tuples(st.integers(least, most), st.integers(least, most)))  # noqa: E731
    kernel, stride, dilation = pair(1, 4), pair(1, 3), pair(1, 3)
    padding = (pair(0, 4), pair(0, 4))
    spare = pair(0, 8)
    size = tuple(max(0, dilation[a] * (kernel[a] - 1) + 1 - sum(padding[a])) + spare[a] for a in (0, 1))
    channels = st.integers(1, 6) | st.sampled_from([0, 8, 16, 17, 32, 35])
    return Case(draw(st.integers(0, 3)), size, draw(channels), draw(channels), kernel, stride, padding, dilation)


def _same(size, n=2, c_in=3, c_out=5, k=3, stride=1):
    """A kernel that keeps the size (but for the stride)."""
    return Case(n, size, c_in, c_out, (k, k), (stride, stride), (((k - 1) // 2, k // 2),) * 2, (1, 1))


SPECIAL = [
    _same((7, 7), n=9, c_in=20, c_out=32),  # several images in a block, the last block not full
    _same((70, 90), n=1),  # several blocks in an image
    _same((3, 2000), n=1, c_in=2),  # several blocks in a row
    _same((28, 29), c_in=1, c_out=32),
    _same((28, 29), c_in=32, c_out=1),
    _same((28, 29), c_in=8, c_out=16, stride=2),
    Case(2, (1, 300), 4, 8, (1, 2), (1, 1), ((0, 0), (64, 0)), (1, 64)),  # causal and dilated
    Case(1, (2, 2), 3, 3, (4, 4), (1, 1), ((1, 1), (2, 1)), (1, 1)),  # a kernel larger than the image
    Case(2, (0, 5), 3, 4, (2, 1), (1, 1), ((1, 2), (0, 0)), (1, 1)),  # nothing but padding
    Case(2, (28, 29), 4, 4, (1, 1), (3, 5), ((0, 0), (0, 0)), (1, 1)),  # pixels that no window meets
]

special = pytest.mark.parametrize("case", SPECIAL, ids=str)


def _check_against_reference(case, dtype, layout, seed):
    x, w, b, g = case.draw(np.random.default_rng(seed), dtype)
    wide = [a.astype(np.float64) for a in (x, w, b, g)]
    sizes = [np.abs(a) for a in wide]
    eps = np.finfo(dtype).eps

    def compare(actual, kernel, arguments, magnitudes, terms):
        """A sum of K products has an error below about K eps times the sum of their magnitudes; the reference's too."""
        expected, magnitude = kernel(*arguments), kernel(*magnitudes)
        assert actual.dtype == dtype and actual.flags.c_contiguous
        assert_close(actual, expected, (2 * terms + 4) * eps * magnitude)

    geometry, (kh, kw) = case.geometry, case.kernel
    x, w, b, g = (lay_out(a, layout) for a in (x, w, b, g))
    compare(
        convolution.conv2d(x, w, b, *geometry),
        reference.conv2d,
        (*wide[:3], *geometry),
        (*sizes[:3], *geometry),
        kh * kw * case.c_in,
    )
    compare(
        convolution.conv2d_input_grad(g, w, case.size, *geometry),
        reference.conv2d_input_grad,
        (wide[3], wide[1], case.size, *geometry),
        (sizes[3], sizes[1], case.size, *geometry),
        kh * kw * case.c_out,
    )
    compare(
        weight_gradient.conv2d_weight_grad(x, g, case.kernel, *geometry),
        reference.conv2d_weight_grad,
        (wide[0], wide[3], case.kernel, *geometry),
        (sizes[0], sizes[3], case.kernel, *geometry),
        g.shape[0] * g.shape[1] * g.shape[2],
    )


@given(cases(), dtypes, layouts, seeds)
def test_equal_the_reference(case, dtype, layout, seed):
    _check_against_reference(case, dtype, layout, seed)


@special
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_special_geometry_equals_the_reference(case, dtype):
    _check_against_reference(case, dtype, "C", 1)


@given(cases(), dtypes, seeds)
def test_no_bias_is_a_bias_of_zeros(case, dtype, seed):
    x, w, b, _ = case.draw(np.random.default_rng(seed), dtype)
    without = convolution.conv2d(x, w, None, *case.geometry)
    np.testing.assert_array_equal(without, convolution.conv2d(x, w, np.zeros_like(b), *case.geometry))


@special
def test_bits_depend_neither_on_threads_nor_on_layout(case, monkeypatch):
    monkeypatch.setattr(threads, "GRAIN", 1e-3)  # so that even small work is divided
    x, w, b, g = case.draw(np.random.default_rng(2), np.float32)
    for layout in ("C", "Fortran"):
        arrays = [lay_out(a, layout) for a in (x, w, b, g)]

        def compute(x, w, b, g):
            return (
                convolution.conv2d(x, w, b, *case.geometry),
                convolution.conv2d_input_grad(g, w, case.size, *case.geometry),
                weight_gradient.conv2d_weight_grad(x, g, case.kernel, *case.geometry),
            )

        assert_same_bits_on_all_thread_counts(lambda arrays=arrays: compute(*arrays))
        for same, plain in zip(compute(*arrays), compute(x, w, b, g), strict=True):
            np.testing.assert_array_equal(same, plain)


@given(cases(), st.sampled_from([np.nan, np.inf, -np.inf]), seeds)
@example(_same((28, 29), c_in=32, c_out=1), np.nan, 3)  # the way for few output channels
def test_nonfinite_values_reach_what_they_should(case, value, seed):
    rng = np.random.default_rng(seed)
    x, w, _, g = case.draw(rng, np.float64)
    bad_x, bad_g = x.copy(), g.copy()
    for array in (bad_x, bad_g):
        if array.size:
            array.reshape(-1)[rng.integers(array.size)] = value
    with np.errstate(invalid="ignore"):
        y = reference.conv2d(bad_x, w, None, *case.geometry)
        gx = reference.conv2d_input_grad(bad_g, w, case.size, *case.geometry)
        gw = reference.conv2d_weight_grad(bad_x, g, case.kernel, *case.geometry)
    found = convolution.conv2d(bad_x, w, None, *case.geometry)
    np.testing.assert_array_equal(np.isfinite(found), np.isfinite(y))
    found = convolution.conv2d_input_grad(bad_g, w, case.size, *case.geometry)
    np.testing.assert_array_equal(np.isfinite(found), np.isfinite(gx))
    found = weight_gradient.conv2d_weight_grad(bad_x, g, case.kernel, *case.geometry)
    assert not np.isfinite(found[~np.isfinite(gw)]).any()  # a bad pixel times a zero beyond g's edge may add some


def test_arguments_stay_as_they_are():
    case = SPECIAL[0]
    arrays = case.draw(np.random.default_rng(3), np.float32)
    before = [a.copy() for a in arrays]
    x, w, b, g = arrays
    results = (
        convolution.conv2d(x, w, b, *case.geometry),
        convolution.conv2d_input_grad(g, w, case.size, *case.geometry),
        weight_gradient.conv2d_weight_grad(x, g, case.kernel, *case.geometry),
    )
    for array, copy in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(array, copy)
        assert not any(np.shares_memory(array, result) for result in results)


X, W, B, G = np.zeros((2, 8, 9, 3)), np.zeros((3, 2, 3, 5)), np.zeros(5), np.zeros((2, 6, 8, 5))


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: convolution.conv2d(X.tolist(), W), TypeError, "x must be a numpy.ndarray, not list"),
        (lambda: convolution.conv2d(X.astype(int), W), TypeError, "x has dtype int64 but must have float32 or float64"),
        (lambda: convolution.conv2d(X.astype(">f8"), W), TypeError, "x has dtype >f8"),
        (lambda: convolution.conv2d(X, W.astype("f")), TypeError, r"w has dtype float32 but must have float64.*astype"),
        (lambda: convolution.conv2d(X[0], W), ValueError, r"x must have axes \(N,H,W,C\)"),
        (
            lambda: convolution.conv2d(X[..., :2], W),
            ValueError,
            r"x has C=2 in x \(N,H,W,C\)=\(2,8,9,2\) but w expects C_in=3 in w \(kh,kw,C_in,C_out\)=\(3,2,3,5\)",
        ),
        (lambda: convolution.conv2d(X, W, B[:4]), ValueError, r"b \(C_out\)=\(4\) does not fit"),
        (lambda: convolution.conv2d(X[:, :2], W), ValueError, r"spans \(3, 2\) pixels but .* only \(H,W\)=\(2, 9\)"),
        (lambda: convolution.conv2d(X, W, stride=(0, 1)), ValueError, "must be at least 1"),
        (lambda: convolution.conv2d(X, W, dilation=(1, 0)), ValueError, "must be at least 1"),
        (lambda: convolution.conv2d(X, W, padding=((0, -1), (0, 0))), ValueError, "at least 0"),
        (lambda: convolution.conv2d(X, W[:0]), ValueError, "must be at least 1"),
        (lambda: convolution.conv2d_input_grad(G[..., :4], W, (8, 9)), ValueError, "differ in C_out"),
        (lambda: convolution.conv2d_input_grad(G, W, (9, 9)), ValueError, r"g has \(H',W'\)=\(6, 8\) but .*\(7, 8\)"),
        (lambda: weight_gradient.conv2d_weight_grad(X[:1], G, (3, 2)), ValueError, "differ in N"),
        (lambda: weight_gradient.conv2d_weight_grad(X, G, (3, 3)), ValueError, r"gives \(H',W'\)=\(6, 7\)"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(call, error, text):
    with pytest.raises(error, match=text):
        call()
