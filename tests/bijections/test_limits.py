"""What inverting and the Jacobian do not show: which entries move where, what a bound leaves alone, scales of data."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinygen import nn
from tinygen.bijections import ActNorm, AffineCoupling, Permute, Reverse
from tinygen.testing import assert_close, parameters, rngs


@pytest.mark.parametrize("shape", [(5, 3), (2, 4, 3), (2, 4, 5, 3)])
@settings(max_examples=5)
@given(rng=rngs())
def test_entries_move_along_the_last_axis_only(shape: tuple[int, ...], rng: np.random.Generator) -> None:
    """Another axis would keep volume too."""
    x, order = rng.standard_normal(shape), rng.permutation(3)
    np.testing.assert_array_equal(Permute(order)(x)[0].data, x[..., order])
    np.testing.assert_array_equal(Reverse()(x)[0].data, x[..., ::-1])


@pytest.mark.parametrize("bound", [0.5, 3.0, 20.0])
@settings(max_examples=5)
@given(data=st.data(), rng=rngs())
def test_a_bound_leaves_small_log_scales_alone(bound: float, data: st.DataObject, rng: np.random.Generator) -> None:
    """B tanh(r / B) is r but for a share of (r / B)² / 3."""
    coupling = AffineCoupling(3, lambda c_in, c_out: nn.Linear(c_in, c_out, rng), bound)
    b = data.draw(parameters(coupling, scale=1e-5))
    x = rng.uniform(-1, 1, (4, 3))
    r = b.conditioner(x[:, :1]).data[:, :2]
    assert_close(b(x)[1], r.sum(1), error=np.abs(r).max() * 1e-7)


@pytest.mark.parametrize("unit", [1e-12, 1e12])
@settings(max_examples=5)
@given(rng=rngs())
def test_actnorm_does_not_mind_units(unit: float, rng: np.random.Generator) -> None:
    x = 2 + rng.standard_normal((64, 3))
    (z, _), (expected, _) = (ActNorm(3).astype(np.float64)(batch) for batch in (unit * x, x))
    assert_close(z, expected, error=1e-12)
