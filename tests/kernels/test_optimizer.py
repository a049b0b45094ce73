import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels import optimizer, reference
from tests.kernels.support import assert_close, assert_same_bits_on_all_thread_counts, dtypes, lay_out, layouts, seeds


def _state(rng, size, dtype):
    p, g, m = rng.standard_normal((3, size)).astype(dtype)
    return p, g, m, rng.exponential(size=size).astype(dtype)


@given(
    st.integers(0, 200),
    dtypes,
    layouts,
    st.integers(1, 10_000),
    st.floats(1e-5, 1),
    st.floats(0, 0.99),
    st.floats(0.5, 0.9999),
    st.floats(1e-8, 1e-2),
    st.floats(0, 0.1),
    seeds,
)
def test_a_step_equals_the_reference(size, dtype, layout, step, lr, beta1, beta2, eps, decay, seed):
    p, g, m, v = _state(np.random.default_rng(seed), size, dtype)
    expected = [array.astype(np.float64) for array in (p, g, m, v)]
    old_p, old_m, old_v = np.abs(expected[0]), np.abs(expected[2]), expected[3].copy()
    reference.adam(*expected, step, lr, beta1, beta2, eps, decay)
    optimizer.adam(p, lay_out(g, layout), m, v, step, lr, beta1, beta2, eps, decay)
    unit = np.finfo(dtype).eps
    assert {array.dtype for array in (p, m, v)} == {np.dtype(dtype)}
    first = 3 * unit * (np.abs(g) + old_m)  # of terms that may cancel
    assert_close(m, expected[2], first)
    second = 3 * unit * (g.astype(np.float64) ** 2 + old_v)
    assert_close(v, expected[3], second)
    # The numerator is off by as much as m, the root by half the relative error of v, the rest by units of each term.
    denominator = np.sqrt(expected[3] / (1 - beta2**step)) + eps
    relative = 8 * unit + second / expected[3]
    numerator = np.abs(expected[2]) / (1 - beta1**step)
    update = (first / (1 - beta1**step) + relative * numerator) / denominator + 4 * unit * decay * old_p
    assert_close(p, expected[0], lr * update + unit * (old_p + np.abs(expected[0])))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_special_gradients_stay_where_they_are(dtype):
    p, g, m, v = _state(np.random.default_rng(10), 50, dtype)
    before = p.copy()
    g[7], g[20] = np.nan, np.inf
    m[30] = v[30] = g[30] = 0
    optimizer.adam(p, g, m, v, 1, 0.1, 0.9, 0.999, 1e-8)
    assert p[30] == before[30]
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(p)), [7, 20])


def test_bits_do_not_depend_on_the_thread_count():
    def step():
        state = _state(np.random.default_rng(11), 500_003, np.float32)
        optimizer.adam(*state, 3, 1e-2, 0.9, 0.999, 1e-8, 0.01)
        return state

    assert_same_bits_on_all_thread_counts(step)
    wide = [array.astype(np.float64) for array in _state(np.random.default_rng(11), 500_003, np.float32)]
    reference.adam(*wide, 3, 1e-2, 0.9, 0.999, 1e-8, 0.01)
    np.testing.assert_allclose(step()[0], wide[0], atol=1e-5)  # a block left out would be off by lr = 1e-2


def test_errors_name_the_rule():
    p, g, m, v = _state(np.random.default_rng(12), 6, np.float32)
    settings = (1, 1e-3, 0.9, 0.999, 1e-8)
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
    with pytest.raises(ValueError, match="step=0 must count from 1"):
        optimizer.adam(p, g, m, v, 0, *settings[1:])
    np.testing.assert_array_equal(p, before)
