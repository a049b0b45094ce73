"""Hypothesis strategies of modules: parameters at which no fault can hide, and random compositions of bijections."""

import math
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
from hypothesis import strategies as st
from hypothesis.errors import InvalidArgument
from hypothesis.strategies import DrawFn, SearchStrategy
from numpy.typing import DTypeLike

from tinygen.bijections import ActNorm, AdditiveCoupling, AffineCoupling, Bijection, Chain, Inverse, Permute, Reverse
from tinygen.nn import MLP, Module, init
from tinygen.testing.strategies import rngs

M = TypeVar("M", bound=Module)
Family = Callable[[int, np.random.Generator], Bijection]


@st.composite
def parameters(
    draw: DrawFn,
    model: M | SearchStrategy[M],
    scale: float | SearchStrategy = 0.5,
    *,
    dtype: DTypeLike | SearchStrategy = np.float64,
) -> M:
    """Deep copies of a model with every parameter drawn anew, never degenerate: no zeros, and no two entries alike.

    So a zero-initialised last layer does not make the model an identity, at which a wrong sign cannot be seen, and no
    symmetry hides an exchange. Buffers stay, in the same dtype; but a flag named ``initialized``, by which a layer such
    as `ActNorm` waits for its first batch, is set, lest that batch overwrite what was drawn.

    Parameters
    ----------
    model : a module, which is left alone, or a strategy of modules
    scale : the mean magnitude of the entries, or a strategy of it; they lie between a fifth of it and nine fifths, with
        either sign
    dtype : floating, of parameters and buffers, or a strategy of it

    Raises
    ------
    hypothesis.errors.InvalidArgument : the model is not a module, the scale not positive, or the dtype not floating

    Examples
    --------
    >>> from hypothesis import given
    >>> from tinygen import nn
    >>> layer = nn.Linear(3, 2, np.random.default_rng(0), init=nn.init.zeros)
    >>> @given(parameters(layer))
    ... def test(drawn):
    ...     values = np.concatenate([p.data.ravel() for p in drawn.parameters()])
    ...     assert len(np.unique(np.abs(values))) == values.size == 8 and np.abs(values).min() >= 0.1
    >>> test()
    """
    source = draw(model) if isinstance(model, SearchStrategy) else model
    size = draw(scale) if isinstance(scale, SearchStrategy) else scale
    kind = np.dtype(draw(dtype) if isinstance(dtype, SearchStrategy) else dtype)
    if not isinstance(source, Module):
        raise InvalidArgument(f"parameters: the model must be a tinygen.nn.Module, got {type(source).__name__}")
    if not 0 < size < math.inf:
        raise InvalidArgument(f"parameters: scale must be positive and finite, got {size}")
    if kind.kind != "f":
        raise InvalidArgument(f"parameters: dtype must be floating, got {kind}")
    return _redrawn(source.astype(kind), float(size), draw(rngs()))


def _redrawn(model: M, scale: float, rng: np.random.Generator) -> M:
    drawn = list(model.parameters())
    ends = np.cumsum([p.size for p in drawn])
    n = int(ends[-1]) if drawn else 0
    # One magnitude from the middle half of each of n strata, in random order: as good as uniform, and all apart.
    place = (rng.permutation(n) + rng.uniform(0.25, 0.75, n)) / max(n, 1)
    values = scale * (0.2 + 1.6 * place) * rng.choice([-1.0, 1.0], n)
    for p, end in zip(drawn, ends, strict=True):
        p.data[...] = values[end - p.size : end].reshape(p.shape)
    for name, flag in model.named_buffers():
        if name.rpartition(".")[2] == "initialized":
            flag[...] = True
    return model


# ---------------------------------------------------------------------------------------------------------- bijections


def _conditioner(rng: np.random.Generator) -> Callable[[int, int], Module]:
    """Smooth networks: a kink would leave differences without a verdict."""
    return lambda c_in, c_out: MLP([c_in, 6, c_out], rng, "tanh", last_init=init.zeros)


