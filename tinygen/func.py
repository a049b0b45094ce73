"""Derivatives of functions, with JAX's conventions, for functions from Tensors to one Tensor.

The transforms nest, and their results can be differentiated further with respect to whatever else requires a gradient:
parameters that the function uses, or arguments that an outer transform watches.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinygen.autograd import Tensor
from tinygen.autograd import grad as _grad
from tinygen.autograd import operations as op
from tinygen.autograd.context import recorded
from tinygen.autograd.graph import Node, ancestors
from tinygen.errors import GraphError, ShapeError


def value_and_grad(f: Callable, argnums: int | Sequence[int] = 0) -> Callable:
    """A function that returns ``f(*args)``, which must be a single number, and its gradient.

    Parameters
    ----------
    f : function of Tensors
    argnums : which argument to differentiate; a sequence gives a tuple of gradients

    Examples
    --------
    >>> import tinygen as tg
    >>> tg.func.value_and_grad(lambda x: (x**2).sum())(tg.tensor([1.0, 2.0]))
    (tensor(5., dtype=float32), tensor([2., 4.], dtype=float32))
    """

    def differentiated(*args: Any) -> tuple[Tensor, Any]:
        y, watched, further = _evaluate(f, args, argnums)
        if y.size != 1:
            raise ShapeError(
                f"grad: the function must return a single number, not shape {y.shape}; see vjp and jacobian"
            )
        gradients = _pull(y, watched, np.ones(y.shape, y.dtype), further)
        return (y if further else y.detach()), (gradients[0] if isinstance(argnums, int) else gradients)

    return differentiated


def grad(f: Callable, argnums: int | Sequence[int] = 0) -> Callable:
    """A function that returns the gradient of ``f``; see `value_and_grad`.

    Examples
    --------
    >>> import tinygen as tg
    >>> cube = lambda x: x**3
    >>> tg.func.grad(tg.func.grad(cube))(tg.tensor(2.0))
    tensor(12., dtype=float32)
    """
    both = value_and_grad(f, argnums)
    return lambda *args: both(*args)[1]


def vjp(f: Callable, *xs: Any) -> tuple[Tensor, Callable]:
    """``f(*xs)``, and the pullback that takes a cotangent of that value to the tuple of cotangents of the arguments.

    Examples
    --------
    >>> import tinygen as tg
    >>> y, pullback = tg.func.vjp(tg.sin, tg.tensor([0.0, 1.0]))
    >>> pullback(tg.tensor([2.0, 0.0]))
    (tensor([2., 0.], dtype=float32),)
    """
    y, watched, further = _evaluate(f, xs, range(len(xs)))

    def pullback(g: Any) -> tuple[Tensor, ...]:
        return _pull(y, watched, g, further or (isinstance(g, Tensor) and g.requires_grad))

    return (y if further else y.detach()), pullback


def jvp(f: Callable, xs: Sequence, vs: Sequence) -> tuple[Tensor, Tensor]:
    """``f(*xs)``, and its directional derivative along ``vs``.

    The pullback is linear in its cotangent, so its own pullback is the derivative (Townsend 2017, "A new trick for
    calculating Jacobian vector products"): no forward rules are needed.

    Examples
    --------
    >>> import tinygen as tg
    >>> tg.func.jvp(tg.exp, (tg.tensor([0.0, 0.0]),), (tg.tensor([1.0, 3.0]),))[1]
    tensor([1., 3.], dtype=float32)
    """
    _check_tangents("jvp", xs, vs)
    y, watched, further = _evaluate(f, xs, range(len(xs)))
    further = further or any(isinstance(v, Tensor) and v.requires_grad for v in vs)
    probe = Tensor(np.zeros(y.shape, y.dtype), requires_grad=True)
    pulled = _pull(y, watched, probe, create_graph=True)
    along = [(p, v) for p, v in zip(pulled, vs, strict=True) if p.requires_grad]
    if not along:
        return (y if further else y.detach()), Tensor(np.zeros(y.shape, y.dtype))
    tangent = _grad([p for p, _ in along], probe, [v for _, v in along], create_graph=further)
    return (y if further else y.detach()), tangent


def hvp(f: Callable, xs: Sequence, vs: Sequence) -> Any:
    """The Hessian of ``f``, which returns a single number, times a vector, without forming the Hessian.

    ``xs`` and ``vs`` are sequences of equal shapes; the result is a Tensor for one argument, a tuple for several.

    Examples
    --------
    >>> import tinygen as tg
    >>> tg.func.hvp(lambda x: (x**3).sum(), (tg.tensor([1.0, 2.0]),), (tg.tensor([1.0, 1.0]),))
    tensor([ 6., 12.], dtype=float32)
    """
    _check_tangents("hvp", xs, vs)

    def slope(*args: Any) -> Tensor:
        gradients = grad(f, range(len(xs)))(*args)
        return op.sum(op.stack([op.sum(g * v) for g, v in zip(gradients, vs, strict=True)]))

    products = grad(slope, range(len(xs)))(*xs)
    return products[0] if len(xs) == 1 else products


def jacobian(f: Callable, argnums: int = 0) -> Callable:
    """A function that returns all derivatives of ``f`` with respect to one argument, of shape ``y.shape + x.shape``.

    Examples
    --------
    >>> import tinygen as tg
    >>> tg.func.jacobian(lambda x: x**2)(tg.tensor([1.0, 3.0]))
    tensor([[2., 0.],
            [0., 6.]], dtype=float32)
    """

    def differentiated(*args: Any) -> Tensor:
        y, watched, further = _evaluate(f, args, argnums)
        units = np.eye(y.size, dtype=y.dtype).reshape(y.size, *y.shape)
        rows = [_pull(y, watched, unit, further)[0] for unit in units]
        shape = (*y.shape, *watched[0].shape)
        return op.reshape(op.stack(rows), shape) if rows else Tensor(np.zeros(shape, y.dtype))

    return differentiated


def hessian(f: Callable, argnums: int = 0) -> Callable:
    """A function that returns the second derivatives of ``f``, a single number, with respect to one argument.

    Examples
    --------
    >>> import tinygen as tg
    >>> tg.func.hessian(lambda x: x[0] * x[1])(tg.tensor([5.0, 7.0]))
    tensor([[0., 1.],
            [1., 0.]], dtype=float32)
    """
    return jacobian(grad(f, argnums), argnums)


def _check_tangents(name: str, xs: Sequence, vs: Sequence) -> None:
    if isinstance(xs, Tensor) or isinstance(vs, Tensor):
        raise ShapeError(f"{name}: xs and vs are sequences, of one Tensor for each argument: {name}(f, (x,), (v,))")
    if [np.shape(x) for x in xs] != [np.shape(v) for v in vs]:
        raise ShapeError(f"{name}: xs have shapes {[np.shape(x) for x in xs]} but vs {[np.shape(v) for v in vs]}")


def _evaluate(f: Callable, args: Sequence, argnums: int | Sequence[int]) -> tuple[Tensor, list[Tensor], bool]:
    """The value, the watched arguments, and whether the value depends on anything else that requires a gradient."""
    positions = [argnums] if isinstance(argnums, int) else list(argnums)
    tensors = [x if isinstance(x, Tensor) else Tensor(x) for x in args]
    for i in positions:
        outer = tensors[i].requires_grad
        with recorded():
            tensors[i] = op.alias(tensors[i]) if outer else Tensor(tensors[i].data, requires_grad=True)
    with recorded():
        y = f(*tensors)
    if not isinstance(y, Tensor):
        raise GraphError(f"the function must return a Tensor, got {type(y).__name__}")
    watched = [tensors[i] for i in positions]
    own = {id(x) for x in watched}
    further = any(
        type(place) is not Node and id(place) not in own
        for node in ancestors([y.node or y])
        for _, _, place in node.parents
    )
    return y, watched, further


def _pull(y: Tensor, watched: list[Tensor], g: Any, create_graph: bool) -> tuple[Tensor, ...]:
    """Cotangents of the watched arguments; zeros for one that the value does not depend on, as functions have it."""
    if not y.requires_grad:
        return tuple(Tensor(np.zeros(x.shape, x.dtype)) for x in watched)
    gradients = _grad(y, watched, g, create_graph=create_graph, allow_unused=True)
    return tuple(
        Tensor(np.zeros(x.shape, x.dtype)) if gradient is None else gradient
        for x, gradient in zip(watched, gradients, strict=True)
    )
