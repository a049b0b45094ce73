"""What a benchmark is made of."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Call = Callable[[], Any]


@dataclass(frozen=True)
class Workload:
    """One computation, in several implementations.

    Parameters
    ----------
    name : for the table
    flops : additions and multiplications of the direct algorithm, or 0 if they are not what limits it
    prepare : for each implementation's name, a function that imports it, makes the data and returns the call to measure
    losses : likewise, functions that return losses by which to tell whether all compute the same
    """

    name: str
    flops: float
    prepare: dict[str, Callable[[], Call]]
    losses: dict[str, Callable[[], list[float]]] = field(default_factory=dict)
