"""Fashion-MNIST (Xiao, Rasul and Vollgraf 2017) as Debian's package installs it."""

from pathlib import Path

import numpy as np

from tinygen.data.idx import read_idx
from tinygen.errors import DataError

Array = np.ndarray

FOLDER = Path("/usr/share/datasets/fashion-mnist")
PREFIXES = {"train": ("train",), "test": ("t10k",), "all": ("train", "t10k")}


def read_fashion(split: str) -> tuple[Array, Array]:
    """Images ``(N, 28, 28)`` and labels ``(N,)``, uint8: 60,000 to train and 10,000 to test, in the original order."""
    images = [_read(f"{prefix}-images-idx3-ubyte.gz") for prefix in PREFIXES[split]]
    labels = [_read(f"{prefix}-labels-idx1-ubyte.gz") for prefix in PREFIXES[split]]
    return np.concatenate(images), np.concatenate(labels)


def _read(name: str) -> Array:
    path = FOLDER / name
    if not path.exists():
        raise DataError(
            f"fashion: {path} does not exist: install the Debian package with 'apt install dataset-fashion-mnist', "
            f"or load an IDX file of your own by its path"
        )
    return read_idx(path)
