"""Checkers of invertible maps, their log-determinants and autoregressive structure."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from tinygen.autograd import Tensor, no_grad
from tinygen.testing.reference import EPS, derivative, step
from tinygen.testing.verdicts import BijectionError, Inconclusive, as_array, conclude, generator


def check_bijection(b: Any, x: ArrayLike | Tensor, *, rng: np.random.Generator | None = None) -> None:
    """Check an invertible map at a batch of points.

    Both round trips return; the log-determinants of both directions are those of the dense Jacobian, by differences;
    and a row's result does not depend on the other rows.

    Parameters
    ----------
    b : has ``forward(x) -> (z, log_det)`` and ``inverse(z) -> (x, log_det)``, each log-determinant of the direction
        taken, shape (N,). It should not be the identity, at which wrong signs cannot be seen.
    x : float64, ``(N, ...)``: an ndarray or a Tensor, which is also what b is given
    rng : draws the changes to other rows

    Raises
    ------
    BijectionError : naming the direction and the row
    Inconclusive : where differences cannot judge, and at the identity
    """
    rng = generator(rng)
    given = as_array(x)
    if given.dtype != np.float64 or given.ndim < 2 or len(given) == 0:
        raise TypeError(
            f"check_bijection: x must be float64 of shape (N, ...) with N >= 1, got {given.dtype} {given.shape}"
        )
    kind = Tensor if isinstance(x, Tensor) else np.asarray
    forward, inverse = (_direction(method, kind) for method in (b.forward, b.inverse))
    z, log_det = forward(given)
    back, log_det_back = inverse(z)
    for name, values in (("forward", log_det), ("inverse", log_det_back)):
        if values.shape != given.shape[:1]:
            conclude(BijectionError(f"{name}: log_det has shape {values.shape}, expected (N,) = {given.shape[:1]}"))
    unclear = None
    slopes = []
    for name, run, start, value in (("forward", forward, given, log_det), ("inverse", inverse, z, log_det_back)):
        jacobian, error = _jacobians(run, start)
        slopes.append(jacobian)
        expected, allowed = _log_det(jacobian, error)
        clear = allowed < 1e-3 * (1 + np.abs(expected))
        wrong = clear & ~(np.abs(value - expected) <= allowed)
        if wrong.any():
            n = int(np.argmax(np.where(wrong, np.abs(value - expected), -1)))
            conclude(
                BijectionError(
                    f"{name}: log_det of row {n} is {value[n]!r} but the Jacobian's is {expected[n]!r} with an error "
                    f"below {allowed[n]:.2g}"
                )
            )
        if not clear.all():
            unclear = Inconclusive(f"{name}: differences are too inaccurate to judge the log-determinant")
    _check_round_trip("inverse(forward(x))", back, given, slopes[1], z)
    _check_round_trip("forward(inverse(z))", forward(back)[0], z, slopes[0], back)
    for name, run, start in (("forward", forward, given), ("inverse", inverse, z)):
        _check_rows(name, run, start, rng)
    if slopes[0].shape[1] == slopes[0].shape[2] and np.allclose(
        slopes[0], np.eye(slopes[0].shape[1]), atol=1e-6, rtol=0
    ):
        unclear = Inconclusive(
            "the bijection is the identity here, where most faults cannot be seen; give it other parameters"
        )
    conclude(unclear)


def _direction(method: Callable, kind: Callable) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    def run(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with no_grad():
            z, log_det = method(kind(x.copy()))
        return as_array(z).astype(np.float64), as_array(log_det).astype(np.float64)

    return run


def _jacobians(run: Callable, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The Jacobian (N, D, D) of each row, and its error; rows must be independent."""
    n, size = len(x), x[0].size
    flat = x.reshape(n, size)

    def f(moved: np.ndarray) -> np.ndarray:
        return run(moved.reshape(x.shape))[0].reshape(n, size)

    y = f(flat)
    columns = []
    for j in range(size):
        v = np.zeros_like(flat)
        v[:, j] = 1
        columns.append(derivative(f, flat, v, step(max(1.0, float(np.abs(flat[:, j]).max()))), y))
    return np.stack([d.value for d in columns], axis=-1), np.stack([d.error for d in columns], axis=-1)


