"""Letters whose size one operand has alone, because the others have size 1 there and broadcast."""

import numpy as np
import pytest
from hypothesis import given, settings

import tinygen as tg
from tinygen.testing import check_vjp, rngs

BROADCAST = [
    ("ij,ij->ij", (3, 4), (1, 4)),
    ("ij,ij->j", (3, 1), (1, 4)),
    ("ij,jk->ik", (3, 1), (4, 2)),
    ("ij,ij,ij->i", (1, 4), (3, 1), (1, 1)),
    ("ij,ij->", (2, 2), (1, 2)),
]


@pytest.mark.parametrize(("subscripts", "shapes"), [(s, shapes) for s, *shapes in BROADCAST], ids=str)
@settings(max_examples=3)
@given(rng=rngs())
def test_operands_broadcast_along_letters(subscripts: str, shapes: list, rng: np.random.Generator) -> None:
    operands = [rng.standard_normal(shape) for shape in shapes]
    assert np.allclose(tg.einsum(subscripts, *operands), np.einsum(subscripts, *operands), rtol=1e-13, atol=1e-13)
    check_vjp(lambda *xs: tg.einsum(subscripts, *xs), *operands, order=2, rng=rng)
