"""Pictures, one after the other."""

import tempfile
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

from matplotlib.animation import PillowWriter
from matplotlib.figure import Figure
from matplotlib.image import imread

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
    """
    first = imread(Path(frames[0]))
    height, width = first.shape[:2]
    figure = Figure(figsize=(width / 100, height / 100), dpi=100)
    shown = figure.figimage(first)
    with tempfile.TemporaryDirectory() as folder:
        gif = Path(folder) / "animation.gif"
        writer = PillowWriter(fps=rate)  # type: ignore[arg-type]  # documented as int; any number is divided by
        with writer.saving(figure, gif, dpi=100):
            for frame in [*frames, *[frames[-1]] * (hold - 1)]:
                shown.set_data(imread(Path(frame)))
                writer.grab_frame()
        write_atomically(path, gif.read_bytes())
