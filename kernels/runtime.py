"""What every compiled kernel shares: jitting and caching, running on several threads, checking of arguments."""

import hashlib
import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Literal

import numba
import numpy as np
from numba.core import event
from numba.core.caching import FunctionCache
from numpy.typing import NDArray

Array = NDArray[np.floating]

# ---------------------------------------------------------------------------------------------------------- compilation

# Numba's cache follows the file of the jitted function alone, but our kernels inline one another across files and
# their machine code comes from a generator: a change anywhere in the package must invalidate all of it.
_PACKAGE_STAMP = hashlib.sha256(
    b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
).hexdigest()


class _PackageCache(FunctionCache):
    """Numba's on-disk cache, valid for one state of the whole package."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        self._cache_file._source_stamp = _PACKAGE_STAMP

    def save_overload(self, sig: Any, data: Any) -> None:
        with suppress(OSError):  # a full or vanished disk: the next process compiles again, this one has what it needs
            super().save_overload(sig, data)


def jit(
    *, fastmath: bool | set[str] = False, inline: Literal["never", "always"] = "never"
) -> Callable[[Callable[..., Any]], Any]:
    """Decorate a module-level function as a kernel: compiled at its first call, cached on disk, run without the GIL.

    Parameters
    ----------
    fastmath : the fast-math flags that the kernel needs, as ``{"contract", "reassoc"}``; True would delete NaN tests
    inline : "always" for a helper that is pasted into its callers before they are optimised
    """

    def decorate(function: Callable[..., Any]) -> Any:
        dispatcher: Any = numba.njit(nogil=True, error_model="numpy", fastmath=fastmath, inline=inline)(function)
        with suppress(RuntimeError):  # Numba found no folder to write to: every process compiles for itself
            dispatcher._cache = _PackageCache(function)
        return dispatcher

    return decorate


class _Announcer(event.Listener):
    """Says once, on standard error, that the pause before the first result is compilation."""

    def __init__(self) -> None:
        self.silent = False

    def on_start(self, event: event.Event) -> None:
        function = event.data["dispatcher"].py_func
        if not self.silent and function.__module__.startswith("kernels."):
            self.silent = True
            print(
                "tinygen: compiling kernels for this machine; later runs find them in a cache",
                file=sys.stderr,
                flush=True,
            )

    def on_end(self, event: event.Event) -> None:
        pass


event.register("numba:compile", _Announcer())

# -------------------------------------------------------------------------------------------------------------- threads

# Kernels release the GIL, so plain Python threads run them in parallel. Handing work to one and waiting for it takes
# 16-30 µs; Numba's `workqueue` layer takes 55 µs for the same (its caller sleeps meanwhile) and aborts when two Python
# threads enter it at once, and GNU OpenMP dies after a fork. Without `parallel=True` a kernel also compiles faster.

HANDOVER = 30_000.0
"""Nanoseconds that waking another thread and waiting for it may cost; work is shared from three times as much on."""

_num_threads: int = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]  # the CPUs that this process may use
_workers: list["_Worker"] = []


def get_num_threads() -> int:
    """The number of threads that large kernels use."""
    return _num_threads


def set_num_threads(n: int) -> None:
    """Use ``n`` threads for large kernels from now on. Results do not depend on it, except those computed by BLAS.

    Raises
    ------
    ValueError : n < 1
    """
    global _num_threads
    if n < 1:
        raise ValueError(f"set_num_threads: n={n} must be at least 1")
    _num_threads = int(n)


class _Worker:
    """A thread that runs the calls put into its queue."""

    def __init__(self) -> None:
        self.calls: SimpleQueue[Any] = SimpleQueue()
        threading.Thread(target=self._loop, name="tinygen-kernels", daemon=True).start()

    def _loop(self) -> None:
        while True:
            kernel, args, done = self.calls.get()
            try:
                kernel(*args)
            except BaseException as error:
                done.put(error)
            else:
                done.put(None)
            del kernel, args, done  # or the arrays would live until the next call


def run(kernel: Callable[..., Any], nanoseconds: float, *args: Any) -> None:
    """Call ``kernel(worker, workers, *args)`` for every worker, on as many threads as the work is worth.

    The kernel divides its work into tasks by the shapes alone, never by ``workers``, and each worker does a share of
    the tasks (``for task in range(worker, tasks, workers)``, or those between `share`'s bounds), so that results do
    not depend on the number of threads.

    Parameters
    ----------
    kernel : decorated with `jit`; it returns nothing and writes to its arguments
    nanoseconds : an estimate of the time it takes on one core
    """
    workers = min(_num_threads, 1 + int(nanoseconds / (3 * HANDOVER)))
    if workers == 1:
        kernel(0, 1, *args)
        return
    while len(_workers) < workers - 1:
        _workers.append(_Worker())
    done: SimpleQueue[BaseException | None] = SimpleQueue()
    for worker in range(1, workers):
        _workers[worker - 1].calls.put((kernel, (worker, workers, *args), done))
    try:
        kernel(0, workers, *args)
    finally:
        errors = [done.get() for _ in range(1, workers)]
    for error in errors:
        if error is not None:
            raise error


@jit(inline="always")
def share(worker: int, workers: int, tasks: int) -> tuple[int, int]:
    """The bounds ``(first, last)`` of one worker's share of ``range(tasks)``: neighbours stay together."""
    return tasks * worker // workers, tasks * (worker + 1) // workers


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_workers.clear)  # threads do not survive a fork; the child starts its own


# ------------------------------------------------------------------------------------------------------------ arguments


def show(name: str, axes: str, shape: tuple[int, ...]) -> str:
    """Describe an argument with its axis letters: ``x (N,H,W,C)=(8,28,28,3)``."""
    return f"{name} ({axes})=({','.join(map(str, shape))})"


def check(operation: str, name: str, value: Any, axes: str | None = None, dtype: np.dtype[Any] | None = None) -> Array:
    """Make an argument safe for compiled code, which checks nothing: a plain, writable, C-contiguous floating array.

    Parameters
    ----------
    operation, name : the kernel's and the argument's, for the error text
    value : the argument; other layouts and read-only arrays are copied, since Numba would compile anew for each
    axes : the expected axes, such as ``"N,H,W,C"``; None accepts any number
    dtype : the dtype that another argument fixed; None accepts float32 and float64

    Raises
    ------
    TypeError : not an ndarray, or another dtype
    ValueError : another number of axes
    """
    accepted = _FLOATS if dtype is None else (dtype,)
    dimensions = None if axes is None else axes.count(",") + 1
    if not isinstance(value, np.ndarray):
        raise TypeError(f"{operation}: {name} must be a numpy.ndarray, not {type(value).__name__}")
    if value.dtype not in accepted:
        expected = " or ".join(map(str, accepted)) + ("" if dtype is None else ", as the other arguments have")
        raise TypeError(
            f"{operation}: {name} has dtype {value.dtype} but must have {expected}; convert it with {name}.astype(...)"
        )
    if dimensions is not None and value.ndim != dimensions:
        raise ValueError(f"{operation}: {name} must have axes ({axes}) but has shape {value.shape}")
    if type(value) is np.ndarray and value.flags.carray:
        return value
    return np.array(value, order="C", subok=False)


_FLOATS = (np.dtype(np.float32), np.dtype(np.float64))  # native byte order: a foreign one is another dtype
