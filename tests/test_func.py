"""Functional transforms: against differences, against one another, and nested in any way."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings

import tinygen as tg
from tinygen import func
from tinygen.errors import GraphError, ShapeError
from tinygen.testing import arrays, assert_close, check_vjp, rngs

vectors = arrays(np.float64, (3,), domain=(-1.5, 1.5))
few = settings(max_examples=15)


def mix(x: tg.Tensor, y: tg.Tensor) -> tg.Tensor:
    return tg.stack([tg.sin(x * y).sum(), (tg.exp(x) * y).sum()])


def number(x: tg.Tensor) -> tg.Tensor:
    return (tg.sin(x) * tg.exp(x[::-1])).sum() + x[0] * x[1] * x[2]


def slope(f: Callable, x: np.ndarray, v: np.ndarray, h: float = 2.0**-12) -> np.ndarray:
    """The derivative along v to about h⁴: two central differences, extrapolated."""
    wide, near = ((f(x + t * v) - f(x - t * v)) / (2 * t) for t in (h, h / 2))
    return (4 * near - wide) / 3


@few
@given(x=vectors, y=vectors, rng=rngs())
def test_vjp_and_argnums(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> None:
    check_vjp(mix, x, y, order=2, rng=rng)
    value, (by_y, by_x) = func.value_and_grad(lambda x, y: mix(x, y).sum(), (1, 0))(x, y)
    assert_close(value, np.sin(x * y).sum() + (np.exp(x) * y).sum(), error=1e-13)
    assert_close(by_x, np.cos(x * y) * y + np.exp(x) * y, error=1e-13)
    assert_close(by_y, np.cos(x * y) * x + np.exp(x), error=1e-13)
    assert_close(func.grad(lambda x, y: mix(x, y).sum(), 1)(x, y), by_y)


@few
@given(x=vectors, v=vectors)
def test_jvp_is_the_slope(x: np.ndarray, v: np.ndarray) -> None:
    y, tangent = func.jvp(lambda x: tg.sin(x) * x[::-1], (x,), (v,))
    f = lambda x: np.sin(x) * x[::-1]  # noqa: E731
    assert_close(y, f(x))
    assert_close(tangent, slope(f, x, v), error=1e-9)
    y, tangent = func.jvp(mix, (x, v), (v, x))
    both = slope(lambda z: mix(tg.Tensor(z[:3]), tg.Tensor(z[3:])).data, np.r_[x, v], np.r_[v, x])
    assert_close(tangent, both, error=1e-9)


@few
@given(x=vectors, v=vectors)
def test_hessian_and_products(x: np.ndarray, v: np.ndarray) -> None:
    h = func.hessian(number)(x)
    assert_close(h, h.data.T, error=1e-13)
    assert_close(func.hvp(number, (x,), (v,)), h.data @ v, error=1e-12)
    assert_close(h.data @ v, slope(lambda x: func.grad(number)(x).data, x, v), error=1e-8)
    parts = func.hvp(lambda a, b: mix(a, b).sum(), (x, v), (v, x))
    whole = func.hvp(lambda z: mix(z[:3], z[3:]).sum(), (np.r_[x, v],), (np.r_[v, x],))
    assert_close(np.concatenate([p.data for p in parts]), whole, error=1e-12)


@few
@given(x=vectors)
def test_jacobian(x: np.ndarray) -> None:
    outer = func.jacobian(lambda x: tg.expand_dims(x, 0) * tg.expand_dims(x, 1))(x)
    expected = np.einsum("ik,j->ijk", np.eye(3), x) + np.einsum("jk,i->ijk", np.eye(3), x)
    assert_close(outer, expected, error=1e-14)
    second = func.jacobian(lambda a, b: a * b * b, 1)(x, x + 1)
    assert_close(second, np.diag(2 * x * (x + 1)), error=1e-14)
    assert func.jacobian(lambda x: x[:0])(x).shape == (0, 3)
    assert func.jacobian(lambda x: x.sum())(x).shape == (3,)


# -------------------------------------------------------------------------------------------------------------- nesting


@few
@given(x=vectors, y=vectors)
def test_closures_over_what_an_outer_transform_watches(x: np.ndarray, y: np.ndarray) -> None:
    """d/dx of (d/dy of x y², at y) is 2 y: the inner transform must not stop the outer one."""
    inner = lambda x: func.grad(lambda y: (x * y * y).sum())(tg.Tensor(y))  # noqa: E731
    assert_close(func.grad(lambda x: inner(x).sum())(x), 2 * y, error=1e-14)
    # ... and the outer argument used as the inner argument too: d/dx of x · (2 x y)|y=x = d/dx 2x³.
    both = func.grad(lambda x: (x * func.grad(lambda y: (x * y * y).sum())(x)).sum())(x)
    assert_close(both, 6 * x * x, error=1e-13)


@few
@given(x=vectors)
def test_mixed_nestings_agree(x: np.ndarray) -> None:
    h = func.hessian(number)(x).data
    forward_over_reverse = np.stack([func.jvp(func.grad(number), (x,), (e,))[1].data for e in np.eye(3)])
    reverse_over_forward = np.stack(
        [func.grad(lambda x, e=e: func.jvp(number, (x,), (e,))[1])(x).data for e in np.eye(3)]
    )
    forward_over_forward = [
        [float(func.jvp(lambda x, e=e: func.jvp(number, (x,), (e,))[1], (x,), (d,))[1]) for e in np.eye(3)]
        for d in np.eye(3)
    ]
    for other in (forward_over_reverse, reverse_over_forward, np.array(forward_over_forward)):
        assert_close(other, h, error=1e-12)


@few
@given(x=vectors)
def test_third_derivatives(x: np.ndarray) -> None:
    third = func.jacobian(func.hessian(lambda x: (x**4).sum()))(x)
    expected = np.einsum("ij,jk,i->ijk", np.eye(3), np.eye(3), 24 * x)
    assert_close(third, expected, error=1e-12)


@few
@given(x=vectors, w=vectors)
def test_parameters_that_the_function_uses(x: np.ndarray, w: np.ndarray) -> None:
    """A transform's result can be differentiated by parameters that its function closes over."""
    weights = tg.tensor(w, requires_grad=True)
    value, gradient = func.value_and_grad(lambda x: (tg.sin(x) * weights).sum())(x)
    assert_close(tg.grad((gradient * gradient).sum(), weights), 2 * np.cos(x) ** 2 * w, error=1e-14)
    assert_close(tg.grad(value, weights), np.sin(x), error=1e-14)
    _, pullback = func.vjp(lambda x: tg.sin(x) * weights, x)
    (pulled,) = pullback(np.ones(3))
    assert_close(tg.grad(pulled.sum(), weights), np.cos(x), error=1e-14)
    _, tangent = func.jvp(lambda x: tg.sin(x) * weights, (x,), (np.ones(3),))
    assert_close(tg.grad(tangent.sum(), weights), np.cos(x), error=1e-14)
    assert weights.grad is None


