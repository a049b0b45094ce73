"""What a function does with arrays, as a list of calls that can be made again.

While a `Program` records, operations and derivative rules run as usual, and what they call to read and write memory is
noted. Made again in the same order on the same memory, the calls do the same to other values, without what Python does
in between. Nothing is fused or reordered, so the results have the same bits.

What is computed in other ways than by operations is not noted, and stays as it was. Two recordings can be compared to
find that out: whatever enters an operation, and is neither an argument nor made by an operation, must be the same.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from kernels.calls import Call, noted
from tinygen.autograd.context import recorder
from tinygen.autograd.tensor import Tensor
from tinygen.errors import GraphError

if TYPE_CHECKING:
    from tinygen.autograd.primitive import Primitive

LIMIT = 2**26
"""Bytes of memory beyond which nothing is recorded: a program keeps every array that was made, and where they are that
large, Python takes a small share of the time."""


class Memory(NamedTuple):
    """An array in memory that a program writes to."""

    owner: int
    """The number of the array that owns the memory, in the order in which they were made."""
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: np.dtype


class Program:
    """The calls that a function makes.

    Parameters
    ----------
    arguments : the arrays that it is called with

    Attributes
    ----------
    arguments : copies of them, to which those of later runs are copied
    calls : ``function(*args)``, each of which writes to arrays among its args
    steps : the operations, and what each was given: `Memory`, or constants
    leaves : the Tensors that were not made here, by id, and their arrays
    too_large : whether it needed more than `LIMIT` and was given up
    """

    def __init__(self, arguments: Sequence[np.ndarray]) -> None:
        self.arguments = [np.array(a, order="C") for a in arguments]
        self.calls: list[Call] = []
        self.steps: list[tuple[str, Any]] = []
        self.leaves: dict[int, tuple[Any, np.ndarray]] = {}
        self.too_large = False
        self._result: Any = None
        self._owners: dict[int, tuple[int, np.ndarray]] = {}
        self._bytes = 0
        self._own(self.arguments)

    def record(self, function: Callable, args: Sequence[Any]) -> Any:
        """The result of ``function(*args)``, recorded, with copies of its Tensors."""
        token = recorder.set(self)
        try:
            self._result = function(*args)
        finally:
            recorder.reset(token)
        self.steps.append(("return", self._described(self._result)))
        return _with_copies(self._result)

    def run(self, arguments: Sequence[np.ndarray]) -> Any:
        """The result for other arguments of the same shapes."""
        for place, array in zip(self.arguments, arguments, strict=True):
            np.copyto(place, array)
        for function, args in self.calls:
            function(*args)
        return _with_copies(self._result)

    @property
    def valid(self) -> bool:
        """Whether the leaves still have the arrays that they had."""
        return all(leaf.data is array for leaf, array in self.leaves.values())

    def check_same(self, other: "Program", name: str) -> None:
        """Raise `GraphError`, naming the function, unless both recorded the same operations on the same constants."""
        for (what, given), (other_what, other_given) in zip_longest(
            self.steps, other.steps, fillvalue=("nothing", None)
        ):
            if what != other_what or not _same(given, other_given):
                raise GraphError(
                    f"{name} cannot be replayed, for its first two calls differ: {what} was given {_shown(given)} in "
                    f"one, {other_what} {_shown(other_given)} in the other; make an argument of what changes from call "
                    "to call, such as random numbers, and use effect() for what is not computed by operations"
                )

    # -------------------------------------------------------------------------------------------------------- recording

    def operation(self, primitive: "Primitive", args: Sequence[Any], values: Sequence[Any]) -> Any:
        """Compute an operation of ``values``, which are ``args`` without Tensors."""
        for tensor in _leaves(args, Tensor):
            if tensor.node is None and not self._owns(tensor.data):
                self.leaves[id(tensor)] = tensor, tensor.data
        twin = next(iter(primitive.twins), None)
        ufunc = twin if isinstance(twin, np.ufunc) and (twin.nin, twin.nout) == (len(values), 1) else None
        return self._recorded(primitive.name, partial(primitive.compute, values), primitive.function, values, ufunc)

    def rule(self, name: str, rule: Callable, reads: dict[str, Any]) -> Any:
        """Apply a derivative rule that runs on arrays."""
        return self._recorded(
            name, partial(rule, **reads), partial(_call_by_name, rule, list(reads)), list(reads.values())
        )

    def effect(self, function: Callable, args: Sequence[Any]) -> None:
        """Call a function for what it does beside operations."""
        token = recorder.set(None)
        try:
            function(*args)
        finally:
            recorder.reset(token)
        self._add([(function, tuple(args))])

    def copied(self, array: np.ndarray) -> np.ndarray:
        """A copy of an array."""
        copy = array.copy()
        self._add([(np.copyto, (copy, array))])
        return copy

    def _recorded(
        self, name: str, first: Callable, function: Callable, given: Sequence[Any], ufunc: np.ufunc | None = None
    ) -> Any:
        """The value of ``first()``, of which later values are ``function(*given)``; with arrays in place of numbers."""
        if self.too_large:
            return _mapped(first(), np.asarray)
        self.steps.append((name, self._described(given)))
        with noted() as calls:
            made = _mapped(first(), np.asarray)
        read = list(_leaves(given, np.ndarray))
        # A view of what was given is there already.
        fresh = [None if any(np.may_share_memory(a, b) for b in read) else a for a in _leaves(made, np.ndarray)]
        if calls:
            self._add(calls)
        elif ufunc and _computes(ufunc, given, made):
            self._add([(partial(ufunc, out=made), tuple(given))])
        elif isinstance(made, np.ndarray) and fresh[0] is not None:
            self._add([(_compute_again, (made, function, given))])
        elif any(a is not None for a in fresh):
            self._add([(_compute_all_again, (fresh, function, given))])
        self._own(_leaves(made, np.ndarray))
        return made

    def _add(self, calls: Sequence[Call]) -> None:
        self.calls += calls
        self._own(_leaves(calls, np.ndarray))

    def _own(self, arrays: Iterable[np.ndarray]) -> None:
        if self.too_large:
            return
        for array in arrays:
            owner = _owner(array)
            if id(owner) not in self._owners:
                self._owners[id(owner)] = len(self._owners), owner
                self._bytes += owner.nbytes
        if self._bytes > LIMIT:
            self.too_large = True
            self.calls, self.steps, self._owners, self.leaves = [], [], {}, {}

    def _owns(self, array: np.ndarray) -> bool:
        return id(_owner(array)) in self._owners

    def _described(self, value: Any) -> Any:
        """A value in which `Memory` stands for each array that has been written to."""

        def described(leaf: Any) -> Any:
            array = leaf.data if isinstance(leaf, Tensor) else leaf
            if not isinstance(array, np.ndarray) or not self._owns(array):
                return array
            number, owner = self._owners[id(_owner(array))]
            return Memory(number, array.ctypes.data - owner.ctypes.data, array.shape, array.strides, array.dtype)

        return _mapped(value, described)


def effect(function: Callable, *args: Any) -> None:
    """Call ``function(*args)`` for what it does beside operations, also when a `replayed` function is replayed.

    Tensors among ``args``, and in lists there, are given to it as arrays.

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
    arrays = _mapped(args, lambda a: a.data if isinstance(a, Tensor) else a)
    program = recorder.get()
    if program is None:
        function(*arrays)
    else:
        program.effect(function, arrays)


