import numpy as np
import pytest

from kernels import pooling, reference


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


@pytest.mark.parametrize("part", [np.s_[..., :3], np.s_[..., 2:5], np.s_[:, :2], np.s_[1:, ..., :3], np.s_[..., ::2]])
def test_parts_of_images(part):
    x = np.random.default_rng(9).standard_normal((3, 4, 6, 8)).astype(np.float32)[part]
    np.testing.assert_array_equal(pooling.sum_pool2d(x, (2, 3)), reference.sum_pool2d(x.copy(), (2, 3)))


def test_the_first_channels_are_not_copied():
    images = np.zeros((2, 4, 4, 5), np.float32)
    assert pooling._wider(images[..., :3]) is images
    fixed = images.copy()
    fixed.flags.writeable = False
    for part in images[..., 1:3], images[:1, ..., :3], fixed[..., :3], images.view(np.int32)[..., :3]:
        assert pooling._wider(part) is part
