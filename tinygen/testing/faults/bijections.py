"""Faults of bijections and autoregressive functions; parameters come with each example."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from tinygen.testing.autoregressive import check_autoregressive
from tinygen.testing.faults.base import Checker, Fault
from tinygen.testing.faults.spline import Spline
from tinygen.testing.flows import check_bijection
from tinygen.testing.modules import affine_coupling, parameters
from tinygen.testing.strategies import arrays, rngs

Array = np.ndarray
Pair = tuple[Array, Array]
DIM = 4


class Example(NamedTuple):
    """What the bijection is made from, a generator that draws the parameters or a module, and a batch of points."""

    source: Any
    x: Array


CHECKERS: dict[str, Checker] = {
    "check_bijection": lambda make, example, rng: check_bijection(make(example.source), example.x, rng=rng),
}
AUTOREGRESSIVE: dict[str, Checker] = {
    "check_autoregressive": lambda make, example, rng: check_autoregressive(
        make(example.source), example.x, range(DIM), rng=rng
    ),
}


def examples(source: SearchStrategy, reach: float = 3.0) -> SearchStrategy[Example]:
    """Points with entries of both signs, whose tails are as likely as their middle."""
    return st.builds(
        Example,
        source,
        arrays(np.float64, st.tuples(st.integers(1, 3), st.just(DIM)), domain=(-reach, reach)),
    )


EXAMPLES = examples(rngs())


# ----------------------------------------------------------------------------------------------------------- couplings


@dataclass
class Coupling:
    """The second half b is scaled and shifted by functions of the first, a: e^s b + t, with (s, t) = tanh(a w).

    Attributes
    ----------
    w : ``(D/2, D)``
    log_det : from s to the log-determinants, in the direction of the data
    """

    w: Array
    log_det: Callable[[Array], Array]

    def split(self, x: Array) -> tuple[Array, ...]:
        """The halves a and b, s and t."""
        a, b = np.split(x, 2, axis=1)
        return a, b, *np.split(np.tanh(a @ self.w), 2, axis=1)

    def forward(self, x: Array) -> Pair:
        """To z."""
        a, b, s, t = self.split(x)
        return np.concatenate([a, b * np.exp(s) + t], axis=1), self.log_det(s)

    def inverse(self, z: Array) -> Pair:
        """To x."""
        a, b, s, t = self.split(z)
        return np.concatenate([a, (b - t) * np.exp(-s)], axis=1), -self.log_det(s)


def coupling(rng: np.random.Generator, log_det: Callable[[Array], Array] = lambda s: s.sum(axis=1)) -> Coupling:
    """A coupling with weights away from zero."""
    return Coupling(rng.uniform(0.3, 1, (DIM // 2, DIM)) * rng.choice([-1, 1], (DIM // 2, DIM)), log_det)


@dataclass
class WithoutLogDet:
    """A bijection that takes its log-determinants for zero, as those of an identity are."""

    inner: Any

    def forward(self, x: Array) -> Pair:
        """To z."""
        z, log_det = self.inner.forward(x)
        return z, 0 * log_det

    def inverse(self, z: Array) -> Pair:
        """To x."""
        x, log_det = self.inner.inverse(z)
        return x, 0 * log_det


ZERO_INITIALISED = affine_coupling(DIM, np.random.default_rng(0))
"""A coupling as training begins, an identity: the last layer of its network is zero."""


class Reversal:
    """The entries of each row in reverse order."""

    def forward(self, x: Array) -> Pair:
        """Either way."""
        return x[:, ::-1].copy(), np.zeros(len(x))

    inverse = forward


class Composition:
    """Couplings of both halves by each other. Log-determinants are taken where each begins, or all at the start."""

    def __init__(self, rng: np.random.Generator, at_the_start: bool) -> None:
        self.parts: list[Any] = [coupling(rng), Reversal(), coupling(rng)]
        self.at_the_start = at_the_start

    def forward(self, x: Array) -> Pair:
        """To z."""
        return self.run(x, [part.forward for part in self.parts])

    def inverse(self, z: Array) -> Pair:
        """To x."""
        return self.run(z, [part.inverse for part in reversed(self.parts)])

    def run(self, start: Array, methods: list[Callable[[Array], Pair]]) -> Pair:
        """Each method where the one before has arrived."""
        x, log_det = start, np.zeros(len(start))
        for method in methods:
            log_det = log_det + method(start if self.at_the_start else x)[1]
            x, _ = method(x)
        return x, log_det


class Cached:
    """A coupling that remembers the last pair of points, and knows z again by a key."""

    def __init__(self, rng: np.random.Generator, key: Callable[[Array], Any]) -> None:
        self.inner = coupling(rng)
        self.key = key
        self.last: tuple[Any, Array, Pair] | None = None  # key, z, which keeps its identity, and the inverse's answer

    def forward(self, x: Array) -> Pair:
        """To z."""
        z, log_det = self.inner.forward(x)
        self.last = (self.key(z), z, (x.copy(), -log_det))
        return z, log_det

    def inverse(self, z: Array) -> Pair:
        """To x."""
        return self.last[2] if self.last and self.last[0] == self.key(z) else self.inner.inverse(z)


# --------------------------------------------------------------------------------------------------------- elementwise


class SignedLogarithm:
    """z = sign(x) log(1 + r |x|), whose inverse may forget the sign."""

    def __init__(self, rng: np.random.Generator, size: Callable[[Array], Array]) -> None:
        self.rate = rng.uniform(0.5, 2, DIM)
        self.size = size

    def forward(self, x: Array) -> Pair:
        """To z."""
        stretched = np.log1p(self.rate * np.abs(x))
        return np.sign(x) * stretched, (np.log(self.rate) - stretched).sum(axis=1)

    def inverse(self, z: Array) -> Pair:
        """To x."""
        x = np.sign(z) * np.expm1(np.abs(z)) / self.rate
        return self.size(x), (np.abs(z) - np.log(self.rate)).sum(axis=1)


@dataclass
class Centred(Coupling):
    """A coupling whose network sees the first half less a mean: of the batch, or a running one.

    The first half stays as it is, so the inverse finds the same mean, and no round trip tells the two apart.
    """

    mean: Callable[[Array], Array]

    def split(self, x: Array) -> tuple[Array, ...]:
        """The halves a and b, s and t."""
        a, b = np.split(x, 2, axis=1)
        return a, b, *np.split(np.tanh((a - self.mean(a)) @ self.w), 2, axis=1)


def centred(rng: np.random.Generator, of_the_batch: bool) -> Centred:
    """A coupling with weights away from zero."""
    plain, running = coupling(rng), rng.standard_normal(DIM // 2)
    return Centred(plain.w, plain.log_det, (lambda a: a.mean(axis=0)) if of_the_batch else (lambda a: running))


# ------------------------------------------------------------------------------------------------------ autoregression


def made(rng: np.random.Generator, last: Callable[[Array, Array], Array]) -> Callable[[Array], Array]:
    """A masked network (Germain et al. 2015, eq. 12 and 13); ``last`` compares output ranks with hidden ones."""
    rank, hidden = np.arange(1, DIM + 1), np.arange(3 * (DIM - 1)) % (DIM - 1) + 1
    w1 = rng.uniform(0.3, 1, (DIM, len(hidden))) * (hidden >= rank[:, None])
    w2 = rng.uniform(0.3, 1, (len(hidden), DIM)) * last(rank, hidden[:, None])
    return lambda x: np.tanh(x @ w1) @ w2


def _fault(
    number: int,
    title: str,
    subject: Callable[[bool], Any],
    drawn: SearchStrategy[Example] = EXAMPLES,
    checkers: Mapping[str, Checker] = CHECKERS,
) -> Fault:
    return Fault(number, title, subject, drawn, checkers, tuple(checkers))


FAULTS = (
    _fault(
        22,
        "log-det sign flipped in both directions",
        lambda faulty: lambda rng: coupling(rng, lambda s: (-s if faulty else s).sum(axis=1)),
    ),
    _fault(
        23,
        "log-det zero, which identity initialisation hides",
        lambda faulty: WithoutLogDet if faulty else lambda module: module,
        examples(parameters(ZERO_INITIALISED)),
    ),
    _fault(
        24,
        "coupling's log-det omits one dimension",
        lambda faulty: lambda rng: coupling(rng, lambda s: (s[:, :-1] if faulty else s).sum(axis=1)),
    ),
    _fault(
        25,
        "inverse right only for x > 0",
        lambda faulty: lambda rng: SignedLogarithm(rng, np.abs if faulty else np.positive),
    ),
    _fault(
        26,
        "spline's log-det wrong in its last bin",
        lambda faulty: lambda rng: Spline(rng, wraps=faulty),
        examples(rngs(), reach=2.0),
    ),
    _fault(26, "spline's log-det wrong in its tails", lambda faulty: lambda rng: Spline(rng, flat_tails=faulty)),
    _fault(
        27,
        "MADE's mask off by one",
        lambda faulty: lambda rng: made(rng, np.greater_equal if faulty else np.greater),
        checkers=AUTOREGRESSIVE,
    ),
    _fault(28, "batch statistics leak between rows", lambda faulty: lambda rng: centred(rng, of_the_batch=faulty)),
    _fault(
        29,
        "composition adds log-dets at wrong points",
        lambda faulty: lambda rng: Composition(rng, at_the_start=faulty),
    ),
    _fault(
        30,
        "cached inverse returns a stale x for the same shape",
        lambda faulty: lambda rng: Cached(rng, (lambda z: z.shape) if faulty else (lambda z: z.tobytes())),
    ),
    _fault(
        30,
        "cached inverse returns a stale x for the same array, overwritten",
        lambda faulty: lambda rng: Cached(rng, id if faulty else (lambda z: z.tobytes())),
    ),
)
