"""A checker of samplers: their draws follow a density, given probabilities, or another sampler.

Distributions are compared by Kolmogorov's distance, the largest difference of two distribution functions, of a few real
statistics. It has bounds that hold for every distribution and n, with ties too: n draws are further than e from their
own distribution with probability at most 2 exp(-2 n e²) (Dvoretzky, Kiefer and Wolfowitz 1956; the constant is
Massart's, 1990), and n ≥ 458 draws further than e from n others of it at most 2 exp(-n e²) (Wei and Dudley 2012).
"""

import math
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from tinygen.autograd import no_grad
from tinygen.testing.densities import evaluate, overlooks, quadrature
from tinygen.testing.verdicts import Inconclusive, SamplerError, as_array, conclude, generator, report

Array = np.ndarray
Sample = Callable[[int, np.random.Generator], Any]

PILOT = 1000  # draws that are looked at first, to see where the distribution lies
AXES, PROJECTIONS, CENTRES = 16, 4, 4  # the most statistics of each kind
BATCH = 2**22  # numbers to be drawn at once
REACH = 8.0  # of the grid: 1,490 deviations, beyond which a Cauchy distribution has 4e-4 of its mass
ROUNDING = 1e-5  # of a statistic that is computed in float32, generously
RESOLUTION = 1 / 10  # how wrong the grid's distribution functions may be, in units of `detect`


