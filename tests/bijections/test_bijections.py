"""Every bijection inverts, and has its dense Jacobian's log-determinants, at parameters far from the identity's."""

from collections.abc import Callable
from copy import deepcopy

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygen as tg
from tinygen import bijections as public
from tinygen import nn
from tinygen.bijections import (
    ActNorm,
    AffineCoupling,
    Bijection,
    Chain,
    Coupling,
    Flatten,
    Inverse,
    Logit,
    Permute,
    Reverse,
)
from tinygen.errors import DataError, ShapeError
from tinygen.testing import (
    FAMILIES,
    bijections,
    check_bijection,
    check_state_roundtrip,
    mostly_conclusive,
    parameters,
    rngs,
)
from tinygen.testing.modules import Family, additive_coupling, affine_coupling, permute, reverse

Array = np.ndarray
seeds = st.integers(0, 2**32 - 1)

ELSEWHERE = {Logit, Flatten}  # not maps of R^D to itself: tested below
BASES = {Bijection, Coupling}  # tested by what inherits from them
COMPOSE = {Chain, Inverse}  # part of every composition
KEEP_VOLUME = (additive_coupling, permute, reverse)


def test_every_bijection_is_tested() -> None:
    """A new one belongs in FAMILIES, or, with a test of its own, in ELSEWHERE."""
    rng = np.random.default_rng(0)
    made = {type(m) for family in FAMILIES for m in family(3, rng).modules() if isinstance(m, Bijection)}
    assert {getattr(public, name) for name in public.__all__} == made | ELSEWHERE | BASES | COMPOSE


@pytest.mark.parametrize(
    ("family", "dim"),
    [(family, dim) for family in FAMILIES for dim in (1, 2, 3, 5) if dim > 1 or family not in KEEP_VOLUME],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
@mostly_conclusive
@settings(max_examples=4)
@given(data=st.data(), rng=rngs())
def test_each_family(family: Family, dim: int, data: st.DataObject, rng: np.random.Generator) -> None:
    check_bijection(data.draw(parameters(family(dim, rng))), rng.standard_normal((3, dim)), rng=rng)


@pytest.mark.parametrize("dim", [2, 3, 5])
@mostly_conclusive
@settings(max_examples=15)
@given(data=st.data(), rng=rngs())
def test_compositions(dim: int, data: st.DataObject, rng: np.random.Generator) -> None:
    check_bijection(data.draw(bijections(dim)), rng.standard_normal((3, dim)), rng=rng)


@pytest.mark.parametrize("dim", [1, 3])
@mostly_conclusive
@settings(max_examples=4)
@given(seed=seeds)
def test_logit(dim: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    check_bijection(Logit(), rng.uniform(0.001, 0.999, (3, dim)), rng=rng)
    ends = np.array([[0.0, 1.0]])
    np.testing.assert_allclose(Logit().inverse(Logit()(ends)[0])[0], ends, atol=1e-15)


@pytest.mark.parametrize("channels", [2, 3])
@mostly_conclusive
@settings(max_examples=3)
@given(data=st.data(), rng=rngs())
def test_images(channels: int, data: st.DataObject, rng: np.random.Generator) -> None:
    """Couplings on channels with a convolution for conditioner; ActNorm counts its scale once for each pixel."""
    couplings = [
        AffineCoupling(channels, lambda c_in, c_out: nn.Conv2d(c_in, c_out, 3, rng, padding=1), bound=0.8)
        for _ in range(2)
    ]
    b = Chain(Logit(), couplings[0], Reverse(), ActNorm(channels), couplings[1], Flatten((2, 2, channels)))
    x = rng.uniform(0.01, 0.99, (2, 2, 2, channels))
    check_bijection(data.draw(parameters(b)), x, rng=rng)


@pytest.mark.parametrize("dim", [1, 2, 3, 5])
@settings(max_examples=3)
@given(data=st.data(), rng=rngs())
def test_inverse_swaps_directions(dim: int, data: st.DataObject, rng: np.random.Generator) -> None:
    b = data.draw(bijections(dim))
    x = rng.standard_normal((3, dim))
    for swapped, plain in zip((Inverse(b)(x), Inverse(b).inverse(x)), (b.inverse(x), b(x)), strict=True):
        np.testing.assert_array_equal(swapped[0].data, plain[0].data)
        np.testing.assert_array_equal(swapped[1].data, plain[1].data)


@settings(max_examples=5)
@given(data=st.data(), rng=rngs(), dim=st.integers(1, 5))
def test_log_scale_is_softly_bounded(data: st.DataObject, rng: np.random.Generator, dim: int) -> None:
    """Parameters of 1e4 leave scales within e^±B, and the way back finite."""
    b = data.draw(parameters(affine_coupling(dim, rng), scale=1e4))
    x = rng.standard_normal((20, dim))
    z, log_det = b(x)
    transformed = dim - dim // 2
    assert (np.abs(log_det.data) <= 0.8 * transformed * (1 + 1e-12)).all()
    back, _ = b.inverse(z)
    np.testing.assert_allclose(back.data, x, atol=1e-9)


def test_zero_last_layers_start_at_the_identity() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4, 3)).astype(np.float32)
    for family in (additive_coupling, affine_coupling):
        z, log_det = family(3, rng)(x)
        np.testing.assert_array_equal(z.data, x)
        np.testing.assert_array_equal(log_det.data, 0)


@settings(max_examples=15)
@given(b=bijections(3, dtype=np.float32), rng=rngs())
def test_float32_stays(b: Bijection, rng: np.random.Generator) -> None:
    x = rng.standard_normal((4, 3)).astype(np.float32)
    for value in (*b(x), *b.inverse(x)):
        assert value.dtype == np.float32
    assert b(x[:0])[1].shape == (0,)


