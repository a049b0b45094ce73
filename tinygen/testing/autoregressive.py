"""The checker of autoregressive functions."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from tinygen.autograd import Tensor, no_grad
from tinygen.testing.verdicts import BijectionError, Inconclusive, as_array, conclude, generator, report


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

    Each input is moved several times, near and far. Moreover rows do not depend on each other, and results repeat.

    Parameters
    ----------
    f : maps ``(N, D)`` or ``(N, D, C)`` to ``(N, D, ...)``
    x : where to look, floating: an ndarray or a Tensor, which is also what f is given
    order : the rank of each of the D places, a number; ``range(D)`` for a causal sequence
    strict : an output does not depend on the input at its own place either
    complete : each output must also change with every input that it may depend on
    rng : draws the changes

    Raises
    ------
    BijectionError : naming the output and the input; and for outputs that are not finite
    Inconclusive : no output changes with any input, as before training

    Examples
    --------
    >>> x = np.array([[0.5, -1.0, 2.0]])
    >>> check_autoregressive(lambda x: np.cumsum(x, axis=1), x, range(3), strict=False)
    >>> check_autoregressive(lambda x: np.cumsum(x, axis=1), x, range(3))
    Traceback (most recent call last):
    ...
    tinygen.testing.verdicts.BijectionError: output 0 (rank 0) changes with input 0 (rank 0)
    """
    rng = generator(rng)
    start, ranks = as_array(x), list(order)
    if start.dtype.kind != "f" or start.ndim < 2 or start.shape[1] != len(ranks) or not start.size:
        raise TypeError(
            f"check_autoregressive: x must be floating, not empty, of shape (N, D, ...) with D = len(order) = "
            f"{len(ranks)}, got {start.dtype} {start.shape}"
        )
    if np.asarray(ranks).dtype.kind not in "fiub" or np.asarray(ranks).ndim != 1 or not np.isfinite(ranks).all():
        raise TypeError(f"check_autoregressive: order must be finite numbers, got {ranks}")
    kind = Tensor if isinstance(x, Tensor) else np.asarray

    def run(values: np.ndarray) -> np.ndarray:
        with no_grad():
            return np.array(as_array(f(kind(values.copy()))))

    y = run(start)
    if y.shape[:2] != start.shape[:2]:
        conclude(
            BijectionError(f"outputs have shape {y.shape} for inputs of shape {start.shape}, expected (N, D, ...)")
        )
    if not np.isfinite(y).all():
        place = tuple(int(i) for i in np.argwhere(~np.isfinite(y))[0])
        conclude(BijectionError(f"output {place} is {y[place]}, not finite"))
    moves = [_moved(start, scale, rng) for scale in (1.0, 1e-3, 1.0, 10.0)]
    report(f"x moved to {moves!r}")
    depends = np.zeros((len(ranks), len(ranks)), bool)  # (output, input)
    for there in moves:
        for j in range(len(ranks)):
            moved = start.copy()
            moved[:, j] = there[:, j]
            depends[:, j] |= (run(moved) != y).any(axis=tuple(a for a in range(y.ndim) if a != 1))
    if (run(start) != y).any():
        conclude(BijectionError("the outputs differ when they are computed again"))
    for n in range(len(start) if len(start) > 1 else 0):
        others = moves[0].copy()
        others[n] = start[n]
        if (run(others)[n] != y[n]).any():
            conclude(BijectionError(f"the outputs of row {n} change with the other rows"))
    allowed = np.array([[before < rank or (before == rank and not strict) for before in ranks] for rank in ranks])
    for wrong, verb in ((depends & ~allowed, "changes"), (allowed & ~depends & complete, "does not change")):
        for i, j in np.argwhere(wrong)[:1]:
            conclude(BijectionError(f"output {i} (rank {ranks[i]}) {verb} with input {j} (rank {ranks[j]})"))
    conclude(
        Inconclusive("no output changes with any input; give f other parameters")
        if allowed.any() and not depends.any()
        else None
    )


def _moved(x: np.ndarray, scale: float, rng: np.random.Generator) -> np.ndarray:
    return x + (scale * rng.standard_normal(x.shape) * (1 + np.abs(x))).astype(x.dtype)
