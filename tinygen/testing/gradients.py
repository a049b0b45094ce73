"""Checkers of pullbacks, against references that share no code with them. Everything is computed in float64."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from tinygen import func
from tinygen.autograd import Tensor
from tinygen.testing.reference import EPS, Derivative, Function, derivative, step
from tinygen.testing.verdicts import GradientError, Inconclusive, as_array, conclude, generator, report

Vjp = Callable[..., tuple[Any, Callable]]

DENSE = 4096  # the largest Jacobian, in entries, that is checked entry by entry
PROBES = 8
ODD = 1.37  # powers of two may round alike, those of sin(x) - x for example, and so hide how much
PRECISION = 1e-5  # a reference is conclusive if its error is below this fraction of the gradient's size


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
        return f(*xs), lambda u: self.formula(u, *xs)


def check_vjp(
    f: Callable, *xs: ArrayLike | Tensor, order: int = 1, vjp: Vjp | None = None, rng: np.random.Generator | None = None
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
    vjp : ``vjp(f, *xs) -> (y, pullback)``, where ``pullback(u)`` gives a cotangent for each argument: an engine's, such
        as ``jax.vjp``, or a `Pullback`; tinygen's by default
    rng : draws the cotangent

    Raises
    ------
    GradientError : naming the worst entry, both values and the reference's error
    Inconclusive : where the reference is too inaccurate to judge, at a kink for example
    """
    rng = generator(rng)
    point = _Point.of(f, xs, vjp, rng)
    conclude(_verdict(point, rng))
    if order > 1:
        weights = [rng.standard_normal(x.shape) for x in point.xs]

        def pulled_together(u: Any, *xs: Any) -> Any:
            gradients = (vjp or func.vjp)(f, *xs)[1](u)
            return sum((g * w).sum() for g, w in zip(gradients, weights, strict=True))

        check_vjp(pulled_together, point.u, *point.xs, order=order - 1, vjp=vjp, rng=rng)


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
    point = _Point.of(f, xs, vjp, rng)
    if not linear and jvp is None:
        conclude(_verdict(point, rng, dense=0))
        return
    vs = [rng.standard_normal(x.shape) for x in point.xs]
    along = point.f(*vs) if jvp is None else as_array(jvp(f, point.xs, vs)[1])
    ahead = (point.u * along).ravel()
    back = np.concatenate([(g * v).ravel() for g, v in zip(point.pulled, vs, strict=True)])
    allowed = 32 * EPS * np.sqrt(ahead.size + back.size) * float(np.abs(ahead).sum() + np.abs(back).sum())
    if abs(ahead.sum() - back.sum()) <= allowed:
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
    Parameters and errors as for `check_vjp`.
    """
    rng = generator(rng)
    point = _Point.of(f, xs, vjp, rng)
    vs = [_size(x) * rng.standard_normal(x.shape) for x in point.xs]
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
        for errors, error in (
            (remainders, np.sum(point.u * (ahead - point.y)) - t * slope),
            (bends, np.sum(point.u * (ahead - 2 * point.y + behind))),
        ):
            errors.append(0.0 if abs(error) <= 64 * EPS * rounding else abs(float(error)))
    powers = _powers(remainders)
    if np.isfinite(slope) and (not any(remainders[-3:]) or np.median(powers) >= 1.5):
        conclude(None)
    elif np.isfinite(slope) and not (
        all(abs(p - 1) < 0.25 for p in powers)
        and np.median(_powers(bends)) >= 1.5
        and not _returns(bends)
        and moves[0] == moves[-1]
    ):  # slopes ahead and behind do not approach each other: there is a kink, or a step, or noise
        conclude(Inconclusive("the function bends too much near xs, or is too inaccurate to judge"))
    else:
        conclude(
            GradientError(
                f"the remainder shrinks with slope {np.median(powers):.2f} instead of 2: the gradient is wrong"
            )
        )


def _returns(errors: list[float]) -> bool:
    """Whether an error is there again after it had vanished."""
    return any(b and not a for a, b in pairwise(errors))


def _powers(errors: list[float]) -> list[float]:
    """The powers of the step with which errors shrank in the last halvings of it; 2 if too few are known."""
    return [np.log2(a / b) for a, b in pairwise(errors) if a and b][-4:] or [2.0]


def check_subgradient(
    f: Callable,
    x: ArrayLike | Tensor,
    expected: ArrayLike | None = None,
    *,
    vjp: Vjp | None = None,
    rng: np.random.Generator | None = None,
) -> None:
    """Check the pullback at a kink: each entry lies between the one-sided derivatives, and is the documented one.

    Parameters
    ----------
    f, vjp, rng : as for `check_vjp`
    x : the kink
    expected : the documented derivative, for an f that is elementwise or has a single value: the cotangent of x is u
        times this

    Raises
    ------
    GradientError : naming the entry and both values
    """
    point = _Point.of(f, (x,), vjp, generator(rng))
    (at,), (pulled,) = point.xs, point.pulled
    h = step(_size(at))
    for place in np.ndindex(at.shape):
        unit = np.zeros_like(at)
        unit[place] = h
        right, left = (float(np.sum(point.u * (point.f(at + s * unit) - point.y))) * s / h for s in (1, -1))
        slack = 1e-4 * (abs(right) + abs(left)) + 64 * EPS * float(np.sum(np.abs(point.u * point.y))) / h
        if not min(left, right) - slack <= pulled[place] <= max(left, right) + slack:
            conclude(
                GradientError(
                    f"entry {place}: the pullback gives {pulled[place]!r}, not between the slopes {left!r}, {right!r}"
                )
            )
    if expected is not None:
        documented = np.broadcast_to(point.u * expected, at.shape)
        if not np.allclose(pulled, documented, rtol=32 * EPS, atol=0):
            conclude(GradientError(f"the pullback of u = {point.u!r} is {pulled!r}, not the documented {documented!r}"))
    conclude(None)


# ------------------------------------------------------------------------------------------------------------ machinery


@dataclass(frozen=True)
class _Point:
    """A function at a point, its pullback there applied to a random cotangent."""

    f: Function
    xs: list[np.ndarray]
    y: np.ndarray
    u: np.ndarray
    pulled: list[np.ndarray]
    noise: list[np.ndarray]

    @classmethod
    def of(cls, f: Callable, args: tuple, vjp: Vjp | None, rng: np.random.Generator) -> "_Point":
        xs = [as_array(x).astype(np.float64) for x in args]
        enter = np.asarray if vjp else Tensor
        y = as_array(f(*[enter(x.copy()) for x in xs]))
        u = rng.standard_normal(y.shape)
        report(f"cotangent u = {u!r}")
        pullback = (vjp or func.vjp)(f, *[x.copy() for x in xs])[1]
        pulled, *scaled = ([as_array(g) / c for g in pullback(c * u)] for c in (1.0, 1.1, 1.3))
        for i, (x, g) in enumerate(zip(xs, pulled, strict=True)):
            if g.shape != x.shape:
                raise GradientError(f"argument {i} has shape {x.shape} but its cotangent has {g.shape}")
        noise = [_noise(g, [others[i] for others in scaled], u) for i, g in enumerate(pulled)]
        return cls(
            lambda *xs: np.array(as_array(f(*map(enter, xs))), np.float64),
            xs,
            np.array(y, np.float64),
            u,
            pulled,
            noise,
        )


def _noise(g: np.ndarray, scaled: list[np.ndarray], u: np.ndarray) -> np.ndarray:
    """How much a pullback is wrong by rounding: as far as it is not linear, unless that is more than rounding.

    A sum of terms that cancel is as wrong as these are large, which cannot be seen from outside.
    """
    noise = np.max([np.abs(other - g) for other in scaled], axis=0)
    largest = max(float(np.max(np.abs(a), initial=0)) for a in (g, u))
    return np.where(noise <= np.sqrt(EPS) * largest, noise, 0)


@dataclass(frozen=True)
class _Comparison:
    """A number from the pullback and the same number by differences."""

    what: str
    pulled: float
    expected: float
    error: float
    judged: bool

    @property
    def apart(self) -> bool:
        return not abs(self.pulled - self.expected) <= self.error

    def confirms(self, other: "_Comparison") -> bool:
        return self.apart and abs(self.expected - other.expected) <= self.error + other.error


def _verdict(point: _Point, rng: np.random.Generator, dense: int = DENSE) -> Exception | None:
    if not np.isfinite(point.y).all():
        return Inconclusive("the function is not finite at xs")
    unclear = None
    for i, x in enumerate(point.xs):
        directions = _directions(x, rng, x.size * point.y.size <= dense)
        size = _size(x)
        for scale in dict.fromkeys((1.0, size)):  # the second where the function is as fine as its small arguments
            found = _comparisons(point, i, directions, scale)
            if all(c.judged for c in found):
                break
        suspects = [k for k, c in enumerate(found) if c.judged and c.apart]
        if suspects:  # hidden cancellation can mislead one reference: other steps must say the same
            again = [directions[k] for k in suspects]
            others = [
                _comparisons(point, i, again, *at) for at in ((scale, ODD), (16 * scale,), (128 * max(1.0, size),))
            ]
            wrong = [
                found[k]
                for k, odd, *wider in zip(suspects, *others, strict=True)
                if any(w.judged for w in wider) and all(w.confirms(found[k]) for w in (odd, *wider) if w.judged)
            ]
            if wrong:
                worst = max(wrong, key=lambda c: np.nan_to_num(abs(c.pulled - c.expected) - c.error, nan=np.inf))
                return GradientError(
                    f"argument {i} of shape {x.shape}, {worst.what}: the pullback gives {worst.pulled!r} but "
                    f"differences give {worst.expected!r} with an error below {worst.error:.2g}"
                )
        if suspects or not all(c.judged for c in found):
            unclear = Inconclusive(f"argument {i}: differences are too inaccurate to judge")
    return unclear


def _directions(x: np.ndarray, rng: np.random.Generator, dense: bool) -> list[tuple[str, np.ndarray]]:
    """Every unit vector, or a few random vectors of signs."""
    if not dense:
        return [(f"probe {p}", rng.choice([-1.0, 1.0], x.shape)) for p in range(PROBES)]
    units = []
    for place in np.ndindex(x.shape):
        unit = np.zeros_like(x)
        unit[place] = 1
        units.append((f"entry {place}", unit))
    return units


def _comparisons(
    point: _Point, i: int, directions: list[tuple[str, np.ndarray]], scale: float, stretch: float = 1.0
) -> list[_Comparison]:
    x, g, u = point.xs[i], point.pulled[i], point.u

    def f(moved: np.ndarray) -> np.ndarray:
        return point.f(*point.xs[:i], moved, *point.xs[i + 1 :])

    slopes: list[Derivative] = []
    for _, v in directions:
        h = stretch * step(max(scale, float(np.max(np.abs(x * v), initial=0))))
        slopes.append(derivative(f, x, v, h, point.y))
    expected = [float(np.sum(u * d.value)) for d in slopes]
    natural = max([float(np.sqrt(np.sum((u * point.y) ** 2))) / scale, *map(abs, expected)])
    remains = 512 * EPS * float(np.max(np.abs(u), initial=0))
    found = []
    for (what, v), d, slope in zip(directions, slopes, expected, strict=True):
        summing = 64 * EPS * float(np.sum(np.abs(u * d.value)) + np.sum(np.abs(g * v), where=np.isfinite(g)))
        error = 8 * float(np.sqrt(np.sum((u * d.error) ** 2) + np.sum((point.noise[i] * v) ** 2))) + summing
        pulled = float(np.sum(g * v))
        judged = error <= PRECISION * natural and not error < abs(pulled - slope) <= remains
        found.append(_Comparison(what, pulled, slope, error, judged))
    return found


def _size(x: np.ndarray) -> float:
    """The largest magnitude in x; 1 if there is none."""
    return float(np.max(np.abs(x), initial=0)) or 1.0
