"""Checkers of densities: that they integrate to one, and that closed forms of their divergences are right."""

import math
from collections.abc import Callable, Iterator
from itertools import chain
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from tinygen.autograd import no_grad
from tinygen.distributions import kl_divergence
from tinygen.testing.verdicts import (
    CheckError,
    DensityError,
    DivergenceError,
    Inconclusive,
    as_array,
    conclude,
    generator,
    report,
)

Array = np.ndarray

FEWEST = 10_000  # draws: the mean of fewer log-ratios, which are skewed, is far from normal
UNSEEN = 1e-6  # probability that a mode goes unseen which would explain why an integral is too small
MOST, BATCH = 2**20, 2**16  # draws to look for one, and how many at once
CAUTION = 1.05  # standard errors are taken this much longer: of skewed log-ratios the mean is not quite normal


def evaluate(log_prob: Callable, x: Array) -> Array:
    """``log_prob(x)`` as float64 ``(N,)``, recording nothing."""
    with no_grad():
        return as_array(log_prob(x)).astype(np.float64).reshape(len(x))


def frame(drawn: Array) -> tuple[Array, Array]:
    """Median and median deviation of each of the numbers that are drawn."""
    flat = drawn.reshape(len(drawn), -1).astype(np.float64)
    middle = np.median(flat, axis=0)
    deviation = np.median(np.abs(flat - middle), axis=0)
    return middle, np.where(deviation > 0, deviation, 1.0)


def quadrature(
    log_prob: Callable,
    drawn: Array,
    cells: int,
    reach: float = 20.0,
    box: tuple[Array, Array] | None = None,
    error: type[CheckError] = DensityError,
) -> Iterator[tuple[Array, Array, Array]]:
    """A density on the line or the plane as points with masses: the trapezoidal rule after x = m + s sinh(t).

    The grid of the plane is turned by an angle whose tangent is the golden ratio. The rule is as good on it, and no two
    points have a coordinate in common, so that they stand for its distribution as well.

    Parameters
    ----------
    log_prob : ``(N, *event) -> (N,)``, in nats
    drawn : ``(N, *event)``, one or two numbers each: their `frame` is m and s; they also say in what shape and dtype
        log_prob is given points
    cells : the grid is of ``cells + 1`` values of t on each axis
    reach : and they span [-reach, reach]
    box : lowest and highest coordinates; points elsewhere are left out
    error : raised, with the point, where log_prob is NaN, or so large that the mass overflows

    Yields
    ------
    Points (M, D), log_prob (M,), and mass (M,); of a part of the grid at a time.
    """
    middle, scale = frame(drawn)
    dim = len(middle)
    ticks, width = np.linspace(-reach, reach, cells + 1, retstep=True)
    angle = math.atan((1 + math.sqrt(5)) / 2)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    for some in np.array_split(ticks, math.ceil((cells + 1) ** dim / 2**17)):
        t = some[:, None] if dim == 1 else np.stack(np.meshgrid(some, ticks), axis=-1).reshape(-1, 2) @ turn
        points = middle + scale * np.sinh(t)
        if box is not None:
            inside = ((points >= box[0]) & (points <= box[1])).all(axis=1)
            t, points = t[inside], points[inside]
            if not len(points):
                continue
        log_p = evaluate(log_prob, points.astype(drawn.dtype).reshape(-1, *drawn.shape[1:]))
        with np.errstate(over="ignore", under="ignore"):
            mass = np.exp(log_p) * (scale * np.cosh(t) * width).prod(axis=1)
        if not (mass < np.inf).all():
            wrong = np.argmin(mass < np.inf)
            conclude(error(f"log_prob of {points[wrong]} is {log_p[wrong]!r}"))
        yield points, log_p, mass


def overlooks(
    log_prob: Callable, drawn: Array, cells: int, reach: float = 20.0, framed: tuple[Array, Array] | None = None
) -> bool:
    """Whether the grid of `quadrature` has no point in places from which there are draws.

    These lie outside of it, or where the density falls within a cell, to both sides, to a tenth of what it is at a
    draw: as in a mode that is narrower than the cells where it is. A jump has one side only. ``framed`` is the frame of
    the draws that the grid was made for, if not these.
    """
    middle, scale = frame(drawn) if framed is None else framed
    t = np.arcsinh((drawn.reshape(len(drawn), -1).astype(np.float64) - middle) / scale)
    if (np.linalg.norm(t, axis=1) > reach).any():
        return True

    def at(t: Array) -> Array:
        return evaluate(log_prob, (middle + scale * np.sinh(t)).astype(drawn.dtype).reshape(drawn.shape))

    here, steps = evaluate(log_prob, drawn), 2 * reach / cells * np.eye(t.shape[1])
    return any(bool((np.maximum(at(t + step), at(t - step)) < here - math.log(10)).any()) for step in steps)


