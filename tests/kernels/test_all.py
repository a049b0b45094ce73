"""What every public kernel must pass: the entry in `cases` is all that a new one needs."""

import inspect
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kernels
from kernels import reference
from tests.kernels.cases import CASES
from tests.kernels.support import (
    arguments,
    assert_noted_calls_do_it_again,
    assert_same_bits_on_all_thread_counts,
    check,
    compiled,
)
from tinygen.testing import rngs

dtypes = st.sampled_from([np.float32, np.float64])
LARGE = [(name, large) for name, case in CASES.items() for large in case.large]


def test_every_public_kernel_has_a_case_and_a_reference() -> None:
    public = set(kernels.__all__) - {"MARKER", "backend"}
    defined = {
        name
        for name, f in inspect.getmembers(reference, inspect.isfunction)
        if not name.startswith("_") and f.__module__ == reference.__name__
    }
    assert set(CASES) == public == defined
    for name in CASES:
        assert compiled(name) is not getattr(reference, name)


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=40)
@given(data=st.data(), dtype=dtypes, rng=rngs())
def test_equals_the_reference(name: str, data: st.DataObject, dtype: Any, rng: np.random.Generator) -> None:
    check(name, data.draw(CASES[name].settings), dtype, rng)


@pytest.mark.parametrize(("name", "large"), LARGE, ids=str)
def test_equals_the_reference_for_large_arguments(name: str, large: tuple) -> None:
    check(name, large, np.float32, np.random.default_rng(1))


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=20)
@given(data=st.data(), dtype=dtypes, rng=rngs())
def test_bits_do_not_depend_on_threads(name: str, data: st.DataObject, dtype: Any, rng: np.random.Generator) -> None:
    args = arguments(name, data.draw(CASES[name].settings), dtype, rng)
    assert_same_bits_on_all_thread_counts(name, args)


@pytest.mark.parametrize(("name", "large"), LARGE, ids=str)
def test_bits_do_not_depend_on_threads_for_large_arguments(name: str, large: tuple) -> None:
    assert_same_bits_on_all_thread_counts(name, arguments(name, large, np.float32, np.random.default_rng(2)))


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=60)  # few sums differ when their order does
@given(data=st.data(), dtype=dtypes, rng=rngs())
def test_noted_calls_do_it_again(name: str, data: st.DataObject, dtype: Any, rng: np.random.Generator) -> None:
    settings = data.draw(CASES[name].settings)
    assert_noted_calls_do_it_again(name, *(arguments(name, settings, dtype, rng) for _ in range(2)))
