"""Context flags: whether operations record, whether values are checked, which module runs, who notes what is called.

They live in `contextvars`, so threads and asynchronous tasks do not disturb one another.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from tinygen.autograd.graph import Node
    from tinygen.autograd.primitive import Primitive


class Observer(Protocol):
    """Who has operations computed, in order to note or to time them."""

    def operation(self, primitive: "Primitive", args: Sequence[Any], values: Sequence[Any]) -> Any:
        """``primitive.compute(values)``; ``values`` are ``args`` without Tensors."""

    def rule(self, primitive: "Primitive", rule: Callable, reads: dict[str, Any]) -> Any:
        """``rule(**reads)``, a derivative rule of an operation that runs on arrays."""

    def effect(self, function: Callable, args: Sequence[Any]) -> Any:
        """``function(*args)``, called for what it does beside operations."""

    def differentiating(self, node: "Node | None") -> None:
        """From now on operations are those of the rules of ``node``, or not of a rule if it is None."""

    def calling(self, module: Any) -> None:
        """A module is called, and what it does may depend on its mode."""

    def owns(self, array: np.ndarray) -> bool:
        """Whether the array's values may not be read."""


recording: ContextVar[bool] = ContextVar("recording", default=True)
anomaly: ContextVar[bool] = ContextVar("anomaly", default=False)
module_path: ContextVar[str] = ContextVar("module_path", default="")
observer: "ContextVar[Observer | None]" = ContextVar("observer", default=None)


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
