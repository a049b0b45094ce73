"""The errors that users meet. Each says which operation, which argument, the rule that was broken and the fix."""

from collections.abc import Iterable
from difflib import get_close_matches


class TinygenError(Exception):
    """Base of every error that tinygen raises on purpose."""


class ShapeError(TinygenError, ValueError):
    """Shapes do not fit the operation."""


class DTypeError(TinygenError, TypeError):
    """A dtype does not fit the operation, or would be promoted silently."""


class GraphError(TinygenError, RuntimeError):
    """The recorded graph cannot be used in this way: freed, absent, or not reached."""


class NoGradientError(TinygenError, RuntimeError):
    """An operation has no derivative rule for an argument that needs one."""


class NonFiniteError(TinygenError, FloatingPointError):
    """A value or a gradient became infinite or NaN."""


class DataError(TinygenError, ValueError):
    """A data set or data file is missing, damaged or unsuitable."""


class CheckpointError(TinygenError, ValueError):
    """A checkpoint is damaged, foreign, or does not fit the model."""


class OutputError(TinygenError, OSError):
    """A file or folder cannot be written."""


def did_you_mean(word: str, words: Iterable[str]) -> str:
    """The end of an error about an unknown word: the nearest one there is, if any looks like it."""
    near = get_close_matches(word, list(words), n=1)
    return f": did you mean {near[0]!r}?" if near else ""
