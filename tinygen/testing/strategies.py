"""Hypothesis strategies for arrays and what goes with them. All shrink towards small, zero and contiguous."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from hypothesis import strategies as st
from hypothesis.errors import InvalidArgument
from hypothesis.extra import numpy as hnp
from hypothesis.strategies import SearchStrategy
from numpy.typing import DTypeLike

from tinygen.autograd import Real, Tensor

Shape = tuple[int, ...]

GRID = 1024  # drawn values are multiples of 1/GRID where the range has enough of them: exact in float32, and readable
FEW = 64  # steps that are too few: then as many as there may be, which are not as readable
MOST = 8192  # there are no more steps than this to choose from
GUARD = 8  # elements before and behind each array
LAYOUTS = ("C", "F", "strided", "reversed", "offset", "read-only", "zero-stride")
SPECIAL = (math.inf, -math.inf, math.nan, 0.0, -0.0)


def shapes(
    *,
    max_dims: int | SearchStrategy[int] = 3,
    min_side: int | SearchStrategy[int] = 0,
    max_side: int | SearchStrategy[int] = 4,
) -> SearchStrategy[Shape]:
    """Shapes of up to ``max_dims`` axes, none included. Bounds are values or strategies of them."""
    return _bounded(
        lambda most, low, high: hnp.array_shapes(min_dims=0, max_dims=most, min_side=low, max_side=high),
        max_dims,
        min_side,
        max_side,
    )


def broadcast_args(
    n: int | SearchStrategy[int],
    *,
    max_dims: int | SearchStrategy[int] = 3,
    min_side: int | SearchStrategy[int] = 0,
    max_side: int | SearchStrategy[int] = 4,
) -> SearchStrategy[tuple[Shape, ...]]:
    """``n`` shapes that broadcast together. ``n`` and the bounds are values or strategies of them."""
    return _bounded(
        lambda n, most, low, high: hnp.mutually_broadcastable_shapes(
            num_shapes=n, max_dims=most, min_side=low, max_side=high
        ).map(lambda drawn: drawn.input_shapes),
        n,
        max_dims,
        min_side,
        max_side,
    )


@dataclass(frozen=True)
class Layout:
    """A function that puts an array's values into memory in a certain way.

    The values stay, but for ``zero-stride``, which repeats the first slice along the first axis. All but ``read-only``
    and ``zero-stride`` are writable. The memory before, behind and between the elements holds NaN, or the largest
    integer, so that whoever reads there shows it.
    """

    name: str

    def __post_init__(self) -> None:
        if self.name not in LAYOUTS:
            raise ValueError(f"layout {self.name!r} is unknown; choose one of {', '.join(LAYOUTS)}")

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """A new array in this layout; ``x`` is left alone."""
        if self.name == "zero-stride":
            return np.broadcast_to(_guarded(x[:1]), x.shape) if x.ndim and len(x) else _guarded(x)
        if self.name == "reversed" and x.ndim:
            return np.flip(_guarded(np.flip(x)))
        made = _guarded(
            x,
            order="F" if self.name == "F" else "C",
            step=2 if self.name == "strided" else 1,
            shift=1 if self.name == "offset" else 0,
        )
        made.flags.writeable = self.name != "read-only"
        return made


def _guarded(x: np.ndarray, order: Literal["C", "F"] = "C", step: int = 1, shift: int = 0) -> np.ndarray:
    """A copy whose elements lie ``step`` apart, and off a multiple of GUARD by ``shift``, amid values that show."""
    start = GUARD + shift
    end = start + step * x.size
    memory = np.empty(end + GUARD, x.dtype)
    if x.dtype.kind in "fc":
        memory.fill(np.nan)
    elif x.dtype.kind in "iu":
        memory.fill(np.iinfo(x.dtype).max)
    else:
        memory.fill(x.dtype.type(True))
    made = memory[start:end:step].reshape(x.shape, order=order)
    made[...] = x
    return made


def layouts() -> SearchStrategy[Layout]:
    """Ways for an array to lie in memory, C order first: each a `Layout`, to be called with an array."""
    return st.sampled_from([Layout(name) for name in LAYOUTS])


def rngs() -> SearchStrategy[np.random.Generator]:
    """Random generators."""
    return st.integers(0, 2**32 - 1).map(np.random.default_rng)


def arrays(
    dtype: DTypeLike | SearchStrategy = np.float64,
    shape: int | Shape | SearchStrategy = (),
    *,
    domain: Real | tuple[float, float] = (-2.0, 2.0),
    avoid: Sequence[float] = (),
    special: bool = False,
    layout: str | Layout | SearchStrategy = "C",
) -> SearchStrategy[np.ndarray]:
    """Arrays of numbers.

    Parameters
    ----------
    dtype, shape, layout : values or strategies of them; layout is one of ``LAYOUTS``, or what `layouts` draws
    domain : the range of the values, as far as the dtype has numbers there; or a `Real`, which says more, and whose
        shape pattern is not read
    avoid : points, beside those of the domain, that values keep away from
    special : let infinities, NaN, both zeros and the largest and smallest numbers occur too; only where the domain is a
        range, and the dtype floating

    Raises
    ------
    hypothesis.errors.InvalidArgument : for a dtype that is not a number's, a domain without a number of it, or an
        unknown layout
    """
    spec = domain if isinstance(domain, Real) else Real(low=domain[0], high=domain[1])
    points = (*spec.avoid, *avoid)
    if not (math.isfinite(spec.low) and math.isfinite(spec.high) and spec.low <= spec.high):
        raise InvalidArgument(f"domain must be a finite range (low, high), got ({spec.low}, {spec.high})")
    if special and (spec.structure or spec.distinct or points):
        raise InvalidArgument("special values have no structure, are not distinct and keep away from nothing")
    if isinstance(layout, str) and layout not in LAYOUTS:
        raise InvalidArgument(f"layout {layout!r} is unknown; choose one of {', '.join(LAYOUTS)}")
    if not isinstance(dtype, SearchStrategy) and np.dtype(dtype).kind not in "fiu":
        raise InvalidArgument(f"arrays: dtype {np.dtype(dtype)} is not a number's")
    layout = Layout(layout) if isinstance(layout, str) else layout
    return st.builds(_Arguments, _lazy(dtype), _lazy(shape), _lazy(layout)).flatmap(
        lambda a: _values(
            np.dtype(a.dtype), tuple(np.atleast_1d(np.array(a.shape, int)).tolist()), spec, points, special
        ).map(a.layout)
    )


def tensors(
    dtype: DTypeLike | SearchStrategy = np.float64,
    shape: int | Shape | SearchStrategy = (),
    *,
    requires_grad: bool = True,
    **kwargs: Any,
) -> SearchStrategy[Tensor]:
    """Leaves of a graph. Parameters as for `arrays`."""
    return arrays(dtype, shape, **kwargs).map(lambda x: Tensor(x, requires_grad))


# ------------------------------------------------------------------------------------------------------------ machinery


@dataclass(frozen=True)
class _Arguments:
    dtype: Any
    shape: Any
    layout: Callable[[np.ndarray], np.ndarray]


def _bounded(strategy: Callable[..., SearchStrategy], *bounds: int | SearchStrategy[int]) -> SearchStrategy:
    return st.tuples(*map(_lazy, bounds)).flatmap(lambda drawn: strategy(*drawn))


def _lazy(value: Any) -> SearchStrategy:
    return value if isinstance(value, SearchStrategy) else st.just(value)


def _values(
    dtype: np.dtype, shape: Shape, spec: Real, avoid: tuple[float, ...], special: bool
) -> SearchStrategy[np.ndarray]:
    size = math.prod(shape)
    if special and dtype.kind != "f":
        raise InvalidArgument(f"special values are floating, and not {dtype}")
    allowed = _floats(dtype, spec) if dtype.kind == "f" else _integers(dtype, spec)
    for point in avoid:
        allowed = allowed[np.abs(allowed.astype(np.float64) - point) >= spec.gap]
    allowed = allowed[np.argsort(np.abs(allowed.astype(np.float64)), kind="stable")]  # shrinking leads to the front
    if len(allowed) < (size if spec.distinct else 1):
        raise InvalidArgument(f"{spec} does not hold {size} values of {dtype} for shape {shape}")
    places = st.lists(st.integers(0, len(allowed) - 1), min_size=size, max_size=size, unique=spec.distinct)
    drawn = places.map(lambda k: allowed[k].reshape(shape) if k else np.zeros(shape, dtype))
    if special:
        info = np.finfo(dtype)
        extremes = [*SPECIAL, float(info.max), float(info.min), float(info.tiny), float(info.smallest_subnormal)]
        which = st.lists(st.sampled_from([None, *extremes]), min_size=size, max_size=size)
        drawn = st.builds(_with_special, drawn, which)
    return drawn.map(lambda x: _structured(x, spec.structure)) if spec.structure else drawn


def _floats(dtype: np.dtype, spec: Real) -> np.ndarray:
    """Evenly spaced numbers of the range, none rounded to one beyond its ends."""
    info = np.finfo(dtype)
    ends = np.clip([spec.low, spec.high], float(info.min), float(info.max)).astype(dtype)
    with np.errstate(over="ignore"):
        low = ends[0] if float(ends[0]) >= spec.low else np.nextafter(ends[0], dtype.type(math.inf))
        high = ends[1] if float(ends[1]) <= spec.high else np.nextafter(ends[1], dtype.type(-math.inf))
    if low > high:
        return np.empty(0, dtype)
    extent = float(high) - float(low)
    steps = math.floor(extent / spec.gap if spec.distinct else extent * GRID)
    if not spec.distinct:
        steps = MOST if extent > 0 and steps < FEW else min(MOST, steps)
    steps = max(1, steps)
    return np.clip((float(low) + np.arange(steps + 1) * (extent / steps)).astype(dtype), low, high)


def _integers(dtype: np.dtype, spec: Real) -> np.ndarray:
    """Integers of the range, evenly spaced if they are many."""
    info = np.iinfo(dtype)
    low, high = max(math.ceil(spec.low), int(info.min)), min(math.floor(spec.high), int(info.max))
    steps = min(MOST, high - low)
    return np.array([low + (high - low) * i // max(1, steps) for i in range(steps + 1)], dtype)


def _with_special(x: np.ndarray, which: list[float | None]) -> np.ndarray:
    flat = x.ravel()
    for i, value in enumerate(which):
        if value is not None:
            flat[i] = value
    return flat.reshape(x.shape)


def _structured(x: np.ndarray, structure: str) -> np.ndarray:
    """A well conditioned matrix of a certain structure, from any square matrix with entries of size up to about 2."""
    if x.ndim < 2 or x.shape[-1] != x.shape[-2]:
        raise InvalidArgument(f"{structure!r} needs square matrices, got shape {x.shape}")
    n = x.shape[-1]
    eye = np.eye(n, dtype=x.dtype)
    if structure == "positive definite":
        return x @ np.swapaxes(x, -1, -2) / n + eye
    if structure in ("invertible", "triangular"):  # dominated by a diagonal that keeps its signs
        off = x * (1 - eye) / (2 * n)
        diagonal = np.where(x < 0, -1, 1).astype(x.dtype) * (1 + np.abs(x)) * eye
        return off + diagonal
    raise InvalidArgument(f"unknown structure {structure!r}")
