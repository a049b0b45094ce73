"""What a benchmark is made of."""

from collections.abc import Callable, Mapping
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
    checks : likewise, functions that return numbers, such as losses, by which to tell whether all compute the same;
        for these, peak memory is measured too
    batch : the number of examples, where it can be chosen
    process : whether a call is a process, which measures itself: it returns its milliseconds
    turns : at most so many for each implementation
    """

    name: str
    flops: float
    prepare: Mapping[str, Callable[[], Call]]
    checks: Mapping[str, Callable[[], list[float]]] = field(default_factory=dict)
    batch: int | None = None
    process: bool = False
    turns: int | None = None
