"""The array that records where it came from."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from tinygen.autograd import dispatch
from tinygen.autograd.context import observer
from tinygen.autograd.graph import Node, backpropagate
from tinygen.autograd.registry import operations as op
from tinygen.errors import DTypeError, GraphError, ShapeError


class Tensor:
    """An n-dimensional array with a place in a graph of operations.

    Parameters
    ----------
    data : an ndarray, kept as it is and not copied; or lists and numbers, which become float32 where they are floating
    requires_grad : whether gradients with respect to this Tensor are wanted

    Attributes
    ----------
    data : the ndarray
    grad : the accumulated gradient of a leaf, a Tensor, or None
    node : the operation that made it; None for a leaf
    """

    __slots__ = ("__weakref__", "_requires_grad", "data", "grad", "node")

    def __init__(self, data: ArrayLike, requires_grad: bool = False) -> None:
        self.data = _as_array(data)
        self.grad: Tensor | None = None
        self.node: Node | None = None
        self._requires_grad = False
        self.requires_grad = requires_grad

    @classmethod
    def wrap(cls, data: np.ndarray, node: Node | None = None) -> "Tensor":
        """A Tensor of an array, without any check, as the value of ``node``."""
        made = Tensor.__new__(Tensor)
        made.data = data
        made.grad = None
        made.node = node
        made._requires_grad = False
        return made

    @property
    def requires_grad(self) -> bool:
        """Whether gradients flow to this Tensor. Only a leaf's can be set."""
        return self._requires_grad or self.node is not None

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if self.node is not None:
            raise GraphError(
                f"only a leaf's requires_grad can be set, and this is the value of {self.node}; use detach()"
            )
        if value and self.data.dtype.kind != "f":
            raise DTypeError(
                f"only floating Tensors have gradients, and this is {self.data.dtype}; use .astype(np.float32)"
            )
        self._requires_grad = bool(value)

    # ------------------------------------------------------------------------------------------------------------ the
    # array

    shape = property(lambda self: self.data.shape, doc="Sizes of the axes.")
    dtype = property(lambda self: self.data.dtype, doc="Type of the elements.")
    ndim = property(lambda self: self.data.ndim, doc="Number of axes.")
    size = property(lambda self: self.data.size, doc="Number of elements.")
    T = property(lambda self: op.transpose(self), doc="The axes in reverse order.")

    def detach(self) -> "Tensor":
        """The same array, without its history."""
        return Tensor.wrap(self.data)

    def numpy(self) -> np.ndarray:
        """The array itself; `GraphError` if that would lose a gradient."""
        self._check_readable()
        if self.requires_grad:
            raise GraphError(
                "this Tensor requires a gradient, which an ndarray cannot carry; use .detach().numpy() or .data"
            )
        return self.data

    def item(self) -> Any:
        """The value of a one-element Tensor as a Python number."""
        if self.size != 1:
            raise ShapeError(f"item() needs exactly one element, and the shape is {self.shape}")
        self._check_readable()
        return self.data.item()

    def _check_readable(self) -> None:
        watching = observer.get()
        if watching is not None and watching.owns(self.data):
            raise GraphError(
                "the value of a Tensor cannot be read in a replayed function, for it is read only once; compute with "
                "operations such as where(), return it, or read it in an effect()"
            )

    def backward(self, grad: "ArrayLike | Tensor | None" = None, *, retain_graph: bool = False) -> None:
        """Add the gradient of this Tensor to ``.grad`` of every leaf that it depends on.

        Parameters
        ----------
        grad : the cotangent, of this shape; may be left out for a single number
        retain_graph : keep the graph for another call; otherwise it is freed
        """
        if not self.requires_grad:
            raise GraphError("backward() on a Tensor that depends on nothing with requires_grad=True")
        watching = observer.get()
        if watching is not None and watching.owns(self.data):
            raise GraphError("backward() in a replayed function: use grad(), or an optimizer's minimize()")
        cotangent = cotangent_for(self, grad)
        place = self.node or self
        for leaf, gradient in _owned(backpropagate([place], [cotangent], free=not retain_graph), [cotangent]):
            leaf.grad = Tensor.wrap(gradient if leaf.grad is None else leaf.grad.data + gradient)

    def __repr__(self) -> str:
        body = np.array2string(self.data, separator=", ", prefix="tensor(")
        flag = ", requires_grad=True" if self.requires_grad else ""
        return f"tensor({body}, dtype={self.dtype}{flag})"

    def __len__(self) -> int:
        return len(self.data)

    def __iter__(self) -> "Iterator[Tensor]":
        return (self[i] for i in range(len(self)))

    def __bool__(self) -> bool:
        self._check_readable()
        return bool(self.data)

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        self._check_readable()
        return self.data.__index__()

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec else str(self)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.numpy(), dtype=dtype, copy=copy)

    __array_ufunc__ = dispatch.array_ufunc
    __array_function__ = dispatch.array_function

    def __deepcopy__(self, memo: dict) -> "Tensor":
        if self.node is not None:
            raise GraphError(f"deepcopy of the value of {self.node}: only leaves can be copied; use detach()")
        made = type(self).__new__(type(self))
        memo[id(self)] = made
        made.data, made.node, made._requires_grad = self.data.copy(), None, self._requires_grad
        made.grad = None if self.grad is None else Tensor.wrap(self.grad.data.copy())
        return made

    def __setitem__(self, index: Any, value: Any) -> None:
        raise GraphError(
            "a Tensor's elements cannot be assigned, for the graph may still need them; use where(mask, value, t), or "
            "t + scatter(values, index, t.shape)"
        )

    # ------------------------------------------------------------------------------------------------------- operations

    __hash__ = object.__hash__

    def __add__(self, other: Any) -> "Tensor":
        return op.add(self, other)

    def __sub__(self, other: Any) -> "Tensor":
        return op.subtract(self, other)

    def __mul__(self, other: Any) -> "Tensor":
        return op.multiply(self, other)

    def __truediv__(self, other: Any) -> "Tensor":
        return op.divide(self, other)

    def __pow__(self, other: Any) -> "Tensor":
        return op.power(self, other)

    def __matmul__(self, other: Any) -> "Tensor":
        return op.matmul(self, other)

    def __radd__(self, other: Any) -> "Tensor":
        return op.add(other, self)

    def __rsub__(self, other: Any) -> "Tensor":
        return op.subtract(other, self)

    def __rmul__(self, other: Any) -> "Tensor":
        return op.multiply(other, self)

    def __rtruediv__(self, other: Any) -> "Tensor":
        return op.divide(other, self)

    def __rpow__(self, other: Any) -> "Tensor":
        return op.power(other, self)

    def __rmatmul__(self, other: Any) -> "Tensor":
        return op.matmul(other, self)

    def __neg__(self) -> "Tensor":
        return op.negative(self)

    def __pos__(self) -> "Tensor":
        return self

    def __abs__(self) -> "Tensor":
        return op.abs(self)

    def __invert__(self) -> "Tensor":
        return op.logical_not(_boolean(self))

    def __and__(self, other: Any) -> "Tensor":
        return op.logical_and(_boolean(self), other)

    def __or__(self, other: Any) -> "Tensor":
        return op.logical_or(_boolean(self), other)

    def __eq__(self, other: Any) -> "Tensor":  # type: ignore[override]
        return op.equal(self, other)

    def __ne__(self, other: Any) -> "Tensor":  # type: ignore[override]
        return op.not_equal(self, other)

    def __lt__(self, other: Any) -> "Tensor":
        return op.less(self, other)

    def __le__(self, other: Any) -> "Tensor":
        return op.less_equal(self, other)

    def __gt__(self, other: Any) -> "Tensor":
        return op.greater(self, other)

    def __ge__(self, other: Any) -> "Tensor":
        return op.greater_equal(self, other)

    def __getitem__(self, index: Any) -> "Tensor":
        return op.getitem(self, plain_index(index))

    def astype(self, dtype: DTypeLike) -> "Tensor":
        """Cast to a dtype; the gradient is cast back."""
        return op.astype(self, dtype)

    def reshape(self, *shape: Any) -> "Tensor":
        """See `tinygen.reshape`; takes a shape, or its sizes one by one."""
        return op.reshape(self, shape[0] if len(shape) == 1 else shape)

    def transpose(self, *axes: Any) -> "Tensor":
        """See `tinygen.transpose`; takes an order of axes, or the axes one by one, or nothing to reverse them."""
        return op.transpose(self, (axes[0] if len(axes) == 1 else axes) or None)

    def squeeze(self, axis: Any = None) -> "Tensor":
        """See `tinygen.squeeze`."""
        return op.squeeze(self, axis)

    def sum(self, axis: Any = None, keepdims: bool = False) -> "Tensor":
        """See `tinygen.sum`."""
        return op.sum(self, axis, keepdims)

    def mean(self, axis: Any = None, keepdims: bool = False) -> "Tensor":
        """See `tinygen.mean`."""
        return op.mean(self, axis, keepdims)

    def var(self, axis: Any = None, keepdims: bool = False) -> "Tensor":
        """See `tinygen.var`."""
        return op.var(self, axis, keepdims)

    def std(self, axis: Any = None, keepdims: bool = False) -> "Tensor":
        """See `tinygen.std`."""
        return op.std(self, axis, keepdims)

    def max(self, axis: Any = None, keepdims: bool = False) -> "Tensor":
        """See `tinygen.max`."""
        return op.max(self, axis, keepdims)

    def min(self, axis: Any = None, keepdims: bool = False) -> "Tensor":
        """See `tinygen.min`."""
        return op.min(self, axis, keepdims)

    def argmax(self, axis: int | None = None) -> "Tensor":
        """See `tinygen.argmax`."""
        return op.argmax(self, axis)

    def argmin(self, axis: int | None = None) -> "Tensor":
        """See `tinygen.argmin`."""
        return op.argmin(self, axis)

    def cumsum(self, axis: int | None = None) -> "Tensor":
        """See `tinygen.cumsum`."""
        return op.cumsum(self, axis)

    def clip(self, low: Any = None, high: Any = None) -> "Tensor":
        """See `tinygen.clip`."""
        return op.clip(self, low, high)

    def dot(self, other: Any) -> "Tensor":
        """See `tinygen.dot`."""
        return op.dot(self, other)


