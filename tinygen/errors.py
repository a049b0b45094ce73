"""The errors that users meet. Each says which operation, which argument, the rule that was broken and the fix."""


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