def check_sampler(
    sample: Sample,
    log_prob: Callable | None = None,
    *,
    reference: Sample | None = None,
    support: ArrayLike | None = None,
    detect: float = 0.02,
    false_alarm: float = 1e-6,
    rng: np.random.Generator | None = None,
) -> None:
    """Check that a sampler's draws have a density, given probabilities, or the distribution of another sampler's.

    Distribution functions are compared of up to 16 coordinates; of 4 random projections, if there are two coordinates
    or more; and of log_prob at the draws, which sees wrong scales and lost modes, or else of the distances from 4
    points. If one of these differs by ``detect`` or more, the check misses it with a probability below ``false_alarm``:
    the number of draws follows from the two. That draws are independent of each other is not checked, and a density's
    integral may be off by a tenth of ``detect``.

    Parameters
    ----------
    sample : ``sample(n, rng) -> (n, ...)``, n independent draws, all of whose randomness is rng's
    log_prob : ``(N, ...) -> (N,)``, in nats: of draws of one or two numbers, the logarithm of a density
    support : all outcomes of a discrete distribution, ``(M, ...)``, of any dimension, to be rounded as the draws are;
        log_prob is then the logarithm of their probabilities. Of infinitely many, all that could be drawn.
    reference : ``reference(n, rng) -> (n, ...)``, a sampler to compare with in place of log_prob, of any dimension
    detect : the difference of a distribution function that is to be seen: a lost mode of weight w makes one of at least
        w/2
    false_alarm : how often a right sampler may fail
    rng : draws

    Raises
    ------
    SamplerError : naming the statistic, and where its distribution function differs most; for draws that are not
        finite, not in the support, or the same again; and for a density or probabilities that do not add to one
    Inconclusive : if a grid cannot give the distribution functions to a tenth of ``detect``, as for modes that are much
        narrower than they are far apart

    Examples
    --------
    >>> from tinygen.distributions import Bernoulli, Normal
    >>> p = Normal(np.array([3.0]), np.array([0.5]))
    >>> check_sampler(p.sample, p.log_prob)
    >>> check_sampler(lambda n, rng: p.mean + p.std**2 * rng.standard_normal((n, 1)), p.log_prob)
    Traceback (most recent call last):
        ...
    tinygen.testing.verdicts.SamplerError: log_prob: a share 0.1717 of the draws is < -0.458136, not 0.4966 ± 0.01...
    >>> coin = Bernoulli(np.array([0.3]))
    >>> check_sampler(coin.sample, coin.log_prob, support=[[0.0], [1.0]])
    """
    if (log_prob is None) == (reference is None):
        raise TypeError("check_sampler: give either log_prob or reference")
    if support is not None and log_prob is None:
        raise TypeError("check_sampler: support goes with log_prob, the logarithm of the outcomes' probabilities")
    if not (0 < detect < 1 and 0 < false_alarm < 1):
        raise ValueError(f"check_sampler: detect={detect} and false_alarm={false_alarm} must be between 0 and 1")
    rng = generator(rng)
    pilot = _pilot(sample, rng)
    size = math.prod(pilot.shape[1:])
    if log_prob is not None and support is None:
        if pilot.dtype.kind != "f":
            raise TypeError(f"check_sampler: the draws are {pilot.dtype}; give all outcomes there are as support")
        if size not in (1, 2):
            raise TypeError(
                f"check_sampler: a density is integrated over one or two numbers, but draws have {size}; "
                f"give a sampler as reference, or all outcomes there are as support"
            )
    outcomes = None if support is None else _outcomes(np.asarray(support), pilot)
    place = pilot if reference is None else _draw(reference, PILOT, pilot.shape[1:], rng)
    statistics = _Statistics.drawn(_flat(place if outcomes is None else outcomes), log_prob is not None, rng)
    k, blur = len(statistics.names), RESOLUTION * detect if log_prob is not None and support is None else 0.0
    margin = detect / 2 - blur  # sampling error, at most; with the grid's the threshold is detect / 2
    bound = math.log(2 * k / false_alarm) / margin**2  # n of the two-sample bound
    n = max(458, math.ceil(bound)) if reference is not None else math.ceil(bound / 2)
    power = (
        f"n = {n:,} draws, {k} statistics; a difference of {detect:g} is missed, and a right sampler rejected, with "
        f"probability below {false_alarm:g}"
    )
    report(f"check_sampler: {power}")
    found = _measure(sample, n, pilot.shape[1:], statistics, log_prob, outcomes, rng)
    if reference is not None:
        others = _measure(reference, n, pilot.shape[1:], statistics, None, None, rng)
        laws = statistics.laws(others, np.full(n, 1 / n))
    elif log_prob is not None and outcomes is not None:
        laws = _discrete_laws(evaluate(log_prob, outcomes), outcomes, statistics)
    elif log_prob is not None:
        laws = _continuous_laws(log_prob, pilot, statistics, found, blur)
    worst, text = 0.0, ""
    for name, values, law in zip(statistics.names, found, laws, strict=True):
        below, up_to = law.around(values)
        over, under = np.arange(1, n + 1) / n - up_to, below - np.arange(n) / n
        i = int(np.argmax(np.maximum(over, under)))
        share, expected, sign = ((i + 1) / n, up_to[i], "≤") if over[i] > under[i] else (i / n, below[i], "<")
        if abs(share - expected) > worst:
            worst = abs(share - expected)
            text = f"{name}: a share {share:.4f} of the draws is {sign} {values[i]:.6g}, not {expected:.4f}"
    if worst > detect / 2:
        conclude(SamplerError(f"{text} ± {detect / 2:g} ({power})"))
    conclude(None)


# --------------------------------------------------------------------------------------------------------------- draws


def _draw(sample: Sample, n: int, shape: tuple[int, ...] | None, rng: np.random.Generator) -> Array:
    """``(n, *shape)`` finite numbers, whatever the shape if it is None."""
    with no_grad():
        x = as_array(sample(n, rng))
    if x.ndim < 1 or len(x) != n or (shape is not None and x.shape[1:] != shape):
        wanted = "..." if shape is None else ", ".join(map(str, shape))
        conclude(SamplerError(f"sample(n={n}, rng) has shape {x.shape}, not (n, {wanted})"))
    if x.dtype.kind not in "fiub":
        raise TypeError(f"check_sampler: draws must be numbers, got {x.dtype}")
    wrong = ~np.isfinite(_flat(x)).all(axis=1)
    if wrong.any():
        conclude(SamplerError(f"draw {int(wrong.argmax())} of {n} is not finite: {x[wrong.argmax()]!r}"))
    return x


