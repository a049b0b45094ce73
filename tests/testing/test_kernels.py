"""`check_kernel` rejects planted faults, and accepts what differs from the reference by rounding alone."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.testing.support import rejected
from tinygen.testing import ContractError, arrays, check_kernel, rngs

dtypes = st.sampled_from([np.float32, np.float64])


def row_sums(x: np.ndarray) -> np.ndarray:
    return x.sum(axis=1)


def product(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    return x @ w


def in_memory_order(x: np.ndarray) -> np.ndarray:
    """As a kernel sees an array that it takes for contiguous."""
    return np.ravel(x, order="K").reshape(x.shape)


def writes_to(x: np.ndarray) -> np.ndarray:
    y = row_sums(x)
    if x.flags.writeable:
        x += 1
    return y


def as_in_c_order(x: np.ndarray, start: int, size: int) -> np.ndarray:
    """``size`` numbers in memory from ``start`` on, where 0 is the argument's first."""
    memory = x.base
    assert memory is not None and memory.ndim == 1
    first = (x.__array_interface__["data"][0] - memory.__array_interface__["data"][0]) // x.itemsize
    return memory[first + start : first + start + size]


def writes_beyond(layout: str, step: int) -> Callable:
    """A kernel that writes to a number before its argument, behind it, or between its elements."""

    def run(x: np.ndarray) -> np.ndarray:
        strides = {"C": x.itemsize, "strided": 2 * x.itemsize}
        if x.flags.writeable and x.strides[1] == strides[layout]:
            as_in_c_order(x, step if step < 2 else x.size, 1)[...] = 9
        return row_sums(x)

    return run


def reads_beyond(before: int, behind: int) -> Callable:
    """A sum of too much, whose first or last number is anything: with weights of zero, it only shows if that is NaN."""

    def run(x: np.ndarray) -> np.ndarray:
        if x.flags.c_contiguous and x.flags.writeable:
            return row_sums(x) + 0 * as_in_c_order(x, -before, x.size + before + behind).sum()
        return row_sums(x)

    return run


def without_last_row(x: np.ndarray) -> np.ndarray:
    y = row_sums(x)
    y[-1] = y[0]
    return y


BUFFER = np.empty(9)


def into(buffer: np.ndarray, y: np.ndarray) -> np.ndarray:
    buffer[...] = y
    return buffer


calls = itertools.count()

