"""Context flags: whether operations record, whether values are checked, which module runs, who notes what is called.

They live in `contextvars`, so threads and asynchronous tasks do not disturb one another.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tinygen.autograd.program import Program

recording: ContextVar[bool] = ContextVar("recording", default=True)
anomaly: ContextVar[bool] = ContextVar("anomaly", default=False)
module_path: ContextVar[str] = ContextVar("module_path", default="")
recorder: "ContextVar[Program | None]" = ContextVar("recorder", default=None)


@contextmanager
def no_grad() -> Iterator[None]:
    """Operations inside record nothing, so their results need no gradient.

    Do not let a generator yield inside this block: enter it again for each chunk, for the flag belongs to the caller in
    between.

    Examples
    --------
    >>> import tinygen as tg
    >>> x = tg.tensor([1.0, 2.0], requires_grad=True)
    >>> with tg.no_grad():
    ...     y = x * x
    >>> y.requires_grad
    False
    """
    token = recording.set(False)
    try:
        yield
    finally:
        recording.reset(token)


@contextmanager
def recorded() -> Iterator[None]:
    """Operations inside record, also within `no_grad`: for derivatives that are asked for by name."""
    token = recording.set(True)
    try:
        yield
    finally:
        recording.reset(token)


@contextmanager
def detect_anomaly() -> Iterator[None]:
    """Check every value and every gradient computed inside; the first one that is not finite raises `NonFiniteError`.

    The error names the operation, the module it ran in and the source line that called it. This is slow: for finding a
    fault.

    Examples
    --------
    >>> import numpy as np, tinygen as tg
    >>> with tg.detect_anomaly(), np.errstate(divide="ignore"):
    ...     tg.log(tg.tensor([1.0, 0.0]))
    Traceback (most recent call last):
    ...
    tinygen.errors.NonFiniteError: log (called at ...): value, shape (2,), has 1 non-finite entry, ... (1,): -inf
    """
    token = anomaly.set(True)
    try:
        yield
    finally:
        anomaly.reset(token)
