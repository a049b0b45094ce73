"""What pooling makes of blocks, by NumPy; rows and columns that fill no block are left out."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygen as tg
from tinygen.testing import assert_close, rngs

sizes = st.tuples(st.integers(1, 3), st.integers(1, 3))


@pytest.mark.parametrize(("pool", "of_block"), [(tg.avg_pool2d, np.mean), (tg.max_pool2d, np.max)])
@settings(max_examples=10)
@given(size=sizes, rng=rngs())
def test_pooling(pool: Callable, of_block: Callable, size: tuple[int, int], rng: np.random.Generator) -> None:
    (p, q), x = size, rng.standard_normal((2, 5, 7, 2))
    h, w = 5 // p, 7 // q
    blocks = x[:, : h * p, : w * q].reshape(2, h, p, w, q, 2)
    assert_close(pool(x, size), of_block(blocks, (2, 4)), error=1e-14)


@settings(max_examples=5)
@given(scale=sizes, rng=rngs())
def test_upsample2d(scale: tuple[int, int], rng: np.random.Generator) -> None:
    x = rng.standard_normal((2, 2, 3, 2))
    np.testing.assert_array_equal(tg.upsample2d(x, scale), x.repeat(scale[0], 1).repeat(scale[1], 2))
