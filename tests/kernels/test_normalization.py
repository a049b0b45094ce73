import numpy as np
import pytest

from kernels import normalization, reference
from tinygen.testing import assert_close


def test_a_large_mean_does_not_spoil_the_variance():
    x = (1000 + np.random.default_rng(3).standard_normal((2, 28, 28, 8))).astype(np.float32)
    _, mean, rstd = normalization.group_norm(x, 2, np.ones(8, np.float32), np.zeros(8, np.float32), 0.0)
    _, *expected = reference.group_norm(x.astype(np.float64), 2, np.ones(8), np.zeros(8), 0.0)
    expected_mean, expected_rstd = (statistic.astype(np.float32) for statistic in expected)
    eps = float(np.finfo(np.float32).eps)
    assert_close(mean, expected_mean, rtol=eps)  # one rounding of the result
    # A mean off by δ adds δ² = (1000 eps)² to the variance. The difference of mean squares would be off by 0.1.
    assert_close(rstd, expected_rstd, rtol=4 * eps)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_non_finite_input_spoils_only_its_own_group(dtype):
    x = np.random.default_rng(5).standard_normal((3, 4, 4, 6)).astype(dtype)
    x[1, 2, 2, 4] = np.nan
    y, mean, rstd = normalization.group_norm(x, 2, np.ones(6, dtype), np.zeros(6, dtype))
    spoiled = np.zeros(x.shape, bool)
    spoiled[1, :, :, 3:] = True
    np.testing.assert_array_equal(np.isnan(y), spoiled)
    np.testing.assert_array_equal(np.isnan(mean), np.isnan(rstd))


def test_errors_name_the_rule():
    x, vector = np.zeros((2, 4, 6), np.float32), np.zeros(6, np.float32)
    statistic = np.zeros((2, 3), np.float32)
    with pytest.raises(ValueError, match=r"group_norm: groups=4 must divide the C=6 channels"):
        normalization.group_norm(x, 4, vector, vector)
    with pytest.raises(ValueError, match=r"group_norm: weight has shape \(5,\).*requires \(6,\)"):
        normalization.group_norm(x, 3, vector[:5], vector)
    with pytest.raises(ValueError, match=r"x must have axes \(N,...,C\)"):
        normalization.group_norm(vector, 3, vector, vector)
    with pytest.raises(TypeError, match="bias has dtype float64"):
        normalization.group_norm(x, 3, vector, vector.astype(np.float64))
    with pytest.raises(ValueError, match=r"mean has shape \(2, 3\).*requires \(2, 2\)"):
        normalization.group_norm_grad(x, x, 2, vector, vector, statistic, statistic)
    with pytest.raises(ValueError, match=r"group_norm_grad: bias has shape \(5,\).*requires \(6,\)"):
        normalization.group_norm_grad(x, x, 3, vector, vector[:5], statistic, statistic)
    with pytest.raises(ValueError, match="group_norm: unknown activation 'relu'; choose identity or silu"):
        normalization.group_norm(x, 3, vector, vector, activation="relu")
    with pytest.raises(ValueError, match="group_norm_grad: unknown activation 'relu'"):
        normalization.group_norm_grad(x, x, 3, vector, vector, statistic, statistic, "relu")
    with pytest.raises(ValueError, match=r"g has shape"):
        normalization.group_norm_grad(x[:, :2], x, 3, vector, vector, statistic, statistic)
    with pytest.raises(ValueError, match=r"layer_norm: x must have axes \(M,C\)"):
        normalization.layer_norm(x, vector, vector)
    with pytest.raises(ValueError, match=r"rstd has shape \(3,\).*requires \(4,\)"):
        normalization.layer_norm_grad(x[0], x[0], vector, vector[:4], vector[:3])
