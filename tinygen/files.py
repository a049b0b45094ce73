"""Writing files so that a crash, an interrupt or a full disk never leaves half of one."""

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from tinygen.errors import OutputError


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Replace or create a file by writing a temporary one beside it, flushing that to disk, and renaming it.

    Raises
    ------
    OutputError : the folder or the file cannot be written; a file that was there is as it was
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o666 & ~_umask())
            os.replace(temporary, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise
    except OSError as error:
        raise OutputError(
            f"cannot write {path}: {error.strerror or error}; choose another folder or make room"
        ) from error


def _umask() -> int:
    """The mask of permissions for new files, which can be read only by setting it."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
