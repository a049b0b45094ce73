"""Where the time of a computation goes: by module and operation, forward and backward."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np

from tinygen.autograd import Primitive
from tinygen.autograd.context import module_path, observer
from tinygen.autograd.graph import Node
from tinygen.autograd.program import name_of


@dataclass
class Row:
    """What was measured of an operation in a module.

    Attributes
    ----------
    module : dotted path; empty outside of modules
    operation : its name, or that of the function that an `effect` calls
    calls : how often it was computed
    forward, backward : seconds, in the operation and in its derivative rules
    flops : additions and multiplications of matrix products and convolutions, both ways; 0 for all else
    bytes : of the arrays that were read and written, both ways
    """

    module: str
    operation: str
    calls: int = 0
    forward: float = 0.0
    backward: float = 0.0
    flops: float = 0.0
    bytes: int = 0

    @property
    def seconds(self) -> float:
        """Both ways together."""
        return self.forward + self.backward


class Profile:
    """What `profile` found; ``print`` it for a table.

    Attributes
    ----------
    seconds : all the time that passed
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._rows: dict[tuple[str, str], Row] = {}
        self._node: Node | None = None

    @property
    def rows(self) -> list[Row]:
        """A row for each operation of each module, the longest first."""
        return sorted(self._rows.values(), key=lambda row: -row.seconds)

    def __str__(self) -> str:
        head = ("forward", "backward", "share", "GFLOP/s", "GB/s")
        lines = [
            f"{'module':<28}{'operation':<20}{'calls':>6}{head[0]:>12}{head[1]:>12}{head[2]:>7}{head[3]:>9}{head[4]:>7}"
        ]
        for row in self.rows:
            rates = [f"{n / row.seconds / 1e9:.1f}" if n and row.seconds else "" for n in (row.flops, row.bytes)]
            lines.append(
                f"{row.module[-27:]:<28}{row.operation[:19]:<20}{row.calls:>6}{1e3 * row.forward:>9.2f} ms"
                f"{1e3 * row.backward:>9.2f} ms{row.seconds / self.seconds:>7.1%}{rates[0]:>9}{rates[1]:>7}"
            )
        rest = self.seconds - sum(row.seconds for row in self.rows)
        lines.append(f"{'Python, and what no operation computes':<54}{1e3 * rest:>9.2f} ms{rest / self.seconds:>19.1%}")
        return "\n".join(lines)

    # --------------------------------------------------------------------------------------------- as an observer

    def operation(self, primitive: Primitive, args: Sequence[Any], values: Sequence[Any]) -> Any:
        """Compute an operation, in time."""
        return self._timed(primitive.name, lambda: primitive.compute(values), values)

    def rule(self, primitive: Primitive, rule: Callable, reads: dict[str, Any]) -> Any:
        """Apply a derivative rule that runs on arrays, in time."""
        return self._timed(f"the rule of {primitive.name}", lambda: rule(**reads), list(reads.values()))

    def effect(self, function: Callable, args: Sequence[Any]) -> Any:
        """Call a function, in time."""
        token = observer.set(None)
        try:
            return self._timed(name_of(function).rpartition(".<locals>.")[2], lambda: function(*args), args)
        finally:
            observer.reset(token)

    def differentiating(self, node: Node | None) -> None:
        """Time the following as the derivative of ``node``."""
        self._node = node

    def calling(self, module: Any) -> None:
        """It does not matter what mode the module is in."""

    def owns(self, array: np.ndarray) -> bool:
        """All values may be read."""
        return False

    def _timed(self, name: str, compute: Callable, read: Sequence[Any]) -> Any:
        node = self._node
        place = (module_path.get(), name) if node is None else (node.module, node.primitive.name)
        row = self._rows.setdefault(place, Row(*place))
        start = perf_counter()
        result = compute()
        seconds = perf_counter() - start
        if node is None:
            row.calls += 1
            row.forward += seconds
        else:
            row.backward += seconds
        row.flops += _flops(name, [a for a in read if isinstance(a, np.ndarray)], result)
        row.bytes += _bytes(read) + _bytes(result)
        return result


@contextmanager
def profile() -> Iterator[Profile]:
    """Measure what is computed inside, in this thread.

    A backward pass is counted where its operations were called. A `replayed` function is called as if it were not.

    Examples
    --------
    >>> import numpy as np, tinygen as tg
    >>> from tinygen import nn, viz
    >>> net = nn.MLP([64, 128, 1], np.random.default_rng(0))
    >>> with viz.profile() as found:
    ...     tg.mean(tg.square(net(np.ones((32, 64), np.float32)))).backward()
    >>> print(found)
    module                      operation            calls     forward    backward  share  GFLOP/s   GB/s
    ...
    >>> sorted({row.module for row in found.rows})
    ['', 'MLP.layers.0', 'MLP.layers.1']
    """
    found = Profile()
    token = observer.set(found)
    start = perf_counter()
    try:
        yield found
    finally:
        found.seconds = perf_counter() - start
        observer.reset(token)


# ------------------------------------------------------------------------------------------------------------- counting


def _flops(name: str, read: Sequence[np.ndarray], result: Any) -> float:
    """Additions and multiplications of a product."""
    match name:
        case "linear" | "matrix_product":
            y = result[0] if name == "linear" else result
            return 2.0 * y.size * read[0].shape[-1]
        case "the rule of linear":
            products = sum(result[argument] is not None for argument in ("x", "w"))
            return 2.0 * products * read[0].size * read[1].shape[-1]
        case "conv2d":
            return 2.0 * result.size * math.prod(read[1].shape[:3])
        case "conv2d_input_grad":
            return 2.0 * read[0].size * math.prod(read[1].shape[:3])
        case "conv2d_weight_grad":
            return 2.0 * read[1].size * math.prod(result.shape[:3])
        case _:
            return 0.0


def _bytes(value: Any) -> int:
    """Of the arrays in a value."""
    if isinstance(value, np.ndarray):
        return value.nbytes
    if isinstance(value, dict):
        return _bytes(list(value.values()))
    return sum(map(_bytes, value)) if isinstance(value, list | tuple) else 0