def _log_det(jacobian: np.ndarray, error: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Log |det J|, and its error: d log|det J| = tr(J⁻¹ dJ)."""
    _, value = np.linalg.slogdet(jacobian)
    with np.errstate(all="ignore"):
        try:
            inverse = np.abs(np.linalg.inv(jacobian))
        except np.linalg.LinAlgError:
            return value, np.full(value.shape, np.inf)
    return value, 4 * np.einsum("nij,nji->n", inverse, error) + 64 * EPS * (1 + np.abs(value))


def _check_round_trip(what: str, back: np.ndarray, start: np.ndarray, jacobian: np.ndarray, middle: np.ndarray) -> None:
    """An error of ε in the middle comes back enlarged by the Jacobian of the way back."""
    n = len(start)
    gain = np.abs(jacobian).sum(axis=-1).reshape(start.shape)
    reach = 1 + np.abs(middle.reshape(n, -1)).max(axis=1)
    allowed = 1e-10 * (1 + np.abs(start)) + 1e4 * EPS * gain * reach.reshape(n, *[1] * (start.ndim - 1))
    far = np.abs(back - start)
    if not (far <= allowed).all():
        worst = tuple(
            int(i) for i in np.unravel_index(int(np.argmax(np.nan_to_num(far - allowed, nan=np.inf))), far.shape)
        )
        conclude(BijectionError(f"{what}: entry {worst} is {back[worst]!r} instead of {start[worst]!r}"))


def _check_rows(name: str, run: Callable, x: np.ndarray, rng: np.random.Generator) -> None:
    z, log_det = run(x)
    others = rng.permutation(x.reshape(len(x), -1).T).T.reshape(x.shape) if len(x) > 1 else x
    for n in range(len(x)):
        mixed = others.copy()
        mixed[n] = x[n]
        z_mixed, log_det_mixed = run(mixed)
        near = np.allclose(z_mixed[n], z[n], rtol=1e-9, atol=1e-9)
        if not (near and np.allclose(log_det_mixed[n], log_det[n], rtol=1e-9, atol=1e-9)):
            conclude(BijectionError(f"{name}: the result of row {n} changes with the other rows"))


def check_autoregressive(
    f: Callable,
    x: ArrayLike | Tensor,
    order: Sequence[int],
    *,
    strict: bool = True,
    complete: bool = False,
    rng: np.random.Generator | None = None,
) -> None:
    """Check that output i of ``f`` depends only on inputs before i, exactly: other inputs change no bit of it.

    Parameters
    ----------
    f : maps ``(N, D)`` or ``(N, D, C)`` to ``(N, D, ...)``
    x : where to look: an ndarray or a Tensor, which is also what f is given
    order : the rank of each of the D places; ``range(D)`` for a causal sequence
    strict : an output does not depend on the input at its own place either
    complete : each output must also change with every input that it may depend on
    rng : draws the changes

    Raises
    ------
    BijectionError : naming the output and the input
    """
    rng = generator(rng)
    start = as_array(x)
    kind = Tensor if isinstance(x, Tensor) else np.asarray

    def run(values: np.ndarray) -> np.ndarray:
        with no_grad():
            return as_array(f(kind(values))).copy()

    y = run(start.copy())
    for j in range(start.shape[1]):
        moved = start.copy()
        moved[:, j] += rng.standard_normal(moved[:, j].shape).astype(start.dtype) * (1 + np.abs(moved[:, j]))
        changed = (run(moved) != y).any(axis=tuple(a for a in range(y.ndim) if a != 1))
        for i in range(y.shape[1]):
            allowed = order[j] < order[i] if strict else order[j] <= order[i]
            if changed[i] and not allowed:
                conclude(BijectionError(f"output {i} (rank {order[i]}) changes with input {j} (rank {order[j]})"))
            if complete and allowed and not changed[i]:
                conclude(
                    BijectionError(f"output {i} (rank {order[i]}) does not change with input {j} (rank {order[j]})")
                )
    conclude(None)
