import numpy as np
import pytest
from numba import njit

from kernels import elementary


@njit
def _exp(x, y):
    for i in range(x.size):
        y[i] = elementary.exp(x[i])


@njit
def _expm1(x, y):
    for i in range(x.size):
        y[i] = elementary.expm1(x[i])


@njit
def _log1p(x, y):
    for i in range(x.size):
        y[i] = elementary.log1p(x[i])


@njit
def _sine(x, y):
    for i in range(x.size):
        y[i], _ = elementary.sine_and_cosine(x[i])


@njit
def _cosine(x, y):
    for i in range(x.size):
        _, y[i] = elementary.sine_and_cosine(x[i])


@njit
def _largest(x, y):
    y[0] = elementary.largest(x)


def _apply(loop, x):
    y = np.empty_like(x)
    loop(x, y)
    return y


# The domains of the docstrings; exp's includes the subnormal results and ends where it overflows.
@pytest.mark.parametrize(
    ("loop", "function", "low", "high", "ulps"),
    [
        (_exp, np.exp, {np.float32: -103.9, np.float64: -745.1}, {np.float32: 88.72, np.float64: 709.78}, 1),
        (_expm1, np.expm1, {np.float32: -30, np.float64: -60}, {np.float32: 0, np.float64: 0}, 2),
        (_log1p, np.log1p, {np.float32: 0, np.float64: 0}, {np.float32: 1, np.float64: 1}, 3),
        (_sine, np.sin, {np.float32: -1e6, np.float64: -1e6}, {np.float32: 1e6, np.float64: 1e6}, 1.5),
        (_cosine, np.cos, {np.float32: -1e6, np.float64: -1e6}, {np.float32: 1e6, np.float64: 1e6}, 1.5),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_errors_are_within_the_stated_units_in_the_last_place(loop, function, low, high, ulps, dtype):
    rng = np.random.default_rng(1)
    x = np.concatenate(
        [
            np.linspace(low[dtype], high[dtype], 100_000),
            np.sign(high[dtype] - 0.5) * 10.0 ** rng.uniform(-30, -1, 10_000),  # towards zero
        ]
    ).astype(dtype)
    x = x[(x >= low[dtype]) & (x <= high[dtype])]
    expected = function(x.astype(np.longdouble if dtype == np.float64 else np.float64))
    # NumPy's own float64, where long double is no longer than that, may be another unit off.
    reference_error = 1 if dtype == np.float64 and np.finfo(np.longdouble).eps == np.finfo(np.float64).eps else 0
    error = np.abs(_apply(loop, x) - expected) / np.spacing(np.abs(expected.astype(dtype)))
    assert error.max() <= ulps + reference_error


@pytest.mark.parametrize(("loop", "function"), [(_sine, np.sin), (_cosine, np.cos)])
def test_what_is_near_a_zero_of_sine_or_cosine_keeps_its_digits(loop, function):
    x = (np.arange(elementary.LARGEST_ANGLE / (np.pi / 2)) * (np.pi / 2)).astype(np.float32)
    expected = function(x.astype(np.float64))  # whose own error is 1e-10 of a unit of float32
    assert np.abs(expected[1:]).min() < 1e-6
    error = np.abs(_apply(loop, x) - expected) / np.spacing(np.abs(expected.astype(np.float32)))
    assert error.max() <= 1.5


@pytest.mark.parametrize(("loop", "function"), [(_sine, np.sin), (_cosine, np.cos)])
def test_where_the_reduced_angle_is_largest(loop, function):
    """Odd multiples of π/4, where a series with a term less would be off by more."""
    x = (np.arange(1, 2001, 2) * (np.pi / 4)).astype(np.float32)
    expected = function(x.astype(np.float64))
    error = np.abs(_apply(loop, x) - expected) / np.spacing(np.abs(expected.astype(np.float32)))
    assert error.max() <= 1.5


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_exp_of_special_values(dtype):
    x = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1000, -1000, np.finfo(dtype).max, np.finfo(dtype).min], dtype)
    np.testing.assert_array_equal(_apply(_exp, x), np.array([np.nan, np.inf, 0, 1, 1, np.inf, 0, np.inf, 0], dtype))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_expm1_keeps_the_sign_of_zero_and_nan(dtype):
    y = _apply(_expm1, np.array([-0.0, 0.0, np.nan, -np.inf], dtype))
    np.testing.assert_array_equal(y, np.array([-0.0, 0.0, np.nan, -1.0], dtype))
    assert np.signbit(y[0]) and not np.signbit(y[1])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_largest_orders_all_numbers(dtype):
    tiny, huge = np.finfo(dtype).smallest_subnormal, np.finfo(dtype).max
    ascending = np.array([-np.inf, -huge, -1.5, -1, -tiny, 0, tiny, 1, 1.5, huge, np.inf], dtype)
    for end in range(1, len(ascending) + 1):
        for row in (ascending[:end], ascending[:end][::-1].copy()):
            assert _apply(_largest, row)[0] == ascending[end - 1]
    assert np.isnan(_apply(_largest, np.array([1, np.nan, np.inf], dtype))[0])
