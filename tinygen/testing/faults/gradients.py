"""Faults of functions with a pullback: in formulas, and in the engine that applies them, `faults.engine`."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from tinygen import Tensor
from tinygen.testing.contracts import check_contract
from tinygen.testing.differences import Vjp
from tinygen.testing.faults.base import Checker, Fault
from tinygen.testing.faults.engine import Engine
from tinygen.testing.gradients import Pullback, check_adjoint, check_subgradient, check_taylor, check_vjp
from tinygen.testing.strategies import arrays

Array = np.ndarray


@dataclass(frozen=True)
class Differentiable:
    """A function of arrays and its ``vjp``, which is tinygen's if None; and the derivative documented at its kinks."""

    f: Callable
    vjp: Vjp | None
    documented: Callable[[Array], Array] | None = None


CHECKERS: dict[str, Checker] = {
    "check_vjp": lambda s, xs, rng: check_vjp(s.f, *xs, vjp=s.vjp, rng=rng),
    "check_adjoint": lambda s, xs, rng: check_adjoint(s.f, *xs, vjp=s.vjp, rng=rng),
    "check_taylor": lambda s, xs, rng: check_taylor(s.f, *xs, vjp=s.vjp, rng=rng),
    "check_contract": lambda s, xs, rng: check_contract(s.f, *xs, vjp=s.vjp, rng=rng),
}
AT_KINKS: dict[str, Checker] = CHECKERS | {
    "check_subgradient": lambda s, xs, rng: check_subgradient(s.f, xs[0], s.documented(xs[0]), vjp=s.vjp, rng=rng)
}
TWICE: dict[str, Checker] = CHECKERS | {
    "check_vjp, order 2": lambda s, xs, rng: check_vjp(s.f, *xs, vjp=s.vjp, order=2, rng=rng)
}


def formula(right: Callable, wrong: Callable, f: Callable) -> Callable[[bool], Differentiable]:
    """Two formulas for the pullback of ``f``."""
    return lambda faulty: Differentiable(f, Pullback(wrong if faulty else right))


# ------------------------------------------------------------------------------------------------------------- formulas

A = np.random.default_rng(0).standard_normal((64, 64))
A_MISREAD = A.copy()
A_MISREAD[3, 41] *= 1.01


@cache
def _in_place(faulty: bool) -> Differentiable:
    def silu(x: Array) -> Array:
        if not faulty:
            x = x.copy()
        x /= 1 + np.exp(-x)
        return x

    def pull(u: Array, x: Array) -> tuple[Array]:
        s = 1 / (1 + np.exp(-x))
        return (u * s * (1 + x * (1 - s)),)

    def vjp(f: Callable, x: Array) -> tuple[Array, Callable]:
        at = x.copy()
        return f(x), lambda u: pull(u, at)

    return Differentiable(silu, vjp)


@cache
def _promoted(faulty: bool) -> Differentiable:
    scale = np.sqrt(2.0) if faulty else float(np.sqrt(2.0))  # NumPy's scalar has a dtype, Python's adopts one
    return Differentiable(lambda x: x * scale, Pullback(lambda u, x: (u * float(scale),)))


@cache
def _relu(faulty: bool) -> Differentiable:
    def pull(u: Array, x: Array) -> tuple[Array]:
        return (u * ((x >= 0).astype(x.dtype) + (x == 0)) if faulty else u * (x > 0),)

    return Differentiable(lambda x: np.maximum(x, 0), Pullback(pull), lambda x: (x > 0).astype(x.dtype))


@cache
def _maximum(faulty: bool) -> Differentiable:
    def share(x: Array) -> Array:
        largest = (x == x.max()).astype(x.dtype)
        return largest if faulty else largest / largest.sum()

    def documented(x: Array) -> Array:
        return (x == x.max()) / (x == x.max()).sum()

    return Differentiable(lambda x: np.asarray(x.max()), Pullback(lambda u, x: (u * share(x),)), documented)


