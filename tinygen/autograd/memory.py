"""Where the arrays of a `Program` lie: those that are not needed at the same time share memory.

While a program records, its arrays come and go as usual, and only their places are noted. From the calls that are given
an array follows when it is needed, for the first writes all that later ones read.
"""

import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.array_utils import byte_bounds

from kernels.arithmetic import memory_of
from kernels.calls import Call
from tinygen.autograd.tensor import Tensor

ALIGNMENT = 64
"""Bytes of a cache line, where blocks begin."""

TRIED = 64
"""Blocks that are tried for each array, so that long programs do not take the square of their length."""


@dataclass(frozen=True, slots=True)
class Place:
    """What stands for an array that is an argument or was made by an operation."""

    number: int
    """Of the array that owns the memory, in the order in which they were made."""
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: np.dtype


class Memory:
    """The arrays that were made while a program recorded."""

    def __init__(self) -> None:
        self._numbers: dict[int, int] = {}  # of arrays, by id, which others may have got since
        self._arrays: list[weakref.ref[np.ndarray]] = []
        self._bounds: list[tuple[int, int]] = []  # of their memory
        self._kept: list[np.ndarray] = []  # whose memory must stay
        self._alive: dict[int, np.ndarray] = {}  # those that are when the calls end, by number
        self._blocks: list[int] = []  # sizes of memory for the others
        self._block_of: dict[int, int] = {}

    def own(self, arrays: Iterable[np.ndarray]) -> None:
        """Say that arrays were made."""
        for array in arrays:
            if not self.owns(array):
                whole = owner(array)
                self._numbers[id(whole)] = len(self._arrays)
                self._arrays.append(weakref.ref(whole))
                self._bounds.append(byte_bounds(whole))

    def keep(self, arrays: Iterable[np.ndarray]) -> None:
        """Say that arrays were made; if that is news, they keep their memory, for calls may not write all of it."""
        unknown = [array for array in arrays if not self.owns(array)]
        self.own(unknown)
        self._kept += unknown

    def owns(self, array: np.ndarray) -> bool:
        """Whether an array's memory was made."""
        return self._number(owner(array)) is not None

    def described(self, value: Any) -> Any:
        """A value in which a `Place` stands for each array that was made."""

        def place(leaf: Any) -> Any:
            array = leaf.data if isinstance(leaf, Tensor) else leaf
            number = self._number(owner(array)) if isinstance(array, np.ndarray) else None
            if number is None:
                return array
            offset = array.ctypes.data - self._bounds[number][0]
            return Place(number, offset, array.shape, array.strides, array.dtype)

        return mapped(value, place)

    def _number(self, whole: np.ndarray) -> int | None:
        number = self._numbers.get(id(whole))
        return None if number is None or self._arrays[number]() is not whole else number

    def share(self, calls: Sequence[Call]) -> int:
        """Find what arrays may share memory in these calls, which are described; the bytes that they need together.

        Arrays that are alive beyond the calls keep their memory. The others take turns: from the largest on, each gets
        a block that no other has while it is needed, the smallest ("greedy by size" of shared objects in Pisarchyk and
        Lee 2020, "Efficient memory management for deep neural net inference").
        """
        spans: dict[int, int] = {}  # the calls in which an array is needed, as bits
        for i, call in enumerate(calls):
            for place in leaves(call, Place):
                first = spans.get(place.number, 1 << i)
                spans[place.number] = (2 << i) - (first & -first)
        self._alive = {n: array for n in spans if (array := self._arrays[n]()) is not None}
        sizes = [high - low for low, high in self._bounds]
        taken: list[int] = []
        for n in sorted(spans.keys() - self._alive.keys(), key=lambda n: (-sizes[n], n)):
            tried = reversed(range(max(len(taken) - TRIED, 0), len(taken)))
            k = next((k for k in tried if not taken[k] & spans[n]), len(taken))
            if k == len(taken):
                taken.append(0)
                self._blocks.append(sizes[n])
            taken[k] |= spans[n]
            self._block_of[n] = k
        return sum(self._blocks) + sum(sizes[n] for n in self._alive)

    def placed(self, calls: Iterable[Call]) -> list[Call]:
        """The calls with arrays for each `Place`."""
        blocks = [_block(size) for size in self._blocks]
        room = {n: blocks[k] for n, k in self._block_of.items()}
        room |= {n: memory_of(array)[0].view(np.uint8) for n, array in self._alive.items()}

        def array(place: Place) -> np.ndarray:
            return np.ndarray(place.shape, place.dtype, room[place.number], place.offset, place.strides)

        return [mapped(call, array, Place) for call in calls]


def _block(size: int) -> np.ndarray:
    room = np.empty(size + ALIGNMENT - 1, np.uint8)
    first = -room.ctypes.data % ALIGNMENT
    return room[first : first + size]


def owner(array: np.ndarray) -> np.ndarray:
    """The array that owns another one's memory."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


# ------------------------------------------------------------------------------------------------------- nested values

ARRAYS = np.ndarray, np.generic, Tensor


def mapped(value: Any, function: Callable, kinds: type | tuple[type, ...] = ARRAYS) -> Any:
    """A value with ``function(a)`` for everything of these kinds in it, in lists, tuples and dicts too."""
    if isinstance(value, kinds):
        return function(value)
    if isinstance(value, dict):
        return {name: mapped(v, function, kinds) for name, v in value.items()}
    if isinstance(value, list | tuple):
        made = [mapped(v, function, kinds) for v in value]
        return made if isinstance(value, list) else type(value)(*made) if hasattr(value, "_fields") else tuple(made)
    return value


def leaves(value: Any, kind: type) -> Iterator[Any]:
    """Everything of a kind in a value, and in lists, tuples and dicts there."""
    if isinstance(value, kind):
        yield value
    elif isinstance(value, dict):
        yield from leaves(list(value.values()), kind)
    elif isinstance(value, list | tuple):
        for element in value:
            yield from leaves(element, kind)
