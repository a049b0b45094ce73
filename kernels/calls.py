"""Noting what kernels do to memory, so that it can be done again without asking what is to be done."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple, TypeVar

import numpy as np

F = TypeVar("F", bound=Callable[..., Any])


class Call(NamedTuple):
    """``function(*args, **options)``."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    options: dict[str, Any]


class Notes(NamedTuple):
    """What kernels did to memory."""

    calls: list[Call]
    """Each writes to arrays among its arguments."""
    made: list[np.ndarray]
    """Arrays that the calls are the first to write to."""


_notes: ContextVar[Notes | None] = ContextVar("notes", default=None)


@contextmanager
def noted() -> Iterator[Notes]:
    """Inside, everything that kernels do to memory is noted, so that it can be done again."""
    notes = Notes([], [])
    token = _notes.set(notes)
    try:
        yield notes
    finally:
        _notes.reset(token)


def note(function: Callable[..., Any], *args: Any, **options: Any) -> None:
    """Say that ``function(*args, **options)`` was called, which writes to its arguments."""
    notes = _notes.get()
    if notes is not None:
        notes.calls.append(Call(function, args, options))


def new(array: np.ndarray) -> np.ndarray:
    """An array of which nobody knows yet: the calls that are noted from now on are the first to write to it."""
    notes = _notes.get()
    if notes is not None:
        notes.made.append(array)
    return array


def by_kernels(function: F) -> F:
    """Declare that all that a function does to memory is noted, so that its calls stand for it."""
    function.by_kernels = True  # type: ignore[attr-defined]
    return function


def do(function: Callable[..., Any], *args: Any) -> None:
    """Call a function that writes to its arguments, and note that."""
    function(*args)
    note(function, *args)


def computed(function: Callable[..., Any], *args: Any, **options: Any) -> np.ndarray:
    """``function(*args, **options)`` of NumPy, which can write to an ``out``, noted."""
    out = new(np.asarray(function(*args, **options)))
    note(function, *args, out=out, **options)
    return out


def empty(shape: int | tuple[int, ...], dtype: Any) -> np.ndarray:
    """`numpy.empty`, noted."""
    return new(np.empty(shape, dtype))


def empty_like(array: np.ndarray) -> np.ndarray:
    """The same of an array's shape and dtype."""
    return empty(array.shape, array.dtype)


def zeros(shape: int | tuple[int, ...], dtype: Any) -> np.ndarray:
    """`numpy.zeros`, noted."""
    out = new(np.zeros(shape, dtype))
    note(np.copyto, out, 0)
    return out


def contiguous(array: np.ndarray) -> np.ndarray:
    """The array itself if it is plain, writable and C-contiguous, else a copy that is."""
    if type(array) is np.ndarray and array.flags.carray:
        return array
    copy = new(np.array(array, order="C", subok=False))
    note(np.copyto, copy, array)
    return copy
