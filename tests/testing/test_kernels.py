"""`check_kernel` rejects planted faults, and accepts what differs from the reference by rounding alone."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

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


def writes_beyond(step: int) -> Callable:
    """A kernel that writes to the number before or after its argument, or between its elements."""

    def run(x: np.ndarray) -> np.ndarray:
        inner = x.base is not None and x.base.size > x.size
        owner = x.base
        while inner and owner.base is not None:
            owner = owner.base
        if inner and owner.flags.writeable:
            owner.reshape(-1)[step] = 9
        return row_sums(x)

    return run


def without_last_row(x: np.ndarray) -> np.ndarray:
    y = row_sums(x)
    y[-1] = y[0]
    return y


FAULTS: dict[str, Callable] = {
    "drops the tail": lambda x: x[:, : x.shape[1] // 4 * 4].sum(axis=1),
    "drops one term": lambda x: x.sum(axis=1) - x[:, 7],
    "computes the last row wrongly": without_last_row,
    "adds in half precision": lambda x: x.astype(np.float16).sum(axis=1).astype(x.dtype),
    "starts from half precision": lambda x: x.astype(np.float16).astype(x.dtype).sum(axis=1),
    "assumes C order": lambda x: in_memory_order(x).sum(axis=1),
    "promotes or rounds": lambda x: x.sum(axis=1).astype(np.float64 if x.dtype == np.float32 else np.float32),
    "loses an axis": lambda x: x.sum(axis=1, keepdims=True),
    "writes to its argument": writes_to,
    "writes before its argument": writes_beyond(0),
    "writes behind its argument": writes_beyond(-1),
    "writes between its argument's elements": writes_beyond(1),
    "returns too much": lambda x: (row_sums(x), None),
    "returns nothing": lambda x: (None,),
}


@pytest.mark.parametrize("fault", FAULTS)
@settings(max_examples=20)
@given(rows=st.integers(2, 5), columns=st.sampled_from([9, 2003]), dtype=dtypes, rng=rngs())
def test_faults_are_rejected(fault: str, rows: int, columns: int, dtype: Any, rng: np.random.Generator) -> None:
    x = rng.standard_normal((rows, columns)).astype(dtype)
    with pytest.raises(ContractError):
        check_kernel(FAULTS[fault], row_sums, x, rng=rng)


@settings(max_examples=20)
@given(n=st.sampled_from([1, 9, 2003, 10_007]), dtype=dtypes, rng=rngs())
def test_one_term_of_very_many_is_missed(n: int, dtype: Any, rng: np.random.Generator) -> None:
    """The power that the docstring states."""
    x = rng.uniform(0.5, 1.5, (1, n)).astype(dtype)
    with pytest.raises(ContractError, match=r"result 0 for arguments in layout C \(the reference in float.* errs by"):
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
        with np.errstate(all="ignore"), pytest.raises(ContractError):
            check_kernel(wrong, product, x, w, rng=rng)


def test_results_may_share_memory_with_arguments_only_where_the_references_do() -> None:
    x = np.arange(6.0).reshape(2, 3)
    check_kernel(lambda x: (x[:1], x + 1), lambda x: (x[:1], x + 1), x)
    with pytest.raises(ContractError, match="result 0 shares memory with argument 0"):
        check_kernel(lambda x: x[:1], lambda x: x[:1].copy(), x)


@given(lost=st.sampled_from([np.nan, np.inf, -np.inf]), rng=rngs())
def test_a_lost_guard_is_rejected(lost: float, rng: np.random.Generator) -> None:
    x = rng.standard_normal((3, 5))
    x[rng.integers(3), rng.integers(5)] = lost
    check_kernel(lambda x: np.nansum(x, axis=1), lambda x: np.nansum(x, axis=1), x)
    with pytest.raises(ContractError):
        check_kernel(lambda x: np.nan_to_num(x).sum(axis=1), row_sums, x)
    finite = (lambda x: np.where(np.isfinite(x), x, 0).sum(axis=1), row_sums)
    for pair in (finite, finite[::-1]):
        with np.errstate(all="ignore"), pytest.raises(ContractError):
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
