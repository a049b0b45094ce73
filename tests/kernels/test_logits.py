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
        for kernel in ("softmax", "log_softmax", "logsumexp"):
            expected = getattr(reference, kernel)(x)
            rtol = (length + 4) * np.finfo(dtype).eps
            np.testing.assert_allclose(getattr(logits, kernel)(x), expected, rtol=rtol, err_msg=kernel)
    assert logits.logsumexp(x)[0] == -inf


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
