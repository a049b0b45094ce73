"""Checkers of the rules that every operation and stateful object keeps, whatever it computes."""

import warnings
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from tinygen import func
from tinygen.autograd import Tensor
from tinygen.testing.differences import Vjp
from tinygen.testing.gradients import Pullback
from tinygen.testing.strategies import LAYOUTS, Layout
from tinygen.testing.verdicts import (
    CheckError,
    ContractError,
    Inconclusive,
    as_array,
    assert_close,
    conclude,
    generator,
    report,
)


def check_contract(
    op: Callable, *xs: ArrayLike | Tensor, vjp: Vjp | None = None, rng: np.random.Generator | None = None
) -> None:
    """Check what holds for every differentiable operation at ``xs``, in their own dtype.

    The pullback is linear in its cotangent; value and gradients repeat bit by bit, have the dtype of the arguments, and
    do not depend on memory layout; arguments, cotangent and value are not written to; gradients share memory with
    nothing, and the value with no other call's, unless it is a view of an argument, as that of a reshape may be; where
    two arguments have one shape, f(x, x) has the sum of both gradients, which is not asked of a `Pullback`, whose
    formula is for ``op`` alone; and an empty batch gives empty gradients or a ValueError (or a RuntimeError, as some
    engines raise). NumPy's scalars count as arrays without axes. Arguments with strides of zero, which repeat the first
    slice, are tried where ``op`` raises nothing for them, and value and gradients are finite.

    Parameters
    ----------
    op : function of arrays to one array; of Tensors to one Tensor if ``vjp`` is not given
    xs : floating arguments of one dtype
    vjp : as for `check_vjp`
    rng : draws cotangents

    Raises
    ------
    ContractError : naming the broken rule and the argument
    TypeError : the arguments are not floating, or not of one dtype, or there are none
    """
    rng = generator(rng)
    arrays = [np.array(as_array(x)) for x in xs]
    if len({x.dtype for x in arrays}) != 1 or arrays[0].dtype.kind != "f":
        raise TypeError(
            f"check_contract: arguments must be floating, of one dtype, not {[str(x.dtype) for x in arrays]}"
        )
    pull = vjp or func.vjp
    try:
        unclear = _check_pullback(pull, op, arrays, rng)
        _check_layouts(pull, op, arrays, rng)
        if not isinstance(pull, Pullback):  # whose formula is for ``op`` alone
            _check_same_argument(pull, op, arrays, rng)
        _check_empty(pull, op, arrays)
    except CheckError as error:
        conclude(error if isinstance(error, ContractError) else ContractError(str(error)))
    conclude(unclear)


def _apply(
    pull: Vjp, op: Callable, xs: list[np.ndarray], u: np.ndarray | None = None
) -> tuple[np.ndarray, list[np.ndarray]]:
    y, pullback = pull(op, *xs)
    return as_array(y), ([] if u is None else [as_array(g) for g in pullback(u)])