def tensor(data: ArrayLike, dtype: DTypeLike | None = None, requires_grad: bool = False) -> Tensor:
    """A new Tensor with a copy of ``data``.

    Parameters
    ----------
    data : an ndarray, whose dtype is kept; or lists and numbers, which become float32 where they are floating
    dtype : cast to this
    requires_grad : whether gradients with respect to the Tensor are wanted

    Raises
    ------
    DTypeError : for data that are not numbers, or a gradient of a dtype that is not floating
    ShapeError : for ragged lists

    Examples
    --------
    >>> tensor([[1.0, 2.0], [3.0, 4.0]]).sum(axis=0)
    tensor([4., 6.], dtype=float32)
    """
    if isinstance(data, Tensor) and not data.requires_grad:
        return Tensor(op.astype(data, dtype or data.dtype), requires_grad)
    return Tensor(np.array(data.numpy() if isinstance(data, Tensor) else _as_array(data), dtype=dtype), requires_grad)


def grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    grad_outputs: Any = None,
    *,
    create_graph: bool = False,
    allow_unused: bool = False,
) -> Any:
    """The gradient of outputs with respect to inputs, which may be leaves or values on the way; ``.grad`` stays.

    Parameters
    ----------
    outputs : what to differentiate; several are summed, each with its cotangent
    inputs : a Tensor or a sequence of them
    grad_outputs : a cotangent for each output, of its shape; may be left out for single numbers
    create_graph : record the computation of the gradient, so that it can be differentiated itself
    allow_unused : give None for an input that no output depends on, instead of raising

    Returns
    -------
    A Tensor for a Tensor, a tuple for a sequence of inputs.

    Raises
    ------
    GraphError : an input does not require a gradient, or is not reached

    Examples
    --------
    >>> x = tensor(3.0, requires_grad=True)
    >>> first = grad(x**3, x, create_graph=True)
    >>> grad(first, x)
    tensor(18., dtype=float32)
    """
    single = isinstance(inputs, Tensor)
    wanted = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    roots = [outputs] if isinstance(outputs, Tensor) else list(outputs)
    given = [grad_outputs] if isinstance(outputs, Tensor) else list(grad_outputs or [None] * len(roots))
    if len(given) != len(roots):
        raise GraphError(f"grad: {len(roots)} outputs but {len(given)} grad_outputs; give one for each")
    for i, x in enumerate(wanted):
        if not x.requires_grad:
            raise GraphError(f"grad: input {i} does not require a gradient; make it with requires_grad=True")
    cotangents = [cotangent_for(y, g, keep_tensor=create_graph) for y, g in zip(roots, given, strict=True)]
    if observer.get():  # so that what rules do with them is noted
        cotangents = [g if isinstance(g, Tensor) else Tensor.wrap(g) for g in cotangents]
    pairs = backpropagate(
        [y.node or y for y in roots], cotangents, [x.node or x for x in wanted], wrap=_place if create_graph else None
    )
    if create_graph:
        by_place = {id(place): gradient for place, gradient in pairs}
    else:
        by_place = {id(place): Tensor.wrap(gradient) for place, gradient in _owned(pairs, cotangents)}
    gradients = tuple(by_place.get(id(x.node or x)) for x in wanted)
    unused = [i for i, g in enumerate(gradients) if g is None]
    if unused and not allow_unused:
        raise GraphError(f"grad: no output depends on input {unused[0]}; allow_unused=True gives None for it")
    return gradients[0] if single else gradients


