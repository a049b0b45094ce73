"""Checkers of the rules that every operation, kernel and stateful object keeps, whatever it computes."""

import warnings
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from tinygen import func
from tinygen.autograd import Tensor
from tinygen.testing.gradients import Pullback, Vjp
from tinygen.testing.strategies import LAYOUTS, Layout
from tinygen.testing.verdicts import CheckError, ContractError, as_array, assert_close, conclude, generator


def check_contract(
    op: Callable, *xs: ArrayLike | Tensor, vjp: Vjp | None = None, rng: np.random.Generator | None = None
) -> None:
    """Check what holds for every differentiable operation at ``xs``, in their own dtype.

    The pullback is linear in its cotangent; value and gradients repeat bit by bit, have the dtype of the arguments,
    alias neither arguments nor cotangent nor each other, and do not depend on memory layout; arguments are not written
    to; where two arguments have one shape, f(x, x) has the sum of both gradients; and an empty batch gives empty
    gradients or a ValueError.

    Parameters
    ----------
    op : function of arrays to one array; of Tensors to one Tensor if ``vjp`` is not given
    xs : floating arguments of one dtype
    vjp : as for `check_vjp`
    rng : draws cotangents

    Raises
    ------
    ContractError : naming the broken rule and the argument
    """
    rng = generator(rng)
    arrays = [np.array(as_array(x)) for x in xs]
    pull = vjp or func.vjp
    try:
        _check_pullback(pull, op, arrays, rng)
        _check_layouts(pull, op, arrays, rng)
        if not isinstance(pull, Pullback):  # whose formula is for ``op`` alone
            _check_same_argument(pull, op, arrays, rng)
        _check_empty(pull, op, arrays)
    except CheckError as error:
        conclude(error if isinstance(error, ContractError) else ContractError(str(error)))
    conclude(None)


def _apply(
    pull: Vjp, op: Callable, xs: list[np.ndarray], u: np.ndarray | None = None
) -> tuple[np.ndarray, list[np.ndarray]]:
    y, pullback = pull(op, *xs)
    return as_array(y), ([] if u is None else [as_array(g) for g in pullback(u)])


