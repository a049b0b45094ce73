"""What the tests of the kernels share: the two checks of every kernel, and new processes."""

import importlib
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kernels
from kernels import reference, threads
from kernels.arithmetic import as_runs
from kernels.calls import Call, noted
from kernels.threads import Series
from tests.kernels.cases import CASES
from tinygen.autograd.memory import owner
from tinygen.testing import check_kernel


def normal(rng: np.random.Generator, dtype: Any, *shape: int, scale: float = 1.0) -> np.ndarray:
    """Normal numbers, in an array even where ``shape`` is ()."""
    return np.asarray(scale * rng.standard_normal(shape)).astype(dtype)


def compiled(name: str) -> Callable:
    """A public kernel, whatever backend the environment has chosen."""
    return getattr(importlib.import_module(f"kernels.{kernels._MODULE_OF[name]}"), name)


def arguments(name: str, settings: tuple, dtype: Any, rng: np.random.Generator) -> tuple:
    return CASES[name].arguments(partial(normal, rng, dtype), *settings)


def check(name: str, settings: tuple, dtype: Any, rng: np.random.Generator) -> None:
    """Hold a kernel against its reference."""
    case = CASES[name]
    fast, slow = (returning(f, case.in_place) for f in (compiled(name), getattr(reference, name)))
    args = arguments(name, settings, dtype, rng)
    check_kernel(fast, slow, *args, roundings=case.roundings, scale=case.scale, rng=rng)


def returning(kernel: Callable, in_place: tuple[int, ...]) -> Callable:
    """A kernel that returns what it would have changed, after a check that it changed nothing beyond."""
    if not in_place:
        return kernel

    def run(*args: Any) -> tuple[np.ndarray, ...]:
        fenced = {i: np.pad(args[i], 1, constant_values=np.pi) for i in in_place}
        kernel(*[fenced[i][1:-1] if i in fenced else a for i, a in enumerate(args)])
        for array in fenced.values():
            assert np.all(array[[0, -1]] == array.dtype.type(np.pi)), "the memory around an argument was written to"
        return tuple(array[1:-1] for array in fenced.values())

    return run


def assert_same_bits_on_all_thread_counts(name: str, args: tuple) -> None:
    """Results must have the same bits, not only nearly the same values; and be contiguous, as the next kernel likes."""
    results = []
    for n in (1, 2, 3):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(threads, "GRAIN", 1e-3)  # so that even small work is divided
            patch.setattr(threads, "_num_threads", n)
            # All are kept until the end: in the memory of a freed result, elements that were forgotten would be right.
            y = returning(compiled(name), CASES[name].in_place)(*args)
            results.append([a for a in (y if isinstance(y, tuple) else (y,)) if a is not None])
    for one, two, three in zip(*results, strict=True):
        assert one.flags.c_contiguous
        assert one.tobytes() == two.tobytes() == three.tobytes()


def assert_noted_calls_do_it_again(name: str, args: tuple, others: tuple) -> None:
    """What a kernel notes gives the bits of another call with other arguments, wherever the arrays lie.

    Compiled loops check whether arrays overlap, and what comes out must not depend on it.
    """
    args, others = (
        tuple(np.array(a, order="C") if isinstance(a, np.ndarray) else a for a in x) for x in (args, others)
    )
    new = {id(a): b.copy() for a, b in zip(args, others, strict=True) if isinstance(a, np.ndarray)}
    with noted() as notes:
        results = _results(name, args)
    expected = [a.tobytes() for a in _results(name, others)]
    made = {id(a) for a in notes.made}
    arrays = [a for call in notes.calls for a in (*call.args, *call.options.values()) if isinstance(a, np.ndarray)]
    owners = list({id(owner(a)): owner(a) for a in (*arrays, *results)}.values())
    for order in (owners, owners[::-1]):
        ends = np.cumsum([-(-a.nbytes // 64) * 64 for a in order])
        memory = np.empty(int(ends[-1]), np.uint8)
        offsets = {id(a): int(end) - -(-a.nbytes // 64) * 64 for a, end in zip(order, ends, strict=True)}

        def moved(a: Any, memory: np.ndarray = memory, offsets: dict = offsets) -> Any:
            if not isinstance(a, np.ndarray):
                return a
            offset = offsets[id(owner(a))] + a.ctypes.data - owner(a).ctypes.data
            return np.ndarray(a.shape, a.dtype, memory, offset, a.strides)

        memory.fill(255)  # numbers that are NaN, where the calls do not write what they read
        for a in order:
            if id(a) not in made:
                moved(a)[...] = new.get(id(a), a)
        for function, given, options in notes.calls:
            again = Call(function, tuple(map(moved, given)), {k: moved(a) for k, a in options.items()})
            runs = as_runs(again)
            if runs is None:
                function(*again.args, **again.options)
            else:
                Series(runs)()
        assert [moved(a).tobytes() for a in results] == expected


def _results(name: str, args: tuple) -> list[np.ndarray]:
    y = compiled(name)(*args)
    returned = [a for a in (y if isinstance(y, tuple) else (y,)) if a is not None]
    return [args[i] for i in CASES[name].in_place] or returned


def run_python(code: str, folder: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run code in a new process that imports the package from ``folder``, or else this one."""
    ours = ("NUMBA_", "PYTHON", "MALLOC_")
    variables = {k: v for k, v in os.environ.items() if not k.startswith(ours)} | environment
    folder = folder or Path(kernels.__file__).parent.parent
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=variables, capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stderr
    return result
