"""Checkers of pullbacks, against references that share no code with them. Everything is computed in float64."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from tinygen import func
from tinygen.autograd import Tensor
from tinygen.testing.differences import Point, Vjp, judge, judge_analytic, most_rounding, size_of
from tinygen.testing.reference import EPS, step
from tinygen.testing.verdicts import GradientError, Inconclusive, as_array, conclude, generator, report

AROUND = 256  # points from which a kink is looked at
LAST = 6  # halvings of the step that must agree on a slope: roundings may halve a few times by chance


@dataclass(frozen=True)
class Pullback:
    """The pullback of one function as a formula, in place of an engine's ``vjp``.

    Attributes
    ----------
    formula : ``formula(u, *xs)`` gives a tuple, the cotangent of each argument

    Examples
    --------
    >>> check_vjp(np.sin, np.array([0.5, 2.0]), vjp=Pullback(lambda u, x: (u * np.cos(x),)))
    """

    formula: Callable

    def __call__(self, f: Callable, *xs: np.ndarray) -> tuple[Any, Callable]:
        """The value of ``f``, and the pullback at xs."""

        def pullback(u: Any) -> Any:
            pulled = self.formula(u, *xs)
            if not isinstance(pulled, tuple | list):
                raise TypeError(
                    f"a pullback's formula must return a tuple, a cotangent for each argument, not {pulled!r}"
                )
            return pulled

        return f(*xs), pullback


def check_vjp(
    f: Callable,
    *xs: ArrayLike | Tensor,
    order: int = 1,
    analytic: bool = False,
    vjp: Vjp | None = None,
    rng: np.random.Generator | None = None,
) -> None:
    """Check the pullback of ``f`` at ``xs`` against central differences, for a random cotangent.

    Jacobians of up to 4,096 entries are compared entry by entry, larger ones along 8 random directions for each
    argument. What is wrong by less than 512 ε of the cotangent is not told from what remains of numbers that cancel.

    Parameters
    ----------
    f : function of arrays to one array; of Tensors to one Tensor if ``vjp`` is not given
    xs : floating arguments; all are differentiated
    order : check derivatives up to this order: a random combination of the pullback's results is differentiated by
        cotangent and xs
    analytic : check order 1 by the complex step too, which sees what is wrong by 10⁻¹³ of the cotangent; f is then
        called with complex arrays, of which it must be an analytic function, so without ``abs`` and ``conj``, and vjp
        must be given
    vjp : ``vjp(f, *xs) -> (y, pullback)``, where ``pullback(u)`` gives a cotangent for each argument: an engine's, such
        as ``jax.vjp``, or a `Pullback`; tinygen's by default. The pullback is called several times.
    rng : draws the cotangent

    Raises
    ------
    GradientError : naming the worst entry, both values and the reference's error
    Inconclusive : where the reference is too inaccurate to judge, at a kink for example
    TypeError, ValueError : f is not a function that ``analytic`` is for

    Examples
    --------
    >>> x, wrong = np.array([0.5, 2.0]), Pullback(lambda u, x: (u * np.cos(x) * (1 + 1e-12),))
    >>> check_vjp(np.sin, x, vjp=wrong)
    >>> check_vjp(np.sin, x, vjp=wrong, analytic=True)
    Traceback (most recent call last):
    tinygen.testing.verdicts.GradientError: argument 0 of shape (2,), entry ...: the pullback gives ...
    """
    if order < 1 or not xs:
        raise ValueError(f"check_vjp: order={order} must be at least 1, and there must be arguments")
    if order > 1 and isinstance(vjp, Pullback):
        raise TypeError("check_vjp: a Pullback has no derivative of its own; give an engine's vjp for order=2")
    if analytic and vjp is None:
        raise ValueError("check_vjp: analytic=True is for functions of arrays; give vjp=, a Pullback for example")
    rng = generator(rng)
    rounding = 0.0
    for further in reversed(range(order)):
        point = Point.of(f, xs, vjp, rng, rounding)
        conclude(judge(point, rng))
        if analytic:
            conclude(judge_analytic(point, f, rng))
            analytic = False
        if further:
            weights = [rng.standard_normal(x.shape) for x in point.xs]
            report(f"weights of the pullback's results = {weights!r}")
            f, xs = _pulled_together(f, weights, vjp or func.vjp), (point.u, *point.xs)
            # Where a pullback is differentiated itself, its terms may be others, which cancel with other roundings.
            pairs = zip(point.pulled, weights, strict=True)
            rounding = sum(most_rounding(g, point.u) * float(np.abs(w).sum()) for g, w in pairs)


def _pulled_together(f: Callable, weights: list[np.ndarray], vjp: Vjp) -> Callable:
    """From a cotangent and arguments of ``f`` to a weighted sum of all that the pullback gives."""

    def pulled(u: Any, *xs: Any) -> Any:
        gradients = vjp(f, *xs)[1](u)
        return sum((g * w).sum() for g, w in zip(gradients, weights, strict=True))

    return pulled


def check_adjoint(
    f: Callable,
    *xs: ArrayLike | Tensor,
    vjp: Vjp | None = None,
    jvp: Callable | None = None,
    linear: bool = False,
    rng: np.random.Generator | None = None,
) -> None:
    """Check that ⟨u, J v⟩ = ⟨Jᵀ u, v⟩ for random u and v, where Jᵀ is the pullback of ``f`` at ``xs``.

    Parameters
    ----------
    f, xs, vjp, rng : as for `check_vjp`
    jvp : ``jvp(f, xs, vs) -> (y, J v)``, not derived from the pullback under test, else a wrong rule passes; by default
        differences
    linear : f is linear in all arguments together, so that J v = f(v), which is exact

    Raises
    ------
    GradientError, Inconclusive : as `check_vjp`
    """
    rng = generator(rng)
    point = Point.of(f, xs, vjp, rng)
    if not linear and jvp is None:
        conclude(judge(point, rng, dense=0))
        return
    vs = [rng.standard_normal(x.shape) for x in point.xs]
    report(f"direction v = {vs!r}")
    along = point.f(*vs) if jvp is None else as_array(jvp(f, point.xs, vs)[1])
    if along.shape != point.y.shape:
        conclude(GradientError(f"J v has shape {along.shape}, but the value {point.y.shape}"))
    ahead = (point.u * along).ravel()
    back = np.concatenate([(g * v).ravel() for g, v in zip(point.pulled, vs, strict=True)])
    allowed = 32 * EPS * np.sqrt(ahead.size + back.size) * float(np.abs(ahead).sum() + np.abs(back).sum())
    if np.isfinite(allowed) and abs(ahead.sum() - back.sum()) <= allowed:
        conclude(None)
    else:
        conclude(
            GradientError(
                f"<u, J v> = {ahead.sum()!r} but <Jᵀ u, v> = {back.sum()!r}, apart by more than {allowed:.2g}"
            )
        )


def check_taylor(
    f: Callable, *xs: ArrayLike | Tensor, vjp: Vjp | None = None, rng: np.random.Generator | None = None
) -> None:
    """Check that the error of the linear approximation shrinks as the square of the step: the verdict is a slope.

    The remainder ``|φ(x + tv) - φ(x) - t ⟨∇φ, v⟩|`` of φ = ⟨u, f⟩ is followed over t = 2⁻⁴ … 2⁻¹⁶ of the size of x, as
    far as it exceeds rounding; a wrong gradient leaves a slope of 1, and so does a kink at xs, which is inconclusive.
    Errors are seen from about a thousandth of ⟨∇φ, v⟩ on, where v is as large as x in each argument. The parameters
    and errors are those of `check_vjp`.
    """
    rng = generator(rng)
    point = Point.of(f, xs, vjp, rng)
    vs = [size_of(x) * rng.standard_normal(x.shape) for x in point.xs]
    report(f"direction v = {vs!r}")
    slope = sum(float(np.sum(g * v)) for g, v in zip(point.pulled, vs, strict=True))
    remainders: list[float] = []
    bends: list[float] = []
    moves = []
    for t in 2.0 ** -np.arange(4, 17):
        with np.errstate(all="ignore"):
            ahead, behind = (point.f(*(x + s * t * v for x, v in zip(point.xs, vs, strict=True))) for s in (1, -1))
        if not (np.isfinite(ahead).all() and np.isfinite(behind).all()):
            conclude(Inconclusive("the function is not finite near xs"))
        moves.append(not np.array_equal(ahead, point.y))
        rounding = float(np.sum(np.abs(point.u) * (np.abs(ahead) + np.abs(behind) + np.abs(point.y)))) + t * abs(slope)
        change = float(np.sum(point.u * (ahead - point.y)))
        seen = max(abs(change), t * abs(slope)) > 64e3 * EPS * rounding
        for errors, error in (
            (remainders, change - t * slope),
            (bends, np.sum(point.u * (ahead - 2 * point.y + behind))),
        ):
            errors.append(0.0 if abs(error) <= 64 * EPS * rounding else abs(float(error)))
    powers = _powers(remainders)
    # Slopes ahead and behind do not approach each other at a kink or in noise; across steps, only long ones move f.
    bent = np.median(_powers(bends)[-4:]) < 1.5 or _returns(bends) or moves[0] != moves[-1]
    if not np.isfinite(slope):
        conclude(GradientError(f"the pullback's slope along a random direction is {slope}"))
    elif (seen or not any(moves)) if not any(remainders[-3:]) else np.median(powers[-4:]) >= 1.5:
        conclude(None)
    elif len(powers) == LAST and all(abs(p - 1) < 0.4 for p in powers) and not bent:
        conclude(GradientError(f"the remainder shrinks with slope {np.median(powers[-4:]):.2f} instead of 2"))
    else:
        conclude(Inconclusive("the function has a kink or a step near xs, or is too inaccurate to judge"))


def _returns(errors: list[float]) -> bool:
    """Whether an error is there again after it had vanished."""
    return any(b and not a for a, b in pairwise(errors))


def _powers(errors: list[float]) -> list[float]:
    """The powers of the step with which errors shrank in the last halvings of it; 2 if too few are known."""
    return [np.log2(a / b) for a, b in pairwise(errors) if a and b][-LAST:] or [2.0]


def check_subgradient(
    f: Callable,
    x: ArrayLike | Tensor,
    expected: ArrayLike | None = None,
    *,
    vjp: Vjp | None = None,
    rng: np.random.Generator | None = None,
) -> None:
    """Check the pullback at a kink: each entry lies between the slopes around it, and is the documented one.

    Parameters
    ----------
    f, vjp, rng : as for `check_vjp`
    x : the kink
    expected : the documented derivative, for an f that is elementwise or has a single value: the cotangent of x is u
        times this

    Raises
    ------
    GradientError : naming the entry and both values
    Inconclusive : where the function is finer than the step
    """
    rng = generator(rng)
    point = Point.of(f, (x,), vjp, rng)
    (at,), (pulled,) = point.xs, point.pulled
    h = step(size_of(at))
    for place in np.ndindex(at.shape):
        unit = np.zeros_like(at)
        unit[place] = h
        slopes, finer = ([point.slope(at, s * unit) for s in (t, -t)] for t in (1, 1 / 8))
        rounding = 64 * EPS * float(np.sum(np.abs(point.u * point.y))) / h
        slack = 1e-4 * float(np.abs(slopes).sum()) + rounding
        if min(slopes) - slack <= pulled[place] <= max(slopes) + slack:
            continue
        if np.isfinite(pulled[place]) and not np.allclose(slopes, finer, rtol=0.1, atol=8 * slack):
            conclude(Inconclusive(f"entry {place}: the slopes {slopes!r} are {finer!r} for a finer step"))
        # Where outputs or arguments share a kink, the generalised gradient has the limits of gradients from all around
        # (Clarke 1975), some of which lie outside of the one-sided slopes at the kink itself.
        around = [point.slope(at + h * rng.uniform(-1, 1, at.shape), unit / 64) for _ in range(AROUND)]
        low, high = min(slopes + around), max(slopes + around)
        if not low - slack - 64 * rounding <= pulled[place] <= high + slack + 64 * rounding:
            conclude(
                GradientError(
                    f"entry {place}: the pullback gives {pulled[place]!r}, not between the slopes {low!r}, {high!r}"
                )
            )
    if expected is not None:
        documented = np.broadcast_to(point.u * expected, at.shape)
        if not np.allclose(pulled, documented, rtol=32 * EPS, atol=0):
            conclude(GradientError(f"the pullback of u = {point.u!r} is {pulled!r}, not the documented {documented!r}"))
    conclude(None)
