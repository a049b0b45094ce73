"""An axis that is counted from the end is the same axis: values and gradients agree bit by bit."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygen as tg
from tinygen.autograd import operations
from tinygen.testing import arguments, bind, rngs

OPERATIONS = operations.all()
NAMES = {"axis", "axes", "axis1", "axis2", "source", "destination"}
ADD_AXES = {"expand_dims", "stack"}


def counted_otherwise(axis: Any, ndim: int, rng: np.random.Generator) -> Any:
    """The same axis, or some of several, from the other end."""
    if isinstance(axis, tuple | list):
        return tuple(counted_otherwise(a, ndim, rng) if rng.random() < 0.5 else a for a in axis)
    return axis if axis is None else axis - ndim if axis >= 0 else axis + ndim


def value_and_gradients(name: str, args: list, rng: np.random.Generator) -> list[np.ndarray]:
    f, xs = bind(OPERATIONS[name], args)
    leaves = [tg.tensor(x, requires_grad=True) for x in xs]
    y = f(*leaves)
    if not (isinstance(y, tg.Tensor) and y.requires_grad):
        return [np.asarray(y)]
    return [y.data, *(g.data for g in tg.grad(y, leaves, rng.standard_normal(y.shape)))]


@pytest.mark.parametrize("name", [name for name, op in OPERATIONS.items() if NAMES & set(op.parameters)])
@settings(max_examples=15)
@given(data=st.data(), rng=rngs())
def test_axes_count_from_either_end(name: str, data: st.DataObject, rng: np.random.Generator) -> None:
    args = data.draw(arguments(OPERATIONS[name]))
    ndim = np.ndim(args[0][0] if isinstance(args[0], list) else args[0]) + (name in ADD_AXES)
    otherwise = [
        counted_otherwise(arg, ndim, rng) if parameter in NAMES else arg
        for parameter, arg in zip(OPERATIONS[name].parameters, args, strict=False)
    ]
    seed = int(rng.integers(2**32))
    results = [value_and_gradients(name, a, np.random.default_rng(seed)) for a in (args, otherwise)]
    for expected, found in zip(*results, strict=True):
        np.testing.assert_array_equal(found, expected)
