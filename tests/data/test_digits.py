"""The embedded digits: what is in them, how they are split, and that damage is noticed."""

import numpy as np
import pytest

from tinygen.data import digits as digits_module
from tinygen.data import load
from tinygen.errors import DataError


def test_images_are_real_digits_in_the_documented_form() -> None:
    digits = load("digits", split="all")
    assert digits.x.shape == (5000, 28, 28, 1)
    assert digits.x.dtype == np.float32
    assert digits.x.min() == 0
    assert digits.x.max() == 1
    assert digits.name == "digits"
    assert digits.rate is None
    # A digit is ink in the middle of an empty border.
    assert digits.x[:, 7:21, 7:21].mean() > 0.3
    assert digits.x[:, [0, -1]].mean() < 1e-3


def test_split_is_disjoint_complete_and_stratified() -> None:
    train, test, everything = (load("digits", split=split) for split in ("train", "test", "all"))
    assert len(train) == 4000
    assert len(test) == 1000
    np.testing.assert_array_equal(np.bincount(train.labels), np.full(10, 400))
    np.testing.assert_array_equal(np.bincount(test.labels), np.full(10, 100))
    images = {image.tobytes() for image in train.x}
    held_out = {image.tobytes() for image in test.x}
    assert len(images) == 4000
    assert not images & held_out
    assert images | held_out == {image.tobytes() for image in everything.x}
    np.testing.assert_array_equal(np.concatenate([train.labels, test.labels]), everything.labels)
    np.testing.assert_array_equal(load("digits").x, train.x)


def test_labels_belong_to_their_images() -> None:
    """The nearest class mean of the training images is right for four in five held-out images; chance is one in ten."""
    train, test = load("digits"), load("digits", split="test")
    means = np.stack([train.x[train.labels == label].mean(axis=0).ravel() for label in range(10)])
    distance = ((test.x.reshape(1000, 1, -1) - means) ** 2).sum(axis=-1)
    assert (distance.argmin(axis=1) == test.labels).mean() > 0.75


@pytest.mark.parametrize("size", [14, 7, 4, 1])
def test_size_averages_squares_of_pixels(size: int) -> None:
    full, small = load("digits", split="test"), load("digits", split="test", size=size)
    block = 28 // size
    expected = np.zeros((1000, size, size, 1))
    for row in range(block):
        for column in range(block):
            expected += full.x[:, row::block, column::block] / block**2
    assert small.x.dtype == np.float32
    # float32 sums of at most 784 numbers below 1
    np.testing.assert_allclose(small.x, expected, atol=784 * 2.0**-24)


@pytest.mark.parametrize("size", [0, -14, 3, 29, 56])
def test_size_must_divide(size: int) -> None:
    with pytest.raises(DataError, match=rf"digits: size={size} must divide the images' \(H,W\)=\(28,28\)"):
        load("digits", size=size)


def test_a_damaged_file_is_noticed(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    content = (digits_module.files("tinygen.data") / "digits.npz").read_bytes()
    monkeypatch.setattr(digits_module, "files", lambda package: tmp_path)
    with pytest.raises(DataError, match=r"digits: .*digits.npz cannot be read .*: install tinygen anew"):
        load("digits")
    (tmp_path / "digits.npz").write_bytes(content)
    assert len(load("digits")) == 4000
    damaged = bytearray(content)
    damaged[len(content) // 2] ^= 1
    (tmp_path / "digits.npz").write_bytes(damaged)
    with pytest.raises(DataError, match=r"digits: .*digits.npz is damaged"):
        load("digits")
