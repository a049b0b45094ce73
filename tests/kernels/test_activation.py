import numpy as np
import pytest

from kernels import activation, reference


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


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_special_gates_equal_the_reference(dtype):
    info = np.finfo(dtype)
    special = [np.nan, np.inf, -np.inf, 0.0, -0.0, info.max, info.tiny, -info.tiny, 100, -100, 1e4, -1e4]
    a, b = np.meshgrid(np.array(special, dtype), np.array(special, dtype))
    x = np.concatenate([a, b], axis=1)
    tolerances = {"rtol": 6 * info.eps, "atol": info.tiny}
    with np.errstate(all="ignore"):
        expected, saved = reference.gated_tanh(x)
        for result, reference_result in zip(activation.gated_tanh(x), (expected, saved), strict=True):
            np.testing.assert_allclose(result, reference_result, **tolerances)
        gradients = (f(np.ones_like(a), saved) for f in (activation.gated_tanh_grad, reference.gated_tanh_grad))
        np.testing.assert_allclose(*gradients, **tolerances)


@pytest.mark.parametrize("kind", reference.ACTIVATIONS)
def test_what_is_saved_takes_no_memory(kind):
    x = np.ones((2, 3), np.float32)
    y, saved = activation.activate(x, kind)
    assert saved is (x if kind in ("silu", "gelu") else y)


def test_errors_name_the_rule():
    x = np.zeros((2, 3), np.float32)
    with pytest.raises(ValueError, match="unknown kind 'swish'; choose one of identity, relu"):
        activation.activate(x, "swish")
    with pytest.raises(TypeError, match=r"activate: x has dtype int64 .*astype"):
        activation.activate(x.astype(int), "relu")
    with pytest.raises(ValueError, match=r"g has shape \(2, 3\) but saved has \(3, 2\)"):
        activation.activate_grad(x, x.T, "relu")
    with pytest.raises(ValueError, match=r"gated_tanh: x \(M,2C\)=\(2, 3\) does not have an even number of columns"):
        activation.gated_tanh(x)
    with pytest.raises(ValueError, match=r"g \(M,C\)=\(2, 2\) does not fit saved \(M,2C\)=\(2, 2\)"):
        activation.gated_tanh_grad(x[:, :2], x[:, :2])
    with pytest.raises(TypeError, match="saved has dtype float64"):
        activation.activate_grad(x, x.astype(np.float64), "relu")
