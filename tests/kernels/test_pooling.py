import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels import pooling, reference
from tests.kernels.support import (
    assert_close,
    assert_same_bits_on_all_thread_counts,
    dtypes,
    lay_out,
    layouts,
    normal,
    seeds,
)

sizes = st.tuples(st.integers(1, 3), st.integers(1, 3))
small_shapes = st.tuples(st.integers(0, 3), st.integers(0, 4), st.integers(0, 4), st.integers(0, 20))


def _enlarged(shape, size):
    return (shape[0], shape[1] * size[0], shape[2] * size[1], shape[3])


@given(small_shapes, sizes, dtypes, layouts, seeds)
def test_sums_and_enlargements_equal_the_reference(shape, size, dtype, layout, seed):
    rng = np.random.default_rng(seed)
    x = lay_out(normal(rng, _enlarged(shape, size), dtype), layout)
    y = pooling.sum_pool2d(x, size)
    # n - 1 additions, each rounded to half a unit of at most the sum of magnitudes
    bound = size[0] * size[1] * np.finfo(dtype).eps * reference.sum_pool2d(np.abs(x).astype(np.float64), size)
    assert_close(y, reference.sum_pool2d(x.astype(np.float64), size), bound)
    small = lay_out(normal(rng, shape, dtype), layout)
    np.testing.assert_array_equal(pooling.upsample2d(small, size), reference.upsample2d(small, size), strict=True)
    assert y.dtype == dtype


@given(small_shapes, sizes, dtypes, layouts, seeds)
def test_maxima_and_their_gradients_equal_the_reference(shape, size, dtype, layout, seed):
    rng = np.random.default_rng(seed)
    x = lay_out(rng.integers(-2, 2, _enlarged(shape, size)).astype(dtype), layout)  # small integers: many ties
    y = pooling.max_pool2d(x, size)
    np.testing.assert_array_equal(y, reference.max_pool2d(x, size), strict=True)
    g, y = lay_out(normal(rng, shape, dtype), layout), lay_out(y, layout)
    # The same two roundings as the reference's, hence the same numbers
    gx = pooling.max_pool2d_grad(g, x, y, size)
    np.testing.assert_array_equal(gx, reference.max_pool2d_grad(g, x, y, size), strict=True)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_special_values_equal_the_reference(dtype):
    rng = np.random.default_rng(8)
    x = rng.choice(np.array([np.nan, np.inf, -np.inf, 0.0, 1.0], dtype), (3, 4, 6, 20), p=[0.1, 0.2, 0.4, 0.2, 0.1])
    g = rng.standard_normal((3, 2, 3, 20)).astype(dtype)
    with np.errstate(all="ignore"):
        y = reference.max_pool2d(x, (2, 2))
        np.testing.assert_array_equal(pooling.sum_pool2d(x, (2, 2)), reference.sum_pool2d(x, (2, 2)))
        np.testing.assert_array_equal(
            pooling.max_pool2d_grad(g, x, y, (2, 2)), reference.max_pool2d_grad(g, x, y, (2, 2))
        )
    np.testing.assert_array_equal(pooling.max_pool2d(x, (2, 2)), y)


def test_bits_do_not_depend_on_the_thread_count():
    rng = np.random.default_rng(9)
    x, g = (
        rng.standard_normal((9, 42, 42, 21)).astype(np.float32),
        rng.standard_normal((9, 14, 21, 21)).astype(np.float32),
    )
    y = pooling.max_pool2d(x, (3, 2))
    assert_same_bits_on_all_thread_counts(lambda: [pooling.sum_pool2d(x, (3, 2)), pooling.max_pool2d(x, (3, 2))])
    assert_same_bits_on_all_thread_counts(lambda: [pooling.upsample2d(g, (3, 2))])
    assert_same_bits_on_all_thread_counts(lambda: [pooling.max_pool2d_grad(g, x, y, (3, 2))])
    np.testing.assert_array_equal(y, reference.max_pool2d(x, (3, 2)))


def test_errors_name_the_rule():
    x = np.zeros((1, 4, 6, 2), np.float32)
    for kernel in (pooling.sum_pool2d, pooling.max_pool2d):
        with pytest.raises(ValueError, match=r"size=\(2, 4\) must divide the height and width of x \(N,H,W,C\)"):
            kernel(x, (2, 4))
        with pytest.raises(ValueError, match=r"x must have axes \(N,H,W,C\)"):
            kernel(x[0], (2, 2))
    with pytest.raises(ValueError, match=r"scale=\(0, 2\) must be at least 1"):
        pooling.upsample2d(x, (0, 2))
    with pytest.raises(ValueError, match=r"y \(N,H,W,C\)=\(1, 4, 6, 2\) must be \(1, 2, 3, 2\)"):
        pooling.max_pool2d_grad(x[:, :2, :3], x, x, (2, 2))