@cache
def _log_above(faulty: bool) -> Differentiable:
    """Log x where x > ¾ and 0 elsewhere, where the slope of the logarithm may be infinite; no example is at ¾."""

    def pull(u: Array, x: Array) -> tuple[Array]:
        chosen = x > 0.75
        with np.errstate(all="ignore"):
            return (u * chosen * (1 / x) if faulty else np.where(chosen, u / x, 0),)

    return Differentiable(lambda x: np.where(x > 0.75, np.log(np.maximum(x, 0.75)), 0), Pullback(pull))


@cache
def _softplus(faulty: bool) -> Differentiable:
    def pull(u: Array, x: Array) -> tuple[Array]:
        with np.errstate(all="ignore"):
            return (u * (np.exp(x) / (1 + np.exp(x))) if faulty else u * np.exp(-np.logaddexp(0, -x)),)

    return Differentiable(lambda x: np.logaddexp(x, 0 * x), Pullback(pull))


@cache
def _cube(faulty: bool) -> Differentiable:
    """x³ = 3 x² x - 2 x³. With a part taken for constant, only the second derivative is wrong."""

    def cube(x: Tensor) -> Tensor:
        fixed = x.detach() if faulty else x
        return 3 * fixed * fixed * x - 2 * fixed * fixed * fixed

    return Differentiable(cube, None)


def engine(f: Callable, **mistake: bool) -> Callable[[bool], Differentiable]:
    """``f`` under an engine with a mistake."""
    right, wrong = Differentiable(f, Engine().vjp), Differentiable(f, Engine(**mistake).vjp)
    return lambda faulty: wrong if faulty else right


def _diamond(x: Any) -> Any:
    """The square is consumed by the result and by the cube; whoever goes from the result straight on is too early."""
    square = x * x
    return square * (square * x)


# ----------------------------------------------------------------------------------------------------------------- list


def one(shape: Any, *, dtype: Any = np.float64, **options: Any) -> SearchStrategy[list[Array]]:
    """A list of one array."""
    return arrays(dtype, shape, **options).map(lambda x: [x])


HALVES = st.lists(st.integers(-12, 12), min_size=6, max_size=6).map(lambda k: [np.array(k).reshape(2, 3) / 2])
"""Halves, so that ties and zeros are common; but most examples have none, and can be judged by differences."""

