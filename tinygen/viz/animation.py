"""Pictures, one after the other."""

import tempfile
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import numpy as np
from matplotlib.animation import PillowWriter
from matplotlib.figure import Figure
from matplotlib.image import imread

from tinygen.errors import DataError, OutputError
from tinygen.files import write_atomically


def save_animation(
    frames: Sequence[str | PathLike[str]], path: str | PathLike[str], *, rate: float = 3.0, hold: int = 5
) -> None:
    """Write pictures as one GIF that repeats, atomically.

    Parameters
    ----------
    frames : PNG files of one size, in their order
    path : the file
    rate : frames a second
    hold : for how many frames the last one stays

    Raises
    ------
    OutputError : the file cannot be written
    DataError : a frame is not a PNG file
    """
    pictures = [_read(Path(frame)) for frame in frames]
    first = pictures[0]
    height, width = first.shape[:2]
    figure = Figure(figsize=(width / 100, height / 100), dpi=100)
    shown = figure.figimage(first)
    try:
        with tempfile.TemporaryDirectory() as folder:
            gif = Path(folder) / "animation.gif"
            writer = PillowWriter(fps=rate)  # type: ignore[arg-type]  # documented as int; any number is divided by
            with writer.saving(figure, gif, dpi=100):
                for picture in [*pictures, *[pictures[-1]] * (hold - 1)]:
                    shown.set_data(picture)
                    writer.grab_frame()
            write_atomically(path, gif.read_bytes())
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}; make room") from error


def _read(frame: Path) -> np.ndarray:
    try:
        return imread(frame)
    except (OSError, SyntaxError, ValueError) as error:  # Pillow calls broken files a SyntaxError
        raise DataError(f"{frame}: not a PNG file ({error}); delete it") from None