def check_density(
    dist: Any, *, dim: int | None = None, rtol: float = 1e-6, rng: np.random.Generator | None = None
) -> None:
    """Check that a density on the line or the plane integrates to one.

    The trapezoidal rule is applied after x = m + s sinh(t), with m and s from samples, and refined until two grids
    agree on one. The finest grid and others of different extent decide else: the integral is one if all are near it,
    and wrong if they are much nearer to each other than to one. If it is too small, a mode may lie between the points
    of all grids: then so many draws are made that one of 10⁶ such modes is missed.

    Parameters
    ----------
    dist : has ``log_prob(x (N, dim)) -> (N,)`` in nats and ``sample(n, rng) -> (n, dim)``; both may drop an axis of
        size 1
    dim : 1 or 2; that of the samples if left out
    rtol : accepted error of the integral
    rng : draws the samples that say where the mass is

    Raises
    ------
    DensityError : with the integral; and where log_prob is NaN or infinite, with the point
    Inconclusive : if the grids do not agree, or overlook modes that are narrower than their cells, or may do so: less
        than 1.3e-5 is missing, for which more than a million draws would be needed

    Examples
    --------
    >>> from tinygen.distributions import Normal
    >>> check_density(Normal(np.array([3.0]), np.array([0.5])))
    """
    rng = generator(rng)
    drawn = as_array(dist.sample(1000, rng))
    size = math.prod(drawn.shape[1:])
    dim = size if dim is None else dim
    if dim not in (1, 2) or size != dim:
        raise TypeError(f"check_density: needs one or two dimensions, got samples of shape {drawn.shape}")
    framed = frame(drawn)
    report(f"check_density: grids are around {framed[0]}, in units of {framed[1]}")

    def integral(cells: int, reach: float = 20.0) -> float:
        return sum(float(mass.sum()) for _, _, mass in quadrature(dist.log_prob, drawn, cells, reach))

    total = np.inf
    for cells in (2**k for k in range(6, 15 if dim == 1 else 12)):
        before, total = total, integral(cells)
        # While it is not one, a finer grid may find what lies between.
        if abs(total - before) < rtol / 4 and abs(total - 1) <= rtol:
            conclude(None)
            return
    # Nested grids agree by chance where a jump lies on a node of both; and they share their ends.
    others = [integral(round(share * cells), share * 20) for share in (0.95, 0.83, 0.71)]
    if max(abs(other - 1) for other in (total, *others)) <= rtol:
        conclude(None)
        return
    spread = max(abs(total - other) for other in (before, *others))
    if not (abs(total - 1) > rtol and (spread < rtol / 4 or abs(total - 1) > 100 * spread)):
        conclude(
            Inconclusive(f"grids disagree on the integral, {total!r} and {others!r}: are there jumps, or long tails?")
        )
    # What is missing may lie where no grid has points. Of so many draws, one is there but with probability UNSEEN.
    missing = math.ceil(-math.log(UNSEEN) / (1 - total)) if total < 1 else 0
    if missing > MOST:
        conclude(Inconclusive(f"grids give an integral of {total!r}, and a mode of so little mass may lie between"))
    more = (as_array(dist.sample(min(BATCH, missing - done), rng)) for done in range(0, missing, BATCH))
    if any(overlooks(dist.log_prob, some, cells, framed=framed) for some in chain([drawn], more)):
        conclude(
            Inconclusive(f"grids give an integral of {total!r}, but some draws are where they have no points near")
        )
    conclude(DensityError(f"the density integrates to {total!r}, not to 1"))


