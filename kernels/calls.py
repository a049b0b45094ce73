"""Noting what kernels do, so that it can be done again on the same memory without asking what is to be done."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any, TypeVar

import numpy as np

F = TypeVar("F", bound=Callable[..., Any])
Call = tuple[Callable[..., Any], tuple[Any, ...]]

_calls: ContextVar[list[Call] | None] = ContextVar("calls", default=None)


@contextmanager
def noted() -> Iterator[list[Call]]:
    """Inside, everything that kernels do to memory is added to the list: ``function(*args)`` does it again."""
    calls: list[Call] = []
    token = _calls.set(calls)
    try:
        yield calls
    finally:
        _calls.reset(token)


def note(function: Callable[..., Any], *args: Any) -> None:
    """Say that ``function(*args)`` was called, which writes to its arguments."""
    calls = _calls.get()
    if calls is not None:
        calls.append((function, args))


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
    out = np.asarray(function(*args, **options))
    note(partial(function, out=out, **options), *args)
    return out


def contiguous(array: np.ndarray) -> np.ndarray:
    """The array itself if it is plain, writable and C-contiguous, else a copy that is."""
    if type(array) is np.ndarray and array.flags.carray:
        return array
    copy = np.array(array, order="C", subok=False)
    note(np.copyto, copy, array)
    return copy
