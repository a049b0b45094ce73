import numpy as np
import pytest

from kernels import elementary, periodic


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_angles_of_any_size(dtype):
    limit = elementary.LARGEST_ANGLE
    x = np.array([0, 0.5, limit, np.nextafter(dtype(limit), dtype(np.inf)), -1e7, 1e30, -1e30], dtype)
    for frequencies in np.ones(20, dtype), np.array([1e7, 1], dtype), np.array([-1e7, 1], dtype):
        y, half = periodic.sinusoids(x, frequencies), len(frequencies)
        angle = (x[:, None] * frequencies).astype(np.float64)
        np.testing.assert_allclose(y[:, :half], np.sin(angle), rtol=2 * np.finfo(dtype).eps)
        np.testing.assert_allclose(y[:, half:], np.cos(angle), rtol=2 * np.finfo(dtype).eps)


def test_what_is_not_finite_has_no_sine():
    assert np.isnan(periodic.sinusoids(np.array([np.nan, np.inf, -np.inf], np.float32), np.ones(20, np.float32))).all()


def test_arguments_that_do_not_fit_are_refused():
    x = np.ones(3, np.float32)
    with pytest.raises(TypeError, match="sinusoids: frequencies has dtype float64 but must have float32"):
        periodic.sinusoids(x, np.ones(2))
    with pytest.raises(ValueError, match=r"sinusoids: x must have axes \(M\) but has shape \(1, 3\)"):
        periodic.sinusoids(x[None], x)
