"""What strategies draw is what they say, and shrinks to something small."""

from copy import deepcopy

import numpy as np
import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st
from hypothesis.errors import InvalidArgument

import tinygen as tg
from tinygen.autograd import Real
from tinygen.autograd.domain import Boolean, Choice, Examples, Generator, Padding, Permutation, Reshaping, Sequence
from tinygen.testing import LAYOUTS, Layout, arguments, arrays, bind, broadcast_args, layouts, rngs, shapes, tensors


@given(data=st.data())
def test_arrays_keep_to_their_domain(data: st.DataObject) -> None:
    low = data.draw(st.floats(-5, 5))
    x = data.draw(arrays(st.sampled_from([np.float32, np.float64]), shapes(), domain=(low, low + 3), avoid=(low + 1,)))
    assert ((x >= np.float32(low)) | (x >= low)).all() and (
        x <= np.nextafter(np.float32(low + 3), np.float32(99))
    ).all()
    assert (np.abs(x.astype(np.float64) - (low + 1)) >= 0.05 - 1e-5).all()


@given(x=arrays(np.float32, (4, 5), domain=Real(distinct=True, avoid=(0.5,))))
def test_distinct_values(x: np.ndarray) -> None:
    assert np.diff(np.sort(x.ravel())).min() >= 0.05 - 1e-6 and np.abs(x - 0.5).min() >= 0.05 - 1e-6


@given(x=arrays(np.int64, (3,), domain=(-2, 5)))
def test_integers(x: np.ndarray) -> None:
    assert x.dtype == np.int64 and (x >= -2).all() and (x <= 5).all()


