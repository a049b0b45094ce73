import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes

from kernels import activation, reference
from tests.kernels.support import (
    assert_close,
    assert_same_bits_on_all_thread_counts,
    dtypes,
    lay_out,
    layouts,
    normal,
    seeds,
)

kinds = st.sampled_from(reference.ACTIVATIONS)
shapes = st.just(()) | array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=9)


def _tolerance(x, y, kind, dtype):
    """Six units in the last place of the result: up to four of ours, up to two of the reference in float64."""
    eps, tiny = np.finfo(dtype).eps, np.finfo(dtype).tiny
    units = 6 * eps * np.abs(y)
    if kind == "gelu":
        # Rounding x²/2 changes exp(-x²/2) by x²/2 units; and the reference's 1 + erf is only good to eps(float64).
        units = units * (1 + x * x / 2) + 2 * np.finfo(np.float64).eps * np.abs(x)
    return units + tiny  # below it, units in the last place grow


@given(shapes, dtypes, layouts, kinds, st.floats(0, 2), st.floats(0.1, 40), seeds)
def test_values_equal_the_reference(shape, dtype, layout, kind, alpha, scale, seed):
    x = lay_out(normal(np.random.default_rng(seed), shape, dtype, scale), layout)
    y, saved = activation.activate(x, kind, alpha)
    wide = np.asarray(x, np.float64)
    expected, _ = reference.activate(wide, kind, float(dtype(alpha)))
    assert y.dtype == dtype and y.flags.c_contiguous
    assert saved is (x if kind in ("silu", "gelu") else y)
    assert_close(y, expected, _tolerance(wide, expected, kind, dtype))


@given(shapes, dtypes, layouts, kinds, st.floats(0, 2), st.floats(0.1, 40), seeds)
def test_gradients_equal_the_reference(shape, dtype, layout, kind, alpha, scale, seed):
    rng = np.random.default_rng(seed)
    _, saved = activation.activate(normal(rng, shape, dtype, scale), kind, alpha)
    saved, g = lay_out(saved, layout), lay_out(normal(rng, shape, dtype), layout)
    gx = activation.activate_grad(g, saved, kind, alpha)
    expected = reference.activate_grad(
        np.asarray(g, np.float64), np.asarray(saved, np.float64), kind, float(dtype(alpha))
    )
    assert gx.dtype == dtype and not np.shares_memory(gx, g)
    # A slope is a sum of terms of at most 1.3 (or alpha), each of them off by a few units.
    assert_close(gx, expected, 10 * np.finfo(dtype).eps * np.abs(g) * max(1.0, alpha) + np.finfo(dtype).tiny)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", reference.ACTIVATIONS)
def test_special_values_equal_the_reference(kind, dtype):
    info = np.finfo(dtype)
    special = [np.nan, np.inf, -np.inf, 0.0, -0.0, info.max, info.min, info.tiny, -info.tiny, 100, -100, 1e4, -1e4]
    x = np.resize(np.array(special, dtype), 8 * len(special))  # long enough for the vectorised part of the loops
    with np.errstate(all="ignore"):
        expected, saved = reference.activate(x, kind, 0.3)
        expected_grad = reference.activate_grad(np.ones_like(x), saved, kind, 0.3)
    y, saved = activation.activate(x, kind, 0.3)
    np.testing.assert_allclose(y, expected, rtol=6 * info.eps, atol=info.tiny)
    gx = activation.activate_grad(np.ones_like(x), saved, kind, 0.3)
    np.testing.assert_allclose(gx, expected_grad, rtol=6 * info.eps, atol=info.tiny)
    if kind == "tanh":
        np.testing.assert_array_equal(np.signbit(y), np.signbit(expected))


@pytest.mark.parametrize("kind", reference.ACTIVATIONS)
def test_bits_do_not_depend_on_the_thread_count(kind):
    rng = np.random.default_rng(7)
    x, g = rng.standard_normal((2, 700_003)).astype(np.float32)
    y, saved = activation.activate(x, kind, 0.3)
    assert_same_bits_on_all_thread_counts(lambda: activation.activate(x, kind, 0.3))
    assert_same_bits_on_all_thread_counts(lambda: [activation.activate_grad(g, saved, kind, 0.3)])
    expected, _ = reference.activate(x.astype(np.float64), kind, float(np.float32(0.3)))
    assert_close(y, expected, _tolerance(x.astype(np.float64), expected, kind, np.float32))


def test_errors_name_the_rule():
    x = np.zeros((2, 3), np.float32)
    with pytest.raises(ValueError, match="unknown kind 'swish'; choose one of identity, relu"):
        activation.activate(x, "swish")
    with pytest.raises(TypeError, match=r"activate: x has dtype int64 .*astype"):
        activation.activate(x.astype(int), "relu")
    with pytest.raises(ValueError, match=r"g has shape \(2, 3\) but saved has \(3, 2\)"):
        activation.activate_grad(x, x.T, "relu")
    with pytest.raises(TypeError, match="saved has dtype float64"):
        activation.activate_grad(x, x.astype(np.float64), "relu")
