"""What strategies draw is what they say, and shrinks to something small."""

from copy import deepcopy

import numpy as np
import pytest
from hypothesis import find, given, settings
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
