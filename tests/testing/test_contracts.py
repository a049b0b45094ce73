"""The checkers of contracts reject planted faults, and accept a correct neighbour of each."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

import tinygen as tg
from tests.testing.support import rejected
from tinygen.testing import (
    ContractError,
    Inconclusive,
    Pullback,
    arrays,
    broadcast_args,
    check_contract,
    check_state_roundtrip,
    rngs,
)


def product(
    f: Callable = lambda x, y: x * y, pull: Callable = lambda u, x, y: (u * y, u * x)
) -> tuple[Callable, Callable]:
    """A function of two arrays, or of one that is used twice, and its pullback."""

    def vjp(g: Callable, *xs: np.ndarray) -> tuple:
        if len(xs) == 1:
            return g(*xs), lambda u: (sum(pull(u, *xs, *xs)),)
        return g(*xs), lambda u: pull(u, *xs)

    return f, vjp


def writes(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    if x.flags.writeable:
        x += 1
    return x * y


def c_order(x: np.ndarray) -> np.ndarray:
    """Reads memory in order, as a kernel that assumes contiguity would."""
    return np.ndarray(x.shape, x.dtype, np.lib.stride_tricks.as_strided(x, (x.size,), (x.itemsize,)).tobytes())


calls = iter(range(10**9))

FAULTS: dict[str, tuple[Callable, Callable, str]] = {
    "ignores its cotangent": (*product(pull=lambda u, x, y: (y * 1, x * 1)), "linear"),
    "gradient is the cotangent": (*product(lambda x, y: x + y, lambda u, x, y: (u, u.copy())), "cotangent"),
    "gradient is a view of the cotangent": (
        *product(lambda x, y: x + y, lambda u, x, y: (u.copy(), u[:])),
        "cotangent",
    ),
    "gradient is an argument": (*product(pull=lambda u, x, y: (y, u * x)), "argument 1"),
    "gradients are one array": (
        *product(lambda x, y: x + y, lambda u, x, y: (u + 0,) * 2),
        "gradient of argument 0|argument 1",
    ),
    "writes to an argument": (*product(writes), "written to"),
    "promotes the value": (*product(lambda x, y: x.astype(np.float64) * y), "value|float64"),
    "promotes a gradient": (*product(pull=lambda u, x, y: (u * y.astype(np.float64), u * x)), "float64"),
    "loses an axis": (*product(pull=lambda u, x, y: (u * y, (u * x).ravel())), "argument 1"),
    "assumes C order": (*product(lambda x, y: c_order(x) * y), "layout"),
    "does not repeat": (*product(lambda x, y: x * y + np.float32(next(calls) * 1e-3)), "again"),
}


@pytest.mark.parametrize("fault", FAULTS)
@settings(max_examples=5)
@given(x=arrays(np.float32, (3, 2), domain=(0.5, 2.0)), y=arrays(np.float32, (3, 2), domain=(-2.0, -0.5)), rng=rngs())
def test_contract_rejects(fault: str, x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> None:
    x += np.arange(6, dtype=np.float32).reshape(3, 2)  # no two alike, so that an order of entries shows
    f, vjp, complaint = FAULTS[fault]
    if fault == "gradients are one array":
        vjp = shared_gradient
    with rejected(ContractError, match=complaint):
        check_contract(f, x, y, vjp=vjp, rng=rng)


def shared_gradient(f: Callable, x: np.ndarray, y: np.ndarray) -> tuple:
    return f(x, y), lambda u: (lambda g: (g, g))(u + 0)


BUFFER = np.empty(2)


def work(f: Callable, x: np.ndarray) -> tuple:
    """The pullback of sin, in one buffer for all of its calls."""
    buffer = np.empty_like(x)
    return f(x), lambda u: (np.multiply(u, np.cos(x), out=buffer),)


def spoils(f: Callable, x: np.ndarray) -> tuple:
    y = f(x)
    return y, lambda u: (np.multiply(u, y, out=y) + 0,)


def raises(error: type[Exception], when: Callable) -> Callable:
    def f(x: np.ndarray) -> np.ndarray:
        if when(x):
            raise error("no")
        return np.sin(x)

    return f


cosine = Pullback(lambda u, x: (u * np.cos(x),))
SMALL_LOST = {
    "ignored": lambda u, a, b: (1e9 * u, np.ones_like(b)),
    "lost": lambda u, a, b: (1e9 * u, u * in_c_order(u)),
}


def in_c_order(u: np.ndarray) -> bool:
    return u.flags.c_contiguous


@pytest.mark.parametrize(
    ("f", "vjp", "complaint"),
    [
        (lambda x: np.sin(x, out=BUFFER) if x.shape == (2,) else np.sin(x), cosine, "values of two calls share memory"),
        (np.sin, work, "two calls of one pullback"),
        (np.exp, spoils, "value"),
        (np.sin, Pullback(lambda u, x: (u * np.cos(x) * (0 not in u.strides),)), "layout zero-stride"),
        (lambda x: np.sin(x) * (0 not in x.strides), cosine, "layout zero-stride"),
        (raises(TypeError, lambda x: x.strides[0] < 0), cosine, "layout reversed are refused: TypeError"),
        (raises(IndexError, lambda x: not len(x)), cosine, "empty batch raises IndexError"),
        (np.sin, Pullback(lambda u, x: (u * np.cos(x), u)), "1 arguments but 2 gradients"),
    ],
)
def test_contract_of_one_argument_rejects(f: Callable, vjp: Callable, complaint: str) -> None:
    with pytest.raises(ContractError, match=complaint):
        check_contract(f, np.array([0.5, 1.0]), vjp=vjp)


@pytest.mark.parametrize("fault", SMALL_LOST)
def test_a_large_gradient_does_not_excuse_a_small_one(fault: str) -> None:
    x = np.array([[1.0, 2.0], [3.0, 4.0]])
    check_contract(lambda a, b: 1e9 * a + b, x, x, vjp=Pullback(lambda u, a, b: (1e9 * u, u.copy())))
    with pytest.raises(ContractError, match="gradient of argument 1"):
        check_contract(lambda a, b: 1e9 * a + b, x, x, vjp=Pullback(SMALL_LOST[fault]))


def test_contract_leaves_open_what_engines_do_in_their_own_way() -> None:
    x = np.array([0.5, 1.0])
    check_contract(lambda x: x[:], x, vjp=Pullback(lambda u, x: (u.copy(),)))  # a view of an argument
    for error in (ValueError, RuntimeError):
        check_contract(raises(error, lambda x: not len(x)), x, vjp=cosine)
    for error in (TypeError, RuntimeError):  # equal entries are outside of the domain
        check_contract(raises(error, lambda x: len(x) == 2 and x[0] == x[1]), x, vjp=cosine)
    check_contract(lambda x: np.float64(2 * x), np.array(1.5), vjp=Pullback(lambda u, x: (np.float64(2 * u),)))


@pytest.mark.parametrize("xs", [(np.array([1, 2]),), (np.ones(1), np.ones(1, np.float32)), ()])
def test_contract_is_for_floating_arguments_of_one_dtype(xs: tuple) -> None:
    with pytest.raises(TypeError, match="of one dtype"):
        check_contract(np.sin, *xs, vjp=cosine)


@settings(max_examples=20)
@given(x=arrays(np.float32, (3, 2)), y=arrays(np.float32, (3, 2)), rng=rngs())
def test_contract_accepts(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> None:
    f, vjp = product()
    check_contract(f, x, y, vjp=vjp, rng=rng)
    check_contract(tg.maximum, x, y, rng=rng)


@given(shapes=broadcast_args(2, max_dims=2), rng=rngs())
def test_contract_of_broadcasting(shapes: tuple, rng: np.random.Generator) -> None:
    x, y = (rng.standard_normal(s) for s in shapes)
    check_contract(tg.multiply, x, y, rng=rng)


def test_accumulation_is_checked_by_the_same_argument() -> None:
    """x * x that keeps only the last gradient."""

    def vjp(f: Callable, *xs: np.ndarray) -> tuple:
        if len(xs) == 1:
            return f(*xs), lambda u: (u * xs[0],)
        return f(*xs), lambda u: (u * xs[1], u * xs[0])

    with pytest.raises(ContractError, match="are one"):
        check_contract(lambda x, y: x * y, np.array([1.0, 2.0]), np.array([3.0, -1.0]), vjp=vjp)


# -------------------------------------------------------------------------------------------------------- state, values


class Counter:
    """Holds one entry of each kind. ``lost`` is never loaded, or reset whenever a state is."""

    def __init__(self, lost: str = "", reset: bool = False) -> None:
        self.state: dict[str, Any] = {
            "m": np.array([0.0, 0.5, -1.0, np.nan, np.inf, 3e38], np.float32),
            "steps": np.array(5),
            "largest": np.array(255, np.uint8),
            "initialized": np.array([True, False]),
            "weight": tg.tensor([1.0, -0.5]),
            "epoch": 3,
            "best": 0.25,
            "done": False,
            "phase": "warm-up",
            "huge": 1e300,
            "betas": (0.9, 0.999),
            "losses": [1.0, 0.5],
            "nested": {"exp_avg": [np.ones(3), {"step": 1}]},
            "phases": np.array([1 + 1j, 0]),
            "names": np.array(["x", "a"]),
            "codes": np.array([b"x"]),
            "key": b"\0",
            "unset": None,
        }
        self.lost, self.reset = lost, reset
        self.start = dict(self.state)

    def state_dict(self) -> dict:
        return dict(self.state)

    def load_state_dict(self, state: dict) -> None:
        kept = (self.start if self.reset else self.state).get(self.lost)
        self.state = dict(state) | ({self.lost: kept} if self.lost else {})


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("entry", [name for name, value in Counter().state.items() if value is not None])
def test_a_state_that_is_not_restored_is_rejected(entry: str, reset: bool) -> None:
    counter = Counter(entry, reset)
    counter.state |= {"steps": np.array(7), "epoch": 4}
    with pytest.raises(ContractError, match=entry):
        check_state_roundtrip(counter)


def test_a_state_that_loses_precision_is_rejected() -> None:
    class Half(Counter):
        def load_state_dict(self, state: dict) -> None:
            super().load_state_dict(state | {"best": float(np.float16(state["best"]))})

    counter = Half()
    check_state_roundtrip(counter)
    counter.state["best"] = 1 / 3
    with pytest.raises(ContractError, match="best"):
        check_state_roundtrip(counter)


class Particular(Counter):
    """Refuses phases that it does not know, as a random generator does states that are none."""

    def load_state_dict(self, state: dict) -> None:
        if state["phase"] != "warm-up":
            raise RuntimeError(state["phase"])
        super().load_state_dict(state)


@pytest.mark.parametrize("state", [{}, {"unset": None}, {"losses": [], "groups": ({},)}])
def test_a_state_without_another_is_inconclusive(state: dict) -> None:
    counter = Counter()
    counter.state = state
    with pytest.raises(Inconclusive, match="no entry"):
        check_state_roundtrip(counter)


def test_a_state_that_refuses_all_others_is_inconclusive() -> None:
    class Stubborn(Counter):
        def load_state_dict(self, state: dict) -> None:
            if state["epoch"] != 3 or state["best"] != 0.25:
                raise ValueError

    counter = Stubborn()
    counter.state = {"epoch": 3, "best": 0.25}
    with pytest.raises(Inconclusive, match="no entry"):
        check_state_roundtrip(counter)


@pytest.mark.parametrize("value", [{1, 2}, [object()], np.array([None]), np.array(["2020"], "datetime64[Y]")])
def test_a_state_of_an_unknown_kind_is_refused(value: Any) -> None:
    counter = Counter()
    counter.state = {"epoch": 3, "odd": value}
    with pytest.raises(TypeError, match="entry 'odd'.*no other value is known"):
        check_state_roundtrip(counter)


def test_a_state_that_is_restored_passes() -> None:
    check_state_roundtrip(Counter())
    check_state_roundtrip(Particular())
    with pytest.raises(ContractError, match="steps"):
        check_state_roundtrip(Particular("steps"))


@settings(max_examples=200)
@given(rng=rngs())
def test_a_gradient_that_is_all_roundings_is_not_rejected(rng: np.random.Generator) -> None:
    check_contract(lambda x: tg.softmax(500 * x), rng.uniform(-2, 2, 4), rng=rng)


SOMETIMES = {
    "not a number": lambda u: np.where(np.abs(u) > 3, np.nan, u),
    "infinite": lambda u: np.where(np.abs(u) > 3, np.inf, u),
}


@pytest.mark.parametrize("g", SOMETIMES.values(), ids=SOMETIMES)
def test_a_cotangent_that_breaks_a_pullback_is_no_rounding(g: Any) -> None:
    verdicts = set()
    for seed in range(40):
        try:
            check_contract(
                np.sin, np.arange(6.0), vjp=Pullback(lambda u, x: (g(u) * np.cos(x),)), rng=np.random.default_rng(seed)
            )
            verdicts.add("passed")
        except (ContractError, Inconclusive) as verdict:
            verdicts.add(type(verdict).__name__)
    assert "ContractError" in verdicts and "Inconclusive" not in verdicts


def test_a_small_gradient_hides_no_fault_of_another_argument() -> None:
    wrong = Pullback(lambda u, x, y: (np.full_like(x, 1e-4), np.ones_like(y)))
    x = np.arange(3, dtype=np.float32)
    for seed in range(10):
        with pytest.raises(ContractError):
            check_contract(lambda x, y: np.float32(1e-4) * x + y, x, x, vjp=wrong, rng=np.random.default_rng(seed))
