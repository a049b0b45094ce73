"""Where rules of calculus end: kinks and ties, infinities, NaN, overflow, and numbers that no formula may spoil."""

import math
from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygen as tg
from tinygen.autograd import operations
from tinygen.testing import arrays, assert_close, check_subgradient, rngs

# At the kink: the function, the point, and the documented derivative.
SUBGRADIENTS: dict[str, tuple[Callable, list[float], list[float] | float]] = {
    "relu": (tg.relu, [0.0, 1.5, -1.5], [0.0, 1.0, 0.0]),
    "relu, composed": (lambda x: operations.relu.composition(x), [0.0, 1.5, -1.5], [0.0, 1.0, 0.0]),
    "abs": (tg.abs, [0.0, -2.0, -0.0], [0.0, -1.0, 0.0]),
    "leaky_relu": (lambda x: tg.leaky_relu(x, 0.3), [0.0], 0.3),
    "elu": (lambda x: tg.elu(x, 0.3), [0.0], 0.3),
    "elu, composed": (lambda x: operations.elu.composition(x, 0.3), [0.0], 0.3),
    "max of equals": (tg.max, [1.0, 3.0, 3.0, 3.0], [0.0, 1 / 3, 1 / 3, 1 / 3]),
    "min of equals": (tg.min, [1.0, 3.0, 1.0], [0.5, 0.0, 0.5]),
    "maximum with an equal": (lambda x: tg.maximum(x, 2.0), [2.0, 3.0, 1.0], [0.5, 1.0, 0.0]),
    "minimum with an equal": (lambda x: tg.minimum(x, 2.0), [2.0, 3.0, 1.0], [0.5, 0.0, 1.0]),
    "clip on its limits": (lambda x: tg.clip(x, -1.0, 1.0), [-1.0, 1.0, 0.0, 5.0], [0.5, 0.5, 1.0, 0.0]),
    "norm at zero": (tg.norm, [0.0, 0.0], [0.0, 0.0]),
    "norm in the maximum": (lambda x: tg.norm(x, math.inf, 0), [2.0, -2.0], [0.5, -0.5]),
    "max_pool2d": (
        lambda x: tg.max_pool2d(x.reshape(1, 2, 2, 1), 2).reshape(()),
        [4.0, 4.0, 1.0, 4.0],
        [1 / 3, 1 / 3, 0.0, 1 / 3],
    ),
}


@pytest.mark.parametrize("case", SUBGRADIENTS)
@settings(max_examples=3)
@given(rng=rngs())
def test_documented_subgradient(case: str, rng: np.random.Generator) -> None:
    f, x, expected = SUBGRADIENTS[case]
    check_subgradient(f, np.array(x), np.array(expected), rng=rng)


@pytest.mark.parametrize("b", [2, 2.0, 0, np.array([2.0]), np.array([0.0])], ids=repr)
def test_power_of_zero_has_a_finite_gradient(b: Any) -> None:
    x = tg.tensor(np.zeros(1), requires_grad=True)
    first = tg.grad(tg.power(x, b), x, np.array([1.7]), create_graph=True)
    assert first.data == [0.0]


def test_power_of_zero_by_its_exponent() -> None:
    b = tg.tensor(np.array([2.0, 0.5, 0.0]), requires_grad=True)
    assert np.array_equal(tg.grad(tg.power(np.zeros(3), b), b, np.array([1.3, -0.4, 0.7])).data, [0.0, 0.0, 0.0])


@pytest.mark.parametrize("number", [-1.5, -1, 0, 0.0, 0.5, 1, 2, 3.5])
@given(x=st.lists(st.sampled_from([-2.0, -1.0, 0.0, 0.5, 1.0, 2.0, math.inf]), min_size=1, max_size=4), rng=rngs())
def test_power_with_a_number_is_power_with_an_array(number: float, x: list[float], rng: np.random.Generator) -> None:
    """Numbers have no dtype and so go another way through the rules; NaN and infinity are where arrays have them."""
    leaf = tg.tensor(np.array(x), requires_grad=True)
    u = rng.standard_normal(len(x))
    with np.errstate(all="ignore"):
        for f in (lambda n: tg.power(leaf, n), lambda n: tg.power(n, leaf)):
            plain, full = f(number), f(np.full(len(x), float(number)))
            assert_close(plain, full)
            assert_close(tg.grad(plain, leaf, u), tg.grad(full, leaf, u))