def _pilot(sample: Sample, rng: np.random.Generator) -> Array:
    """The first draws, which come again from an equal generator and not from this one."""
    state = deepcopy(rng)
    x = _draw(sample, PILOT, None, rng)
    again = _draw(sample, PILOT, x.shape[1:], state)
    following = _draw(sample, PILOT, x.shape[1:], rng)
    if not np.allclose(_flat(x), _flat(again), rtol=1e-4, atol=0):
        conclude(SamplerError("two generators in the same state give different draws: all randomness must be rng's"))
    varies = (_flat(x)[1:] != _flat(x)[:-1]).any(axis=1).sum() > 50  # else the same again may be a coincidence
    if varies and np.array_equal(x, following):
        conclude(SamplerError("the same draws come again from one generator: it is ignored, copied or seeded anew"))
    return x


def _outcomes(support: Array, pilot: Array) -> Array:
    """The support as floating draws can be equal to it."""
    rounded = support.astype(pilot.dtype) if pilot.dtype.kind == "f" else support
    if len(np.unique(_flat(rounded), axis=0)) < len(np.unique(_flat(support), axis=0)):
        raise ValueError(
            f"check_sampler: outcomes of the support are the same in {pilot.dtype}, the dtype of the draws"
        )
    return rounded


def _flat(x: Array) -> Array:
    return x.reshape(len(x), -1).astype(np.float64)


def _measure(
    sample: Sample,
    n: int,
    shape: tuple[int, ...],
    statistics: "_Statistics",
    log_prob: Callable | None,
    outcomes: Array | None,
    rng: np.random.Generator,
) -> list[Array]:
    """The statistics of n fresh draws, each sorted."""
    allowed = set() if outcomes is None else set(map(tuple, _flat(outcomes)))
    parts = []
    for batch in np.array_split(np.arange(n), math.ceil(n * math.prod(shape) / BATCH)):
        x = _draw(sample, len(batch), shape, rng)
        for outcome in np.unique(_flat(x), axis=0) if allowed else ():
            if tuple(outcome) not in allowed:
                conclude(SamplerError(f"the draw {outcome} is none of the {len(allowed)} outcomes of the support"))
        log_p = None if log_prob is None else evaluate(log_prob, x)
        if log_p is not None and np.isnan(log_p).any():
            conclude(SamplerError(f"log_prob of the draw {x[np.isnan(log_p)][0]!r} is NaN"))
        parts.append(statistics(_flat(x), log_p))
    return [np.sort(np.concatenate(values)) for values in zip(*parts, strict=True)]


# ---------------------------------------------------------------------------------------------------------- statistics


@dataclass(frozen=True)
class _Statistics:
    """Real functions of draws; calling it gives an array for each name."""

    names: list[str]
    axes: Array
    middle: Array
    scale: Array
    directions: Array
    centres: Array

    @classmethod
    def drawn(cls, place: Array, has_density: bool, rng: np.random.Generator) -> "_Statistics":
        """Statistics of draws that lie about where ``place`` (N, D) does."""
        dim = place.shape[1]
        axes = np.sort(rng.permutation(dim)[:AXES])
        spread = place.std(axis=0)
        directions = rng.standard_normal((PROJECTIONS if dim > 1 else 0, dim))
        centres = place[rng.integers(0, len(place), CENTRES if dim > 1 and not has_density else 0)]
        names = [f"coordinate {i}" for i in axes]
        names += [f"projection on {np.array2string(d, precision=3, threshold=8)}" for d in directions]
        names += ["log_prob"] * has_density
        names += [f"distance from {np.array2string(c, precision=3, threshold=8)}" for c in centres]
        scale = np.where(spread > 0, spread, 1.0)
        return cls(names, axes, place.mean(axis=0), scale, directions, centres)

    def __call__(self, points: Array, log_p: Array | None) -> list[Array]:
        values = [*points[:, self.axes].T, *(self.directions @ ((points - self.middle) / self.scale).T)]
        values += [] if log_p is None else [log_p]
        return values + [np.linalg.norm((points - c) / self.scale, axis=1) for c in self.centres]

    def laws(self, values: list[Array], mass: Array) -> list["_Law"]:
        """The distribution of each statistic; what is computed may be rounded differently where it is equal."""
        slacks = [0.0 if i < len(self.axes) else ROUNDING for i in range(len(values))]
        return [_Law.of(v, mass, slack) for v, slack in zip(values, slacks, strict=True)]


