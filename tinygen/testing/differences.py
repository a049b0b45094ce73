"""A pullback beside central differences: the comparison of numbers, and the three verdicts.

Everything is computed in float64. A difference may be wrong in ways that its own error does not show, so a disagreement
counts only if differences over other steps confirm it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinygen import func
from tinygen.autograd import Tensor
from tinygen.testing.reference import EPS, Function, derivative, step
from tinygen.testing.verdicts import GradientError, Inconclusive, as_array, assert_close, report

Vjp = Callable[..., tuple[Any, Callable]]

DENSE = 4096  # the largest Jacobian, in entries, that is checked entry by entry
PROBES = 8
TINY = 2.0**-300  # the complex step, times the size of the argument, beside which its square is nothing
ODD = 1.37  # powers of two may round alike, those of sin(x) - x for example, and so hide how much
PRECISION = 1e-5  # a reference is conclusive if its error is below this fraction of the gradient's size


@dataclass(frozen=True)
class Point:
    """A function at a point, and its pullback there.

    Attributes
    ----------
    f, xs, y : the function, its arguments, and its value
    u, pulled, noise : a random cotangent, what the pullback makes of it, and how wrong that is by rounding
    """

    f: Function
    xs: list[np.ndarray]
    y: np.ndarray
    u: np.ndarray
    pulled: list[np.ndarray]
    noise: list[np.ndarray]

    @classmethod
    def of(cls, f: Callable, args: tuple, vjp: Vjp | None, rng: np.random.Generator, rounding: float = 0.0) -> "Point":
        """Evaluate both in float64, for a cotangent that is drawn; a cotangent of wrong shape is a GradientError.

        The value that comes with the pullback may be wrong by ``rounding``, and by 1e-13 of its size.
        """
        xs = [as_array(x).astype(np.float64) for x in args]
        enter = np.asarray if vjp else Tensor
        y = as_array(f(*[enter(x.copy()) for x in xs]))
        if y.dtype != np.float64:
            raise TypeError(f"the function gives {y.dtype} for float64 arguments, at which differences cannot be taken")
        u = rng.standard_normal(y.shape)
        report(f"cotangent u = {u!r}")
        recorded, pullback = (vjp or func.vjp)(f, *[x.copy() for x in xs])
        size = float(np.max(np.abs(y), initial=0, where=np.isfinite(y)))
        assert_close(recorded, y, error=1e-13 * size + rounding, what="vjp's value, against f(x)")
        pulled, *scaled = ([as_array(g) / c for g in pullback(c * u)] for c in (1.0, 1.1, 1.3))
        if len(pulled) != len(xs):
            raise GradientError(f"there are {len(xs)} arguments but {len(pulled)} cotangents of them")
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

    def slope(self, start: np.ndarray, move: np.ndarray) -> float:
        """Of ⟨u, f⟩, a function of one argument, from ``start`` along ``move``, which has one entry."""
        return float(np.sum(self.u * (self.f(start + move) - self.f(start)))) / float(move.sum())


def _noise(g: np.ndarray, scaled: list[np.ndarray], u: np.ndarray) -> np.ndarray:
    """How much a pullback is wrong by rounding: as far as it is not linear, unless that is more than rounding.

    A sum of terms that cancel is as wrong as these are large, which cannot be seen from outside.
    """
    with np.errstate(invalid="ignore"):
        noise = np.max([np.abs(other - g) for other in scaled], axis=0)
    return np.where(noise <= most_rounding(g, u), noise, 0)


def most_rounding(g: np.ndarray, u: np.ndarray) -> float:
    """More than this is no rounding in a pullback's result g for u: half of the digits of what is larger."""
    return float(np.sqrt(EPS)) * max(float(np.max(np.abs(a), initial=0)) for a in (g, u))


@dataclass(frozen=True)
class Comparison:
    """A number from the pullback and the same number by differences."""

    what: str
    pulled: float
    expected: float
    error: float
    judged: bool

    @property
    def apart(self) -> bool:
        """Whether they differ by more than the difference may be wrong."""
        return not abs(self.pulled - self.expected) <= self.error

    def confirms(self, other: "Comparison") -> bool:
        """Whether this difference, over another step, says the same as ``other``'s, and not what the pullback says."""
        return self.apart and abs(self.expected - other.expected) <= self.error + other.error