def cotangent_for(y: Tensor, g: Any, keep_tensor: bool = False) -> Any:
    """The cotangent of ``y`` as an array of its dtype (or a Tensor), checked; 1 if none is given for a number."""
    if g is None:
        if y.size != 1:
            raise ShapeError(f"the output has shape {y.shape}; give a cotangent of that shape, or sum() it to a number")
        g = np.ones(y.shape, y.dtype)
    if not isinstance(g, Tensor):
        g = Tensor(np.asarray(g, y.dtype))
    if g.shape != y.shape:
        raise ShapeError(f"the cotangent has shape {g.shape} but the output has {y.shape}")
    if g.dtype != y.dtype:
        raise DTypeError(f"the cotangent is {g.dtype} but the output is {y.dtype}; use .astype(np.{y.dtype})")
    if not keep_tensor:
        return g.data
    return g if g.requires_grad else Tensor(_copied(g.data))  # or a recorded gradient could be the caller's own array


def plain_index(index: Any) -> Any:
    """An index without Tensors, which have no gradient as indices."""
    if isinstance(index, tuple):
        return tuple(plain_index(i) for i in index)
    return index.data if isinstance(index, Tensor) else index


def _boolean(x: Tensor) -> Tensor:
    if x.dtype != bool:
        raise DTypeError(
            f"&, | and ~ are for boolean Tensors, and this is {x.dtype}; compare first, as in (a > 0) & (b > 0)"
        )
    return x