# ------------------------------------------------------------------------------------------------------------- ActNorm


@pytest.mark.parametrize("shape", [(64, 3), (16, 4, 5, 3)])
@settings(max_examples=3)
@given(seed=seeds)
def test_actnorm_standardises_the_first_batch_only(shape: tuple[int, ...], seed: int) -> None:
    rng = np.random.default_rng(seed)
    b = ActNorm(3)
    axes = tuple(range(len(shape) - 1))
    z, _ = b((5 + [0.1, 1, 30] * rng.standard_normal(shape)).astype(np.float32))
    np.testing.assert_allclose(
        z.data.mean(axes), 0, atol=1e-4
    )  # the mean of 320 float32 numbers around 50 standard deviations
    np.testing.assert_allclose(z.data.std(axes), 1, atol=1e-4)
    before = deepcopy(b.state_dict())
    b(rng.standard_normal(shape).astype(np.float32))
    assert all(np.array_equal(before[name], value) for name, value in b.state_dict().items())


def test_actnorm_waits_for_training() -> None:
    """Neither evaluation nor sampling, which goes backward, takes its statistics."""
    x = np.random.default_rng(0).standard_normal((8, 2)).astype(np.float32) + 3
    b = ActNorm(2)
    b.eval()(x)
    b.train().inverse(x)
    assert not b.initialized
    np.testing.assert_array_equal(b.mean.data, 0)
    b(x)
    assert b.initialized


def test_actnorm_remembers_that_it_has_seen_data() -> None:
    x = np.random.default_rng(0).standard_normal((8, 2)).astype(np.float32) + 3
    first, second = ActNorm(2), ActNorm(2)
    first(x)
    check_state_roundtrip(first)
    second.load_state_dict(first.state_dict())
    z, _ = second(2 * x)
    np.testing.assert_array_equal(z.data, first.eval()(2 * x)[0].data)


@pytest.mark.parametrize(
    "x", [np.ones((1, 2), np.float32), np.zeros((4, 2), np.float32), np.array([[1, 0], [1, 2]], np.float32)]
)
def test_actnorm_only_centres_what_does_not_vary(x: Array) -> None:
    z, log_det = ActNorm(2)(x)
    np.testing.assert_array_equal(z.data[:, 0], 0)
    assert np.isfinite(log_det.data).all()


def test_actnorm_takes_rounding_for_no_variation() -> None:
    x = np.full((1000, 2), 0.1, np.float32)  # its computed standard deviation is about 1e-6
    assert x.std(0).min() > 0
    z, log_det = ActNorm(2)(x)
    np.testing.assert_array_equal(log_det.data, 0)
    assert np.abs(z.data).max() < 1e-5


def test_actnorm_learns_nothing_from_an_empty_batch() -> None:
    norm = ActNorm(2)
    norm(np.zeros((0, 2), np.float32))
    assert not norm.initialized
    assert np.isfinite(norm.mean.data).all()


# -------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (
            lambda rng: affine_coupling(3, rng)(np.zeros((2, 4), np.float32)),
            ShapeError,
            "D=4 in (N,...,D)=(2, 4) but dim=3",
        ),
        (lambda rng: affine_coupling(3, rng)(np.zeros((2, 2), np.float32)), ShapeError, "D=2 in (N,...,D)=(2, 2)"),
        (lambda rng: affine_coupling(0, rng), ShapeError, "dim=0"),
        (lambda rng: ActNorm(3)(np.zeros((2, 1), np.float32)), ShapeError, "D=1 in (N,...,D)=(2, 1) but dim=3"),
        (lambda rng: ActNorm(3)(np.zeros((2, 4), np.float32)), ShapeError, "D=4 in (N,...,D)=(2, 4) but dim=3"),
        (lambda rng: Permute(0), ShapeError, "each of 0 to D-1 once"),
        (lambda rng: Permute([0, 0, 1]), ShapeError, "each of 0 to D-1 once"),
        (lambda rng: Permute([1, 0])(np.zeros((2, 3))), ShapeError, "order has 2"),
        (lambda rng: Permute([1, 0])(np.zeros((2, 1))), ShapeError, "order has 2"),
        (lambda rng: Flatten((2, 2))(np.zeros((2, 3, 2))), ShapeError, "(N, 2, 2)"),
        (lambda rng: Flatten((2, 2)).inverse(np.zeros((2, 3))), ShapeError, "(N, 4)"),
        (lambda rng: Logit()(np.array([[0.5, 1.5]])), DataError, "scale the data"),
        (lambda rng: Logit()(np.array([[0.5, -0.5]])), DataError, "scale the data"),
        (lambda rng: Logit()(np.array([[0.5, np.nan]])), DataError, "[0, 1]"),
    ],
)
def test_bad_input_is_explained(
    call: Callable[[np.random.Generator], object], error: type[Exception], text: str
) -> None:
    with pytest.raises(error) as raised:
        call(np.random.default_rng(0))
    assert text in str(raised.value)


def test_permute_keeps_a_loaded_order() -> None:
    """The inverse follows the order that a checkpoint brings."""
    b = Permute([0, 1, 2])
    b.load_state_dict(Permute([1, 2, 0]).state_dict())
    x = tg.tensor([[1.0, 2.0, 3.0]])
    np.testing.assert_array_equal(b.inverse(b(x)[0])[0].data, x.data)
    np.testing.assert_array_equal(b(x)[0].data, [[2, 3, 1]])
