import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels import normalization, reference
from tests.kernels.support import (
    assert_close,
    assert_same_bits_on_all_thread_counts,
    dtypes,
    lay_out,
    layouts,
    normal,
    seeds,
)

sides = st.integers(1, 6)
positions = st.lists(sides, min_size=0, max_size=3)
offsets = st.floats(-30, 30)


def _wide(*arrays):
    return [np.asarray(array, np.float64) for array in arrays]


def _unit(x):
    """One rounding to the dtype of x, and the roundings of a sum over up to x.size terms in float64."""
    return np.finfo(x.dtype).eps + x.size * np.finfo(np.float64).eps


def _spread(statistic, x):
    """Mean or rstd, one for each sample and group, beside the elements of x that it belongs to."""
    per_group = statistic.astype(np.float64).reshape(len(x), -1)
    per_channel = np.repeat(per_group, x.shape[-1] // per_group.shape[1], axis=1)
    return per_channel.reshape(len(x), *[1] * (x.ndim - 2), x.shape[-1])


def _check_forward(actual, expected, x, weight, bias):
    """The tolerance: rounding the mean and the differences from it costs units of max|x|, which rstd then enlarges."""
    unit = _unit(x)
    (y, mean, rstd), (y_, mean_, rstd_) = actual, expected
    assert {part.dtype for part in actual} == {x.dtype}
    if x.size == 0:
        assert y.shape == y_.shape and mean.shape == mean_.shape and rstd.shape == rstd_.shape
        return
    largest = np.abs(x).max()
    assert_close(mean, mean_, 2 * unit * largest)
    assert_close(rstd, rstd_, 4 * unit * (1 + largest * rstd_) * rstd_)
    loss = 1 + largest * _spread(rstd_, x)
    assert_close(y, y_, 4 * unit * (loss * (np.abs(y_ - bias) + np.abs(weight)) + np.abs(bias)))


def _check_backward(actual, expected, g, x, weight, mean, rstd):
    """Mean and rstd being given, every term is off by a few units of its own size; sums run in float64."""
    unit = _unit(x)
    assert {part.dtype for part in actual} == {x.dtype}
    if x.size == 0:
        assert [part.shape for part in actual] == [part.shape for part in expected]
        return
    scale = _spread(rstd, x)
    normal = np.abs((x - _spread(mean, x)) * scale).max()
    largest = np.abs(g).max()
    assert_close(actual[0], expected[0], 8 * unit * scale * largest * np.abs(weight).max() * (1 + normal) ** 2)
    count = x.size / x.shape[-1]
    assert_close(actual[1], expected[1], 4 * unit * count * largest * (1 + normal))
    assert_close(actual[2], expected[2], 4 * unit * count * largest)


@given(st.integers(0, 4), positions, st.integers(1, 4), sides, dtypes, layouts, offsets, st.floats(1e-6, 1e-2), seeds)
def test_group_norm_equals_the_reference(n, middle, groups, size, dtype, layout, offset, eps, seed):
    rng = np.random.default_rng(seed)
    shape, channels = (n, *middle, groups * size), groups * size
    x = lay_out(normal(rng, shape, dtype) + dtype(offset), layout)
    weight, bias = (lay_out(normal(rng, (channels,), dtype), layout) for _ in range(2))
    forward = normalization.group_norm(x, groups, weight, bias, eps)
    if n:  # the reference cannot reshape an array without elements
        _check_forward(forward, reference.group_norm(*_wide(x), groups, *_wide(weight, bias), eps), x, weight, bias)

    g = lay_out(normal(rng, shape, dtype), layout)
    _, mean, rstd = forward
    backward = normalization.group_norm_grad(g, x, groups, weight, mean, rstd)
    if n:
        expected = reference.group_norm_grad(*_wide(g, x), groups, *_wide(weight, mean, rstd))
        _check_backward(backward, expected, g, x, weight, mean, rstd)
    else:
        assert backward[0].shape == shape and not backward[1].any() and not backward[2].any()


@given(st.integers(0, 200), st.integers(1, 70), dtypes, layouts, offsets, st.floats(1e-6, 1e-2), seeds)
def test_layer_norm_equals_the_reference(m, channels, dtype, layout, offset, eps, seed):
    rng = np.random.default_rng(seed)
    x = lay_out(normal(rng, (m, channels), dtype) + dtype(offset), layout)
    weight, bias = (lay_out(normal(rng, (channels,), dtype), layout) for _ in range(2))
    forward = normalization.layer_norm(x, weight, bias, eps)
    g = lay_out(normal(rng, (m, channels), dtype), layout)
    backward = normalization.layer_norm_grad(g, x, weight, *forward[1:])
    if m:
        _check_forward(forward, reference.layer_norm(*_wide(x, weight, bias), eps), x, weight, bias)
        expected = reference.layer_norm_grad(*_wide(g, x, weight, *forward[1:]))
        _check_backward(backward, expected, g, x, weight, *forward[1:])
    else:
        assert backward[0].shape == (0, channels) and not backward[1].any() and not backward[2].any()


def test_a_large_mean_does_not_spoil_the_variance():
    x = (1000 + np.random.default_rng(3).standard_normal((2, 28, 28, 8))).astype(np.float32)
    _, mean, rstd = normalization.group_norm(x, 2, np.ones(8, np.float32), np.zeros(8, np.float32), 0.0)
    _, expected_mean, expected_rstd = reference.group_norm(*_wide(x), 2, *_wide(np.ones(8), np.zeros(8)), 0.0)
    eps = np.finfo(np.float32).eps
    assert_close(mean, expected_mean, eps * 1000)  # one rounding of the result
    # A mean off by δ adds δ² = (1000 eps)² to the variance. The difference of mean squares would be off by 0.1.
    assert_close(rstd, expected_rstd, 4 * eps)


def test_bits_do_not_depend_on_the_thread_count():
    rng = np.random.default_rng(4)
    x, g = rng.standard_normal((2, 33, 21, 20, 24)).astype(np.float32)
    weight, bias = rng.standard_normal((2, 24)).astype(np.float32)
    y, mean, rstd = normalization.group_norm(x, 4, weight, bias)
    assert_same_bits_on_all_thread_counts(lambda: normalization.group_norm(x, 4, weight, bias))
    assert_same_bits_on_all_thread_counts(lambda: normalization.group_norm_grad(g, x, 4, weight, mean, rstd))
    _check_forward((y, mean, rstd), reference.group_norm(*_wide(x), 4, *_wide(weight, bias)), x, weight, bias)

    x, g = x.reshape(-1, 24), g.reshape(-1, 24)
    y, mean, rstd = normalization.layer_norm(x, weight, bias)
    assert_same_bits_on_all_thread_counts(lambda: normalization.layer_norm(x, weight, bias))
    assert_same_bits_on_all_thread_counts(lambda: normalization.layer_norm_grad(g, x, weight, mean, rstd))


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
        normalization.group_norm_grad(x, x, 2, vector, statistic, statistic)
    with pytest.raises(ValueError, match=r"g has shape"):
        normalization.group_norm_grad(x[:, :2], x, 3, vector, statistic, statistic)
    with pytest.raises(ValueError, match=r"layer_norm: x must have axes \(M,C\)"):
        normalization.layer_norm(x, vector, vector)
    with pytest.raises(ValueError, match=r"rstd has shape \(3,\).*requires \(4,\)"):
        normalization.layer_norm_grad(x[0], x[0], vector, vector[:4], vector[:3])
