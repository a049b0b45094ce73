"""Running a kernel on several threads: a hand-over that takes a microsecond.

Kernels release the GIL, so Python threads can run them in parallel. But waking a thread takes 20 µs and more, as long
as many a kernel runs; Numba's `workqueue` layer takes 55 µs, and aborts when two Python threads enter it at once; GNU
OpenMP dies after a fork. So our workers stay inside compiled code for a while after each piece of work and watch a few
numbers in memory, the `job`. The caller publishes there what is to be done, and everybody, the caller included, claims
shares of it until none is left. A worker that sleeps, or is late, thus delays nothing: the caller does its share.
(Waiting for a number in memory, and claiming by compare-and-exchange, are explained by Herlihy and Shavit 2012, "The
Art of Multiprocessor Programming", chapters 5 and 7.)
"""

import os
import threading
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numpy.typing import NDArray

from kernels.atomic import add, load, pause, replace, store
from kernels.calls import note
from kernels.compilation import element_pointer, intrinsic, jit

GRAIN = 5_000.0
"""Nanoseconds of work that make a share worth handing over, to a thread that may be asleep."""

SERIES_GRAIN = 800.0
"""The same in a `Series`, where others are awake: to hand over takes a fifth of that. It also pays because every thread
then finds in its own cache what it wrote before; half of what a single one reads would have to come from another."""

PATIENCE = 10_000
"""How often a worker looks for another job before it goes to sleep: for some 0.2 ms, where a pause takes 20 ns."""

NAP = 1e5
"""Nanoseconds of work of one thread in a `Series`, after which the others may sleep and are woken once more."""

_num_threads: int = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]  # the CPUs that this process may use


def get_num_threads() -> int:
    """The number of threads that large kernels use."""
    return _num_threads


def set_num_threads(n: int) -> None:
    """Use ``n`` threads for large kernels from now on. Results do not depend on it.

    Raises
    ------
    ValueError : n < 1
    """
    global _num_threads
    if n < 1:
        raise ValueError(f"set_num_threads: n={n} must be at least 1")
    _num_threads = int(n)


def run(kernel: Callable[..., Any], nanoseconds: float, *args: Any) -> None:
    """Call ``kernel(worker, workers, *args)`` for every ``worker < workers``, on as many threads as the work is worth.

    Every worker does a share of the tasks into which the kernel divides its work (``for task in range(worker, tasks,
    workers)``, or those between `share`'s bounds). What is computed for an element, and in which order, must follow
    from the shapes alone, so that results do not depend on the number of threads.

    Parameters
    ----------
    kernel : decorated with `jit`; it returns nothing and writes to its arguments
    nanoseconds : an estimate of the time it takes on one core

    Raises
    ------
    MemoryError : there was no room for the kernel's buffers; what it writes to is then incomplete
    """
    if _launcher(kernel)(_job, _awake(_worth(nanoseconds, GRAIN)), *args):
        raise MemoryError(f"{kernel.__name__}: no memory for its buffers")
    note(run, kernel, nanoseconds, *args)


class Series:
    """Calls of `run` that are made again, on the same memory, without Python in between.

    Parameters
    ----------
    calls : the arguments of each
    """

    def __init__(self, calls: Iterable[tuple[Any, ...]]) -> None:
        self._calls = list(calls)  # they keep the memory
        self._packed = []
        tables: list[list[tuple[int, int, int]]] = [[]]
        idle = 0.0
        job = np.zeros(PACKED + MOST_WORDS, np.int64)
        for kernel, nanoseconds, *args in self._calls:
            function, workers = _launcher(kernel)(job, PACK, *args), _worth(nanoseconds, SERIES_GRAIN)
            self._packed.append(job[PACKED : PACKED + job[WORDS]].copy())
            if workers > 1 and idle > NAP:
                tables.append([])
            idle = idle + nanoseconds if workers == 1 else 0.0
            tables[-1].append((function, self._packed[-1].ctypes.data, workers))
        self._tables = [np.array(table, np.int64).reshape(-1, 3) for table in tables]
        self._most = [int(table[:, 2].max(initial=1)) for table in self._tables]

    def __call__(self) -> None:
        """Make the calls."""
        done = 0
        for table, most in zip(self._tables, self._most, strict=True):
            count = _run_all(_job, table, _awake(most))
            done += count
            if count < len(table):
                raise MemoryError(f"{self._calls[done][0].__name__}: no memory for its buffers")