# ------------------------------------------------------------------------------------------------------- special values

ELEMENTWISE = [
    name
    for name, op in operations.all().items()
    if op.twins and isinstance(op.twins[0], np.ufunc) and len(op.parameters) < 3
]


@pytest.mark.parametrize(
    "name", sorted(set(ELEMENTWISE) - {"logical_and", "logical_or", "logical_not", "matmul", "tanh"})
)
@settings(max_examples=15)
@given(data=st.data(), dtype=st.sampled_from([np.float32, np.float64]))
def test_special_values_are_those_of_numpy(name: str, data: st.DataObject, dtype: type) -> None:
    operation = operations.all()[name]
    args = [data.draw(arrays(dtype, (3,), special=True)) for _ in operation.parameters]
    with np.errstate(all="ignore"):
        assert_close(operation(*map(tg.Tensor, args)), operation.twins[0](*args))


SATURATING: dict[str, tuple[Callable, Callable]] = {
    "sigmoid": (tg.sigmoid, lambda x: np.where(x > 0, 1.0, np.where(x < 0, 0.0, 0.5))),
    "tanh": (tg.tanh, np.sign),
    "softplus": (tg.softplus, lambda x: np.maximum(x, 0)),
    "relu": (tg.relu, lambda x: np.maximum(x, 0)),
    "elu": (tg.elu, lambda x: np.where(x > 0, x, -1.0)),
    "gelu": (tg.gelu, lambda x: np.maximum(x, 0)),
    "silu": (tg.silu, lambda x: np.maximum(x, 0)),
    "logaddexp with 0": (lambda x: tg.logaddexp(x, 0), lambda x: np.maximum(x, 0)),
    "logsumexp with 0": (lambda x: tg.logsumexp(tg.stack([x, 0 * x]), 0), lambda x: np.maximum(x, 0)),
    "softmax with 0": (lambda x: tg.softmax(tg.stack([x, 0 * x]), 0)[0], lambda x: (x > 0) * 1.0),
    "log_softmax with 0": (lambda x: tg.log_softmax(tg.stack([x, 0 * x]), 0)[0], lambda x: np.minimum(x, 0)),
}


@pytest.mark.parametrize("case", SATURATING)
@settings(max_examples=10)
@given(
    x=st.lists(st.floats(1e4, 1e18) | st.floats(-1e18, -1e4), min_size=1, max_size=4),
    dtype=st.sampled_from([np.float32, np.float64]),
    order=st.integers(1, 2),
    rng=rngs(),
)
def test_large_arguments_saturate(case: str, x: list[float], dtype: type, order: int, rng: np.random.Generator) -> None:
    f, limit = SATURATING[case]
    leaf = tg.tensor(np.array(x, dtype), requires_grad=True)
    y = f(leaf)
    assert_close(y.data.astype(np.float64), np.asarray(limit(leaf.data.astype(np.float64))), rtol=1e-6, error=1e-30)
    u = rng.standard_normal(y.shape).astype(dtype)
    g = tg.grad(y, leaf, u, create_graph=order > 1)
    assert np.isfinite(g.data).all() and (np.abs(g.data) <= np.abs(u)).all()


@pytest.mark.parametrize("f", [tg.logsumexp, lambda x: reduce(tg.logaddexp, list(x))], ids=["logsumexp", "logaddexp"])
@given(values=st.lists(st.sampled_from([-math.inf, 0.0, 1.0, 1e3]), min_size=1, max_size=4), rng=rngs())
def test_log_of_a_sum_of_nothing_likely(f: Callable, values: list[float], rng: np.random.Generator) -> None:
    x = tg.tensor(np.array(values), requires_grad=True)
    y = f(x)
    assert y.data == np.logaddexp.reduce(x.data) or np.isclose(y.data, np.logaddexp.reduce(x.data), rtol=1e-14)
    g = tg.grad(y, x).data
    assert not np.isnan(g).any() and (g >= 0).all()
    assert math.isclose(g.sum(), 1.0, rel_tol=1e-12) or y.data == -math.inf