FAULTS = (
    Fault(
        1,
        "pullback × 1.0001",
        formula(lambda u, x: (u * np.cos(x),), lambda u, x: (u * np.cos(x) * 1.0001,), np.sin),
        one((3, 2)),
        CHECKERS,
        ("check_vjp", "check_adjoint"),
    ),
    Fault(
        2,
        "pullback ignores its cotangent",
        formula(lambda u, x: (u * np.cos(x),), lambda u, x: (np.cos(x),), np.sin),
        one((3, 2)),
        CHECKERS,
        ("check_vjp", "check_adjoint", "check_taylor", "check_contract"),
    ),
    Fault(
        3,
        "wrong sign on one argument",
        formula(lambda u, x, y: (u * 1, -u), lambda u, x, y: (u * 1, u * 1), np.subtract),
        st.tuples(arrays(shape=(3, 2)), arrays(shape=(3, 2))),
        CHECKERS,
        ("check_vjp", "check_adjoint", "check_taylor"),
    ),
    Fault(
        4,
        "one of 4,096 Jacobian entries wrong",
        formula(lambda u, x: (A.T @ u,), lambda u, x: (A_MISREAD.T @ u,), lambda x: A @ x),
        one((64,)),
        CHECKERS,
        ("check_vjp",),
    ),
    Fault(
        5,
        "gradient rows permuted",
        formula(
            lambda u, x: (u[:, None] * 2 * x,),
            lambda u, x: (np.roll(u[:, None] * 2 * x, 1, axis=0),),
            lambda x: (x * x).sum(axis=1),
        ),
        one((4, 3)),
        CHECKERS,
        ("check_vjp", "check_adjoint", "check_taylor"),
    ),
    Fault(
        6,
        "no sum over a stretched axis",
        formula(
            lambda u, x, y: ((u * y).sum(axis=1, keepdims=True), u * x),
            lambda u, x, y: ((u * y)[:, :1], u * x),
            np.multiply,
        ),
        st.tuples(arrays(shape=(3, 1)), arrays(shape=(3, 4))),
        CHECKERS,
        ("check_vjp", "check_adjoint", "check_taylor"),
    ),
    Fault(
        7,
        "average over a stretched axis",
        formula(
            lambda u, x, y: ((u * y).sum(axis=1, keepdims=True), u * x),
            lambda u, x, y: ((u * y).mean(axis=1, keepdims=True), u * x),
            np.multiply,
        ),
        st.tuples(arrays(shape=(3, 1)), arrays(shape=(3, 4))),
        CHECKERS,
        ("check_vjp", "check_adjoint", "check_taylor"),
    ),
    Fault(
        8,
        "x * x overwrites instead of accumulating",
        engine(lambda x: x * x, overwrites=True),
        one((3, 2)),
        CHECKERS,
        ("check_vjp", "check_adjoint", "check_taylor"),
    ),
    Fault(
        9,
        "node visited before all its consumers",
        engine(_diamond, too_early=True),
        one((3, 2)),
        CHECKERS,
        ("check_vjp", "check_adjoint", "check_taylor"),
    ),
    Fault(
        10,
        "second backward doubles",
        engine(lambda x, y: x * y, keeps=True),
        st.tuples(arrays(shape=(3, 2)), arrays(shape=(3, 2))),
        CHECKERS,
        ("check_contract",),
    ),
    Fault(11, "in-place update of an input", _in_place, one((3, 2)), CHECKERS, ("check_contract",)),
    Fault(
        12,
        "gradient is a view of the cotangent",
        formula(lambda u, x: (u.T.copy(),), lambda u, x: (u.T,), np.transpose),
        one((3, 2)),
        CHECKERS,
        ("check_contract",),
    ),
    Fault(14, "float32 promoted", _promoted, one((3, 2), dtype=np.float32), CHECKERS, ("check_contract",)),
    Fault(
        15,
        "0-d becomes (1,)",
        formula(
            lambda u, x, s: (u * s, np.asarray((u * x).sum())),
            lambda u, x, s: (u * s, np.atleast_1d((u * x).sum())),
            np.multiply,
        ),
        st.tuples(arrays(shape=(3,)), arrays(shape=())),
        CHECKERS,
        ("check_vjp", "check_contract"),
    ),
    Fault(16, "relu'(0) = 2", _relu, HALVES, AT_KINKS, ("check_subgradient",)),
    Fault(17, "each of tied maxima gets all the gradient", _maximum, HALVES, AT_KINKS, ("check_subgradient",)),
    Fault(18, "where multiplies by its mask", _log_above, HALVES, CHECKERS, ("check_vjp",)),
    Fault(
        19,
        "naive derivative of softplus overflows",
        _softplus,
        one((3, 2), domain=(-1000, 1000)),
        CHECKERS,
        ("check_vjp",),
    ),
    Fault(20, "second-order term dropped", _cube, one((3, 2)), TWICE, ("check_vjp, order 2",)),
    Fault(
        21,
        "gradient stopped on a leaf of scale 3e5",
        formula(lambda u, x, s: (u / s, -u * x / s**2), lambda u, x, s: (u / s, np.zeros_like(s)), np.divide),
        st.tuples(arrays(shape=(3,), domain=(0.5, 2)), arrays(shape=(3,), domain=(2e5, 4e5))),
        CHECKERS,
        ("check_vjp", "check_adjoint"),
    ),
)
