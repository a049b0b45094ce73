"""A folder of pictures."""

from pathlib import Path

import numpy as np

from tinygen.errors import DataError

Array = np.ndarray

_SUFFIXES = (".png", ".jpg", ".jpeg")


def read_folder(path: Path) -> Array:
    """The PNG and JPEG files of a folder in the order of their names: ``(N, H, W, C)``, float32 in [0, 1].

    Grey pictures have C=1, coloured ones 3, those with transparency or a palette 4.

    Raises
    ------
    DataError
        If there is none, one is damaged, or they differ in shape.
    """
    from matplotlib.image import imread  # not at the top: it takes longer to import than the rest of tinygen

    paths = sorted(entry for entry in path.iterdir() if entry.suffix.lower() in _SUFFIXES)
    if not paths:
        raise DataError(f"{path}: the folder has no picture ({', '.join(_SUFFIXES)})")
    pictures: list[Array] = []
    for file in paths:
        try:
            picture = imread(file)
        except (OSError, SyntaxError, ValueError) as error:  # Pillow reports a broken PNG as a SyntaxError
            raise DataError(
                f"{file}: not a readable picture ({error}): remove it from the folder or mend it"
            ) from error
        if picture.dtype == np.uint8:
            picture = picture / np.float32(255)
        picture = picture.reshape(*picture.shape[:2], -1)
        if pictures and picture.shape != pictures[0].shape:
            raise DataError(
                f"{file}: (H,W,C)={picture.shape} but {paths[0].name} has {pictures[0].shape}: "
                f"all pictures of a folder must have one size and one kind of colour"
            )
        pictures.append(picture)
    return np.stack(pictures)