FAULTS: dict[str, Callable] = {
    "drops the tail": lambda x: x[:, : x.shape[1] // 4 * 4].sum(axis=1),
    "drops one term": lambda x: x.sum(axis=1) - x[:, 7],
    "computes the last row wrongly": without_last_row,
    "adds in half precision": lambda x: x.astype(np.float16).sum(axis=1).astype(x.dtype),
    "assumes C order": lambda x: in_memory_order(x).sum(axis=1),
    "promotes or rounds": lambda x: x.sum(axis=1).astype(np.float64 if x.dtype == np.float32 else np.float32),
    "loses an axis": lambda x: x.sum(axis=1, keepdims=True),
    "writes to its argument": writes_to,
    "writes before its argument": writes_beyond("C", -1),
    "writes behind its argument": writes_beyond("C", 2),
    "writes between its argument's elements": writes_beyond("strided", 1),
    "reads before its argument": reads_beyond(1, 0),
    "reads behind its argument": reads_beyond(0, 1),
    "reads three behind its argument": reads_beyond(0, 3),
    "assumes that no stride is zero": lambda x: row_sums(x) * (0 not in x.strides),
    "does not repeat": lambda x: row_sums(x) * (1 + next(calls) % 2 * np.finfo(x.dtype).eps),
    "returns one buffer on each call": lambda x: into(BUFFER.view(x.dtype)[: len(x)], row_sums(x)),
    "returns too much": lambda x: (row_sums(x), None),
    "returns nothing": lambda x: (None,),
}


@pytest.mark.parametrize("fault", FAULTS)
@settings(max_examples=20)
@given(rows=st.integers(2, 5), columns=st.sampled_from([9, 2003]), dtype=dtypes, rng=rngs())
def test_faults_are_rejected(fault: str, rows: int, columns: int, dtype: Any, rng: np.random.Generator) -> None:
    x = rng.standard_normal((rows, columns)).astype(dtype)
    with rejected(ContractError):
        check_kernel(FAULTS[fault], row_sums, x, rng=rng)


@settings(max_examples=20)
@given(rows=st.integers(5, 9), n=st.integers(1, 99), dtype=dtypes, rng=rngs())
def test_terms_of_half_precision_are_rejected(rows: int, n: int, dtype: Any, rng: np.random.Generator) -> None:
    """One of several sums of a few terms is always wrong by more than roundings are."""
    x = rng.standard_normal((rows, n)).astype(dtype)
    with rejected(ContractError):
        check_kernel(lambda x: x.astype(np.float16).astype(x.dtype).sum(axis=1), row_sums, x, rng=rng)


@settings(max_examples=20)
@given(n=st.sampled_from([1, 9, 2003, 10_007]), dtype=dtypes, rng=rngs())
def test_one_term_of_very_many_is_missed(n: int, dtype: Any, rng: np.random.Generator) -> None:
    """The power that the docstring states."""
    x = rng.uniform(0.5, 1.5, (1, n)).astype(dtype)
    with rejected(ContractError, match=r"result 0 for arguments in layout C \(the reference in float.* errs by"):
        check_kernel(lambda x: x[:, :-1].sum(axis=1), row_sums, x, rng=rng)


@settings(max_examples=20)
@given(m=st.integers(2, 9), k=st.sampled_from([3, 64, 500]), n=st.integers(2, 9), dtype=dtypes, rng=rngs())
def test_faults_of_products_are_rejected(m: int, k: int, n: int, dtype: Any, rng: np.random.Generator) -> None:
    """Conditions are estimated for each entry: a large one does not excuse a small one."""
    x, w = rng.standard_normal((m, k)).astype(dtype), rng.standard_normal((k, n)).astype(dtype)
    x[:, -1] = w[-1] = 1
    x[0] *= 1e6
    for wrong in (
        lambda x, w: x[:, :-1] @ w[:-1],
        lambda x, w: np.concatenate([(x @ w)[:-1], (x @ w)[-2:-1]]),
        lambda x, w: x @ w + dtype(0.1) * x[-1, -1] * w[-1],
        lambda x, w: (x.astype(np.float16).astype(dtype)) @ w,
    ):
        with np.errstate(all="ignore"), rejected(ContractError):
            check_kernel(wrong, product, x, w, rng=rng)


def test_results_may_share_memory_with_arguments_only_where_the_references_do() -> None:
    x = np.arange(6.0).reshape(2, 3)
    check_kernel(lambda x: (x[:1], x + 1), lambda x: (x[:1], x + 1), x)
    with pytest.raises(ContractError, match="result 0 shares memory with argument 0"):
        check_kernel(lambda x: x[:1], lambda x: x[:1].copy(), x)


def test_results_of_one_call_are_apart_unless_the_references_are_not() -> None:
    x = np.arange(6.0)

    def twice(x: np.ndarray) -> tuple:
        y = 2 * x
        return y, y

    check_kernel(twice, twice, x)
    with pytest.raises(ContractError, match="result 1 shares memory with result 0$"):
        check_kernel(twice, lambda x: (2 * x, 2 * x), x)
    check_kernel(lambda x: BUFFER, lambda x: BUFFER, x)
    y = np.arange(24.0).reshape(6, 4)  # interleaved, but apart
    check_kernel(lambda x: (lambda y: (y[::2], y[1::2]))(x + 1), lambda x: (x[::2] + 1, x[1::2] + 1), y)


@pytest.mark.parametrize("number", [np.nan, np.inf, -1.0])
def test_tolerances_that_accept_anything_are_refused(number: float) -> None:
    x = np.ones(3)
    with pytest.raises(ValueError, match="roundings"):
        check_kernel(np.sin, np.sin, x, roundings=number)
    with pytest.raises(ValueError, match="scale"):
        check_kernel(np.sin, np.sin, x, scale=lambda x: x * number)


def test_equal_slices_may_be_outside_of_the_domain() -> None:
    def inverse(x: np.ndarray) -> np.ndarray:
        return np.linalg.inv(x)

    check_kernel(inverse, inverse, np.array([[1.0, 2.0], [0.5, -1.0]]))


@given(lost=st.sampled_from([np.nan, np.inf, -np.inf]), rng=rngs())
def test_a_lost_guard_is_rejected(lost: float, rng: np.random.Generator) -> None:
    x = rng.standard_normal((3, 5))
    x[rng.integers(3), rng.integers(5)] = lost
    check_kernel(lambda x: np.nansum(x, axis=1), lambda x: np.nansum(x, axis=1), x)
    with rejected(ContractError):
        check_kernel(lambda x: np.nan_to_num(x).sum(axis=1), row_sums, x)
    finite = (lambda x: np.where(np.isfinite(x), x, 0).sum(axis=1), row_sums)
    for pair in (finite, finite[::-1]):
        with np.errstate(all="ignore"), rejected(ContractError):
            check_kernel(*pair, x)


def test_integers_must_agree() -> None:
    x = np.array([[2.0, 1.0, 3.0]], np.float32)
    check_kernel(lambda x: x.argmax(axis=1), lambda x: np.argmax(x, axis=1), x)
    with pytest.raises(ContractError, match="1 of 1 entries differ"):
        check_kernel(lambda x: x.argmax(axis=1) + 1, lambda x: x.argmax(axis=1), x)


# -------------------------------------------------------------------------------------------------- what only rounds


def one_after_another(x: np.ndarray) -> np.ndarray:
    return np.cumsum(x, axis=1)[:, -1]


@settings(max_examples=200)
@given(
    n=st.integers(1, 2000),
    dtype=dtypes,
    offset=st.sampled_from([0.0, 1.0, 100.0]),
    cancels=st.booleans(),
    ordered=st.booleans(),
    rng=rngs(),
)
@example(2000, np.float32, 1.0, False, True, np.random.default_rng(1))
@example(2000, np.float64, 0.0, True, False, np.random.default_rng(2))
def test_sums_in_any_order_pass(
    n: int, dtype: Any, offset: float, cancels: bool, ordered: bool, rng: np.random.Generator
) -> None:
    x = (offset + rng.standard_normal((8, n))).astype(dtype)
    if cancels:
        x = np.concatenate([x, -x[:, rng.permutation(n)]], axis=1)[:, : max(n, 2)]
    if ordered:
        x.sort(axis=1)
    check_kernel(one_after_another, row_sums, x, rng=rng)
    check_kernel(lambda x: one_after_another(x[:, ::-1]), row_sums, x, rng=rng)
    w = rng.standard_normal((x.shape[1], 3)).astype(dtype)
    check_kernel(lambda x, w: (np.cumsum(x[:, :, None] * w, axis=1))[:, -1], product, x, w, rng=rng)


@given(dtype=dtypes, offset=st.sampled_from([0.0, 30.0, 1000.0]), rng=rngs())
def test_standardising_by_other_formulas_passes(dtype: Any, offset: float, rng: np.random.Generator) -> None:
    def reference(x: np.ndarray) -> np.ndarray:
        return (x - x.mean()) / np.sqrt(((x - x.mean()) ** 2).mean() + x.dtype.type(1e-3))

    def fast(x: np.ndarray) -> np.ndarray:
        d = x - x[0]
        d = d - np.mean(d, dtype=np.float64).astype(dtype)
        return d * (1 / np.sqrt(np.square(d, dtype=np.float64).mean() + 1e-3)).astype(dtype)

    check_kernel(fast, reference, (offset + rng.standard_normal(50)).astype(dtype), rng=rng)


@given(x=arrays(dtypes, (3, 5), special=True))
def test_infinities_and_overflow_pass(x: np.ndarray) -> None:
    with np.errstate(all="ignore"):
        check_kernel(one_after_another, one_after_another, x)
        check_kernel(lambda x: np.exp(x) - 1, lambda x: np.exp(x) - 1, x)


def test_roundings_set_the_tolerance() -> None:
    x = np.ones(3, np.float32)
    eps = np.finfo(np.float32).eps
    check_kernel(lambda x: x * (1 + 18 * eps), lambda x: x * 1, x)  # of 32 that are allowed, by an estimate
    with pytest.raises(ContractError):
        check_kernel(lambda x: x * (1 + 18 * eps), lambda x: x * 1, x, roundings=2)
    check_kernel(lambda x: x.copy(), lambda x: x + 0, x, roundings=0)
    with pytest.raises(ContractError):
        check_kernel(lambda x: x * (1 + eps), lambda x: x.copy(), x, roundings=0)
