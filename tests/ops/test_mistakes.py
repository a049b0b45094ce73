"""What a user can get wrong with operations: a typed error that names the operation, and nothing computed by guess."""

import numpy as np
import pytest

import tinygen as tg
from tinygen.errors import DataError, DTypeError, ShapeError

X = tg.tensor(np.ones((3, 4), np.float32), requires_grad=True)
IMAGE = np.ones((2, 5, 5, 1), np.float32)
KERNEL = np.ones((3, 3, 1, 2), np.float32)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: X + tg.tensor([1.0, 2.0]), ShapeError, r"add: .*a float32 \(3, 4\), b float32 \(2,\)"),
        (lambda: tg.where(X > 0, X, tg.tensor([1.0, 2.0])), ShapeError, "where: "),
        (lambda: X.sum(3), ShapeError, "sum: axis 3"),
        (lambda: tg.transpose(X, (0, 0)), ShapeError, "transpose: repeated axis"),
        (lambda: X + "a", DTypeError, "add: "),
        (lambda: X + ["a", "b"], DTypeError, "add: argument b is not numbers"),
        (lambda: tg.tensor(["a", "b"]), DTypeError, "expected numbers"),
        (lambda: tg.tensor([[1.0], [1.0, 2.0]]), ShapeError, "nested evenly"),
        (lambda: tg.take(X, [0], axis=3), ShapeError, "take: axis 3"),
        (lambda: tg.expand_dims(X, 7), ShapeError, "expand_dims: axis 7"),
        (lambda: tg.flip(X, 5), ShapeError, "flip: axis 5"),
        (lambda: tg.moveaxis(X, 5, 0), ShapeError, "moveaxis: axis 5"),
        (lambda: tg.squeeze(tg.tensor(1.0), 0), ShapeError, "squeeze: axis 0"),
        (lambda: tg.squeeze(X, 0), ShapeError, r"squeeze: axis 0 of shape \(3, 4\) has a size other than 1"),
        (lambda: tg.upsample2d(X, 2), ShapeError, r"upsample2d: x must be \(N,H,W,C\), got shape \(3, 4\)"),
        (lambda: tg.split(X, 0), ShapeError, "split: "),
        (lambda: tg.matmul(X, X), ShapeError, r"K=4 in \(\.\.\.,M,K\)=\(3, 4\) but b has K=3"),
        (lambda: tg.matmul(2.0, X), ShapeError, "matmul: both arguments need at least one axis"),
        (lambda: tg.matmul(X, 2.0), ShapeError, "matmul: both arguments need at least one axis"),
        (lambda: tg.dot(X, np.ones((5, 2), np.float32)), ShapeError, r"dot: a has K=4 .* but b has K=5"),
        (lambda: tg.dot(X, np.ones((3, 2), np.float32)), ShapeError, r"dot: a has K=4 .* but b has K=3"),
        (lambda: tg.linear(X, np.ones((3, 2), np.float32)), ShapeError, "C_in must be equal"),
        (lambda: tg.linear(X, np.ones((5, 2), np.float32)), ShapeError, "C_in must be equal"),
        (lambda: tg.linear(X, np.ones(4, np.float32)), ShapeError, r"w is \(C_in,C_out\)=\(4,\)"),
        (lambda: tg.linear(X, np.ones((4, 2, 2), np.float32)), ShapeError, r"w is \(C_in,C_out\)=\(4, 2, 2\)"),
        (lambda: tg.norm(tg.tensor(2.0), 1), ShapeError, "norm: ord=1 over 0 axes"),
        (lambda: tg.conv1d(IMAGE[0], KERNEL[0].repeat(2, 1)), ShapeError, "conv1d: .* with equal C_in"),
        (lambda: tg.conv2d(IMAGE, KERNEL, np.ones(1, np.float32)), ShapeError, r"conv2d: b is \(C_out,\)=\(1\)"),
        (lambda: tg.conv2d(IMAGE, KERNEL, addend=np.ones((1, 1, 2, 1), np.float32)), ShapeError, "conv2d: addend is"),
        (lambda: tg.conv2d(IMAGE, KERNEL, stride=1.5), ShapeError, "stride=1.5 must be a whole number"),
        (lambda: tg.conv2d(IMAGE, KERNEL, padding=(1, 1, 1)), ShapeError, "padding="),
        (lambda: tg.conv2d(IMAGE, KERNEL.swapaxes(2, 3)), ShapeError, "C=1 in .* but w expects C_in=2"),
        (lambda: tg.conv_transpose2d(IMAGE, KERNEL, np.ones(3, np.float32)), ShapeError, r"b is \(C_out,\)=\(3\)"),
        (lambda: tg.group_norm(X, 0, np.ones(4, np.float32), np.ones(4, np.float32)), ShapeError, "groups=0"),
        (
            lambda: tg.group_norm(X, 2, np.ones(4, np.float32), np.ones(4, np.float32), activation="relu"),
            ValueError,
            "group_norm: unknown activation 'relu'; choose one of identity, silu",
        ),
        (lambda: tg.layer_norm(X, np.ones(3, np.float32), np.ones(4, np.float32)), ShapeError, r"weight \(3,\)"),
        (lambda: tg.leaky_relu(X, -0.5), ValueError, "slope=-0.5 must be at least 0"),
        (
            lambda: tg.gated_tanh(X[:, :3]),
            ShapeError,
            r"gated_tanh: x \(\.\.\.,2C\)=\(3, 3\) must have an even last axis",
        ),
        (
            lambda: tg.sinusoids(X[0], X),
            ShapeError,
            r"sinusoids: frequencies must be \(F\), got \(3, 4\)",
        ),
        (
            lambda: tg.bounded_affine(X, X),
            ShapeError,
            r"bounded_affine: theta \(\.\.\.,2C\)=\(3, 4\) does not fit x \(\.\.\.,C\)=\(3, 4\)",
        ),
        (lambda: tg.cross_entropy(tg.tensor(1.0), 0), ShapeError, r"logits must be \(\.\.\.,K\)"),
        (lambda: tg.cross_entropy(X, [0, 1]), ShapeError, "cross_entropy: .*broadcast"),
        (lambda: tg.cross_entropy(X, [0, 1, 4]), DataError, "labels must be integers from 0 to K-1=3"),
        (lambda: tg.cross_entropy(X, [0, 1, -1]), DataError, "labels must be integers from 0 to K-1=3"),
        (lambda: tg.cross_entropy(X, [0.0, 1.0, 2.0]), DataError, "labels must be integers"),
        (lambda: tg.elu(X, -0.5), ValueError, "alpha=-0.5 must be at least 0"),
        (lambda: tg.dropout(X, 1.0, np.random.default_rng(0)), ValueError, "p=1.0"),
        (lambda: tg.tensor([6]) & 3, DTypeError, "boolean Tensors"),
        (lambda: ~tg.tensor([1]), DTypeError, "boolean Tensors"),
        (lambda: tg.func.hvp(lambda x: (x**2).sum(), (X,), (X[0],)), ShapeError, "hvp: xs have shapes"),
        (lambda: tg.func.jvp(tg.exp, X, X), ShapeError, r"jvp\(f, \(x,\), \(v,\)\)"),
    ],
)
def test_mistakes_are_named(call, error, text):
    with pytest.raises(error, match=text):
        call()


def test_take_along_axis_broadcasts_as_numpy_does():
    x, index = np.arange(12.0).reshape(3, 4), np.array([[1, 0]])
    np.testing.assert_array_equal(tg.take_along_axis(x, index, 1), np.take_along_axis(x, index, 1))


def test_a_tensor_made_of_a_tensor_keeps_its_dtype():
    assert tg.Tensor(tg.tensor(np.ones(2))).dtype == np.float64