@dataclass(frozen=True)
class _Law:
    """A distribution of finitely many values."""

    values: Array  # ascending
    cumulative: Array  # from 0 to 1
    slack: float  # values that differ relatively by less are one

    @classmethod
    def of(cls, values: Array, mass: Array, slack: float) -> "_Law":
        order = np.argsort(values, kind="stable")
        cumulative = np.concatenate([[0.0], np.cumsum(mass[order])])
        return cls(values[order], cumulative / cumulative[-1], slack)

    def around(self, t: Array) -> tuple[Array, Array]:
        """The probabilities of what is below each t, and up to t."""
        slack = self.slack * (1 + np.where(np.isfinite(t), np.abs(t), 0))
        below = self.cumulative[np.searchsorted(self.values, t - slack, "left")]
        return below, self.cumulative[np.searchsorted(self.values, t + slack, "right")]


# ------------------------------------------------------------------------------------------------- what is to be drawn


def _discrete_laws(log_p: Array, outcomes: Array, statistics: _Statistics) -> list[_Law]:
    total = float(np.exp(log_p).sum())
    if not abs(total - 1) <= 1e-4:
        conclude(SamplerError(f"the probabilities of the {len(outcomes)} outcomes add to {total:.6g}, not to 1"))
    return statistics.laws(statistics(_flat(outcomes), log_p), np.exp(log_p))


def _continuous_laws(
    log_prob: Callable, pilot: Array, statistics: _Statistics, found: list[Array], blur: float
) -> list[_Law]:
    """The law of each statistic, by grids that are refined until two agree at all draws to ``blur``."""
    coarsest, levels = (2**11, 11) if pilot[0].size == 1 else (2**8, 7)
    laws: list[_Law] = []
    before: list[tuple[Array, Array]] = []
    box, change, last = None, np.inf, np.nan
    for cells in (round(coarsest * 1.5**level) for level in range(levels)):
        parts = []
        for points, log_p, mass in quadrature(log_prob, pilot, cells, REACH, box, SamplerError):
            some = mass > 1e-12
            parts.append((points[some], log_p[some], mass[some]))
        points, log_p, mass = (np.concatenate(part) for part in zip(*parts, strict=True))
        total = float(mass.sum())
        normalised = abs(total - 1) <= blur
        if abs(total - last) < 1e-6 and not normalised and not overlooks(log_prob, pilot, cells, 1.5 * REACH):
            wider = quadrature(log_prob, pilot, cells, 1.5 * REACH, error=SamplerError)
            further = sum(float(part.sum()) for _, _, part in wider)
            if abs(further - total) > 1e-6:
                conclude(Inconclusive(f"the density has {further - total:.2g} of its mass in tails beyond the grid"))
            conclude(SamplerError(f"the density integrates to {total:.6g}, not to 1, where the draws are"))
        last = total
        if total == 0:
            continue
        laws = statistics.laws(statistics(points, log_p), mass)
        now = [law.around(t) for law, t in zip(laws, found, strict=True)]
        if before:
            change = max(float(np.abs(np.subtract(a, b)).max()) for a, b in zip(now, before, strict=True))
        if change <= blur and normalised:
            break
        before = now
        box = (points.min(axis=0), points.max(axis=0)) if normalised else None  # no mass to be found outside
    else:
        conclude(
            Inconclusive(
                f"grids that integrate to {total:.6g} still differ by {change:.2g} in a distribution function; "
                f"detect more than {change / RESOLUTION:.2g}, or give a sampler as reference"
            )
        )
    return laws
