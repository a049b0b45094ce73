"""The checker of invertible maps and their log-determinants."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from tinygen.autograd import Tensor, no_grad
from tinygen.testing.reference import EPS, derivative, step
from tinygen.testing.verdicts import BijectionError, Inconclusive, as_array, conclude, generator, report

NEAR = 1e-10  # how far from its start a round trip may end, relative to 1 + |x|


def check_bijection(b: Any, x: ArrayLike | Tensor, *, rng: np.random.Generator | None = None) -> None:
    """Check an invertible map at a batch of points.

    Both round trips return, also after other points were visited in between; the log-determinants of both directions
    are those of the dense Jacobian, by differences, and each other's negatives; and a row's results depend neither on
    the other rows, nor on earlier calls, nor on what an array held before it was written to. Shapes and float64 are
    kept, results are finite, and x is not written to.

    What is wrong in one place only is seen only there: let x reach into the tails, with entries of both signs.

    Parameters
    ----------
    b : has ``forward(x) -> (z, log_det)`` and ``inverse(z) -> (x, log_det)``, each log-determinant of the direction
        taken, shape (N,). It should not be the identity, at which wrong signs cannot be seen.
    x : float64, ``(N, ...)``: an ndarray or a Tensor, which is also what b is given
    rng : draws small changes

    Raises
    ------
    BijectionError : naming the direction and the row
    Inconclusive : where differences cannot judge, and where every Jacobian is the identity

    Examples
    --------
    >>> class Scaling:
    ...     def forward(self, x):
    ...         return 3 * x, np.full(len(x), np.log(3.0))
    ...     def inverse(self, z):
    ...         return z / 3, np.full(len(z), -np.log(3.0))
    >>> check_bijection(Scaling(), np.array([[0.5], [-2.0]]))
    >>> check_bijection(Scaling(), np.array([[0.5, 1.0], [-2.0, 0.0]]))
    Traceback (most recent call last):
    ...
    tinygen.testing.verdicts.BijectionError: forward: log_det of row 0 is 1.0986... but the...
    """
    rng = generator(rng)
    given = as_array(x)
    if given.dtype != np.float64 or given.ndim < 2 or len(given) == 0:
        raise TypeError(
            f"check_bijection: x must be float64 of shape (N, ...) with N >= 1, got {given.dtype} {given.shape}"
        )
    kind = Tensor if isinstance(x, Tensor) else np.asarray
    verdict: Exception | None
    try:
        verdict = _verdict(_Direction("forward", b.forward, kind), _Direction("inverse", b.inverse, kind), given, rng)
    except BijectionError as error:
        verdict = error
    conclude(verdict)


def _verdict(forward: "_Direction", inverse: "_Direction", x: np.ndarray, rng: np.random.Generator) -> Exception | None:
    z, log_det = forward(x)
    neighbours = x + step(1.0) * rng.uniform(0.5, 1, x.shape)
    report(f"neighbours of x = {neighbours!r}")
    z_neighbours, _ = forward(neighbours)  # an inverse that remembers the last call would answer with these
    back, log_det_back = inverse(z)
    if back.shape != x.shape or z[0].size != x[0].size:
        raise BijectionError(f"forward takes {x.shape} to {z.shape}, and inverse that to {back.shape}")
    for name, results in (("forward", (z, log_det)), ("inverse", (back, log_det_back))):
        _check_finite(name, *results)
    jacobian, error = _jacobians(forward, x)
    jacobian_back, error_back = _jacobians(inverse, z)
    _check_round_trip("inverse(forward(x)), with a call between", back, x, _rounding(jacobian_back, error_back, z))
    _check_round_trip("forward(inverse(z))", forward(back)[0], z, _rounding(jacobian, error, back))
    _check_memory(forward, forward.kind(x.copy()), x, neighbours)
    _check_memory(inverse, forward.raw(forward.kind(x.copy()))[0], z, z_neighbours)
    _check_rows(forward, x, neighbours, _rounding(jacobian, error, x))
    _check_rows(inverse, z, z_neighbours, _rounding(jacobian_back, error_back, z))
    _check_opposite(inverse, log_det, log_det_back, z, rng)
    clear = _check_log_det("forward", log_det, jacobian, error)
    clear &= _check_log_det("inverse", log_det_back, jacobian_back, error_back)
    if not clear:
        return Inconclusive("differences are too inaccurate to judge a log-determinant")
    if np.allclose(jacobian, np.eye(z[0].size), atol=1e-6, rtol=0):
        return Inconclusive(
            "the Jacobian is the identity here, where most faults cannot be seen; give the bijection other parameters"
        )
    return None


@dataclass(frozen=True)
class _Direction:
    """One direction of a bijection, as a function of ndarrays that checks what holds for every result."""

    name: str
    method: Callable
    kind: Callable

    def __call__(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.of(self.kind(x.copy()))

    def raw(self, held: Any) -> tuple[Any, Any]:
        """What the method returns for this very array or Tensor."""
        with no_grad():
            return self.method(held)

    def of(self, held: Any) -> tuple[np.ndarray, np.ndarray]:
        """The results for this very array or Tensor, in arrays of their own."""
        before = as_array(held).copy()
        z, log_det = (np.array(as_array(part)) for part in self.raw(held))
        if not np.array_equal(as_array(held), before, equal_nan=True):
            raise BijectionError(f"{self.name}: the argument was written to")
        if z.shape[:1] != before.shape[:1] or log_det.shape != before.shape[:1]:
            raise BijectionError(
                f"{self.name}: for an argument of shape {before.shape} the result has shape {z.shape}, expected "
                f"(N, ...), and log_det has shape {log_det.shape}, expected (N,)"
            )
        for what, part in (("the result", z), ("log_det", log_det)):
            if part.dtype != np.float64:
                raise BijectionError(f"{self.name}: {what} is {part.dtype} for an argument of float64")
        return z, log_det


def _check_finite(name: str, z: np.ndarray, log_det: np.ndarray) -> None:
    for what, part in (("the result", z), ("log_det", log_det)):
        wrong = np.flatnonzero(~np.isfinite(part).reshape(len(part), -1).all(axis=1))
        if wrong.size:
            raise BijectionError(f"{name}: {what} of row {wrong[0]} is {part[wrong[0]]}")


def _check_memory(run: _Direction, held: Any, x: np.ndarray, neighbours: np.ndarray) -> None:
    """``held`` holds x. Visit it, then its neighbours in the same array, then x in a new one."""
    first = run.of(held)
    if as_array(held).flags.writeable:  # which the arrays of some engines are not
        as_array(held)[...] = neighbours
        _check_same(run.name, run.of(held), run(neighbours), "in an array that held others before")
    _check_same(run.name, run(x), first, "when computed again after others")


def _check_rows(run: _Direction, x: np.ndarray, neighbours: np.ndarray, rounding: np.ndarray) -> None:
    """Each row alone, and among rows that are not its own: what batch statistics would tell apart."""
    z, log_det = run(x)
    for n in range(len(x)):
        row, expected = slice(n, n + 1), (z[n : n + 1], log_det[n : n + 1])
        _check_same(run.name, run(x[row]), expected, "alone", n, rounding[row])
        z_here, log_det_here = run(np.concatenate([neighbours, x[row], neighbours]))
        here = slice(len(x), len(x) + 1)
        _check_same(run.name, (z_here[here], log_det_here[here]), expected, "among other rows", n, rounding[row])


def _check_same(
    name: str, found: tuple, expected: tuple, when: str, first: int = 0, rounding: np.ndarray | float = 0.0
) -> None:
    for what, a, b, allowed in zip(("the result", "log_det"), found, expected, (rounding, 0.0), strict=True):
        near = np.abs(a - b) <= NEAR * (1 + np.abs(b)) + np.reshape(allowed, np.shape(allowed) and b.shape)
        same = (near | (np.isnan(a) & np.isnan(b)) | (a == b)).reshape(len(a), -1).all(axis=1)
        if not same.all():
            n = int(np.argmin(same))
            raise BijectionError(f"{name}: {what} of row {first + n} changes {when}: {a[n]} instead of {b[n]}")


def _jacobians(run: Callable, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The Jacobian (N, D, D) of each row, and its error; rows must be independent."""
    n, size = len(x), x[0].size
    flat = x.reshape(n, size)

    def f(moved: np.ndarray) -> np.ndarray:
        return run(moved.reshape(x.shape))[0].reshape(n, size)

    y = f(flat)
    # Where numbers of the size of the row cancel on the way, an entry near zero is no better than they are.
    reach = 1 + np.maximum(np.abs(flat).max(axis=1), np.abs(y).max(axis=1))
    jacobian, error = np.zeros((n, size, size)), np.full((n, size, size), np.inf)
    own = np.where(flat == 0, 1.0, np.abs(flat))
    for sizes in (np.maximum(1.0, own), own):  # at a small entry the function may bend within a step for 1
        if (error <= 1e-7 * (1 + np.abs(jacobian))).all():
            break
        h = 2.0 ** np.round(np.log2(sizes))  # powers of two, as are the steps
        for j in range(size):
            v = np.zeros_like(flat)
            v[:, j] = 1
            column = derivative(lambda u, h=h: f(flat + h * u), np.zeros_like(flat), v, step(1.0), y)
            value = column.value / h[:, j : j + 1]
            rounding = EPS * (32 * reach[:, None] + 4 * np.abs(value) * own[:, j : j + 1]) / step(1.0)
            allowed = (column.error + rounding) / h[:, j : j + 1]
            better = allowed < error[:, :, j]
            jacobian[:, :, j] = np.where(better, value, jacobian[:, :, j])
            error[:, :, j] = np.where(better, allowed, error[:, :, j])
    return jacobian, error