def _cotangent(y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    u = np.asarray(rng.standard_normal(y.shape)).astype(y.dtype)
    report(f"cotangent u = {u!r}")
    return u


def _slack(compared: list[np.ndarray], others: list[np.ndarray]) -> float:
    """Half of the digits of the largest entry: cancellation may cost as much, and faults cost more.

    If much larger numbers are about, of which what is compared may be a difference, their last six bits.
    """
    eps = float(np.finfo(compared[0].dtype).eps)
    return float(np.sqrt(eps)) * _largest(compared) + 64 * eps * _largest(others)


def _largest(arrays: list[np.ndarray]) -> float:
    return max(float(np.max(np.abs(a), initial=0, where=np.isfinite(a))) for a in arrays)


def _check_pullback(pull: Vjp, op: Callable, xs: list[np.ndarray], rng: np.random.Generator) -> Inconclusive | None:
    """Raise for what is wrong, and return what cannot be told."""
    unclear = None
    before = [x.tobytes() for x in xs]
    y, _ = _apply(pull, op, xs)
    y_before = y.tobytes()
    u, v = _cotangent(y, rng), _cotangent(y, rng)
    u_before = u.tobytes()
    first, gradients = _apply(pull, op, xs, u)
    again, pullback = pull(op, *xs)
    of_u_again = [as_array(g) for _ in range(2) for g in pullback(u)]
    for i, x in enumerate(xs):
        if x.tobytes() != before[i]:
            raise ContractError(f"argument {i} was written to")
    if u.tobytes() != u_before:
        raise ContractError("the cotangent was written to")
    if not y_before == y.tobytes() == first.tobytes() == as_array(again).tobytes():
        raise ContractError("the value differs when computed again, or after the pullback")
    if len(gradients) != len(xs):
        raise ContractError(f"there are {len(xs)} arguments but {len(gradients)} gradients")
    for a, b in zip(2 * gradients, of_u_again, strict=True):
        if a.tobytes() != b.tobytes():
            raise ContractError("the gradient differs when computed again")
    if np.shares_memory(y, first) and not any(np.shares_memory(y, x) for x in xs):
        raise ContractError("the values of two calls share memory")
    if not isinstance(first, np.ndarray) or first.dtype != np.result_type(*xs):
        raise ContractError(
            f"the value is {type(first).__name__} of {first.dtype} for arguments of {np.result_type(*xs)}"
        )
    for i, (x, g) in enumerate(zip(xs, gradients, strict=True)):
        if not isinstance(g, np.ndarray) or (g.shape, g.dtype) != (x.shape, x.dtype):
            raise ContractError(f"argument {i} is {x.dtype} {x.shape} but its gradient {g.dtype} {g.shape}")
        others = [("the value", first), ("the cotangent", u), *((f"argument {j}", x) for j, x in enumerate(xs))]
        others += [(f"the gradient of argument {j}", gradients[j]) for j in range(i)]
        others += [("a gradient from another call", other) for other in of_u_again]
        for what, other in others:
            if np.shares_memory(g, other):
                raise ContractError(f"the gradient of argument {i} shares memory with {what}")
    for a in of_u_again[: len(xs)]:
        if any(np.shares_memory(a, b) for b in of_u_again[len(xs) :]):
            raise ContractError("the gradients of two calls of one pullback share memory")
    _, of_v = _apply(pull, op, xs, v)
    _, of_both = _apply(pull, op, xs, 2 * u - 3 * v)
    for i, (a, b, c) in enumerate(zip(gradients, of_v, of_both, strict=True)):
        if not (np.isfinite(a).all() and np.isfinite(b).all()):
            continue
        rounding = 5 * _slack([a, b], [first, u, v, *gradients, *of_v])
        both = 2 * a - 3 * b
        try:
            assert_close(c, both, error=rounding, what=f"linearity in the cotangent, gradient of argument {i}")
        except CheckError as error:
            # Where terms like the cotangent cancel, as in a saturated softmax, magnified roundings may be what is left.
            eps = float(np.finfo(a.dtype).eps)
            if c.dtype != a.dtype or not np.max(np.abs(c - both)) <= min(8192 * eps, np.sqrt(eps)) * _largest([u, v]):
                raise
            unclear = Inconclusive(str(error))
    return unclear


def _check_layouts(pull: Vjp, op: Callable, xs: list[np.ndarray], rng: np.random.Generator) -> None:
    u = _cotangent(_apply(pull, op, xs)[0], rng)
    for name in LAYOUTS:
        layout = Layout(name)
        values, cotangent = xs, u
        if name == "zero-stride":
            cotangent = np.array(layout(u))
            values = [np.array(layout(x)) for x in xs]
            if not _inside(pull, op, values, cotangent):
                values = xs
        given = [Layout("C")(x) if values is xs and name == "zero-stride" else layout(x) for x in values]
        y, gradients = _apply(pull, op, values, cotangent)
        try:
            moved, moved_gradients = _apply(pull, op, given, layout(cotangent))
        except Exception as error:
            raise ContractError(f"arguments in layout {name} are refused: {type(error).__name__}: {error}") from error
        compared = [
            ("the value", moved, y),
            *(
                (f"the gradient of argument {i}", b, a)
                for i, (b, a) in enumerate(zip(moved_gradients, gradients, strict=True))
            ),
        ]
        for what, b, a in compared:
            rounding = _slack([a], [y, cotangent, *gradients])
            assert_close(b, a, error=rounding, what=f"{what} for arguments in layout {name}")


def _check_same_argument(pull: Vjp, op: Callable, xs: list[np.ndarray], rng: np.random.Generator) -> None:
    for i in range(len(xs)):
        for j in range(i):
            if xs[i].shape != xs[j].shape:
                continue
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
            rounding = 2 * _slack([apart[i], apart[j]], [u, *apart])
            assert_close(
                together, apart[i] + apart[j], error=rounding, what=f"gradient where arguments {j} and {i} are one"
            )


def _inside(pull: Vjp, op: Callable, xs: list[np.ndarray], u: np.ndarray | None = None) -> bool:
    """Whether the operation has a value at these arrays, and gradients if ``u`` is given."""
    try:
        with np.errstate(all="ignore"):
            y, gradients = _apply(pull, op, xs, u)
        return all(bool(np.isfinite(a).all()) for a in (y, *gradients))
    except Exception:  # whatever the operation's way of refusing is
        return False


def _check_empty(pull: Vjp, op: Callable, xs: list[np.ndarray]) -> None:
    if not xs or any(x.ndim == 0 or len(x) != len(xs[0]) for x in xs):
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a mean of nothing is NaN, which NumPy remarks on
        try:
            y, _ = _apply(pull, op, [x[:0] for x in xs])
            _, gradients = _apply(pull, op, [x[:0] for x in xs], np.ones_like(y))
        except (ValueError, RuntimeError):
            return
        except Exception as error:
            raise ContractError(f"an empty batch raises {type(error).__name__}: {error}") from error
    for i, (x, g) in enumerate(zip(xs, gradients, strict=True)):
        if (g.shape, g.dtype) != (x[:0].shape, x.dtype):
            raise ContractError(f"empty argument {i} of shape {x[:0].shape} has a gradient of {g.dtype} {g.shape}")


def check_state_roundtrip(obj: Any) -> None:
    """Check that ``load_state_dict(state_dict())`` restores an object bit by bit, over a state in which all differs.

    A copy is first given that other state, and must hold it then, or an entry that is never loaded would look restored.
    An entry keeps its value if the object refuses the other one, as it may for the state of a random generator, and
    None stays None.

    Parameters
    ----------
    obj : has ``state_dict() -> dict`` by name of arrays, plain values, and lists, tuples and dicts of these;
        ``load_state_dict(state)``; and can be deep-copied

    Raises
    ------
    ContractError : naming the entry that was lost
    TypeError : an entry is of a kind of which no other value is known
    Inconclusive : no entry could be given another value
    """
    state = deepcopy(obj.state_dict())
    other = {name: _changed(value, f"entry {name!r}") for name, value in state.items()}
    copy = deepcopy(obj)
    if not _loads(copy, other):
        accepted = {name: _loads(copy, {**state, name: value}) for name, value in other.items()}
        other = {name: other[name] if accepted[name] else state[name] for name in state}
    if all(_identical(other[name], state[name]) for name in state):
        conclude(Inconclusive("no entry of the state could be given another value"))
    for given in (other, state):
        copy.load_state_dict(deepcopy(given))
        found = copy.state_dict()
        if set(found) != set(given):
            conclude(ContractError(f"entries {sorted(set(found) ^ set(given))} come or go"))
        for name, value in given.items():
            if not _identical(found[name], value):
                conclude(ContractError(f"entry {name!r} is {found[name]!r} after {value!r} was loaded"))
    conclude(None)


def _loads(obj: Any, state: dict[str, Any]) -> bool:
    try:
        obj.load_state_dict(deepcopy(state))
    except Exception:  # whatever the object's way of refusing is
        return False
    return True


def _changed(value: Any, what: str) -> Any:
    """Another value of the same kind: no number stays, none turns negative."""
    if isinstance(value, Tensor):
        return Tensor(_changed(value.data, what))
    if isinstance(value, dict):
        return type(value)((key, _changed(v, f"{what}[{key!r}]")) for key, v in value.items())
    if isinstance(value, list | tuple):
        changed = [_changed(v, f"{what}[{i}]") for i, v in enumerate(value)]
        return type(value)(*changed) if hasattr(value, "_fields") else type(value)(changed)
    if isinstance(value, np.ndarray | np.generic):
        return _changed_array(np.asarray(value), what)
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float | complex):
        return _changed_array(np.asarray(value), what).item()
    if isinstance(value, str):
        return f"{value}'"
    if isinstance(value, bytes):
        return value + b"'"
    if value is None:
        return None
    raise TypeError(f"check_state_roundtrip: {what} is a {type(value).__name__}, of which no other value is known")


def _changed_array(array: np.ndarray, what: str) -> np.ndarray:
    kind = array.dtype.kind
    if kind in "fc":
        with np.errstate(over="ignore", invalid="ignore"):
            return np.asarray(np.where(np.isfinite(array), array + (1 + np.abs(array)), 0), array.dtype)
    if kind in "biu":
        return array ^ array.dtype.type(1)
    if kind in "US":
        a, b = ("a", "b") if kind == "U" else (b"a", b"b")
        return np.asarray(np.where(array == a, b, a), array.dtype)
    raise TypeError(f"check_state_roundtrip: {what} is an array of {array.dtype}, of which no other value is known")


def _identical(a: Any, b: Any) -> bool:
    if isinstance(b, Tensor | np.ndarray | np.generic):
        x, y = as_array(a), as_array(b)
        return (x.dtype, x.shape, x.tobytes()) == (y.dtype, y.shape, y.tobytes())
    if type(a) is not type(b):
        return False
    if isinstance(b, dict):
        return a.keys() == b.keys() and all(_identical(a[key], b[key]) for key in b)
    if isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(_identical, a, b))
    return a == b or (a != a and b != b)
