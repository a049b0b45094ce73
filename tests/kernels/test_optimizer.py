import numpy as np
import pytest

from kernels import optimizer


def _state(rng, size, dtype):
    p, g, m = rng.standard_normal((3, size)).astype(dtype)
    return p, g, m, rng.exponential(size=size).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_special_gradients_stay_where_they_are(dtype):
    p, g, m, v = _state(np.random.default_rng(10), 50, dtype)
    before = p.copy()
    g[7], g[20] = np.nan, np.inf
    m[30] = v[30] = g[30] = 0
    optimizer.adam(p, g, m, v, np.array([50]), np.array([1]), np.array([0.1, 0.9, 0.999, 1e-8, 0]))
    assert p[30] == before[30]
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(p)), [7, 20])


def test_errors_name_the_rule():
    p, g, m, v = _state(np.random.default_rng(12), 6, np.float32)
    ends, steps = np.array([2, 6]), np.array([0, 1])
    settings = (ends, steps, np.array([1e-3, 0.9, 0.999, 1e-8, 0]))
    frozen = v.copy()
    frozen.flags.writeable = False
    before = p.copy()
    with pytest.raises(ValueError, match="adam: p is updated in place, so it must be contiguous and writable"):
        optimizer.adam(p[::2], g[:3], m[:3], v[:3], *settings)
    with pytest.raises(ValueError, match="adam: v is updated in place"):
        optimizer.adam(p, g, m, frozen, *settings)
    with pytest.raises(ValueError, match="of one length but have 6, 5, 6 and 6"):
        optimizer.adam(p, g[:5], m, v, *settings)
    with pytest.raises(ValueError, match=r"m must have axes \(P\)"):
        optimizer.adam(p, g, m.reshape(2, 3), v, *settings)
    with pytest.raises(TypeError, match="m has dtype float64"):
        optimizer.adam(p, g, m.astype(np.float64), v, *settings)
    with pytest.raises(TypeError, match="p must be a numpy.ndarray, not list"):
        optimizer.adam(list(p), g, m, v, *settings)
    with pytest.raises(ValueError, match="must count from 1"):
        optimizer.adam(p, g, m, v, ends, -steps, *settings[2:])
    with pytest.raises(TypeError, match="steps must be a flat array of int64, not float64"):
        optimizer.adam(p, g, m, v, ends, steps / 1, *settings[2:])
    for wrong in (ends[:1], ends[::-1], ends + 1, np.array([-1, 6])):
        with pytest.raises(ValueError, match="ends must ascend to the length of p, 6, with a step for each"):
            optimizer.adam(p, g, m, v, wrong, steps, *settings[2:])
    with pytest.raises(ValueError, match="must be five: lr, beta1"):
        optimizer.adam(p, g, m, v, ends, steps, settings[2][:4])
    np.testing.assert_array_equal(p, before)
