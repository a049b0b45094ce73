"""The gradient checkers that people use today, as checkers of functions with a pullback, to be measured beside ours.

Each is run as its manual says, in float64 and with its own tolerances. A peer's engine never sees the function's code:
it is given an operation of its own, whose forward and backward call the function and its pullback.
"""

from collections.abc import Callable
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np

from tinygen import func
from tinygen.testing.faults.base import Checker
from tinygen.testing.faults.gradients import Differentiable
from tinygen.testing.verdicts import CheckError, as_array

Array = np.ndarray


def installed() -> dict[str, Checker]:
    """The peers' checkers that can be run here, by name."""
    return {name: run for name, (module, run) in PEERS.items() if find_spec(module)}


def _rejects(run: Callable[[], Any]) -> None:
    """However a peer complains, by its verdict or by an error of its engine, it has rejected the function."""
    try:
        run()
    except Exception as error:
        raise CheckError(f"{type(error).__name__}: {error}") from error


def _pullback(s: Differentiable, xs: list[Array]) -> tuple[Array, Callable[[Array], list[Array]]]:
    """The value and the pullback at ``xs``, between arrays."""
    y, pullback = (s.vjp or func.vjp)(s.f, *xs)
    return as_array(y), lambda u: [as_array(g) for g in pullback(u)]


def _second(s: Differentiable, u: Array, x: Array) -> tuple[Array, Callable[[Array], list[Array]]]:
    """The value and the pullback of the pullback itself, for a function of one argument of tinygen's."""
    y, pullback = func.vjp(lambda u, x: func.vjp(s.f, x)[1](u)[0], u, x)
    return as_array(y), lambda w: [as_array(g) for g in pullback(w)]


def autograd(s: Differentiable, example: Any, rng: np.random.Generator) -> None:
    """`autograd.test_util.check_grads` (HIPS)."""
    extend, test_util = import_module("autograd.extend"), import_module("autograd.test_util")

    def operation(at: Callable) -> Callable:
        """An operation of autograd's; ``at(*xs)`` gives its value and pullback."""
        f = extend.primitive(lambda *xs: at(*xs)[0])

        def maker(argnums: tuple, value: Any, xs: tuple, kwargs: dict) -> Callable:
            if s.vjp is None and at is first:
                return lambda u: [gradient(u, *xs)]
            pullback = at(*xs)[1]

            def pulled(u: Array) -> list[Array]:
                gradients = pullback(u)
                return [gradients[i] for i in argnums]

            return pulled

        extend.defvjp_argnums(f, maker)
        return f

    def first(*xs: Array) -> Any:
        return _pullback(s, list(xs))

    gradient = operation(lambda u, x: _second(s, u, x))
    f, xs = operation(first), [x.astype(np.float64) for x in example]
    np.random.seed(rng.integers(2**32))  # noqa: NPY002 - autograd draws its directions from there
    every = tuple(range(len(xs)))
    _rejects(lambda: test_util.check_grads(f, argnum=every, modes=["rev"], order=1 if s.vjp else 2)(*xs))


def torch(fast: bool) -> Checker:
    """`torch.autograd.gradcheck`, and `gradgradcheck` for what can be differentiated twice."""

    def check(s: Differentiable, example: Any, rng: np.random.Generator) -> None:
        torch = import_module("torch")

        def operation(at: Callable, backward: Callable | None = None) -> Callable:
            class Operation(torch.autograd.Function):  # type: ignore[name-defined]
                @staticmethod
                def forward(ctx: Any, *xs: Any) -> Any:
                    y, ctx.pullback = at(*[x.numpy() for x in xs])
                    ctx.save_for_backward(*xs)
                    return torch.from_numpy(np.array(y))

                @staticmethod
                def backward(ctx: Any, u: Any) -> Any:
                    if backward:
                        return backward(u, *ctx.saved_tensors)
                    pulled = ctx.pullback(u.detach().numpy())
                    return tuple(torch.from_numpy(np.asarray(g)) for g in pulled)

            return Operation.apply

        gradient = operation(lambda u, x: _second(s, u, x))
        f = operation(lambda *xs: _pullback(s, list(xs)), None if s.vjp else gradient)
        xs = [torch.tensor(x.astype(np.float64), requires_grad=True) for x in example]
        _rejects(lambda: torch.autograd.gradcheck(f, xs, fast_mode=fast))
        if s.vjp is None:
            _rejects(lambda: torch.autograd.gradgradcheck(f, xs, fast_mode=fast))

    return check


@cache  # JAX compiles what is called, once for each function object
def _jax_operation(at: Callable, twice: Callable | None = None) -> Callable:
    """An operation of JAX; ``at(*xs)`` gives its value and pullback, and ``twice`` is the pullback as an operation."""
    jax = import_module("jax")

    def value(*xs: Any) -> Array:
        return at(*map(np.asarray, xs))[0]

    def pulled(u: Any, *xs: Any) -> list[Array]:
        return [np.asarray(g) for g in at(*map(np.asarray, xs))[1](np.asarray(u))]

    def like(a: Any) -> Any:
        return jax.ShapeDtypeStruct(a.shape, a.dtype)

    @jax.custom_vjp
    def f(*xs: Any) -> Any:
        return jax.pure_callback(value, like(value(*[np.full(x.shape, 0.5) for x in xs])), *xs)

    def backward(xs: tuple, u: Any) -> tuple:
        return (twice(u, *xs),) if twice else tuple(jax.pure_callback(pulled, list(map(like, xs)), u, *xs))

    f.defvjp(lambda *xs: (f(*xs), xs), backward)
    return f


@cache
def _for_jax(s: Differentiable) -> Callable:
    twice = None if s.vjp else _jax_operation(lambda u, x: _second(s, u, x))
    return _jax_operation(lambda *xs: _pullback(s, list(xs)), twice)


def jax(s: Differentiable, example: Any, rng: np.random.Generator) -> None:
    """`jax.test_util.check_grads` in reverse mode."""
    jax, test_util = import_module("jax"), import_module("jax.test_util")
    jax.config.update("jax_enable_x64", True)
    xs = [jax.numpy.asarray(x.astype(np.float64)) for x in example]
    _rejects(lambda: test_util.check_grads(_for_jax(s), xs, order=1 if s.vjp else 2, modes=["rev"]))


PEERS: dict[str, tuple[str, Checker]] = {
    "autograd check_grads": ("autograd", autograd),
    "torch gradcheck": ("torch", torch(fast=False)),
    "torch gradcheck, fast": ("torch", torch(fast=True)),
    "jax check_grads": ("jax", jax),
}