@few
@given(x=vectors, u=vectors)
def test_a_pullback_is_linear_and_differentiable_in_its_cotangent(x: np.ndarray, u: np.ndarray) -> None:
    _, pullback = func.vjp(tg.sin, x)
    assert_close(pullback(2 * u)[0], 2 * np.cos(x) * u, error=1e-14)
    cotangent = tg.tensor(u, requires_grad=True)
    assert_close(tg.grad((pullback(cotangent)[0] ** 2).sum(), cotangent), 2 * np.cos(x) ** 2 * u, error=1e-14)


def test_same_argument_twice() -> None:
    x = tg.tensor(np.array([2.0, 3.0]))
    by_a, by_b = func.grad(lambda a, b: (a * b * b).sum(), (0, 1))(x, x)
    assert np.array_equal(by_a.data, [4.0, 9.0]) and np.array_equal(by_b.data, [8.0, 18.0])


def test_results_are_plain_where_nothing_outside_is_watched() -> None:
    x = tg.tensor([1.0, 2.0])
    value, gradient = func.value_and_grad(lambda x: (x * x).sum())(x)
    assert not value.requires_grad and not gradient.requires_grad and gradient.dtype == np.float32
    assert not x.requires_grad and x.grad is None


def test_what_is_not_used_has_zero_gradients() -> None:
    x, y = np.ones(2), np.ones(3)
    assert np.array_equal(func.grad(lambda x, y: (x * 2.0).sum(), 1)(x, y).data, np.zeros(3))
    assert np.array_equal(func.jvp(lambda x, y: y * 1.0, (x, y), (x, y))[1].data, y)
    assert np.array_equal(func.hessian(lambda x: (x * 2.0).sum())(x).data, np.zeros((2, 2)))


def test_errors() -> None:
    with pytest.raises(ShapeError, match="single number"):
        func.grad(lambda x: x)(np.ones(2))
    with pytest.raises(ShapeError, match="jvp"):
        func.jvp(tg.sin, (np.ones(2),), (np.ones(3),))
    with pytest.raises(ShapeError, match="jvp"):
        func.jvp(tg.sin, (np.ones(2),), ())
    with pytest.raises(GraphError, match="must return a Tensor"):
        func.grad(lambda x: 3.0)(np.ones(2))
