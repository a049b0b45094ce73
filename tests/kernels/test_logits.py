import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels import logits, reference
from tests.kernels.support import (
    assert_close,
    assert_same_bits_on_all_thread_counts,
    dtypes,
    lay_out,
    layouts,
    normal,
    seeds,
)

rows, columns = st.integers(0, 9), st.integers(1, 70)
scales = st.floats(0.1, 30)


@given(rows, columns, dtypes, layouts, scales, seeds)
def test_values_equal_the_reference(m, c, dtype, layout, scale, seed):
    x = lay_out(normal(np.random.default_rng(seed), (m, c), dtype, scale), layout)
    wide, eps, tiny = x.astype(np.float64), np.finfo(dtype).eps, np.finfo(dtype).tiny
    depth = wide.max(axis=1, keepdims=True) - wide
    # x - max is off by eps/2 |x - max|, which is a relative error of the exponential; the sum adds c eps at most.
    total = (c + 4) * eps
    assert_close(logits.softmax(x), reference.softmax(wide), (total + depth * eps) * reference.softmax(wide) + tiny)
    expected = reference.log_softmax(wide)
    assert_close(logits.log_softmax(x), expected, total + eps * (depth + np.abs(expected)))
    expected = reference.logsumexp(wide)
    assert_close(logits.logsumexp(x), expected, total + eps * np.abs(expected))
    assert logits.softmax(x).dtype == logits.log_softmax(x).dtype == logits.logsumexp(x).dtype == dtype


@given(rows, st.integers(0, 70), dtypes, layouts, scales, seeds)
def test_gradients_equal_the_reference(m, c, dtype, layout, scale, seed):
    rng = np.random.default_rng(seed)
    g, x = (lay_out(normal(rng, (m, c), dtype, s), layout) for s in (1, scale))
    eps, tiny, sizes = np.finfo(dtype).eps, np.finfo(dtype).tiny, np.abs(g).astype(np.float64)
    y = np.exp(x - x.max(axis=1, keepdims=True, initial=-np.inf)).astype(dtype)
    expected = reference.softmax_grad(g.astype(np.float64), y.astype(np.float64))
    tolerance = 4 * eps * np.abs(y) * (sizes + (sizes * np.abs(y)).sum(axis=1, keepdims=True)) + tiny
    assert_close(logits.softmax_grad(g, y), expected, tolerance)
    y = -np.abs(x)
    expected = reference.log_softmax_grad(g.astype(np.float64), y.astype(np.float64))
    tolerance = 4 * eps * (sizes + np.exp(y) * sizes.sum(axis=1, keepdims=True)) + tiny
    assert_close(logits.log_softmax_grad(g, y), expected, tolerance)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("length", [1, 3, 40])
def test_special_rows_equal_the_reference(dtype, length):
    nan, inf = np.nan, np.inf
    patterns = [(-inf,), (inf,), (nan,), (-nan,), (1, -inf), (1, inf), (inf, -inf), (0, nan), (nan, inf), (1e4, -1e4)]
    x = np.array([np.resize(np.array(pattern, dtype), length) for pattern in patterns])
    with np.errstate(all="ignore"):
        for kernel in ("softmax", "log_softmax", "logsumexp"):
            expected = getattr(reference, kernel)(x)
            rtol = (length + 4) * np.finfo(dtype).eps
            np.testing.assert_allclose(getattr(logits, kernel)(x), expected, rtol=rtol, err_msg=kernel)
    assert logits.logsumexp(x)[0] == -inf


def test_bits_do_not_depend_on_the_thread_count():
    x, g = np.random.default_rng(6).standard_normal((2, 3001, 101)).astype(np.float32)
    for compute in (logits.softmax, logits.log_softmax, logits.logsumexp):
        assert_same_bits_on_all_thread_counts(lambda compute=compute: [compute(x)])
    for compute in (logits.softmax_grad, logits.log_softmax_grad):
        assert_same_bits_on_all_thread_counts(lambda compute=compute: [compute(g, x)])
    np.testing.assert_allclose(logits.softmax(x).sum(axis=1), 1, rtol=110 * np.finfo(np.float32).eps)


def test_errors_name_the_rule():
    x = np.zeros((2, 3), np.float32)
    for kernel in (logits.softmax, logits.log_softmax, logits.logsumexp):
        with pytest.raises(ValueError, match=r"x \(M,C\)=\(2, 0\) has rows without elements"):
            kernel(x[:, :0])
        with pytest.raises(ValueError, match=r"x must have axes \(M,C\)"):
            kernel(x[0])
    for gradient in (logits.softmax_grad, logits.log_softmax_grad):
        with pytest.raises(ValueError, match=r"g \(M,C\)=\(2, 2\) must have the shape of y, \(2, 3\)"):
            gradient(x[:, :2], x)
        with pytest.raises(TypeError, match="g has dtype float64"):
            gradient(x.astype(np.float64), x)
