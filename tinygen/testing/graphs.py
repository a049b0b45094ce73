"""Random programs of array operations: directed acyclic graphs whose values are used again."""

from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_lowercase
from typing import Any

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st
from hypothesis.errors import InvalidArgument
from hypothesis.strategies import DrawFn
from numpy.typing import DTypeLike

from tinygen.testing.strategies import arrays, broadcast_args

SMOOTH = ("sin", "add", "multiply", "cos", "tanh", "arctan", "logaddexp", "sum", "mean")
"""Operations that are smooth everywhere and grow slowly, by their NumPy names: the default of `graphs`.

None subtracts. Where terms cancel exactly, as in ``x - x``, only their rounding is left of a gradient, and differences
cannot tell that it should be nothing.
"""

INFIX = {"add": "+", "subtract": "-", "multiply": "*", "divide": "/", "true_divide": "/", "power": "**"}
NAMES = ascii_lowercase[: ascii_lowercase.index("x")]  # x0, x1, … are the arguments
LARGE = 1e3


@dataclass(frozen=True)
class Step:
    """An operation by its NumPy name, and the places of what it is applied to."""

    op: str
    places: tuple[int, ...]


@dataclass(frozen=True, repr=False)
class Graph:
    """A program of array operations, which runs in any namespace that has them by their NumPy names.

    Calling it evaluates it: ``graph(*xs)`` with NumPy, and so with any arrays that NumPy's functions dispatch on;
    ``graph(*xs, namespace=jax.numpy)`` with another library. Its repr is the program.

    Attributes
    ----------
    leaves : the number of arguments
    steps : in order of evaluation. Places count the arguments first, then the steps before; the last step's value is
        the result, and depends on every argument and every step.

    Examples
    --------
    >>> graph = Graph(2, (Step("sin", (0,)), Step("multiply", (2, 2)), Step("add", (3, 1))))
    >>> graph
    a = sin(x0); b = a * a; b + x1
    >>> float(graph(0.0, 3.0))
    3.0
    """

    leaves: int
    steps: tuple[Step, ...]

    def __call__(self, *xs: Any, namespace: Any = np) -> Any:
        """The result at arrays ``xs``, by the functions of ``namespace``."""
        return self.trace(*xs, namespace=namespace)[-1]

    def trace(self, *xs: Any, namespace: Any = np) -> list[Any]:
        """All values, by their places: the arguments, and each step's value."""
        if len(xs) != self.leaves:
            raise TypeError(f"the graph {self!r} takes {self.leaves} arguments, got {len(xs)}")
        values = list(xs)
        for step in self.steps:
            values.append(getattr(namespace, step.op)(*(values[place] for place in step.places)))
        return values

    def __repr__(self) -> str:
        names = [f"x{i}" for i in range(self.leaves)]
        lines = []
        for i, step in enumerate(self.steps):
            given = [names[place] for place in step.places]
            infix = INFIX.get(step.op)
            lines.append(f" {infix} ".join(given) if infix else f"{step.op}({', '.join(given)})")
            names.append(NAMES[i % len(NAMES)] + (str(i // len(NAMES)) if i >= len(NAMES) else ""))
        return "; ".join(
            [*(f"{name} = {line}" for name, line in zip(names[self.leaves :], lines[:-1], strict=False)), lines[-1]]
        )


@st.composite
def graphs(
    draw: DrawFn,
    ops: Sequence[str] = SMOOTH,
    max_nodes: int = 8,
    *,
    max_leaves: int = 3,
    max_dims: int = 2,
    max_side: int = 3,
    domain: tuple[float, float] = (-2.0, 2.0),
    dtype: DTypeLike = np.float64,
) -> tuple[Graph, list[np.ndarray]]:
    """A random `Graph`, and arrays to evaluate it at, whose shapes broadcast together.

    Every argument and every step is used, many more than once, and x op x occurs. No value on the way, as computed by
    NumPy, is infinite, NaN or larger than 1,000; so a few of ``ops`` may be undefined somewhere. Shrinks towards one
    step on one argument of one element.

    Parameters
    ----------
    ops : names of NumPy functions: ufuncs of one or two arguments, and reductions of a whole array to a number. The
        first is the simplest.
    max_nodes : the greatest number of steps
    max_leaves : the greatest number of arguments
    max_dims, max_side : bound the shapes of arguments
    domain, dtype : of the arguments' values, as for `arrays`

    Raises
    ------
    hypothesis.errors.InvalidArgument : NumPy has no such function, or it is of neither kind

    Examples
    --------
    >>> from hypothesis import given, settings
    >>> from tinygen.testing import check_vjp, mostly_conclusive
    >>> @mostly_conclusive
    ... @settings(max_examples=20)
    ... @given(graphs())
    ... def test(drawn):
    ...     graph, xs = drawn
    ...     check_vjp(graph, *xs)
    >>> test()
    """
    arity = {name: _arity(name) for name in ops}
    if not ops or max_nodes < 1 or max_leaves < 1:
        raise InvalidArgument(
            f"graphs: needs an operation, and max_nodes={max_nodes} and max_leaves={max_leaves} of at least 1"
        )
    graph = draw(_programs(list(ops), [name for name in ops if arity[name] == 2], max_nodes, max_leaves))
    sizes = draw(broadcast_args(graph.leaves, max_dims=max_dims, min_side=1, max_side=max_side))
    xs = [draw(arrays(dtype, shape, domain=domain)) for shape in sizes]
    assume(_tame(graph, xs))
    return graph, xs


@st.composite
def _programs(draw: DrawFn, ops: list[str], binary: list[str], max_nodes: int, max_leaves: int) -> Graph:
    n = draw(st.integers(1, max_nodes))
    leaves = draw(st.integers(1, min(max_leaves, n + 1) if binary else 1))
    steps: list[Step] = []
    waiting = list(range(leaves))  # places without a use, of which the last step must leave but its own
    for left in range(n, 0, -1):
        joins = len(waiting) > left  # each of the steps that are left must take two that wait
        name = draw(st.sampled_from(binary if joins else ops))
        places: list[int] = []
        for i in range(2 if name in binary else 1):
            known = waiting + [place for place in range(leaves + len(steps)) if place not in waiting]
            takes = joins or (i == 0 and (len(waiting) == left or not binary))
            choice = [place for place in waiting if place not in places] if takes else known
            places.append(draw(st.sampled_from(choice)))
        steps.append(Step(name, tuple(places)))
        waiting = [place for place in waiting if place not in places] + [leaves + len(steps) - 1]
    return Graph(leaves, tuple(steps))


def _arity(name: str) -> int:
    function = getattr(np, name, None)
    if isinstance(function, np.ufunc):
        if function.nin <= 2 and function.nout == 1:
            return function.nin
    elif callable(function):
        try:
            if np.ndim(function(np.ones((2, 3)))) == 0:
                return 1
        except TypeError:
            pass
    raise InvalidArgument(
        f"graphs: {name!r} must name a NumPy ufunc of one or two arguments, or a reduction of an array to a number"
    )


def _tame(graph: Graph, xs: list[np.ndarray]) -> bool:
    with np.errstate(all="ignore"):
        return all(bool((np.abs(value) <= LARGE).all()) for value in graph.trace(*xs)[graph.leaves :])
