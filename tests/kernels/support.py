"""What the tests of the kernels share: how arrays are drawn and laid out in memory, and thread counts."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

import kernels
from kernels.threads import get_num_threads, set_num_threads

seeds = st.integers(0, 2**32 - 1)
dtypes = st.sampled_from([np.float32, np.float64])
layouts = st.sampled_from(["C", "Fortran", "strided", "reversed", "read-only"])


def normal(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any, scale: float = 1.0) -> np.ndarray:
    """Normal numbers, in an array even where ``shape`` is ()."""
    return np.asarray(scale * rng.standard_normal(shape)).astype(dtype)


def lay_out(array: np.ndarray, layout: str) -> np.ndarray:
    """The same values in another memory layout."""
    if layout == "Fortran":
        return np.asfortranarray(array)
    if layout == "strided":
        return np.repeat(array, 2, axis=-1)[..., ::2] if array.ndim else array
    if layout == "reversed":
        return np.flip(np.ascontiguousarray(np.flip(array)))
    if layout == "read-only":
        array = array.copy()
        array.flags.writeable = False
    return array


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


def assert_same_bits_on_all_thread_counts(compute: Callable[[], Any]) -> None:
    """Results must have the same bits, not only nearly the same values."""
    before = get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3):
            set_num_threads(threads)
            # All are kept until the end: in the memory of a freed result, elements that were forgotten would be right.
            results.append(list(compute()))
    finally:
        set_num_threads(before)
    for one, two, three in zip(*results, strict=True):
        assert one.tobytes() == two.tobytes() == three.tobytes()


def assert_close(actual: np.ndarray, expected: np.ndarray, tolerance: Any) -> None:
    """Elementwise |actual - expected| <= tolerance; shape and NaN positions must agree."""
    assert actual.shape == expected.shape
    np.testing.assert_array_equal(np.isnan(actual), np.isnan(expected))
    error = np.abs(np.subtract(actual, expected, dtype=np.float64))
    assert not np.any(error > tolerance), f"off by {np.nanmax(error - tolerance)} more than the tolerance"