def _place(data: np.ndarray, place: Any) -> Tensor:
    """The Tensor at a place in the graph: the leaf itself, or an array as the value of its node."""
    return Tensor.wrap(data, place) if isinstance(place, Node) else place


def _owned(pairs: list[tuple[Any, Any]], cotangents: list[Any]) -> list[tuple[Any, np.ndarray]]:
    """Copy gradients that share memory with a cotangent or with each other."""
    taken = {id(g.data) if isinstance(g, Tensor) else id(g) for g in cotangents}
    owned = []
    for place, gradient in pairs:
        array = gradient.data if isinstance(gradient, Tensor) else np.asarray(gradient)
        if array.base is not None or id(array) in taken or not array.flags.owndata:
            array = _copied(array)
        taken.add(id(array))
        owned.append((place, array))
    return owned


def _copied(array: np.ndarray) -> np.ndarray:
    watching = observer.get()
    return array.copy() if watching is None else watching.effect(np.ndarray.copy, [array])


def _as_array(data: Any) -> np.ndarray:
    if isinstance(data, Tensor):
        data = data.data
    if isinstance(data, np.ndarray):
        array = data
    else:
        try:
            array = np.asarray(data)
        except ValueError as error:
            raise ShapeError(f"tensor: lists must be nested evenly ({error})") from None
        if array.dtype == np.float64 and not isinstance(data, np.generic):
            array = array.astype(np.float32)
    if array.dtype.kind not in "fiub":
        raise DTypeError(f"tensor: expected numbers, got {array.dtype} from {type(data).__name__}; convert them first")
    return array