@settings(max_examples=30)
@given(data=st.data(), rng=rngs())
def test_where_adds_no_nan(data: st.DataObject, rng: np.random.Generator) -> None:
    """What is not chosen may hold anything: its gradient is 0 and the chosen one's is the cotangent, bit by bit."""
    a, b = (tg.tensor(data.draw(arrays(np.float64, (4,), special=True)), requires_grad=True) for _ in range(2))
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=4, max_size=4)))
    u = rng.standard_normal(4)
    ga, gb = tg.grad(tg.where(mask, a, b), [a, b], u)
    assert np.array_equal(ga.data, np.where(mask, u, 0)) and np.array_equal(gb.data, np.where(mask, 0, u))


def test_nan_and_infinity_pass_through_reductions() -> None:
    x = np.array([[1.0, np.nan], [np.inf, 2.0]])
    with np.errstate(invalid="ignore"):
        for name in ("sum", "mean", "max", "min", "cumsum"):
            assert_close(getattr(tg, name)(tg.Tensor(x), 1), getattr(np, name)(x, axis=1))


# ------------------------------------------------------------------------------------------------------------- one cast


@given(x=arrays(np.float32, (3,)), rng=rngs())
def test_astype_casts_the_gradient_back(x: np.ndarray, rng: np.random.Generator) -> None:
    leaf = tg.tensor(x, requires_grad=True)
    y = leaf.astype(np.float64)
    u = rng.standard_normal(3)
    g = tg.grad(y, leaf, u)
    assert y.dtype == np.float64 and g.dtype == np.float32
    assert np.array_equal(g.data, u.astype(np.float32))


@settings(max_examples=20)
@given(p=st.sampled_from([0.0, 0.25, 0.8]), seed=st.integers(0, 2**32 - 1))
def test_dropout_keeps_the_share_it_says(p: float, seed: int) -> None:
    n = 20_000
    x = np.random.default_rng(seed).uniform(1, 2, n).astype(np.float32)
    y = tg.dropout(tg.Tensor(x), p, np.random.default_rng(seed + 1)).data
    kept = y != 0
    assert_close(y[kept], (x[kept] / np.float32(1 - p)))
    # Hoeffding: a share is off by t with probability below 2 exp(-2 n t²) = 1e-6.
    assert abs(kept.mean() - (1 - p)) <= math.sqrt(math.log(2e6) / (2 * n))


def test_shape_errors_name_shapes() -> None:
    with pytest.raises(
        tg.errors.ShapeError, match=r"conv2d: x has C=3 in \(N,H,W,C\)=\(8,28,28,3\) but w expects C_in=1"
    ):
        tg.conv2d(np.zeros((8, 28, 28, 3)), np.zeros((3, 3, 1, 32)))
    with pytest.raises(tg.errors.ShapeError, match="matmul: a has K=3"):
        tg.matmul(np.zeros((2, 3)), np.zeros((4, 2)))
    with pytest.raises(tg.errors.ShapeError, match="solve_triangular"):
        tg.solve_triangular(np.eye(3), np.zeros((2, 1)))
    with pytest.raises(tg.errors.DTypeError, match="needs floating"):
        tg.relu(np.arange(3))


@pytest.mark.parametrize("target", [1, True, np.float64(1), np.ones(3, bool)])
def test_targets_that_are_scalars_or_truth_values_adopt_the_dtype_of_logits(target):
    logits = tg.tensor(np.array([0.0, -3.0, 200.0], np.float32))
    expected = tg.binary_cross_entropy(logits, np.ones(3, np.float32))
    found = tg.binary_cross_entropy(logits, target)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found.data, expected.data)
