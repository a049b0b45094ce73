"""Checking and describing the arguments of kernels."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.calls import contiguous

Array = NDArray[np.floating]


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
    plain = type(value) is np.ndarray and value.flags.carray
    if plain and value.dtype is dtype and (axes is None or value.ndim == axes.count(",") + 1):
        return value  # the usual case, and a call should cost little more than a microsecond
    accepted = _FLOATS if dtype is None else (dtype,)
    if not isinstance(value, np.ndarray):
        raise TypeError(f"{operation}: {name} must be a numpy.ndarray, not {type(value).__name__}")
    if value.dtype not in accepted:
        expected = " or ".join(map(str, accepted)) + ("" if dtype is None else ", as the other arguments have")
        raise TypeError(
            f"{operation}: {name} has dtype {value.dtype} but must have {expected}; convert it with {name}.astype(...)"
        )
    if axes is not None and value.ndim != axes.count(",") + 1:
        raise ValueError(f"{operation}: {name} must have axes ({axes}) but has shape {value.shape}")
    return contiguous(value)


_FLOATS = (np.dtype(np.float32), np.dtype(np.float64))  # native byte order: a foreign one is another dtype