def actnorm(dim: int, rng: np.random.Generator) -> Bijection:
    """`ActNorm`."""
    return ActNorm(dim)


def affine_coupling(dim: int, rng: np.random.Generator) -> Bijection:
    """`AffineCoupling`, with scales between e^-0.8 and e^0.8."""
    return AffineCoupling(dim, _conditioner(rng), bound=0.8)


def additive_coupling(dim: int, rng: np.random.Generator) -> Bijection:
    """`AdditiveCoupling`."""
    return AdditiveCoupling(dim, _conditioner(rng))


def permute(dim: int, rng: np.random.Generator) -> Bijection:
    """`Permute`, by a rotation, which differs from its inverse in three dimensions or more."""
    return Permute(np.roll(np.arange(dim), 1))


def reverse(dim: int, rng: np.random.Generator) -> Bijection:
    """`Reverse`."""
    return Reverse()


FAMILIES: tuple[Family, ...] = (actnorm, affine_coupling, additive_coupling, permute, reverse)
"""Makers of all bijections of tinygen that map the whole of R^D to itself, the simplest first."""


def bijections(
    dim: int | SearchStrategy[int],
    families: Sequence[Family] = FAMILIES,
    depth: int | SearchStrategy[int] = 3,
    *,
    scale: float | SearchStrategy = 0.5,
    dtype: DTypeLike | SearchStrategy = np.float64,
) -> SearchStrategy[Bijection]:
    """Random compositions of bijections of R^D: `Chain` and `Inverse`, nested, of members of some families.

    Their parameters are drawn as by `parameters`. Shrinks towards a single member of the first family.

    Parameters
    ----------
    dim : D, or a strategy of it
    families : functions ``(dim, rng)`` to a `Bijection` of batches ``(N, D)`` that takes any real numbers, both ways
    depth : the greatest number of members in one composition, or a strategy of it
    scale, dtype : of the parameters, as for `parameters`

    Raises
    ------
    hypothesis.errors.InvalidArgument : ``dim`` or ``depth`` below 1, or no families

    Examples
    --------
    >>> from hypothesis import given, settings
    >>> from tinygen.testing import check_bijection, rngs
    >>> @settings(max_examples=5)
    ... @given(bijections(3), rngs())
    ... def test(b, rng):
    ...     check_bijection(b, rng.standard_normal((2, 3)), rng=rng)
    >>> test()
    """
    if not families:
        raise InvalidArgument("bijections: families must not be empty")
    return parameters(_compositions(dim, list(families), depth), scale=scale, dtype=dtype)


@st.composite
def _compositions(
    draw: DrawFn, dim: int | SearchStrategy[int], families: list[Family], depth: int | SearchStrategy[int]
) -> Bijection:
    dim, depth = (draw(n) if isinstance(n, SearchStrategy) else n for n in (dim, depth))
    if dim < 1 or depth < 1:
        raise InvalidArgument(f"bijections: dim and depth must be at least 1, got dim={dim} and depth={depth}")
    rng = draw(rngs())
    plan = st.tuples(st.sampled_from(families), st.booleans(), st.booleans())
    parts: list[Bijection] = []
    for family, gathered, swapped in draw(st.lists(plan, min_size=1, max_size=depth)):
        member = _member(family, dim, rng)
        parts.append(Inverse(member) if swapped else member)
        if gathered:
            parts = [Inverse(Chain(*parts))]
    return parts[0] if len(parts) == 1 else Chain(*parts)


def _member(family: Family, dim: int, rng: np.random.Generator) -> Bijection:
    made = family(dim, rng)
    if not isinstance(made, Bijection):
        raise InvalidArgument(
            f"bijections: a family must return a tinygen.bijections.Bijection, and {family!r} gave "
            f"{type(made).__name__}"
        )
    return made