def _rounding(jacobian: np.ndarray, error: np.ndarray, start: np.ndarray) -> np.ndarray:
    """How far rounding moves the result: that of a row, some ε of its largest entry, is enlarged by the Jacobian."""
    reach = 1 + np.abs(start.reshape(len(start), -1)).max(axis=1)
    gain = (np.abs(jacobian) + error).sum(axis=-1)
    return 1e4 * EPS * np.nan_to_num(gain, nan=np.inf) * reach[:, None]


def _check_round_trip(what: str, back: np.ndarray, start: np.ndarray, rounding: np.ndarray) -> None:
    allowed = NEAR * (1 + np.abs(start)) + rounding.reshape(start.shape)
    far = np.abs(back - start)
    if not (far <= allowed).all():
        worst = tuple(int(i) for i in np.unravel_index(int(np.argmax(far - allowed)), far.shape))
        raise BijectionError(
            f"{what}: entry {worst} is {back[worst]:.17g} instead of {start[worst]:.17g} within {allowed[worst]:.2g}"
        )


def _check_opposite(
    inverse: _Direction, log_det: np.ndarray, log_det_back: np.ndarray, z: np.ndarray, rng: np.random.Generator
) -> None:
    """At corresponding points the sum is zero, up to what the inverse's changes by where z moves as far as it may."""
    with np.errstate(all="ignore"):
        moves = [NEAR * (1 + np.abs(z)) * rng.choice([-1.0, 1.0], z.shape) for _ in range(2)]
        changes = [np.abs(inverse(z + s * move)[1] - log_det_back) for move in moves for s in (1, -1)]
    change = np.nan_to_num(np.max(changes, axis=0), nan=np.inf)
    allowed = NEAR * (1 + np.abs(log_det)) + 8 * change
    excess = np.abs(log_det + log_det_back) - allowed
    if excess.max() > 0:
        n = int(excess.argmax())
        raise BijectionError(
            f"row {n}: log_det is {log_det[n]:.17g} forward but {log_det_back[n]:.17g} back: apart from each other's "
            f"negative by more than {allowed[n]:.2g}"
        )


def _check_log_det(name: str, value: np.ndarray, jacobian: np.ndarray, error: np.ndarray) -> bool:
    """Whether the Jacobian is accurate enough to judge by; d log|det J| = tr(J⁻¹ dJ) gives the error."""
    with np.errstate(all="ignore"):
        _, expected = np.linalg.slogdet(jacobian)
        singular = ~np.isfinite(expected)
        safe = np.where(singular[:, None, None], np.eye(jacobian.shape[1]), jacobian)
        allowed = 4 * np.einsum("nij,nji->n", np.abs(np.linalg.inv(safe)), error) + 64 * EPS * (1 + np.abs(expected))
    clear = (allowed < 1e-3 * (1 + np.abs(expected))) & ~singular
    wrong = clear & (np.abs(value - expected) > allowed)
    if wrong.any():
        n = int(np.argmax(np.where(wrong, np.abs(value - expected), -1)))
        raise BijectionError(
            f"{name}: log_det of row {n} is {value[n]:.17g} but the Jacobian's is {expected[n]:.17g} with an error "
            f"below {allowed[n]:.2g}"
        )
    return bool(clear.all())