@pytest.mark.parametrize("domain", [(0.0, 1e-3), (0.5, 0.503), (-1e-9, 1e-9), (0.0, 1.0), (-1e5, 1e5)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_range_has_many_values(dtype: type, domain: tuple[float, float]) -> None:
    few = settings(max_examples=200, database=None, phases=[Phase.generate])
    x = find(arrays(dtype, 20, domain=domain), lambda x: len(np.unique(x)) >= 10, settings=few)
    assert domain[0] <= x.min() and x.max() <= domain[1]


@given(
    data=st.data(),
    dtype=st.sampled_from([np.float16, np.float32]),
    low=st.floats(-1e5, 6e4),
    extent=st.floats(0.02, 1),
)
def test_no_float_is_rounded_out_of_its_domain(data: st.DataObject, dtype: type, low: float, extent: float) -> None:
    domain = (low, max(low + extent * (1 + abs(low)), -6e4))
    x = data.draw(arrays(dtype, 20, domain=domain)).astype(np.float64)
    assert domain[0] <= x.min() and x.max() <= domain[1]


def test_the_ends_of_a_domain_are_rounded_inwards() -> None:
    top = np.float32(0.7) if float(np.float32(0.7)) <= 0.7 else np.nextafter(np.float32(0.7), np.float32(0))
    for sign in (1, -1):
        assert find(arrays(np.float32, domain=(-0.7, 0.7)), lambda x, s=sign: s * x > 0.6995) == sign * top


@pytest.mark.parametrize(
    ("dtype", "domain", "low", "high"),
    [
        ("uint8", (-2, 2), 0, 2),
        ("int8", (1, 300), 1, 127),
        ("int8", (-300, 300), -128, 127),
        ("int64", (-1e18, 1e18), -(10**18), 10**18),
        ("uint64", (0, 2.0**70), 0, 2**64 - 1),
    ],
)
@settings(max_examples=20)
@given(data=st.data())
def test_integers_keep_to_their_dtype(data: st.DataObject, dtype: str, domain: tuple, low: int, high: int) -> None:
    x = data.draw(arrays(dtype, 9, domain=domain))
    assert x.dtype == dtype and all(low <= int(entry) <= high for entry in x)


@pytest.mark.parametrize("end", [0, 255])
def test_both_ends_of_an_integer_range_occur(end: int) -> None:
    assert find(arrays(np.uint8, domain=(-9, 999)), lambda x: x == end) == end


def test_a_shape_may_be_of_numpy_numbers() -> None:
    assert find(arrays(shape=np.int64(3)), lambda x: True).shape == (3,)
    assert find(arrays(shape=(np.int64(2), 3)), lambda x: True).shape == (2, 3)


def test_special_values_occur() -> None:
    for value in (np.inf, -np.inf, np.finfo(np.float32).max):
        assert find(arrays(np.float32, special=True), lambda x, v=value: x == v) == value
    assert np.isnan(find(arrays(np.float32, special=True), lambda x: np.isnan(x)))
    assert np.signbit(find(arrays(np.float32, special=True), lambda x: np.signbit(x) and x == 0))


def test_shrinking_leads_to_small_zero_and_contiguous() -> None:
    strategy = arrays(np.float64, shapes(min_side=1), layout=layouts())
    assert find(strategy, lambda x: True).shape == ()
    smallest = find(strategy, lambda x: x.ndim == 2 and x.shape[1] > 1 and x.max() > 1)
    assert smallest.size <= 4 and smallest.flags.c_contiguous  # from up to 16 entries in seven layouts
    assert sorted(smallest.ravel())[0] == 0 and 1 < smallest.max() < 1.01


@pytest.mark.parametrize(
    "wrong",
    [
        {"domain": (1.0, -1.0)},
        {"domain": (0.0, np.inf)},
        {"layout": "diagonal"},
        {"dtype": bool},
        {"dtype": np.uint8, "domain": (-5, -1)},
        {"dtype": np.int64, "special": True},
        {"dtype": st.just(np.int64), "special": True},
        {"dtype": np.float32, "domain": (0.1, 0.1)},
        {"dtype": np.float16, "domain": (1e5, 1e6)},
        {"domain": (0.0, 0.01), "avoid": (0.0,)},
        {"shape": (9, 9), "domain": Real(low=0, high=1, distinct=True)},
        {"special": True, "avoid": (0.0,)},
        {"shape": (2, 3), "domain": Real(structure="invertible")},
        {"shape": (2, 2), "domain": Real(structure="Hankel")},
    ],
)
def test_arguments_are_validated(wrong: dict) -> None:
    @settings(max_examples=1, database=None)
    @given(data=st.data())
    def draw(data: st.DataObject) -> None:
        data.draw(arrays(**wrong))

    with pytest.raises(InvalidArgument):
        draw()


@given(x=arrays(np.float32, shapes()), layout=layouts())
def test_layouts(x: np.ndarray, layout: Layout) -> None:
    before = x.copy()
    y = layout(x)
    assert y.shape == x.shape and y.dtype == x.dtype and not np.shares_memory(x, y) and np.array_equal(x, before)
    assert y.flags.writeable == (layout.name != "read-only") or layout.name == "zero-stride"
    if layout.name != "zero-stride":
        assert np.array_equal(x, y)
    elif x.ndim and len(x) > 1 and x.size:
        assert y.strides[0] == 0 and np.array_equal(y[0], x[0])


def test_layouts_are_what_they_are_called() -> None:
    x = np.arange(12.0).reshape(3, 4)
    made = {name: Layout(name)(x) for name in LAYOUTS}
    assert made["F"].flags.f_contiguous and made["C"].flags.c_contiguous
    assert made["strided"].strides == (64, 16) and made["reversed"].strides == (-32, -8)
    assert made["offset"].base is not None and made["offset"].flags.c_contiguous


@given(drawn=broadcast_args(3), t=tensors(np.float32, (2,)), rng=rngs())
def test_the_rest(drawn: tuple, t: tg.Tensor, rng: np.random.Generator) -> None:
    assert len(drawn) == 3 and np.broadcast_shapes(*drawn) is not None
    assert t.requires_grad and t.dtype == np.float32
    assert 0 <= rng.random() < 1


@given(
    shape=shapes(max_dims=st.integers(1, 2), min_side=st.just(2), max_side=st.integers(2, 5)),
    several=broadcast_args(st.integers(1, 3), max_dims=st.just(2)),
)
def test_bounds_of_shapes_may_be_drawn(shape: tuple, several: tuple) -> None:
    assert len(shape) <= 2 and all(2 <= side <= 5 for side in shape)
    assert 1 <= len(several) <= 3 and all(len(s) <= 2 for s in several)


@pytest.mark.parametrize("wrong", [{"max_side": -1}, {"min_side": 3, "max_side": st.just(2)}, {"max_dims": 1.5}])
def test_bounds_of_shapes_are_validated(wrong: dict) -> None:
    for strategy in (shapes(**wrong), broadcast_args(2, **wrong)):
        with pytest.raises(InvalidArgument):
            find(strategy, lambda drawn: True)


@given(
    x=arrays(np.float64, (2, 3, 3), domain=Real(structure="positive definite")),
    y=arrays(np.float64, (2, 3, 3), domain=Real(structure="invertible")),
)
def test_structures(x: np.ndarray, y: np.ndarray) -> None:
    assert np.array_equal(x, np.swapaxes(x, 1, 2)) and np.linalg.eigvalsh(x).min() > 0.9
    assert np.linalg.cond(y).max() < 100


@given(data=st.data())
def test_domains_bind_letters_and_depend_on_shapes(data: st.DataObject) -> None:
    domain = {
        "x": Real("... n k=2:4"),
        "y": Real("k n", low=1, high=2),
        "mask": Boolean("... n k"),
        "b": Real("n", optional=True),
        "parts": Sequence(Real("k"), 2, 2),
        "order": Permutation("x"),
        "shape": Reshaping("y"),
        "pads": Padding("x"),
        "mode": Choice("a", "b"),
        "rng": Generator(),
    }
    x, y, mask, b, parts, order, shape, pads, mode, rng = data.draw(arguments(domain, dtype=np.float32))
    n, k = x.shape[-2:]
    assert 2 <= k <= 4 and 1 <= n <= 3 and y.shape == (k, n) and mask.shape[-2:] == (n, k) and mask.dtype == bool
    assert np.broadcast_shapes(x.shape, mask.shape) and (b is None or b.shape == (n,))
    assert len(parts) == 2 and parts[0].shape == (k,) and x.dtype == y.dtype == np.float32 and (y >= 1).all()
    assert order is None or sorted(a % x.ndim for a in order) == list(range(x.ndim))
    assert y.reshape(shape).size == y.size and np.pad(x, pads).ndim == x.ndim and mode in "ab"
    assert deepcopy(rng).random() == rng.random()


def test_examples_are_alternatives() -> None:
    domain = Examples({"x": Real("n")}, {"x": Real("n m")})
    assert find(arguments(domain), lambda a: a[0].ndim == 2)[0].shape == (1, 1)
    assert find(arguments(domain), lambda a: a[0].ndim == 1)[0].shape == (1,)


def test_bind_leaves_the_arrays_alone() -> None:
    f, xs = bind(tg.dropout, [np.ones((3, 3)), 0.5, np.random.default_rng(1)])
    assert len(xs) == 1 and np.array_equal(f(*xs), f(*xs))
    f, xs = bind(tg.concatenate, [[np.ones(2), np.zeros(3)], 0])
    assert [x.shape for x in xs] == [(2,), (3,)] and f(*xs).shape == (5,)
