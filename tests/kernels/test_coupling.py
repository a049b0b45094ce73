import numpy as np
import pytest

from kernels import coupling, reference


@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_special_log_scales_equal_the_reference(dtype, inverse):
    info = np.finfo(dtype)
    special = [np.nan, np.inf, -np.inf, 0.0, -0.0, info.max, info.tiny, -info.tiny, 100, -100, 1e4, -1e4]
    r = np.array(3 * special, dtype)[:, None]
    x, t = np.full_like(r, 1.5), np.full_like(r, 0.25)
    theta, g = np.concatenate([r, t], 1), np.concatenate([x, t], 1)
    expected = reference.bounded_affine(x, theta, 3.0, inverse)
    np.testing.assert_allclose(coupling.bounded_affine(x, theta, 3.0, inverse), expected, rtol=16 * info.eps)
    gradients = (f(g, x, theta, 3.0, inverse) for f in (coupling.bounded_affine_grad, reference.bounded_affine_grad))
    for found, wanted in zip(*gradients, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=16 * info.eps, atol=50 * info.eps)


def test_errors_name_the_rule():
    x = np.zeros((2, 3), np.float32)
    theta = np.zeros((2, 6), np.float32)
    with pytest.raises(ValueError, match=r"bounded_affine: theta \(M,2C\)=\(2,3\) does not fit x \(M,C\)=\(2,3\)"):
        coupling.bounded_affine(x, x, 3.0)
    with pytest.raises(ValueError, match=r"g \(M,C\+1\)=\(2,3\) does not fit x \(M,C\)=\(2,3\)"):
        coupling.bounded_affine_grad(x, x, theta, 3.0)
    with pytest.raises(TypeError, match="theta has dtype float64"):
        coupling.bounded_affine(x, theta.astype(np.float64), 3.0)
