"""IDX, the format of MNIST and its kin: a big-endian header of type, number of axes and sizes, then the entries."""

import gzip
import zlib
from math import prod
from pathlib import Path

import numpy as np

from tinygen.errors import DataError

Array = np.ndarray

_GZIP = b"\x1f\x8b"
_DTYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read_idx(path: Path) -> Array:
    """The array of an IDX file, plain or compressed with gzip.

    Raises
    ------
    DataError
        If the file is not IDX, or holds fewer or more bytes than its header announces.
    """
    content = path.read_bytes()
    if content.startswith(_GZIP):
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"{path}: the gzip data are damaged ({error}): copy the file anew") from error
    magic = content[:4]
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _DTYPES:
        raise DataError(
            f"{path}: not an IDX file: the magic number is {magic.hex() or 'missing'} but must be 0000, a type "
            f"({', '.join(f'{code:02x}' for code in _DTYPES)}) and the number of axes, such as 00000803 for images"
        )
    dtype, ndim = np.dtype(_DTYPES[magic[2]]), magic[3]
    start = 4 + 4 * ndim
    if len(content) < start:
        raise DataError(f"{path}: the header of {ndim} axes takes {start} bytes but the file has {len(content)}")
    shape = tuple(int(size) for size in np.frombuffer(content, ">u4", count=ndim, offset=4))
    expected, found = prod(shape) * dtype.itemsize, len(content) - start
    if found != expected:
        raise DataError(
            f"{path}: the header announces {shape} entries of {dtype.itemsize} bytes, {expected} in all, but {found} "
            f"follow: the file is {'truncated' if found < expected else 'too long'}; copy it anew"
        )
    return np.frombuffer(content, dtype, offset=start).reshape(shape)
