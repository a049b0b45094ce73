"""What an argument is that is left out: what NumPy takes then, and the last axis where NumPy has no such function."""

import inspect
from collections.abc import Callable

import numpy as np
import pytest

import tinygen as tg
from tinygen.autograd import operations


def defaults(function: Callable) -> dict[str, object]:
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:  # compiled functions have none
        return {}
    return {p.name: p.default for p in parameters if p.default not in (p.empty, np._NoValue)}


SHARED = [
    (name, parameter, default)
    for name, operation in operations.all().items()
    for twin in operation.twins[:1]
    if callable(twin)
    for parameter, default in defaults(twin).items()
    if parameter in defaults(operation.function)
]


@pytest.mark.parametrize(("name", "parameter", "default"), SHARED)
def test_defaults_are_those_of_numpy(name: str, parameter: str, default: object) -> None:
    assert defaults(operations.all()[name].function)[parameter] == default


@pytest.mark.parametrize("f", [tg.softmax, tg.log_softmax], ids=["softmax", "log_softmax"])
def test_softmax_is_along_the_last_axis(f: Callable) -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 4))
    np.testing.assert_array_equal(f(x), f(x, 2))


def test_one_row_is_normalised_as_a_row_of_many() -> None:
    x, weight, bias = np.random.default_rng(0).standard_normal((3, 4))
    np.testing.assert_array_equal(tg.layer_norm(x, weight, bias), tg.layer_norm(x[None], weight, bias)[0])


def test_convolutions_take_every_pixel_and_add_none() -> None:
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((2, 5, 6, 3)), rng.standard_normal((2, 3, 3, 3))
    np.testing.assert_array_equal(tg.conv2d(x, w), tg.conv2d(x, w, None, 1, 0, 1))
    np.testing.assert_array_equal(tg.conv1d(x[0], w[0]), tg.conv1d(x[0], w[0], None, 1, 0, 1, False))
    np.testing.assert_array_equal(tg.conv_transpose2d(x, w), tg.conv_transpose2d(x, w, None, 1, 0, 0))
