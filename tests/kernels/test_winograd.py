"""Minimal filtering, beyond what `test_all` checks of convolutions."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels import convolution, reference, weight_gradient, windows
from tests.kernels import minimal_filtering
from tests.kernels.cases import conv2d, same, tiled_convolutions
from tests.kernels.minimal_filtering import FLOAT32, TABLES
from tests.kernels.support import compiled, normal
from tinygen.testing import rngs


@given(st.integers(3, 9), st.integers(3, 9), rngs())
def test_tables_filter_exactly(h, w, rng):
    x, weights = rng.standard_normal((2, h, w, 3)), rng.standard_normal((3, 3, 3, 2))
    y = reference.conv2d(x, weights)
    np.testing.assert_allclose(minimal_filtering.correlate(x, weights, TABLES), y, rtol=0, atol=1e-12)
    g = rng.standard_normal(y.shape)
    gw = reference.conv2d_weight_grad(x, g, (3, 3))
    np.testing.assert_allclose(minimal_filtering.weight_grad(x, g, TABLES), gw, rtol=0, atol=1e-12)


def all_three(x, w, g, *geometry, of=compiled):
    return (
        of("conv2d")(x, w, None, *geometry),
        of("conv2d_input_grad")(g, w, x.shape[1:3], *geometry),
        of("conv2d_weight_grad")(x, g, w.shape[:2], *geometry),
    )


def directly(*args):
    """The same, by direct convolution."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (windows, weight_gradient):
            patch.setattr(module, "divide_tiles", lambda *_: None)
        for module, plan in (
            (convolution, "_forward_plan"),
            (convolution, "_input_grad_plan"),
            (weight_gradient, "_plan"),
        ):
            patch.setattr(module, plan, getattr(module, plan).__wrapped__)  # none that is remembered
        return all_three(*args)


@settings(max_examples=5)
@given(st.sampled_from([16, 32, 48]), rngs())
def test_errors_are_about_twice_those_of_direct_convolution(c, rng):
    x, w, _, *geometry = conv2d(partial(normal, rng, FLOAT32), *same((15, 17), n=8, c_in=c, c_out=32))
    g = normal(rng, FLOAT32, 8, 15, 17, 32)
    exact = all_three(*(a.astype(float) for a in (x, w, g)), *geometry)
    tiled, direct = all_three(x, w, g, *geometry), directly(x, w, g, *geometry)
    for truth, *results in zip(exact, direct, tiled, strict=True):
        small, large = (np.sqrt(np.mean((y - truth) ** 2)) for y in results)
        assert small < large < 3 * small  # means of 5,000 squares and more hardly vary


@pytest.mark.parametrize(
    ("n", "size", "c_in", "c_out", "kernel", "stride", "dilation", "dtype", "tiled"),
    [
        (8, (14, 14), 8, 8, (3, 3), (1, 1), (1, 1), "f", True),
        (8, (14, 14), 8, 8, (3, 3), (1, 1), (1, 1), "d", False),
        (8, (14, 14), 7, 8, (3, 3), (1, 1), (1, 1), "f", False),
        (8, (14, 14), 8, 8, (3, 4), (1, 1), (1, 1), "f", False),
        (8, (14, 14), 8, 8, (3, 3), (1, 2), (1, 1), "f", False),
        (8, (14, 14), 8, 8, (3, 3), (1, 1), (2, 1), "f", False),
        (1, (14, 14), 8, 8, (3, 3), (1, 1), (1, 1), "f", False),
        (99, (5, 5), 8, 8, (3, 3), (1, 1), (1, 1), "f", False),
    ],
)  # fmt: skip
def test_what_is_tiled(n, size, c_in, c_out, kernel, stride, dilation, dtype, tiled):
    x, w = (n, *size, c_in), (*kernel, c_in, c_out)
    geometry = stride, ((1, 1), (1, 1)), dilation
    g = (n, *windows.output_size("", size, kernel, *geometry), c_out)
    for plan in (
        convolution._forward_plan(x, w, *geometry, np.dtype(dtype)),
        convolution._input_grad_plan(g, w, size, *geometry, np.dtype(dtype)),
        weight_gradient._plan(x, g, kernel, *geometry, np.dtype(dtype)),
    ):
        assert (plan.tiles is not None) == tiled


@given(tiled_convolutions(), st.sampled_from([np.nan, np.inf, -np.inf]), rngs())
def test_nonfinite_values_reach_what_they_should(settings, value, rng):
    x, w, _, *geometry = conv2d(partial(normal, rng, FLOAT32), *settings)
    g = normal(rng, FLOAT32, *reference.conv2d(x, w, None, *geometry).shape)
    bad_x, bad_g = x.copy(), g.copy()
    for array in (bad_x, bad_g):
        array.reshape(-1)[rng.integers(array.size)] = value
    for args, results in ((bad_x, w, g), (0, 2)), ((x, w, bad_g), (1,)):  # in padding, a NaN of g may count or not
        with np.errstate(invalid="ignore"):
            expected = all_three(*args, *geometry, of=partial(getattr, reference))
        found = all_three(*args, *geometry)
        for i in results:
            assert not np.isfinite(found[i][~np.isfinite(expected[i])]).any()
            if i < 2:  # four tiles of 4 × 4 meet a pixel
                assert (~np.isfinite(found[i])).any(axis=-1).sum() <= 64
