"""What a function does with arrays, as a list of calls that can be made again.

While a `Program` records, operations and derivative rules run as usual, and what they do to memory is noted. Done again
in the same order, in memory of the program's own, it gives the same for other values, without what Python does in
between. Nothing is fused or reordered, so the results have the same bits.

What is computed in other ways than by operations is not noted, and stays as it was. Two recordings are compared to find
that out: whatever an operation is given, and neither is an argument nor was made by an operation, must be the same.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import groupby, zip_longest
from typing import TYPE_CHECKING, Any

import numpy as np

from kernels import backend
from kernels.arithmetic import as_runs
from kernels.calls import Call, Notes, noted
from kernels.threads import Series
from tinygen.autograd.context import observer
from tinygen.autograd.memory import Memory, leaves, mapped
from tinygen.autograd.tensor import Tensor
from tinygen.errors import GraphError

if TYPE_CHECKING:
    from tinygen.autograd.graph import Node
    from tinygen.autograd.primitive import Primitive

LIMIT = 2**28
"""Bytes beyond which a program is given up: it keeps its memory from one run to the next, and where that is so large,
Python takes a small share of the time."""


class Program:
    """The calls that a function makes.

    Parameters
    ----------
    arguments : the arrays that it is called with

    Attributes
    ----------
    arguments : copies of them, to which those of later runs are copied
    too_large : whether it needs more than `LIMIT` and was given up
    """

    def __init__(self, arguments: Sequence[np.ndarray]) -> None:
        self.arguments = [np.array(a, order="C") for a in arguments]
        self.too_large = False
        self._memory = Memory()
        self._calls: list[Call] = []  # each of which writes to arrays among its arguments, described
        self._series: list[Call] | None = None  # the same calls, made when they are needed
        self._steps: list[tuple[str, Any]] = []  # what was done, and to what, described
        self._leaves: dict[int, tuple[Tensor, np.ndarray, bool]] = {}  # by id; their arrays, whether they require grad
        self._modules: dict[int, tuple[Any, bool]] = {}  # that were called; whether for training
        self._result: Any = None
        self._memory.own(self.arguments)

    def record(self, function: Callable, args: Sequence[Any]) -> Any:
        """The result of ``function(*args)``, recorded."""
        token = observer.set(self)
        try:
            result = function(*args)
        finally:
            observer.reset(token)
        self._steps.append(("return", self._memory.described(result)))
        self._result = mapped(result, lambda a: Tensor.wrap(a.data) if isinstance(a, Tensor) else a)
        del result  # and the arrays that its history keeps
        found = detached(self._result)
        if self._memory.share(self._calls) > LIMIT:
            self.too_large = True
            self._result, self._memory = None, Memory()
            for held in (self.arguments, self._calls, self._steps, self._leaves, self._modules):
                held.clear()
        return found

    def run(self, arguments: Sequence[np.ndarray]) -> Any:
        """The result for other arguments of the same shapes."""
        for place, array in zip(self.arguments, arguments, strict=True):
            np.copyto(place, array)
        if self._series is None:
            self._series = list(_in_series(self._memory.placed(self._calls)))
            self._calls.clear()
        for function, args, options in self._series:
            function(*args, **options)
        return detached(self._result)

    @property
    def valid(self) -> bool:
        """Whether leaves and modules are as they were."""
        for leaf, data, requires_grad in self._leaves.values():
            if leaf.data is not data or leaf._requires_grad is not requires_grad:
                return False
        for module, training in self._modules.values():  # noqa: SIM110  (`all` takes twice as long)
            if module.training is not training:
                return False
        return True

    def check_same(self, other: "Program", name: str) -> None:
        """Raise `GraphError`, naming the function, unless both recorded the same operations on the same constants."""
        nothing = ("nothing", None)
        for (what, given), (other_what, other_given) in zip_longest(self._steps, other._steps, fillvalue=nothing):
            if what != other_what or not _same(given, other_given):
                raise GraphError(
                    f"{name} cannot be replayed, for its first two calls differ: {what} was given {_shown(given)} in "
                    f"one, {other_what} {_shown(other_given)} in the other; make an argument of what changes from call "
                    "to call, such as random numbers, and use effect() for what is not computed by operations"
                )

    # -------------------------------------------------------------------------------------------------------- recording

    def operation(self, primitive: "Primitive", args: Sequence[Any], values: Sequence[Any]) -> Any:
        """Compute an operation of ``values``, which are ``args`` without Tensors."""
        for tensor in leaves(args, Tensor):
            if tensor.node is None and not self._memory.owns(tensor.data):
                self._leaves[id(tensor)] = tensor, tensor.data, tensor._requires_grad
        return self._recorded(primitive, primitive.name, partial(primitive.compute, values), primitive.function, values)

    def rule(self, primitive: "Primitive", rule: Callable, reads: dict[str, Any]) -> Any:
        """Apply a derivative rule that runs on arrays."""
        again = partial(_call_by_name, rule, list(reads))
        name = f"the rule of {primitive.name}"
        return self._recorded(primitive, name, partial(rule, **reads), again, list(reads.values()))

    def effect(self, function: Callable, args: Sequence[Any]) -> Any:
        """The value of ``function(*args)``, called for what it does beside operations."""
        name = f"effect {name_of(function)}"
        self._steps.append((name, self._memory.described(args)))
        token = observer.set(None)
        try:
            with noted() as notes:
                made = function(*args)
        finally:
            observer.reset(token)
        arrays = list(leaves(made, np.ndarray))
        if getattr(function, "by_kernels", False) and backend() == "compiled":
            self._take(notes, arrays)
        elif arrays:
            self._memory.own(arrays)
            self._note(Call(_compute_again, (name, arrays, function, args), {}))
        else:
            self._note(Call(function, tuple(args), {}))
        return made

    def calling(self, module: Any) -> None:
        """The program is valid only as long as the module's mode is what it is now."""
        self._modules[id(module)] = module, module.training

    def differentiating(self, node: "Node | None") -> None:
        """It does not matter whose rules are applied."""

    def _recorded(self, primitive: "Primitive", name: str, first: Callable, again: Callable, given: Any) -> Any:
        """The value of ``first()``, with arrays in place of numbers; later values are ``again(*given)``."""
        self._steps.append((name, self._memory.described(given)))
        with noted() as notes:
            made = mapped(first(), np.asarray)
        read = list(leaves(given, np.ndarray))
        fresh = [a if not any(np.may_share_memory(a, b) for b in read) else None for a in leaves(made, np.ndarray)]
        if primitive.noted and notes.calls and backend() == "compiled":  # reference kernels note nothing
            self._take(notes, fresh)
        elif any(a is not None for a in fresh):  # else all is views of what was given
            self._memory.own(a for a in fresh if a is not None)
            self._note(Call(_compute_again, (name, fresh, again, given), {}))
        return made

    def _take(self, notes: Notes, made: Iterable[np.ndarray | None]) -> None:
        """Take over what kernels did, to make these arrays."""
        self._memory.own(notes.made)
        self._memory.keep(a for a in made if a is not None)
        for call in notes.calls:
            self._note(call)

    def _note(self, call: Call) -> None:
        self._calls.append(self._memory.described(call))

    def owns(self, array: np.ndarray) -> bool:
        """Whether an array is an argument, or was made by an operation."""
        return self._memory.owns(array)


