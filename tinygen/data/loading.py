"""`load`: one door to the named data sets and to a user's own files."""

from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np

from tinygen.data.array import read_npy, read_npz
from tinygen.data.digits import read_digits
from tinygen.data.fashion import read_fashion
from tinygen.data.folder import read_folder
from tinygen.data.idx import read_idx
from tinygen.data.sound import read_wav
from tinygen.data.toy import TOYS
from tinygen.errors import DataError, did_you_mean

Array = np.ndarray

_NAMED: dict[str, Callable[[str], tuple[Array, Array]]] = {"digits": read_digits, "fashion": read_fashion}
_SPLITS = ("train", "test", "all")

NAMES = tuple(_NAMED)


@dataclass(frozen=True, eq=False)
class Dataset:
    """Examples to learn from.

    Attributes
    ----------
    x : ndarray, (N, ...), float32
        Images are ``(N, H, W, C)`` in [0, 1]; sound is one sequence, ``(1, L, C)`` in [-1, 1).
    labels : ndarray, (N,), int64, or None
    name : str
        The data set's, or the file's.
    rate : int or None
        Of sound: samples per second.
    """

    x: Array
    labels: Array | None
    name: str
    rate: int | None = None

    def __len__(self) -> int:
        return len(self.x)


def load(
    name_or_path: str | PathLike[str],
    *,
    split: str | None = None,
    size: int | None = None,
    labels: str | PathLike[str] | None = None,
) -> Dataset:
    """Load a named data set or a file.

    Named are ``digits`` (embedded: 5,000 handwritten digits, 28×28, 4,000 to train and 1,000 held out, each class
    equally often) and ``fashion`` (Fashion-MNIST from Debian's package: 60,000 and 10,000). A path may lead to an IDX
    file (plain or gzip), ``.npy``, ``.npz`` (with the array ``x``, or only one, and optionally ``labels``), a folder of
    PNG or JPEG pictures, or a 16-bit PCM ``.wav``. Bytes are pixels: they are divided by 255, and ``(N, H, W)`` becomes
    ``(N, H, W, 1)``. Other numbers are taken as they are, as float32.

    Parameters
    ----------
    name_or_path : str or path
    split : {"train", "test", "all"}, optional
        Of a named data set, "train" if not given. A file is not split.
    size : int, optional
        Height to which images are reduced, by averaging squares of pixels; it must divide theirs.
    labels : str or path, optional
        A second file (IDX or ``.npy``) with a whole number for each example.

    Returns
    -------
    Dataset

    Raises
    ------
    DataError
        If there is no such data set or file, or it is damaged, empty, not finite, or of the wrong shape.

    Examples
    --------
    >>> digits = load("digits", split="test", size=14)
    >>> digits.x.shape, digits.x.dtype, digits.labels[:12]
    ((1000, 14, 14, 1), dtype('float32'), array([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]))
    """
    if split is not None and split not in _SPLITS:
        raise DataError(f"load: split={split!r} is none of {', '.join(_SPLITS)}" + did_you_mean(split, _SPLITS))
    name, rate = str(name_or_path), None
    raw_labels: Array | None
    if name in _NAMED:
        if labels is not None:
            raise DataError(f"load: {name} has its own labels: leave labels={str(labels)!r} out")
        raw, raw_labels = _NAMED[name](split or "train")
    else:
        path = Path(name_or_path)
        if not path.exists():
            raise DataError(_not_found(name))
        if split is not None:
            raise DataError(f"load: split={split!r} was given but {path} is one set: leave it out")
        name = path.name
        try:
            raw, raw_labels, rate = _read(path)
            if labels is not None:
                raw_labels = _read(Path(labels))[0]
        except OSError as error:
            raise DataError(f"{error.filename or path}: cannot be read ({error.strerror or error})") from error
    x = _to_values(raw, name)
    if size is not None:
        x = _average(x, size, name)
    return Dataset(x, _to_labels(raw_labels, len(x), name) if raw_labels is not None else None, name, rate)


def _read(path: Path) -> tuple[Array, Array | None, int | None]:
    """Data, labels and rate as the file has them."""
    if path.is_dir():
        return read_folder(path), None, None
    match path.suffix.lower():
        case ".npy":
            return read_npy(path), None, None
        case ".npz":
            return *read_npz(path), None
        case ".wav":
            samples, rate = read_wav(path)
            return samples[None], None, rate
    return read_idx(path), None, None


def _not_found(name: str) -> str:
    if name in TOYS:
        return f"load: {name!r} is a 2-D density, which has no file: use toy({name!r})"
    return f"load: {name!r} is neither a file nor a data set ({', '.join(NAMES)})" + did_you_mean(name, NAMES)


def _to_values(raw: Array, name: str) -> Array:
    if raw.dtype.kind not in "buif":
        raise DataError(f"{name}: entries are of dtype {raw.dtype} but must be real numbers")
    if raw.ndim < 2:
        raise DataError(f"{name}: shape {raw.shape} must have an axis of examples and at least one more: (N, ...)")
    if raw.size == 0:
        raise DataError(f"{name}: shape {raw.shape} holds no example")
    if raw.dtype == np.uint8:
        raw = raw[..., None] if raw.ndim == 3 else raw
        return raw / np.float32(255)
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is reported here
        x = raw.astype(np.float32, order="C")
    finite = np.isfinite(x)
    if not finite.all():
        index = tuple(int(i) for i in np.unravel_index(finite.argmin(), x.shape))
        raise DataError(
            f"{name}: {np.count_nonzero(~finite)} of {x.size} entries are not finite in float32, the first at index "
            f"{index}: {raw[index]}; remove or replace them"
        )
    return x


def _to_labels(raw: Array, n: int, name: str) -> Array:
    if raw.dtype.kind not in "ui":
        raise DataError(f"{name}: labels are of dtype {raw.dtype} but must be whole numbers")
    if raw.shape != (n,):
        raise DataError(f"{name}: labels have shape {raw.shape} but there are N={n} examples: (N,)=({n},)")
    return raw.astype(np.int64)


def _average(x: Array, size: int, name: str) -> Array:
    if x.ndim != 4:
        raise DataError(f"{name}: size={size} is for images (N,H,W,C) but the data have shape {x.shape}: leave it out")
    n, height, width, channels = x.shape
    block = height // size if size > 0 else 0
    if block == 0 or height % size or width % block:
        raise DataError(f"{name}: size={size} must divide the images' (H,W)=({height},{width})")
    return x.reshape(n, size, block, width // block, block, channels).mean(axis=(2, 4))
