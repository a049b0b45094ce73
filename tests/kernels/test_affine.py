import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kernels import affine as compiled
from kernels import reference, threads
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
sides = st.integers(0, 20) | st.sampled_from([32, 33, 50, 64])
shapes = st.tuples(sides, sides | st.just(1100), sides)  # 1100: more than one pass over the right-hand side

LARGE = (700, 300, 130)  # several blocks of rows, two passes over several groups of panels, the last panel ragged
SHAPES = [
    (25, 1100, 33),
    (64, 32, 128),
    (200, 1, 64),
    (70, 64, 2),
    (1, 40, 40),
    (7, 0, 20),
    (0, 8, 20),
    (3, 800, 700),
]


def _draw(shape, dtype, seed):
    """x, w, b and a cotangent; w is scaled so that activations are not all saturated."""
    rng, (m, k, n) = np.random.default_rng(seed), shape
    w = normal(rng, (k, n), dtype, 1 / np.sqrt(max(k, 1)))
    return normal(rng, (m, k), dtype), w, normal(rng, (n,), dtype), normal(rng, (m, n), dtype)


@given(shapes, dtypes, layouts, kinds, st.floats(0, 2), st.booleans(), seeds)
@example((25, 1100, 33), np.float32, "C", "silu", 0.0, True, 1)
@example(LARGE, np.float32, "C", "silu", 0.0, True, 1)
@example(LARGE, np.float32, "C", "elu", 0.5, True, 1)
@example((40, 64, 800), np.float64, "C", "relu", 0.0, True, 1)
@example((64, 32, 128), np.float64, "C", "relu", 0.0, True, 1)
def test_values_equal_the_reference(shape, dtype, layout, kind, alpha, with_bias, seed):
    x, w, b, _ = _draw(shape, dtype, seed)
    alpha = float(dtype(alpha))
    wide_x, wide_w, wide_b = (a.astype(np.float64) for a in (x, w, b if with_bias else np.zeros_like(b)))
    arguments = [lay_out(a, layout) for a in (x, w, b)]
    y, saved = compiled.linear(*arguments[:2], arguments[2] if with_bias else None, kind, alpha)
    expected, expected_saved = reference.linear(wide_x, wide_w, wide_b, kind, alpha)

    # A sum of K products errs by less than K eps of its magnitude; no activation has a slope beyond 1.13 or alpha.
    eps, z = np.finfo(dtype).eps, wide_x @ wide_w + wide_b
    tolerance = (2 * shape[1] + 4) * eps * (np.abs(wide_x) @ np.abs(wide_w) + np.abs(wide_b))
    activated = 1.2 * max(1, alpha) * tolerance + (8 + z * z) * eps * np.abs(expected) + np.finfo(dtype).tiny
    assert y.dtype == saved.dtype == dtype and y.flags.c_contiguous and saved.flags.c_contiguous
    assert_close(y, expected, activated)
    assert_close(saved, expected_saved, tolerance if kind in ("silu", "gelu") else activated)


@given(shapes, dtypes, layouts, kinds, st.floats(0, 2), st.tuples(st.booleans(), st.booleans(), st.booleans()), seeds)
@example(LARGE, np.float32, "C", "leaky_relu", 0.5, (True, True, True), 1)
@example((200, 33, 64), np.float32, "C", "gelu", 0.0, (True, True, True), 1)
@example((200, 33, 1), np.float64, "C", "identity", 0.0, (True, True, True), 1)
def test_gradients_equal_the_reference(shape, dtype, layout, kind, alpha, needs, seed):
    x, w, b, g = _draw(shape, dtype, seed)
    (m, _, n), alpha = shape, float(dtype(alpha))
    _, saved = reference.linear(x, w, b, kind, alpha)  # the same for both
    wide_g, wide_x, wide_w, wide_saved = (a.astype(np.float64) for a in (g, x, w, saved))
    actual = compiled.linear_grad(*(lay_out(a, layout) for a in (g, x, w, saved)), kind, alpha, needs)
    expected = reference.linear_grad(wide_g, wide_x, wide_w, wide_saved, kind, alpha, needs)

    eps = np.finfo(dtype).eps
    gz = np.abs(reference.activate_grad(wide_g, wide_saved, kind, alpha))
    slope_error = 16 * eps * np.abs(wide_g) * (1 + wide_saved**2)  # slopes are below 2 and made of a few roundings
    of_sum = lambda terms: slope_error + (2 * terms + 4) * eps * (gz + slope_error)  # noqa: E731
    tolerances = (of_sum(n) @ np.abs(wide_w).T, np.abs(wide_x).T @ of_sum(m), of_sum(m).sum(axis=0))
    for found, wanted, tolerance, needed in zip(actual, expected, tolerances, needs, strict=True):
        assert (found is not None) == needed
        if found is not None:
            assert found.dtype == dtype and found.flags.c_contiguous
            assert_close(found, wanted, tolerance + np.finfo(dtype).tiny)


