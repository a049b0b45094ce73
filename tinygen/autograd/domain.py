"""Plain data that says which arguments an operation accepts, for tests to draw and for readers to know.

An operation's domain maps its argument names to the classes below; `tinygen.testing` turns them into hypothesis
strategies. A shape pattern names axes by letters, equal letters being equal sizes: ``"n h w c"``. A size range may
follow a letter, ``"h=4:7"`` (both ends included); the default is 1 to 3. ``...`` stands for any number of axes, and the
``...`` of several arguments broadcast together.
"""

from collections.abc import Mapping
from dataclasses import dataclass


class Spec:
    """What one argument may be: one of the classes below."""


@dataclass(frozen=True)
class Real(Spec):
    """A floating array.

    Attributes
    ----------
    shape : pattern, as described above
    low, high : range of the values
    avoid : points that values keep away from by at least ``gap``: kinks and poles, where a derivative cannot be tested
    distinct : no two values are closer than ``gap`` (for sorting and maxima)
    structure : ``""``, ``"invertible"``, ``"positive definite"`` or ``"triangular"`` for matrices in the last two axes
    optional : None is accepted too
    """

    shape: str = "..."
    low: float = -2.0
    high: float = 2.0
    avoid: tuple[float, ...] = ()
    gap: float = 0.05
    distinct: bool = False
    structure: str = ""
    optional: bool = False


@dataclass(frozen=True)
class Boolean(Spec):
    """A boolean array."""

    shape: str = "..."


@dataclass(frozen=True)
class Sequence(Spec):
    """A list of ``least`` to ``most`` arrays of one shape, all as ``item`` describes."""

    item: Real
    least: int = 1
    most: int = 3


@dataclass(frozen=True)
class Choice(Spec):
    """One of the given values."""

    values: tuple

    def __init__(self, *values: object) -> None:
        object.__setattr__(self, "values", values)


@dataclass(frozen=True)
class Axis(Spec):
    """One axis of argument ``of``; None if it has none."""

    of: str = "x"


@dataclass(frozen=True)
class Axes(Spec):
    """None, one axis, or a tuple of axes of argument ``of``."""

    of: str = "x"


@dataclass(frozen=True)
class Permutation(Spec):
    """None or an order of the axes of argument ``of``."""

    of: str = "x"


@dataclass(frozen=True)
class Reshaping(Spec):
    """A shape with as many elements as argument ``of``, possibly with one -1."""

    of: str = "x"


@dataclass(frozen=True)
class Broadcasting(Spec):
    """A shape that argument ``of`` broadcasts to."""

    of: str = "x"


@dataclass(frozen=True)
class Padding(Spec):
    """One (before, after) pair for each axis of argument ``of``."""

    of: str = "x"


@dataclass(frozen=True)
class Index(Spec):
    """What indexes argument ``of``: integers, slices, None, Ellipsis, integer arrays (with repeats), boolean arrays."""

    of: str = "x"


@dataclass(frozen=True)
class Generator(Spec):
    """A `numpy.random.Generator`."""


@dataclass(frozen=True)
class Examples:
    """Alternatives, each a mapping of specs: for arguments that depend on each other as patterns cannot say."""

    cases: tuple[Mapping[str, Spec], ...]

    def __init__(self, *cases: Mapping[str, Spec]) -> None:
        object.__setattr__(self, "cases", cases)


Domain = Mapping[str, Spec] | Examples
