"""From the domain that an operation declares to a strategy of its argument lists."""

import math
from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from hypothesis.strategies import DrawFn, SearchStrategy
from numpy.typing import DTypeLike

from tinygen.autograd import Operation, Real
from tinygen.autograd import operations as op
from tinygen.autograd.domain import (
    Axes,
    Axis,
    Boolean,
    Broadcasting,
    Choice,
    Domain,
    Examples,
    Generator,
    Index,
    Padding,
    Permutation,
    Reshaping,
    Sequence,
)
from tinygen.testing.strategies import Shape, arrays, broadcast_args, rngs, shapes


def arguments(
    operation: Operation | Domain,
    *,
    dtype: DTypeLike = np.float64,
    layout: Any = "C",
    elementwise_sides: tuple[int, int] = (1, 3),
) -> SearchStrategy[list]:
    """Positional arguments for an operation, drawn from its domain.

    Parameters
    ----------
    operation : an operation, or a domain itself
    dtype : of floating arrays
    layout : of floating arrays, as for `arrays`
    elementwise_sides : the least and greatest size of the axes that ``...`` stands for
    """
    domain = operation.domain if isinstance(operation, Operation) else operation
    cases = domain.cases if isinstance(domain, Examples) else (domain,)
    return st.sampled_from(cases).flatmap(lambda case: _case(case, dtype, layout, elementwise_sides))


def bind(operation: Callable, args: list) -> tuple[Callable, list[np.ndarray]]:
    """An operation as a function of its floating arrays alone, with the other arguments fixed, and those arrays.

    Several results are joined in one vector, and a random generator starts anew in every call.
    """
    places: list[tuple[int, int | None]] = [(i, None) for i, a in enumerate(args) if _floating(a)]
    places += [(i, j) for i, a in enumerate(args) if isinstance(a, list) for j, e in enumerate(a) if _floating(e)]

    def function(*xs: Any) -> Any:
        given = [list(a) if isinstance(a, list) else deepcopy(a) for a in args]
        for (i, j), x in zip(places, xs, strict=True):
            if j is None:
                given[i] = x
            else:
                given[i][j] = x
        y = operation(*given)
        return op.concatenate([op.reshape(part, (-1,)) for part in y]) if isinstance(y, tuple | list) else y

    return function, [args[i] if j is None else args[i][j] for i, j in places]


def _floating(x: Any) -> bool:
    return isinstance(x, np.ndarray) and x.dtype.kind == "f"


@st.composite
def _case(draw: DrawFn, case: Mapping[str, Any], dtype: DTypeLike, layout: Any, sides: tuple[int, int]) -> list:
    sizes: dict[str, int] = {}
    patterned = [name for name, spec in case.items() if isinstance(spec, Real | Boolean)]
    dotted = [name for name in patterned if "..." in case[name].shape.split()]
    batches = draw(broadcast_args(len(dotted), max_dims=2, min_side=sides[0], max_side=sides[1])) if dotted else ()
    batch_of = dict(zip(dotted, batches, strict=True))
    drawn: dict[str, Any] = {}
    for name, spec in case.items():
        if isinstance(spec, Real | Boolean):
            drawn[name] = draw(_array(spec, draw(_shape(spec.shape, sizes, batch_of.get(name, ()))), dtype, layout))
        elif isinstance(spec, Sequence):
            shape = draw(_shape(spec.item.shape, sizes, ()))
            drawn[name] = draw(
                st.lists(_array(spec.item, shape, dtype, layout), min_size=spec.least, max_size=spec.most)
            )
        elif isinstance(spec, Choice):
            drawn[name] = draw(st.sampled_from(spec.values))
        elif isinstance(spec, Generator):
            drawn[name] = draw(rngs())
    for name, spec in case.items():
        if name not in drawn:
            drawn[name] = draw(_about(spec, drawn[spec.of].shape))
    return [drawn[name] for name in case]