def effect(function: Callable, *args: Any) -> Any:
    """Call ``function(*args)`` for what it does beside operations, also when a `replayed` function is replayed.

    Tensors among ``args``, and in lists there, are given to it as arrays, which are valid until it returns, for their
    memory is used again: copy what is to be kept. It may return new arrays, always of the same shapes: random numbers,
    for example.

    Examples
    --------
    Running means, which are no part of what is differentiated:

    >>> import numpy as np, tinygen as tg
    >>> from tinygen.autograd import effect
    >>> running = np.zeros(2, np.float32)
    >>> def follow(mean):
    ...     running[...] += 0.1 * (mean - running)
    >>> effect(follow, tg.tensor([1.0, 2.0]))
    >>> running
    array([0.1, 0.2], dtype=float32)
    """
    arrays = mapped(args, lambda a: a.data if isinstance(a, Tensor) else a)
    watching = observer.get()
    return function(*arrays) if watching is None else watching.effect(function, arrays)


# -------------------------------------------------------------------------------------------------------------- calls


def _call_by_name(function: Callable, names: Sequence[str], *args: Any) -> Any:
    return function(**dict(zip(names, args, strict=True)))


def _in_series(calls: Iterable[Call]) -> Iterator[Call]:
    """The same calls, those of kernels that follow one another as one."""
    for by_kernels, group in groupby(((call, as_runs(call)) for call in calls), lambda pair: pair[1] is not None):
        if by_kernels:
            yield Call(Series(arguments for _, runs in group for arguments in runs or ()), (), {})
        else:
            yield from (call for call, _ in group)


def _compute_again(what: str, made: Sequence[np.ndarray | None], function: Callable, given: Sequence[Any]) -> None:
    """Write the arrays that ``function(*given)`` makes over those made before, but where that is None."""
    for old, new in zip(made, leaves(mapped(function(*given), np.asarray), np.ndarray), strict=True):
        if old is None:
            continue
        if old.shape != new.shape or old.dtype != new.dtype:
            raise GraphError(
                f"replayed: {what} now gives {new.dtype} of shape {new.shape}, but gave {old.dtype} of {old.shape}; "
                "shapes must not depend on values"
            )
        np.copyto(old, new)


def name_of(function: Callable) -> str:
    """What to call a function, or another callable such as a `functools.partial`, where it is spoken of."""
    return getattr(function, "__qualname__", type(function).__qualname__)


def detached(value: Any) -> Any:
    """A value with copies of all Tensors and arrays, without their history."""
    return mapped(value, lambda a: Tensor.wrap(a.data.copy()) if isinstance(a, Tensor) else a.copy())


def _same(a: Any, b: Any) -> bool:
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    if isinstance(a, np.ndarray):
        return (a.shape, a.dtype) == (b.shape, b.dtype) and a.tobytes() == b.tobytes()
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_same(a[name], b[name]) for name in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(_same, a, b))
    return bool(a == b) or (a != a and b != b)


def _shown(value: Any) -> str:
    def shown(array: Any) -> Any:
        return f"<constant {array.dtype} {array.shape}>" if isinstance(array, np.ndarray) else array

    return repr(mapped(value, shown))