def judge(point: Point, rng: np.random.Generator, dense: int = DENSE) -> Exception | None:
    """The verdict on a pullback; Jacobians of more entries than ``dense`` are probed along random directions."""
    if not np.isfinite(point.y).all():
        return Inconclusive("the function is not finite at xs")
    unclear = None
    for i, x in enumerate(point.xs):
        directions = _directions(x, rng, x.size * point.y.size <= dense)
        size = size_of(x)
        # The second where the function is as fine as its small arguments, the third where its values lack precision.
        for scale in dict.fromkeys((1.0, size, 128 * max(1.0, size))):
            found = _compare(point, i, directions, scale)
            if all(c.judged for c in found):
                break
        suspects = [k for k, c in enumerate(found) if c.judged and c.apart]
        if suspects:  # hidden cancellation can mislead one reference: other steps must say the same
            again = [directions[k] for k in suspects]
            steps = ((scale, ODD), (scale / 16,), (16 * scale,), (128 * scale,))
            others = [_compare(point, i, again, *at) for at in steps]
            wrong = [
                found[k]
                for k, odd, *rest in zip(suspects, *others, strict=True)
                if any(c.judged for c in rest) and all(c.confirms(found[k]) for c in (odd, *rest) if c.judged)
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


def _compare(
    point: Point, i: int, directions: list[tuple[str, np.ndarray]], scale: float, stretch: float = 1.0
) -> list[Comparison]:
    x, g, u = point.xs[i], point.pulled[i], point.u

    def f(moved: np.ndarray) -> np.ndarray:
        return point.f(*point.xs[:i], moved, *point.xs[i + 1 :])

    steps = [stretch * step(max(scale, float(np.max(np.abs(x * v), initial=0)))) for _, v in directions]
    slopes = [derivative(f, x, v, h, point.y) for (_, v), h in zip(directions, steps, strict=True)]
    expected = [float(np.sum(u * d.value)) for d in slopes]
    pulled = [float(np.sum(g * v)) for _, v in directions]
    natural = max(map(abs, expected), default=0.0)
    remains = _remains(u)
    found = []
    ulp = EPS * float(np.sum(np.abs(u * point.y)))
    for (what, v), h, d, slope, product in zip(directions, steps, slopes, expected, pulled, strict=True):
        summing = 64 * EPS * float(np.sum(np.abs(u * d.value)) + np.sum(np.abs(g * v), where=np.isfinite(g)))
        error = 8 * float(np.sqrt(np.sum((u * d.error) ** 2) + np.sum((point.noise[i] * v) ** 2))) + summing
        size = natural
        if d.still:  # exactly constant, if a slope like the pullback's would have shown
            error, size = (64 * ulp / h, abs(product)) if product else (0.0, 0.0)
        judged = error <= PRECISION * size and not error < abs(product - slope) <= remains
        found.append(Comparison(what, product, slope, error, judged))
    return found


def _remains(u: np.ndarray) -> float:
    """What may remain of numbers that cancel, for a cotangent."""
    return 512 * EPS * float(np.max(np.abs(u), initial=0))


def judge_analytic(point: Point, f: Callable, rng: np.random.Generator) -> Exception | None:
    """The verdict of the complex step, Im f(x + ihv) / h (Squire and Trapp 1998): nothing cancels, however small h is.

    It is for pullbacks that `judge` has passed: where both disagree with differences, ``f`` is not analytic.
    """
    for i, x in enumerate(point.xs):

        def slope(at: np.ndarray, v: np.ndarray, i: int = i) -> np.ndarray:
            h = TINY * size_of(point.xs[i])
            y = np.asarray(f(*point.xs[:i], at + 1j * h * v, *point.xs[i + 1 :]))
            if y.dtype != np.complex128 and not np.array_equal(y, point.y):  # which does not depend on the argument
                raise TypeError(f"analytic=True: the function gives {y.dtype} for complex arguments")
            return y.imag / h

        for what, v in _directions(x, rng, x.size * point.y.size <= DENSE):
            along, near = slope(x, v), slope(np.nextafter(x, np.inf), v)
            pulled, expected = float(np.sum(point.pulled[i] * v)), float(np.sum(point.u * along))
            error = 64 * EPS * float(np.sum(np.abs(point.u * along)) + np.sum(np.abs(point.pulled[i] * v)))
            error += _remains(point.u)
            error += 8 * float(np.sum(np.abs(point.u * (near - along))) + np.sum(np.abs(point.noise[i] * v)))
            if abs(pulled - expected) <= error:
                continue
            d = derivative(
                lambda a, i=i: point.f(*point.xs[:i], a, *point.xs[i + 1 :]), x, v, step(size_of(x)), point.y
            )
            if not abs(expected - float(np.sum(point.u * d.value))) <= error + 8 * float(
                np.sum(np.abs(point.u * d.error))
            ):
                raise ValueError(
                    "analytic=True: the complex step disagrees with differences; the function is not analytic"
                )
            return GradientError(
                f"argument {i} of shape {x.shape}, {what}: the pullback gives {pulled!r} but the complex step "
                f"{expected!r} with an error below {error:.2g}"
            )
    return None


def size_of(x: np.ndarray) -> float:
    """The largest magnitude in x; 1 if there is none."""
    return float(np.max(np.abs(x), initial=0)) or 1.0
