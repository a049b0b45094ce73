"""Every operation by name: the knot between the engine, which needs operations, and operations, which need the engine.

`tinygen.ops` fills the registry on import. The tests, the reference page and NumPy's dispatch read it.
"""

from collections.abc import Callable
from typing import Any


class Operations:
    """A namespace of the registered operations: ``operations.add(a, b)``."""

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"no operation {name!r} is registered")

    def all(self) -> dict[str, Any]:
        """All registered operations by name, in the order of registration."""
        return dict(self.__dict__)


operations = Operations()

numpy_twins: dict[Callable, Any] = {}
"""Which operation stands for which NumPy function."""


def register(name: str, operation: Any, twins: tuple[Callable, ...]) -> None:
    """Enter an operation under its name and for the NumPy functions it stands for."""
    if name in operations.__dict__:
        raise ValueError(f"an operation named {name!r} is registered already; give this one another name")
    setattr(operations, name, operation)
    for twin in twins:
        numpy_twins[twin] = operation