# -------------------------------------------------------------------------------------------------------------- calls


def _computes(ufunc: np.ufunc, given: Sequence[Any], made: np.ndarray) -> bool:
    """Whether a NumPy function gives the same bits, so that it can write to memory in place of an operation."""
    with np.errstate(all="ignore"):
        return np.asarray(ufunc(*given)).tobytes() == made.tobytes()


def _call_by_name(function: Callable, names: Sequence[str], *args: Any) -> Any:
    return function(**dict(zip(names, args, strict=True)))


def _compute_again(made: np.ndarray, function: Callable, given: Sequence[Any]) -> None:
    """Write the value of ``function(*given)`` over the one made before."""
    np.copyto(made, function(*given))


def _compute_all_again(made: Sequence[np.ndarray | None], function: Callable, given: Sequence[Any]) -> None:
    """Write all arrays in the value of ``function(*given)`` over those made before, but where that is None."""
    for old, new in zip(made, _leaves(_mapped(function(*given), np.asarray), np.ndarray), strict=True):
        if old is not None:
            np.copyto(old, new)


# ------------------------------------------------------------------------------------------------------- nested values


def _mapped(value: Any, function: Callable) -> Any:
    """A value with ``function(a)`` for every array, NumPy number or Tensor in it, in lists, tuples and dicts too."""
    if isinstance(value, np.ndarray | np.generic | Tensor):
        return function(value)
    if isinstance(value, dict):
        return {name: _mapped(v, function) for name, v in value.items()}
    if isinstance(value, list | tuple):
        made = [_mapped(v, function) for v in value]
        return made if isinstance(value, list) else tuple(made)
    return value


def _leaves(value: Any, kind: type) -> Iterator[Any]:
    """Everything of a kind in a value, and in lists, tuples and dicts there."""
    if isinstance(value, kind):
        yield value
    elif isinstance(value, dict):
        yield from _leaves(list(value.values()), kind)
    elif isinstance(value, list | tuple):
        for element in value:
            yield from _leaves(element, kind)


def _with_copies(value: Any) -> Any:
    """A value whose Tensors and arrays are not those of the program, which the next run overwrites."""
    return _mapped(value, lambda a: Tensor.wrap(a.data.copy()) if isinstance(a, Tensor) else a.copy())


def _owner(array: np.ndarray) -> np.ndarray:
    """The array that owns another one's memory."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


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

    return repr(_mapped(value, shown))