def check_kl(
    p: Any,
    q: Any,
    *,
    kl: Callable[[Any, Any], Any] = kl_divergence,
    support: ArrayLike | None = None,
    detect: float = 0.05,
    false_alarm: float = 1e-6,
    rng: np.random.Generator | None = None,
) -> None:
    """Check a closed form of KL(p ‖ q) = E_p[log p(x) - log q(x)], in this order of p and q and in the other.

    It is also to be 0 at p = p and at q = q. Swapped arguments show where the two directions differ, as for normals of
    different variance, and not where they are equal, as for one variance. The expectation is the sum over ``support``,
    or else the mean of n draws of p, where n follows from ``detect`` by a normal approximation, with 5 % to spare, and
    is 10,000 at least.

    Parameters
    ----------
    p, q : each has ``log_prob(x (N, ...)) -> (N,)`` in nats and ``sample(n, rng) -> (n, ...)``
    kl : ``kl(p, q)`` gives one number, in nats
    support : all outcomes of discrete p and q, ``(M, ...)``; those left out must have no probability to speak of
    detect : a divergence that is wrong by this many standard deviations of log p(x) - log q(x) is to be seen: it is
        missed with a probability below ``false_alarm``; at most 1
    false_alarm : how often right divergences may fail
    rng : draws

    Raises
    ------
    DivergenceError : naming the closed form, the expectation and its error
    Inconclusive : where p and q are so alike that both divergences could be 0, or a log-ratio is not finite

    Examples
    --------
    >>> from tinygen.distributions import Normal
    >>> p, q = Normal(np.zeros(2), np.ones(2)), Normal(np.array([1.0, -1.0]), np.array([0.5, 2.0]))
    >>> check_kl(p, q)
    >>> check_kl(p, q, kl=lambda p, q: kl_divergence(q, p))
    Traceback (most recent call last):
        ...
    tinygen.testing.verdicts.DivergenceError: KL(p ‖ q) is 2.125, but the mean ... is 3.23 ± 0.113; ...
    """
    if not (0 < detect <= 1 and 0 < false_alarm < 1):
        raise ValueError(
            f"check_kl: detect={detect} must be positive and at most 1, and false_alarm={false_alarm} between 0 and 1"
        )
    rng = generator(rng)
    z = CAUTION * NormalDist().inv_cdf(1 - false_alarm / 4)  # two sides, of two directions
    n = max(FEWEST, math.ceil((2 * z / detect) ** 2))
    means, errors = [], []
    for names, (one, other) in {"p ‖ p": (p, p), "q ‖ q": (q, q), "p ‖ q": (p, q), "q ‖ p": (q, p)}.items():
        with no_grad():
            closed = as_array(kl(one, other))
        if closed.size != 1:
            raise TypeError(f"check_kl: kl must give one number, got shape {closed.shape}; leave out the batch")
        value = float(closed.reshape(()))
        a, b = names.split(" ‖ ")
        x = as_array(one.sample(n, rng)) if support is None else np.asarray(support)
        with no_grad():
            given = [as_array(d.log_prob(x)) for d in (one, other)]
        log_a, log_b = (log_p.astype(np.float64).reshape(len(x)) for log_p in given)
        ratio = log_a - log_b
        if not np.isfinite(ratio).all():
            conclude(Inconclusive(f"log {a} - log {b} is not finite at {x[~np.isfinite(ratio)][0]!r}"))
        # A divergence of float32 distributions may come as a Python float, and is no better for it.
        eps = max(float(np.finfo(a.dtype).eps) for a in (*given, closed, np.zeros(1)) if a.dtype.kind == "f")
        rounding = 64 * eps * (1 + float(np.abs([log_a, log_b]).max()))
        if support is None:
            mean, error = float(ratio.mean()), z * float(ratio.std()) / math.sqrt(n) + rounding
            what = f"mean of log {a} - log {b} over {n:,} draws of {a}"
        else:
            mean, error = float(np.exp(log_a) @ ratio), rounding
            what = f"expectation of log {a} - log {b} over all outcomes"
        if not (value >= -rounding and abs(value - mean) <= error):
            conclude(
                DivergenceError(
                    f"KL({names}) is {value:.4g}, but the {what} is {mean:.3g} ± {error:.3g}; an error of twice this "
                    f"bound is missed with probability below {false_alarm:g}"
                )
            )
        report(f"check_kl: KL({names}) = {value:.4g}, {what}: {mean:.4g} ± {error:.2g}")
        means.append(mean)
        errors.append(error)
    if all(abs(mean) <= error for mean, error in zip(means[2:], errors[2:], strict=True)):
        conclude(
            Inconclusive(
                f"KL(p ‖ q) and KL(q ‖ p) are {means[2]:.4g} ± {errors[2]:.2g} and {means[3]:.4g} ± {errors[3]:.2g}: "
                f"the closed form could be 0 throughout; give p and q that differ more"
            )
        )
    conclude(None)
