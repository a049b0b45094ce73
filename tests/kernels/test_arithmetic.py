from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels import threads
from kernels.arithmetic import BLOCK, SHORT, as_runs
from kernels.calls import Call
from kernels.threads import Series
from tests.kernels.support import normal
from tinygen.testing import rngs

dtypes = st.sampled_from([np.float32, np.float64])
sizes = st.sampled_from([0, 1, 2, 3, 7, SHORT, SHORT + 1])
shapes = st.lists(sizes, max_size=4).map(tuple) | st.sampled_from([(2 * BLOCK + 5,), (3, BLOCK + 1), (BLOCK + 1, 3)])
orders = st.sampled_from(["plain", "transposed", "flipped", "strided", "broadcast"])


def array(order: str, normal: Any, *shape: int) -> np.ndarray:
    """An array of this shape in some place in memory."""
    match order:
        case "transposed":
            return normal(*shape[::-1]).T
        case "flipped":
            return normal(*shape)[tuple(slice(None, None, -1) for _ in shape) or ...]
        case "strided":
            return normal(*[2 * size + 1 for size in shape])[tuple(slice(1, None, 2) for _ in shape) or ...]
        case "broadcast":
            return np.broadcast_to(normal(*[1 if axis % 2 else size for axis, size in enumerate(shape)]), shape)
    return normal(*shape)


def assert_same_bits(function: Any, args: tuple, out: np.ndarray, **options: Any) -> None:
    """What kernels compute is what the function does, on any number of threads, and nothing beside it is written."""
    expected = out.copy()
    function(*args, out=expected, **options)
    whole = out if out.base is None else out.base
    before = whole.copy()
    runs = as_runs(Call(function, args, {"out": out, **options}))
    assert runs is not None
    series = Series(runs)
    for workers in (1, 2, 3):
        threads.set_num_threads(workers)
        out[...] = np.nan
        series()
        np.testing.assert_array_equal(out, expected, strict=True)
        np.testing.assert_array_equal(np.signbit(out), np.signbit(expected))
        out[...] = 0
        untouched = whole.copy()
        whole[...] = before
        out[...] = 0
        np.testing.assert_array_equal(untouched, whole)


@pytest.fixture(autouse=True)
def _small_grain(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(threads, "SERIES_GRAIN", 1e-3)
    before = threads.get_num_threads()
    yield
    threads.set_num_threads(before)


@pytest.mark.parametrize("function", [np.add, np.subtract, np.multiply, np.divide])
@given(shape=shapes, a=orders, b=orders, c=orders.filter(lambda o: o != "broadcast"), dtype=dtypes, rng=rngs())
def test_of_two_arrays(function: Any, shape: tuple, a: str, b: str, c: str, dtype: Any, rng: Any) -> None:
    numbers = partial(normal, rng, dtype)
    assert_same_bits(function, (array(a, numbers, *shape), array(b, numbers, *shape)), array(c, numbers, *shape))


@pytest.mark.parametrize("function", [np.negative, np.square])
@given(shape=shapes, order=orders, dtype=dtypes, rng=rngs())
def test_of_one_array(function: Any, shape: tuple, order: str, dtype: Any, rng: Any) -> None:
    x = array(order, partial(normal, rng, dtype), *shape)
    assert_same_bits(function, (np.where(x > 1, 0, x) if order == "plain" else x,), np.empty(shape, dtype))


@given(shape=shapes, dtype=dtypes, number=st.sampled_from([3, 0.1, -0.0, 1e30]), first=st.booleans(), rng=rngs())
def test_of_numbers(shape: tuple, dtype: Any, number: float, first: bool, rng: Any) -> None:
    x = normal(rng, dtype, *shape)
    assert_same_bits(np.multiply, (number, x) if first else (x, number), np.empty(shape, dtype))


@given(shape=shapes.filter(bool), counts=st.lists(sizes, min_size=1, max_size=3), data=st.data(), rng=rngs())
def test_of_arrays_side_by_side(shape: tuple, counts: list[int], data: st.DataObject, rng: Any) -> None:
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    parts = [normal(rng, np.float32, *np.where(np.arange(len(shape)) == axis % len(shape), n, shape)) for n in counts]
    out = np.concatenate(parts, axis)
    assert_same_bits(np.concatenate, (parts,), np.empty_like(out), axis=axis)


@given(shape=shapes, source=orders, target=orders.filter(lambda o: o != "broadcast"), rng=rngs())
def test_of_copies(shape: tuple, source: str, target: str, rng: Any) -> None:
    numbers = partial(normal, rng, np.float32)
    x, y = array(source, numbers, *shape), array(target, numbers, *shape)
    Series(as_runs(Call(np.copyto, (y, x), {})))()
    np.testing.assert_array_equal(y, x)


def call(function: Any, *args: Any, **options: Any) -> Call:
    return Call(function, args, options)


x = np.ones((2, 3), np.float32)


@pytest.mark.parametrize(
    "other",
    [
        call(np.copyto, np.empty((2, 3)), x),  # another dtype
        call(np.copyto, np.empty((2, 3), int), np.ones((2, 3), int)),
        call(np.copyto, np.empty((2, 3), np.float32), x, where=x > 0),
        call(np.copyto, x[:, :2], x[:, 1:]),  # the same memory
        call(np.add, x, np.float64(2), out=np.empty((2, 3), np.float32)),
        call(np.add, x, x, out=np.empty((2, 3), np.float32), where=True),
        call(np.copyto, np.empty(3, np.float32), np.ones((1, 3), np.float32)),  # an axis more
        call(np.copyto, np.empty(2, np.float32), np.ones(2, [("n", "i2"), ("x", "f4")])["x"]),  # not aligned
        call(np.concatenate, [x, x], out=np.empty(12, np.float32), axis=None),
        call(np.concatenate, [x, [[1, 2, 3]] * 2], out=np.empty((4, 3), np.float32), axis=0),
        call(np.exp, x, out=np.empty((2, 3), np.float32)),
        call(np.sum, x, out=np.empty(2, np.float32), axis=1, keepdims=False),
        call(print, x),
    ],
    ids=repr,
)
def test_other_calls_are_left_alone(other: Call) -> None:
    assert as_runs(other) is None