@st.composite
def _shape(draw: DrawFn, pattern: str, sizes: dict[str, int], batch: Shape) -> Shape:
    """The shape that a pattern stands for; sizes of letters met for the first time are drawn and kept in ``sizes``."""
    shape: list[int] = []
    for token in pattern.split():
        if token == "...":
            shape += batch
            continue
        letter, _, span = token.partition("=")
        if letter not in sizes:
            low, high = map(int, span.split(":")) if span else (1, 3)
            sizes[letter] = draw(st.integers(low, high))
        shape.append(sizes[letter])
    return tuple(shape)


def _array(spec: Real | Boolean, shape: Shape, dtype: DTypeLike, layout: Any) -> SearchStrategy:
    if isinstance(spec, Boolean):
        return hnp.arrays(bool, shape, fill=st.nothing())
    drawn = arrays(dtype, shape, domain=spec, layout=layout)
    return st.none() | drawn if spec.optional else drawn


def _about(spec: Any, shape: Shape) -> SearchStrategy:
    """What depends on the shape of another argument."""
    ndim = len(shape)
    axis = st.integers(-ndim, ndim - 1) if ndim else st.nothing()
    if isinstance(spec, Axis):
        return axis if ndim else st.none()
    if isinstance(spec, Axes):
        several = st.lists(st.integers(0, ndim - 1), unique=True, min_size=1).map(tuple) if ndim else st.nothing()
        return st.none() | axis | several
    if isinstance(spec, Permutation):
        signed = st.permutations(range(ndim)).flatmap(lambda p: st.tuples(*[st.sampled_from([a, a - ndim]) for a in p]))
        return st.none() | signed
    if isinstance(spec, Reshaping):
        return _reshaping(shape)
    if isinstance(spec, Broadcasting):
        return _broadcasting(shape)
    if isinstance(spec, Padding):
        return st.tuples(*[st.tuples(st.integers(0, 2), st.integers(0, 2))] * ndim) if ndim else st.just(0)
    if isinstance(spec, Index):
        return _index(shape)
    raise TypeError(f"no strategy for {spec!r}")


@st.composite
def _reshaping(draw: DrawFn, shape: Shape) -> Shape:
    rest = math.prod(shape)
    sizes: list[int] = []
    while rest > 1:
        sizes.append(draw(st.sampled_from([d for d in range(2, rest + 1) if rest % d == 0])))
        rest //= sizes[-1]
    if rest == 0:
        return tuple(draw(st.permutations(shape)))
    sizes = draw(st.permutations([*sizes, *draw(st.lists(st.just(1), max_size=2))]))
    if draw(st.booleans()) and sizes:
        sizes[draw(st.integers(0, len(sizes) - 1))] = -1
    return tuple(sizes)


@st.composite
def _broadcasting(draw: DrawFn, shape: Shape) -> Shape:
    wider = [draw(st.integers(1, 3)) if n == 1 else n for n in shape]
    return (*draw(shapes(max_dims=2, min_side=1, max_side=2)), *wider)


@st.composite
def _index(draw: DrawFn, shape: Shape) -> Any:
    kinds: list[SearchStrategy] = [
        hnp.basic_indices(shape, allow_newaxis=True),
        hnp.arrays(bool, shape, fill=st.nothing()),
    ]
    if shape and 0 not in shape:
        whole = st.integers(-shape[0], shape[0] - 1)
        kinds.append(hnp.arrays(np.intp, shapes(max_dims=2, min_side=1, max_side=3), elements=whole, fill=st.nothing()))
        kinds.append(st.lists(whole, min_size=1, max_size=3))
        kinds.append(hnp.integer_array_indices(shape, result_shape=hnp.array_shapes(max_dims=2, max_side=3)))
    if len(shape) > 1 and shape[-1]:  # an array after an axis that stays
        kinds.append(st.lists(st.integers(0, shape[-1] - 1), min_size=1, max_size=3).map(lambda i: (..., i)))
    return draw(st.one_of(kinds))
