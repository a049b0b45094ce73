"""The false-alarm corpus: correct code on which a careless checker cries wolf."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

import tinygen as tg
from tinygen.testing.faults import bijections, distributions, gradients, kernels
from tinygen.testing.faults.base import Checker
from tinygen.testing.faults.gradients import CHECKERS, HALVES, Differentiable
from tinygen.testing.gradients import Pullback
from tinygen.testing.strategies import arrays

Array = np.ndarray


@dataclass(frozen=True)
class Hostile:
    """Correct code.

    Attributes
    ----------
    title : what makes it hostile
    subject, examples, checkers : as of a `Fault`; none of the checkers may reject it
    """

    title: str
    subject: Any
    examples: SearchStrategy
    checkers: Mapping[str, Checker]


def scaled(size: float) -> SearchStrategy[list[Array]]:
    """Arguments of some size."""
    return arrays(shape=(4,)).map(lambda x: [size * x])


def of_tensors(title: str, f: Callable, examples: SearchStrategy | None = None, *, order: int = 2) -> Hostile:
    """A function of Tensors, whose second derivative is checked as well where differences can show it."""
    checkers = gradients.TWICE if order == 2 else CHECKERS
    return Hostile(title, Differentiable(f, None), scaled(1) if examples is None else examples, checkers)


def cumprod(u: Array, x: Array) -> tuple[Array]:
    """The pullback of `np.cumprod`, without dividing by what may be zero."""
    g = np.zeros_like(x)
    for i in range(len(x)):
        for j in range(i, len(x)):
            g[i] += u[j] * np.prod(np.delete(x[: j + 1], i))
    return (g,)


class Steep(bijections.Coupling):
    """A coupling whose scales go from e⁻⁵ to e⁵, and shifts to 100."""

    def split(self, x: Array) -> tuple[Array, ...]:
        """The halves a and b, s and t."""
        a, b, s, t = super().split(x)
        return a, b, 5 * s, 100 * t


@dataclass(frozen=True)
class Cauchy:
    """A density without a mean."""

    middle: float
    width: float

    def log_prob(self, x: Array) -> Array:
        """-log π γ (1 + ((x - m)/γ)²)."""
        return -np.log(np.pi * self.width) - np.log1p(np.square((x - self.middle) / self.width))

    def sample(self, n: int, rng: np.random.Generator) -> Array:
        """Draws (n,)."""
        return self.middle + self.width * rng.standard_cauchy(n)


CORPUS = (
    Hostile(
        "cumprod, zeros included",
        Differentiable(np.cumprod, Pullback(cumprod)),
        HALVES.map(lambda xs: [xs[0].ravel()]),
        CHECKERS,
    ),
    of_tensors("x |x| at zero", lambda x: x * tg.abs(x), HALVES),
    of_tensors("x² |x| at zero", lambda x: x * x * tg.abs(x), HALVES),
    of_tensors("ties of a maximum", lambda x: tg.max(x, axis=1), HALVES),
    of_tensors("ties of a sort", lambda x: tg.sort(x), HALVES.map(lambda xs: [xs[0][0]])),
    of_tensors(
        "relu and floor on their steps", lambda x: tg.relu(x) + tg.floor(x), HALVES.map(lambda xs: [xs[0][0, :1] / 2])
    ),
    of_tensors("norm near zero", lambda x: tg.norm(x), scaled(1e-30)),
    of_tensors(
        "an ill-conditioned inverse",
        lambda x: tg.inv(tg.reshape(1e-3 * x, (2, 2)) + np.array([[1.0, 1.0], [1.0, 1.01]])),
    ),
    of_tensors("values of 1e150", lambda x: 1e150 * x * x),
    of_tensors("values of 1e-150", lambda x: 1e-150 * tg.sin(x)),
    of_tensors("arguments of 1e-150", lambda x: tg.exp(1e150 * x), scaled(1e-150), order=1),
    of_tensors("arguments of 1e150", lambda x: tg.sin(1e-150 * x), scaled(1e150), order=1),
    of_tensors("a peak that is narrow", lambda x: tg.exp(-300 * x * x), scaled(0.15)),
    of_tensors("fast oscillations", lambda x: tg.sin(300 * x)),
    of_tensors("digits lost to 1e8", lambda x: (1e8 + x) - 1e8),
    of_tensors("sin x - x", lambda x: tg.sin(x) - x),
    of_tensors("a gradient that is zero but for rounding", lambda x: tg.logaddexp(x, x) - x, scaled(0.01)),
    of_tensors("saturated softmax", lambda x: tg.softmax(5000 * x), order=1),
    Hostile(
        "sums in another order",
        (lambda x: x[::-1].cumsum()[-1:], lambda x: x.sum(keepdims=True)),
        arrays(np.float32, st.integers(1, 50), domain=(-1e6, 1e6)),
        kernels.CHECKERS,
    ),
    Hostile(
        "scales from e⁻⁵ to e⁵",
        lambda rng: Steep(bijections.coupling(rng).w, lambda s: s.sum(axis=1)),
        bijections.EXAMPLES,
        bijections.CHECKERS,
    ),
    Hostile(
        "tails without a mean",
        Cauchy,
        st.tuples(st.tuples(st.floats(-100, 100), st.floats(0.01, 100))),
        distributions.CHECKERS,
    ),
    Hostile(
        "two narrow modes, the smaller one 200 of their widths away",
        distributions.Mixture,
        st.tuples(st.tuples(st.floats(-3, 3), st.floats(0.01, 1), st.just(200.0))),
        distributions.CHECKERS,
    ),
)
