"""Faults of bijections and autoregressive functions, in NumPy; parameters come with each example."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from tinygen.testing.autoregressive import check_autoregressive
from tinygen.testing.faults.base import Checker, Fault
from tinygen.testing.flows import check_bijection
from tinygen.testing.strategies import arrays, rngs

Array = np.ndarray
Pair = tuple[Array, Array]
DIM = 4


class Example(NamedTuple):
    """A generator that draws the parameters, and a batch of points."""

    rng: np.random.Generator
    x: Array


CHECKERS: dict[str, Checker] = {
    "check_bijection": lambda make, example, rng: check_bijection(make(example.rng), example.x, rng=rng),
}
AUTOREGRESSIVE: dict[str, Checker] = {
    "check_autoregressive": lambda make, example, rng: check_autoregressive(
        make(example.rng), example.x, range(DIM), rng=rng
    ),
}


def examples(reach: float = 3.0) -> SearchStrategy[Example]:
    """Points with entries of both signs, whose tails are as likely as their middle."""
    return st.builds(
        Example, rngs(), arrays(np.float64, st.tuples(st.integers(1, 3), st.just(DIM)), domain=(-reach, reach))
    )


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


class Spline:
    """A monotone quadratic spline of every entry (Müller et al. 2019), with straight tails beyond -2 and 2.

    In bin k, where x = x_k + ξ w, the slope is d_k + ξ (d_{k+1} - d_k).

    Attributes
    ----------
    wraps : in the log-determinant, the index of the slope after the last bin wraps around to the first
    flat_tails : the log-determinant takes the tails' slope for one
    """

    def __init__(self, rng: np.random.Generator, *, wraps: bool = False, flat_tails: bool = False) -> None:
        self.bins = 5
        widths = rng.uniform(0.5, 1.5, self.bins)
        self.x = np.append(0, np.cumsum(widths)) * (4 / widths.sum()) - 2
        self.d = np.append(rng.uniform(0.4, 2, self.bins), 2.5)
        rises = np.diff(self.x) * (self.d[:-1] + self.d[1:]) / 2
        self.y = np.append(0, np.cumsum(rises)) - 2
        self.slopes = self.bins if wraps else self.bins + 1
        self.flat_tails = flat_tails

    def bin_of(self, knots: Array, place: Array) -> Array:
        """The bins of places within the knots."""
        return np.clip(np.searchsorted(knots, place) - 1, 0, self.bins - 1)

    def forward(self, x: Array) -> Pair:
        """To z."""
        inside = np.clip(x, self.x[0], self.x[-1])
        k = self.bin_of(self.x, inside)
        width, bend = np.diff(self.x)[k], np.diff(self.d)[k]
        xi = (inside - self.x[k]) / width
        z = self.y[k] + width * xi * (self.d[k] + xi * bend / 2) + (self.d[k] + xi * bend) * (x - inside)
        return z, self.log_det(k, xi, x == inside)

    def inverse(self, z: Array) -> Pair:
        """To x."""
        inside = np.clip(z, self.y[0], self.y[-1])
        k = self.bin_of(self.y, inside)
        width, bend = np.diff(self.x)[k], np.diff(self.d)[k]
        rise = (inside - self.y[k]) / width
        xi = 2 * rise / (self.d[k] + np.sqrt(self.d[k] ** 2 + 2 * bend * rise))  # of two roots, the one without 0/0
        x = self.x[k] + width * xi + (z - inside) / (self.d[k] + xi * bend)
        return x, -self.log_det(k, xi, z == inside)

    def log_det(self, k: Array, xi: Array, within: Array) -> Array:
        """The sum of the slopes' logarithms."""
        after = self.d[(k + 1) % self.slopes]
        logs = np.log(self.d[k] + xi * (after - self.d[k]))
        return np.where(within | (not self.flat_tails), logs, 0).sum(axis=1)


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


FAULTS = (
    Fault(
        22,
        "log-det sign flipped in both directions",
        lambda faulty: lambda rng: coupling(rng, lambda s: (-s if faulty else s).sum(axis=1)),
        examples(),
        CHECKERS,
        ("check_bijection",),
    ),
    Fault(
        23,
        "log-det zero, which identity initialisation hides",
        lambda faulty: lambda rng: coupling(rng, lambda s: (0 * s if faulty else s).sum(axis=1)),
        examples(),
        CHECKERS,
        ("check_bijection",),
    ),
    Fault(
        24,
        "coupling's log-det omits one dimension",
        lambda faulty: lambda rng: coupling(rng, lambda s: (s[:, :-1] if faulty else s).sum(axis=1)),
        examples(),
        CHECKERS,
        ("check_bijection",),
    ),
    Fault(
        25,
        "inverse right only for x > 0",
        lambda faulty: lambda rng: SignedLogarithm(rng, np.abs if faulty else np.positive),
        examples(),
        CHECKERS,
        ("check_bijection",),
    ),
    Fault(
        26,
        "spline's log-det wrong in its last bin",
        lambda faulty: lambda rng: Spline(rng, wraps=faulty),
        examples(reach=2.0),
        CHECKERS,
        ("check_bijection",),
    ),
    Fault(
        26,
        "spline's log-det wrong in its tails",
        lambda faulty: lambda rng: Spline(rng, flat_tails=faulty),
        examples(),
        CHECKERS,
        ("check_bijection",),
    ),
    Fault(
        27,
        "MADE's mask off by one",
        lambda faulty: lambda rng: made(rng, np.greater_equal if faulty else np.greater),
        examples(),
        AUTOREGRESSIVE,
        ("check_autoregressive",),
    ),
    Fault(
        28,
        "batch statistics leak between rows",
        lambda faulty: lambda rng: centred(rng, of_the_batch=faulty),
        examples(),
        CHECKERS,
        ("check_bijection",),
    ),
    Fault(
        29,
        "composition adds log-dets at wrong points",
        lambda faulty: lambda rng: Composition(rng, at_the_start=faulty),
        examples(),
        CHECKERS,
        ("check_bijection",),
    ),
    Fault(
        30,
        "cached inverse returns a stale x for the same shape",
        lambda faulty: lambda rng: Cached(rng, (lambda z: z.shape) if faulty else (lambda z: z.tobytes())),
        examples(),
        CHECKERS,
        ("check_bijection",),
    ),
    Fault(
        30,
        "cached inverse returns a stale x for the same array, overwritten",
        lambda faulty: lambda rng: Cached(rng, id if faulty else (lambda z: z.tobytes())),
        examples(),
        CHECKERS,
        ("check_bijection",),
    ),
)
