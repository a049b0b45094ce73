import numpy as np
import pytest

from kernels import logits, reference


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("length", [1, 3, 40])
def test_special_rows_equal_the_reference(dtype, length):
    nan, inf = np.nan, np.inf
    patterns = [(-inf,), (inf,), (nan,), (-nan,), (1, -inf), (1, inf), (inf, -inf), (0, nan), (nan, inf), (1e4, -1e4)]
    x = np.array([np.resize(np.array(pattern, dtype), length) for pattern in patterns])
    with np.errstate(all="ignore"):
        for kernel in ("softmax", "log_softmax"):
            expected = getattr(reference, kernel)(x)
            rtol = (length + 4) * np.finfo(dtype).eps
            np.testing.assert_allclose(getattr(logits, kernel)(x), expected, rtol=rtol, err_msg=kernel)
        labels = np.arange(len(x)) % length
        results, expected = logits.cross_entropy(x, labels), reference.cross_entropy(x, labels)
        np.testing.assert_allclose(results, expected, rtol=rtol)
        gradients = (
            f(x[:, 0], x, labels, *expected[1:]) for f in (logits.cross_entropy_grad, reference.cross_entropy_grad)
        )
        np.testing.assert_allclose(*gradients, rtol=rtol)


@pytest.mark.parametrize("label", [-1, 3, 2**62, -(2**62)])
def test_a_label_out_of_range_is_not_looked_up(label):
    """A call that is noted and made again does not see the checks of the operation."""
    x = np.zeros((1, 3), np.float32)
    y, top, log_sum = logits.cross_entropy(x, np.array([label]))
    assert np.isnan(y)
    np.testing.assert_allclose(logits.cross_entropy_grad(x[0, :1] + 1, x, np.array([label]), top, log_sum), 1 / 3)


def test_labels_are_checked():
    x, labels = np.zeros((2, 3), np.float32), np.zeros(2, np.int64)
    with pytest.raises(TypeError, match="labels must be an array of int64, not int32"):
        logits.cross_entropy(x, labels.astype(np.int32))
    with pytest.raises(ValueError, match=r"labels \(M\)=\(1,\) must be as many as x has rows, 2"):
        logits.cross_entropy(x, labels[:1])
    with pytest.raises(ValueError, match=r"as many elements as x \(M,C\)=\(2, 3\) has rows"):
        logits.cross_entropy_grad(x[:, 0], x, labels, x[:, 0], x[0])


def test_errors_name_the_rule():
    x = np.zeros((2, 3), np.float32)
    for kernel in (logits.softmax, logits.log_softmax, lambda x: logits.cross_entropy(x, np.zeros(2, np.int64))):
        with pytest.raises(ValueError, match=r"x \(M,C\)=\(2, 0\) has rows without elements"):
            kernel(x[:, :0])
        with pytest.raises(ValueError, match=r"x must have axes \(M,C\)"):
            kernel(x[0])
    for gradient in (logits.softmax_grad, logits.log_softmax_grad):
        with pytest.raises(ValueError, match=r"g \(M,C\)=\(2, 2\) must have the shape of y, \(2, 3\)"):
            gradient(x[:, :2], x)
        with pytest.raises(TypeError, match="g has dtype float64"):
            gradient(x.astype(np.float64), x)
