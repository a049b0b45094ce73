"""The embedded handwritten digits. DIGITS.md tells where they come from."""

import io
from hashlib import sha256
from importlib.resources import files

import numpy as np

from tinygen.errors import DataError

Array = np.ndarray

SHA256 = "0510dede8c288fc68241f023c41dae17eefe29e2b11bfa47806c4694b0242139"
SPLITS = {"train": slice(0, 4000), "test": slice(4000, 5000), "all": slice(0, 5000)}


def read_digits(split: str) -> tuple[Array, Array]:
    """Images ``(N, 28, 28)`` and labels ``(N,)``, uint8; the classes 0 to 9 alternate."""
    source = files("tinygen.data") / "digits.npz"
    try:
        content = source.read_bytes()
    except OSError as error:
        raise DataError(f"digits: {source} cannot be read ({error.strerror}): install tinygen anew") from error
    if sha256(content).hexdigest() != SHA256:
        raise DataError(f"digits: {source} is damaged (its SHA-256 is not {SHA256[:8]}…): install tinygen anew")
    with np.load(io.BytesIO(content)) as arrays:
        return arrays["images"][SPLITS[split]], arrays["labels"][SPLITS[split]]
