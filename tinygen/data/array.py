"""Arrays saved by NumPy."""

import zipfile
import zlib
from pathlib import Path

import numpy as np

from tinygen.errors import DataError

Array = np.ndarray


def read_npy(path: Path) -> Array:
    """The array of a ``.npy`` file; nothing in it is ever executed."""
    loaded = _load(path)
    if isinstance(loaded, dict):
        raise DataError(f"{path}: holds several arrays, as .npz files do: rename it to end in .npz")
    return loaded


def read_npz(path: Path) -> tuple[Array, Array | None]:
    """Data and labels (or None) of a ``.npz`` file: ``labels``, and ``x`` or the only other array."""
    loaded = _load(path)
    if not isinstance(loaded, dict):
        raise DataError(f"{path}: holds a single array, as .npy files do: rename it to end in .npy")
    labels = loaded.pop("labels", None)
    if len(loaded) != 1 and "x" not in loaded:
        raise DataError(f"{path}: one array must be named 'x' (and one may be 'labels') but they are {sorted(loaded)}")
    return loaded["x"] if "x" in loaded else next(iter(loaded.values())), labels


def _load(path: Path) -> Array | dict[str, Array]:
    try:
        with path.open("rb") as file:  # np.load leaves a path open when the content is bad
            loaded = np.load(file, allow_pickle=False)
            if not isinstance(loaded, np.lib.npyio.NpzFile):
                return loaded
            arrays = dict(loaded)
        if not all(isinstance(array, np.ndarray) for array in arrays.values()):
            raise ValueError("some other zip archive")
        return arrays
    except (ValueError, EOFError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(
            f"{path}: not a file of plain numeric arrays as np.save and np.savez write ({error})"
        ) from error