def _cotangent(y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.asarray(rng.standard_normal(y.shape)).astype(y.dtype)


def _slack(results: list[np.ndarray]) -> float:
    """Half of the digits of the largest entry: cancellation may cost as much, and faults cost more."""
    largest = max(float(np.max(np.abs(a), initial=0, where=np.isfinite(a))) for a in results)
    return float(np.sqrt(np.finfo(results[0].dtype).eps)) * largest


def _check_pullback(pull: Vjp, op: Callable, xs: list[np.ndarray], rng: np.random.Generator) -> None:
    before = [x.tobytes() for x in xs]
    y, _ = _apply(pull, op, xs)
    u, v = _cotangent(y, rng), _cotangent(y, rng)
    u_before = u.tobytes()
    first, gradients = _apply(pull, op, xs, u)
    again, pullback = pull(op, *xs)
    of_u_again = [*pullback(u), *pullback(u)]
    for i, x in enumerate(xs):
        if x.tobytes() != before[i]:
            raise ContractError(f"argument {i} was written to")
    if u.tobytes() != u_before:
        raise ContractError("the cotangent was written to")
    for what, a, b in [
        ("value", first, again),
        *(("gradient", a, b) for a, b in zip(2 * gradients, of_u_again, strict=True)),
    ]:
        if a.tobytes() != as_array(b).tobytes():
            raise ContractError(f"the {what} differs when computed again")
    if not isinstance(first, np.ndarray) or first.dtype != np.result_type(*xs):
        raise ContractError(
            f"the value is {type(first).__name__} of {first.dtype} for arguments of {np.result_type(*xs)}"
        )
    for i, (x, g) in enumerate(zip(xs, gradients, strict=True)):
        if not isinstance(g, np.ndarray) or (g.shape, g.dtype) != (x.shape, x.dtype):
            raise ContractError(f"argument {i} is {x.dtype} {x.shape} but its gradient {g.dtype} {g.shape}")
        others = [("the cotangent", u), *((f"argument {j}", x) for j, x in enumerate(xs))]
        others += [(f"the gradient of argument {j}", gradients[j]) for j in range(i)]
        for what, other in others:
            if np.shares_memory(g, other):
                raise ContractError(f"the gradient of argument {i} shares memory with {what}")
    _, of_v = _apply(pull, op, xs, v)
    _, of_both = _apply(pull, op, xs, 2 * u - 3 * v)
    for i, (a, b, c) in enumerate(zip(gradients, of_v, of_both, strict=True)):
        if not (np.isfinite(a).all() and np.isfinite(b).all()):
            continue
        rounding = 5 * _slack([first, *gradients, *of_v])
        assert_close(c, 2 * a - 3 * b, error=rounding, what=f"linearity in the cotangent, gradient of argument {i}")


def _check_layouts(pull: Vjp, op: Callable, xs: list[np.ndarray], rng: np.random.Generator) -> None:
    y, _ = _apply(pull, op, xs)
    u = _cotangent(y, rng)
    _, gradients = _apply(pull, op, xs, u)
    for name in LAYOUTS[:-1]:
        layout = Layout(name)
        try:
            moved, moved_gradients = _apply(pull, op, [layout(x) for x in xs], layout(u))
        except ValueError as error:
            raise ContractError(f"arguments in layout {name} are refused: {error}") from error
        pairs = zip([y, *gradients], [moved, *moved_gradients], strict=True)
        for what, (a, b) in zip(
            ["the value", *(f"the gradient of argument {i}" for i in range(len(xs)))], pairs, strict=True
        ):
            rounding = _slack([y, *gradients])
            assert_close(b, a, error=rounding, what=f"{what} for arguments in layout {name}")


def _check_same_argument(pull: Vjp, op: Callable, xs: list[np.ndarray], rng: np.random.Generator) -> None:
    for i in range(len(xs)):
        for j in range(i):
            if xs[i].shape != xs[j].shape:
                continue
            with np.errstate(all="ignore"):
                shared_values = [[x if k in (i, j) else other for k, other in enumerate(xs)] for x in (xs[j], xs[i])]
                inside = [both for both in shared_values if _inside(pull, op, both)]
            if not inside:
                continue
            both = inside[0]
            u = _cotangent(_apply(pull, op, both)[0], rng)
            _, apart = _apply(pull, op, [x.copy() for x in both], u)

            def shared(x: Any, both: list = both, i: int = i, j: int = j) -> Any:
                return op(*[x if k in (i, j) else b for k, b in enumerate(both)])

            _, (together,) = _apply(pull, shared, [both[j]], u)
            rounding = 2 * _slack(apart)
            assert_close(
                together, apart[i] + apart[j], error=rounding, what=f"gradient where arguments {j} and {i} are one"
            )


def _inside(pull: Vjp, op: Callable, xs: list[np.ndarray]) -> bool:
    """Whether these arguments are in the operation's domain."""
    try:
        return bool(np.isfinite(_apply(pull, op, xs)[0]).all())
    except ValueError:
        return False


def _check_empty(pull: Vjp, op: Callable, xs: list[np.ndarray]) -> None:
    if not xs or any(x.ndim == 0 or len(x) != len(xs[0]) for x in xs):
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a mean of nothing is NaN, which NumPy remarks on
        try:
            y, _ = _apply(pull, op, [x[:0] for x in xs])
            _, gradients = _apply(pull, op, [x[:0] for x in xs], np.ones_like(y))
        except ValueError:
            return
    for i, (x, g) in enumerate(zip(xs, gradients, strict=True)):
        if (g.shape, g.dtype) != (x[:0].shape, x.dtype):
            raise ContractError(f"empty argument {i} of shape {x[:0].shape} has a gradient of {g.dtype} {g.shape}")


def check_kernel(fast: Callable, reference: Callable, *args: Any) -> None:
    """Check that a kernel computes what its reference does, for arguments in any layout, without writing to them.

    The reference, run in float64, is the truth; the kernel may err as much as the reference does in the arguments' own
    dtype, times 8, plus rounding relative to the largest entry.

    Parameters
    ----------
    fast, reference : functions of arrays and settings to an array, or a tuple with arrays and Nones
    args : their arguments

    Raises
    ------
    ContractError : naming the result and the worst entry
    """
    truth, naive = _results(reference(*_cast(args, np.float64))), _results(reference(*args))
    for name in LAYOUTS[:-1]:
        layout = Layout(name)
        given = [layout(a) if isinstance(a, np.ndarray) else a for a in args]
        before = [a.tobytes() if isinstance(a, np.ndarray) else None for a in given]
        found = _results(fast(*given))
        for i, a in enumerate(given):
            if isinstance(a, np.ndarray) and a.tobytes() != before[i]:
                conclude(ContractError(f"argument {i} was written to"))
        if len(found) != len(naive):
            conclude(ContractError(f"{len(found)} results, but the reference has {len(naive)}"))
        for i, (a, b, c) in enumerate(zip(found, naive, truth, strict=True)):
            if a is None or b is None or c is None:
                if a is not b:
                    conclude(ContractError(f"result {i} is None for one of kernel and reference"))
                continue
            with np.errstate(invalid="ignore"):
                size = float(np.max(np.abs(b), initial=0, where=np.isfinite(b)))
                spread = float(np.max(np.abs(b - c), initial=0, where=np.isfinite(b) & np.isfinite(c)))
            error = 8 * spread + 8 * float(np.finfo(b.dtype).eps) * size if b.dtype.kind == "f" else 0
            try:
                assert_close(a, b, error=error, what=f"result {i} for arguments in layout {name}")
            except CheckError as wrong:
                conclude(ContractError(str(wrong)))
    conclude(None)


def _results(y: Any) -> list[np.ndarray | None]:
    return list(y) if isinstance(y, tuple) else [y]


def _cast(args: tuple, dtype: type) -> list:
    return [a.astype(dtype) if isinstance(a, np.ndarray) and a.dtype.kind == "f" else a for a in args]


def check_state_roundtrip(obj: Any) -> None:
    """Check that ``load_state_dict(state_dict())`` restores an object bit by bit, on a copy whose arrays were changed.

    Parameters
    ----------
    obj : has ``state_dict() -> dict`` of arrays and plain values by name, ``load_state_dict(state)``, and can be
        deep-copied

    Raises
    ------
    ContractError : naming the entry that was lost
    """
    state = deepcopy(obj.state_dict())
    copy = deepcopy(obj)
    changed = {k: _changed(v) for k, v in deepcopy(state).items()}
    copy.load_state_dict(changed)
    copy.load_state_dict(deepcopy(state))
    restored = copy.state_dict()
    if set(restored) != set(state):
        conclude(ContractError(f"entries {sorted(set(restored) ^ set(state))} come or go"))
    for name, value in state.items():
        a, b = as_array(value), as_array(restored[name])
        if (a.dtype, a.shape, a.tobytes()) != (b.dtype, b.shape, b.tobytes()):
            conclude(ContractError(f"entry {name!r} is {b!r} after a round trip, not {a!r}"))
    conclude(None)


def _changed(value: Any) -> Any:
    if isinstance(value, Tensor):
        return Tensor(value.data + 1) if value.dtype.kind == "f" else value
    return value + 1 if isinstance(value, np.ndarray) and value.dtype.kind == "f" else value
