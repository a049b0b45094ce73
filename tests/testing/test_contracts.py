"""The checkers of contracts reject planted faults, and accept a correct neighbour of each."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings

import tinygen as tg
from tinygen.testing import (
    CheckError,
    ContractError,
    arrays,
    assert_close,
    broadcast_args,
    check_contract,
    check_kernel,
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
    with pytest.raises(ContractError, match=complaint):
        check_contract(f, x, y, vjp=vjp, rng=rng)


def shared_gradient(f: Callable, x: np.ndarray, y: np.ndarray) -> tuple:
    return f(x, y), lambda u: (lambda g: (g, g))(u + 0)


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


# -------------------------------------------------------------------------------------------------------------- kernels


def row_sums(x: np.ndarray) -> np.ndarray:
    return x.sum(axis=1)


KERNEL_FAULTS: dict[str, Callable] = {
    "drops the tail": lambda x: x[:, :4].sum(axis=1),
    "assumes C order": lambda x: c_order(x).sum(axis=1),
    "promotes": lambda x: x.sum(axis=1, dtype=np.float64),
    "writes": lambda x: np.add(x, 1, out=x).sum(axis=1) if x.flags.writeable else x.sum(axis=1),
    "loses a NaN": lambda x: np.nan_to_num(x).sum(axis=1),
    "half precision": lambda x: x.astype(np.float16).sum(axis=1).astype(x.dtype),
}


@pytest.mark.parametrize("fault", KERNEL_FAULTS)
def test_kernel_faults_are_rejected(fault: str) -> None:
    x = np.random.default_rng(0).standard_normal((3, 5)).astype(np.float32)
    if fault == "loses a NaN":
        x[1, 2] = np.nan
    with pytest.raises(ContractError):
        check_kernel(KERNEL_FAULTS[fault], row_sums, x)


@given(x=arrays(np.float32, (3, 5), special=True))
def test_kernel_of_another_order_passes(x: np.ndarray) -> None:
    with np.errstate(all="ignore"):
        check_kernel(
            lambda x: (np.sum([*x.T], axis=0), None), lambda x: (row_sums(x), None), np.where(np.abs(x) > 1e30, 1, x)
        )


# -------------------------------------------------------------------------------------------------------- state, values


class Counter:
    def __init__(self, forgets: bool) -> None:
        self.state, self.forgets = {"m": np.arange(3.0), "steps": np.array(5.0)}, forgets

    def state_dict(self) -> dict:
        return dict(self.state)

    def load_state_dict(self, state: dict) -> None:
        self.state = {k: v for k, v in state.items() if not (self.forgets and k == "steps")} | (
            {"steps": np.array(0.0)} if self.forgets else {}
        )


def test_state_roundtrip() -> None:
    check_state_roundtrip(Counter(False))
    with pytest.raises(ContractError, match="steps"):
        check_state_roundtrip(Counter(True))


def test_assert_close() -> None:
    assert_close(np.array([1.0, np.nan, np.inf]), np.array([1.0 + 1e-15, np.nan, np.inf]))
    assert_close(tg.tensor([1.0]), np.ones(1, np.float32))
    for wrong, expected in (
        (np.array([1.0, 2.0]), np.array([1.0, 2.1])),
        (np.array([1.0, np.nan]), np.array([1.0, 2.0])),
        (np.array([np.inf]), np.array([-np.inf])),
        (np.array([1.0]), np.array([np.inf])),
        (np.ones(1, np.float32), np.ones(1)),
        (np.ones((1, 1)), np.ones(1)),
        (np.array([1]), np.array([2])),
    ):
        with pytest.raises(CheckError):
            assert_close(wrong, expected)
    with pytest.raises(CheckError, match=r"worst at \(1,\).*2\.0.*3\.0"):
        assert_close(np.array([1.0, 2.0]), np.array([1.0, 3.0]))
    with pytest.raises(CheckError):
        assert_close(np.array([0.0]), np.array([np.inf]), error=np.inf, rtol=np.inf)
