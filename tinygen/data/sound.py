"""Sound: 16-bit PCM WAV files."""

import wave
from pathlib import Path

import numpy as np

from tinygen.errors import DataError

Array = np.ndarray


def read_wav(path: Path) -> tuple[Array, int]:
    """Samples ``(L, C)``, float32 in [-1, 1), and their number per second.

    Raises
    ------
    DataError
        If the file is not WAV, not of 16-bit samples, or shorter than its header announces.
    """
    try:
        with wave.open(str(path), "rb") as file:
            width, channels, rate, length = (
                file.getsampwidth(),
                file.getnchannels(),
                file.getframerate(),
                file.getnframes(),
            )
            content = file.readframes(length)
    except (wave.Error, EOFError) as error:
        raise DataError(f"{path}: not an uncompressed WAV file ({str(error) or 'truncated header'})") from error
    if width != 2:
        raise DataError(f"{path}: the samples have {8 * width} bits but must have 16: convert the file to 16-bit PCM")
    if len(content) != length * channels * width:
        raise DataError(
            f"{path}: the header announces {length} samples but {len(content) // (channels * width)} follow: truncated"
        )
    return np.frombuffer(content, "<i2").reshape(length, channels) / np.float32(32768), rate
