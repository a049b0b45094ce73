from functools import partial

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kernels import convolution, reference, weight_gradient
from tests.kernels.cases import conv2d, convolutions, same
from tests.kernels.support import normal
from tinygen.testing import rngs


@given(convolutions(), st.sampled_from([np.nan, np.inf, -np.inf]), rngs())
@example(same((28, 29), c_in=32, c_out=1), np.nan, np.random.default_rng(3))  # the way for few output channels
def test_nonfinite_values_reach_what_they_should(settings, value, rng):
    x, w, _, *geometry = conv2d(partial(normal, rng, np.float64), *settings)
    size, kernel = settings[1], settings[4]
    g = rng.standard_normal(reference.conv2d(x, w, None, *geometry).shape)
    bad_x, bad_g = x.copy(), g.copy()
    for array in (bad_x, bad_g):
        if array.size:
            array.reshape(-1)[rng.integers(array.size)] = value
    with np.errstate(invalid="ignore"):
        y = reference.conv2d(bad_x, w, None, *geometry)
        gx = reference.conv2d_input_grad(bad_g, w, size, *geometry)
        gw = reference.conv2d_weight_grad(bad_x, g, kernel, *geometry)
    found = convolution.conv2d(bad_x, w, None, *geometry)
    np.testing.assert_array_equal(np.isfinite(found), np.isfinite(y))
    found = convolution.conv2d_input_grad(bad_g, w, size, *geometry)
    np.testing.assert_array_equal(np.isfinite(found), np.isfinite(gx))
    found = weight_gradient.conv2d_weight_grad(bad_x, g, kernel, *geometry)
    assert not np.isfinite(found[~np.isfinite(gw)]).any()  # a bad pixel times a zero beyond g's edge may add some


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
        (lambda: convolution.conv2d(X, W, addend=X), ValueError, r"addend \(N,H',W',C_out\)=.* must be"),
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
