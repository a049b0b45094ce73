import numpy as np
import pytest

from kernels import affine as compiled
from kernels import reference

SHAPES = [(25, 1100, 33), (3, 30, 20), (64, 32, 128), (200, 1, 64), (70, 64, 2), (1, 40, 40)]


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_nonfinite_values_reach_what_they_should(shape, value):
    (m, k, n), rng = shape, np.random.default_rng(4)
    x, w, b = rng.standard_normal((m, k)), rng.standard_normal((k, n)), rng.standard_normal(n)
    x[-1, 0] = value
    with np.errstate(invalid="ignore"):
        expected, _ = reference.linear(x, w, b, "identity")
    np.testing.assert_array_equal(np.isfinite(compiled.linear(x, w, b, "identity")[0]), np.isfinite(expected))


X, W, B, G = np.zeros((4, 3)), np.zeros((3, 20)), np.zeros(20), np.zeros((4, 20))


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: compiled.linear(X, W[:2], B), ValueError, r"x \(M,K\)=\(4,3\) and w \(K,N\)=\(2,20\) differ in K"),
        (lambda: compiled.linear(X, W, B[:1]), ValueError, r"b \(N\)=\(1\) and w \(K,N\)=\(3,20\) differ in N"),
        (lambda: compiled.linear(X, W, B[None]), ValueError, r"b must have axes \(N\) but has shape \(1, 20\)"),
        (lambda: compiled.linear(X, W.astype("f"), B), TypeError, "w has dtype float32 but must have float64"),
        (lambda: compiled.linear(None, W, B), TypeError, "x must be a numpy.ndarray, not NoneType"),
        (lambda: compiled.linear(X, W, B, "swish"), ValueError, "unknown kind 'swish'.*silu"),
        (lambda: compiled.linear_grad(G[1:], X, W, G), ValueError, r"g \(M,N\)=\(3,20\).* do not fit together"),
        (
            lambda: compiled.linear_grad(G, X, W, G[:, 1:], "relu"),
            ValueError,
            r"saved \(M,N\)=\(4,19\) and g .* differ",
        ),
        (lambda: compiled.linear_grad(G, X, W, None, "relu"), TypeError, "saved must be a numpy.ndarray"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(call, error, text):
    with pytest.raises(error, match=text):
        call()