@pytest.mark.parametrize("shape", [*SHAPES, LARGE], ids=str)
@pytest.mark.parametrize("kind", ["identity", "relu", "silu", "gelu", "softplus"])
def test_bits_do_not_depend_on_threads(shape, kind, monkeypatch):
    monkeypatch.setattr(threads, "GRAIN", 1e-3)  # so that even small work is divided
    x, w, b, g = _draw(shape, np.float32, 3)
    assert_same_bits_on_all_thread_counts(lambda: compiled.linear(x, w, b, kind))
    saved = compiled.linear(x, w, b, kind)[1]
    assert_same_bits_on_all_thread_counts(lambda: compiled.linear_grad(g, x, w, saved, kind))


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("shape", SHAPES[:5], ids=str)
def test_nonfinite_values_reach_what_they_should(shape, value):
    x, w, b, _ = _draw(shape, np.float64, 4)
    x[-1, 0] = value
    with np.errstate(invalid="ignore"):
        expected, _ = reference.linear(x, w, b, "identity")
    np.testing.assert_array_equal(np.isfinite(compiled.linear(x, w, b, "identity")[0]), np.isfinite(expected))


@pytest.mark.parametrize("kind", reference.ACTIVATIONS)
def test_arguments_stay_as_they_are(kind):
    x, w, b, g = arrays = _draw((30, 8, 20), np.float32, 5)
    before = [a.copy() for a in arrays]
    y, saved = compiled.linear(x, w, b, kind, 0.5)
    results = (y, saved, *compiled.linear_grad(g, x, w, saved, kind, 0.5))
    for array, copy in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(array, copy)
        assert not any(np.shares_memory(array, result) for result in results)


X, W, B, G = np.zeros((4, 3)), np.zeros((3, 20)), np.zeros(20), np.zeros((4, 20))


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: compiled.linear(X, W[:2], B), ValueError, r"x \(M,K\)=\(4,3\) and w \(K,N\)=\(2,20\) differ in K"),
        (lambda: compiled.linear(X, W, B[:1]), ValueError, r"b \(N\)=\(1\) and w \(K,N\)=\(3,20\) differ in N"),
        (lambda: compiled.linear(X, W, B[None]), ValueError, r"b must have axes \(N\) but has shape \(1, 20\)"),
        (lambda: compiled.linear(X, W.astype("f"), B), TypeError, "w has dtype float32 but must have float64"),
        (lambda: compiled.linear(None, W, B), TypeError, "x must be a numpy.ndarray, not NoneType"),
        (lambda: compiled.linear(X, W, B, "swish"), ValueError, "unknown kind 'swish'.*silu"),
        (lambda: compiled.linear_grad(G[1:], X, W, G), ValueError, r"g \(M,N\)=\(3,20\).* do not fit together"),
        (lambda: compiled.linear_grad(G, X, W, G[:, 1:]), ValueError, r"saved \(M,N\)=\(4,19\) do not fit"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(call, error, text):
    with pytest.raises(error, match=text):
        call()