def _worth(nanoseconds: float, grain: float) -> int:
    """The number of threads that so much work is worth."""
    return max(int(nanoseconds / grain), 1)


@jit(inline="always")
def share(worker: int, workers: int, tasks: int) -> tuple[int, int]:
    """The bounds ``(first, last)`` of one worker's share of ``range(tasks)``: neighbours stay together."""
    return tasks * worker // workers, tasks * (worker + 1) // workers


# --------------------------------------------------------------------------------------------------------------- jobs

Job = NDArray[np.int64]

BUSY, OPEN, DONE, FAILED, FUNCTION, ARGUMENTS, WORKERS = 0, 8, 16, 17, 24, 25, 26
"""Where in a job stands what: whether somebody has one, the shares not yet claimed, those finished and whether one of
them failed, and what to call. What is written at different times is kept in different cache lines, of 64 bytes."""

PACK, WORDS, PACKED, MOST_WORDS = 0, 27, 32, 512
"""For a job that only takes a kernel's arguments: what says so, where their number of words stands and they begin, and
how many there may be."""


@intrinsic
def _as_task(typing, kernel, arguments):  # type: ignore[no-untyped-def]
    """The addresses of a function ``failed = f(worker, workers, address)`` that calls the kernel, and of its arguments.

    Kernels have signatures of all kinds, but a worker can only call what it knows the signature of. The third number
    is how many words the arguments take.
    """
    if any(isinstance(e, types.Array) for t in arguments.types for e in getattr(t, "types", ())):
        raise TypeError("run: arrays in tuples would be counted as references, and must be arguments of their own")
    kernel_signature = kernel.get_call_type(typing, (types.intp, types.intp, *arguments.types), {})

    def emit(context, builder, signature, values):  # type: ignore[no-untyped-def]
        compiled = kernel.dispatcher.overloads[kernel_signature.args]
        context.active_code_library.add_linking_library(compiled.library)
        integer = context.get_value_type(types.intp)
        place = cgutils.alloca_once_value(builder, values[1])
        name = builder.module.get_unique_name(f"{compiled.fndesc.llvm_func_name}.task")
        task = ir.Function(builder.module, ir.FunctionType(integer, [integer] * 3), name)
        task.linkage = "internal"
        body = ir.IRBuilder(task.append_basic_block())
        passed = body.load(body.inttoptr(task.args[2], place.type))
        items = [_borrowed(context, body, t, body.extract_value(passed, i)) for i, t in enumerate(arguments.types)]
        status, _ = context.call_internal_no_propagate(
            body, compiled.fndesc, kernel_signature, [task.args[0], task.args[1], *items]
        )
        body.ret(body.zext(status.is_error, integer))
        words = -(-context.get_abi_sizeof(place.type.pointee) // 8)
        if words > MOST_WORDS:
            raise TypeError(f"{name}: its arguments take {words} words, but at most {MOST_WORDS} are provided for")
        found = [builder.ptrtoint(task, integer), builder.ptrtoint(place, integer), ir.Constant(integer, words)]
        return context.make_tuple(builder, signature.return_type, found)

    return types.UniTuple(types.intp, 3)(kernel, arguments), emit


def _borrowed(context, builder, kind, value):  # type: ignore[no-untyped-def]
    """An argument that is not counted as a reference: for each one to an array, threads would wait for one another."""
    if not isinstance(kind, types.Array):
        return value
    array = context.make_array(kind)(context, builder, value)
    array.meminfo, array.parent = (cgutils.get_null_value(v.type) for v in (array.meminfo, array.parent))
    return array._getvalue()


@intrinsic
def _call(typing, function, worker, workers, address):  # type: ignore[no-untyped-def]
    """Call the function that `_as_task` made."""

    def emit(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        integer = context.get_value_type(types.intp)
        pointer = ir.FunctionType(integer, [integer] * 3).as_pointer()
        return builder.call(builder.inttoptr(arguments[0], pointer), arguments[1:])

    return types.intp(*[types.intp] * 4), emit


@intrinsic
def _copy_words(typing, job, index, address, words):  # type: ignore[no-untyped-def]
    """Copy what lies at an address to ``job[index:]``."""

    def emit(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        target = element_pointer(context, builder, signature, arguments)
        source = builder.inttoptr(arguments[2], target.type)
        cgutils.raw_memcpy(builder, target, source, arguments[3], 8)
        return context.get_dummy_value()

    return types.void(job, types.intp, types.intp, types.intp), emit


@jit()
def _do_shares(job: Job) -> bool:
    """Claim shares and do them until none is open; whether there was one.

    The job that a claimed share belongs to cannot end before the share is done, so what it says is valid until then.
    """
    found = False
    left = load(job, OPEN)
    while left > 0:
        if replace(job, OPEN, left, left - 1):
            found = True
            if _call(job[FUNCTION], left - 1, job[WORKERS], job[ARGUMENTS]):
                job[FAILED] = 1
            add(job, DONE, 1)
        left = load(job, OPEN)
    return found


@jit(cached=True)
def _serve(job: Job, patience: int) -> None:
    """What a worker does while it is awake."""
    idle = 0
    while idle < patience:
        idle = 0 if _do_shares(job) else idle + 1
        pause()


@jit()
def _share_out(job: Job, workers: int, function: int, address: int) -> int:
    """Have a task done by all who serve; whether it failed."""
    if workers == 1 or not replace(job, BUSY, 0, 1):  # another Python thread has the workers
        return _call(function, 0, 1, address)
    job[FUNCTION], job[ARGUMENTS], job[WORKERS] = function, address, workers
    job[DONE], job[FAILED] = 0, 0
    store(job, OPEN, workers)
    _do_shares(job)
    while load(job, DONE) < workers:
        pause()
    failed = job[FAILED]
    store(job, BUSY, 0)
    return failed


@cache
def _launcher(kernel: Any) -> Any:
    """The compiled function ``failed = launch(job, workers, *arguments)`` that has a kernel run by all who serve.

    With `PACK` for the workers it only writes the arguments to the job, and returns the task's address.
    """

    def launch(job: Job, workers: int, *arguments: Any) -> int:
        function, address, words = _as_task(kernel, arguments)
        if workers == PACK:
            job[WORDS] = words
            _copy_words(job, PACKED, address, words)
            return function
        return _share_out(job, workers, function, address)

    launch.__module__, launch.__qualname__ = kernel.__module__, f"launch.{kernel.__module__}.{kernel.__qualname__}"
    return jit(cached=True)(launch)


@jit(cached=True)
def _run_all(job: Job, table: Job, most: int) -> int:
    """Have the tasks of a `Series` done on up to ``most`` threads; how many were, before one failed."""
    for i in range(len(table)):
        if _share_out(job, min(table[i, 2], most), table[i, 0], table[i, 1]):
            return i
    return len(table)


# ------------------------------------------------------------------------------------------------------------- workers


class _Worker:
    """A thread that serves, and sleeps when there has been nothing to do for a while."""

    def __init__(self) -> None:
        self.sleeps = False
        self.wake = threading.Event()
        threading.Thread(target=self._loop, name="tinygen-kernels", args=(_job,), daemon=True).start()

    def _loop(self, job: Job) -> None:
        while True:
            _serve(job, PATIENCE)
            self.sleeps = True
            _serve(job, 1)  # a job that was published before its caller could see that
            self.wake.wait()
            self.wake.clear()
            self.sleeps = False


_job = np.zeros(32, np.int64)
_workers: list[_Worker] = []
_starting = threading.Lock()


def _awake(most: int) -> int:
    """How many threads may take part in work that is worth ``most`` of them, now that as many look for it."""
    count = min(_num_threads, most)
    if len(_workers) < count - 1:
        with _starting:
            while len(_workers) < count - 1:
                _workers.append(_Worker())
    for worker in _workers[: count - 1]:
        if worker.sleeps:
            worker.wake.set()
    return count


def _after_fork() -> None:
    """Threads do not survive a fork, and somebody may have had the workers: the child starts anew."""
    global _starting
    _job[:] = 0
    _workers.clear()
    _starting = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
