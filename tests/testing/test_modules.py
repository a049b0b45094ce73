"""Parameters are never degenerate, and compositions of bijections are what was asked for."""

from copy import deepcopy

import numpy as np
import pytest
from hypothesis import find, given, settings
from hypothesis import strategies as st
from hypothesis.errors import InvalidArgument

import tinygen as tg
from tinygen import nn
from tinygen.bijections import ActNorm, Bijection, Chain, Inverse, Reverse
from tinygen.testing import bijections, parameters


class Model(nn.Module):
    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.layers = [nn.MLP([3, 4, 2], rng, last_init=nn.init.zeros), nn.BatchNorm(2)]
        self.norm = ActNorm(2)
        self.again = self.layers[1]
        self.mask = np.array([True, False])
        self.order = np.arange(3)


@given(st.data(), st.sampled_from([np.float32, np.float64]), st.sampled_from([1e-3, 0.5, 1e4]))
def test_parameters_are_distinct_and_far_from_zero(data: st.DataObject, dtype: type, scale: float) -> None:
    model = Model()
    before = deepcopy(model.state_dict())
    drawn = data.draw(parameters(model, scale=scale, dtype=dtype))
    values = np.concatenate([p.data.ravel() for p in drawn.parameters()])
    assert values.dtype == dtype and values.size == sum(p.size for p in model.parameters())
    assert len(np.unique(np.abs(values))) == values.size
    assert 0.2 * scale <= np.abs(values).min() and np.abs(values).max() <= 1.8 * scale
    assert 0.95 * scale < np.abs(values).mean() < 1.05 * scale
    assert (values < 0).any() and (values > 0).any()
    assert drawn.again is drawn.layers[1] and drawn.norm.initialized
    assert drawn.again.running_var.dtype == dtype and (drawn.again.running_var == 1).all()
    assert drawn.mask.tolist() == [True, False] and drawn.order.dtype == model.order.dtype
    assert all(np.array_equal(value, before[name]) for name, value in model.state_dict().items())


@given(
    parameters(
        st.sampled_from([nn.Linear(2, 2, np.random.default_rng(0)), Reverse()]),
        scale=st.floats(0.1, 9),
        dtype=st.sampled_from([np.float32, np.float64]),
    )
)
def test_models_scales_and_dtypes_may_be_drawn(model: nn.Module) -> None:
    assert isinstance(model, Reverse) or model.weight.dtype in (np.float32, np.float64)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (lambda: parameters(3), "Module, got int"),
        (lambda: parameters(Reverse(), scale=0), "scale must be positive"),
        (lambda: parameters(Reverse(), scale=np.nan), "scale must be positive"),
        (lambda: parameters(Reverse(), dtype=int), "floating, got int64"),
        (lambda: bijections(0), "dim=0"),
        (lambda: bijections(2, depth=0), "depth=0"),
        (lambda: bijections(st.just(0)), "dim=0"),
        (lambda: bijections(2, []), "must not be empty"),
        (lambda: bijections(2, [lambda dim, rng: np.exp]), "gave ufunc"),
    ],
)
def test_arguments_are_validated(wrong, text: str) -> None:
    with pytest.raises(InvalidArgument, match=text):
        find(wrong(), lambda drawn: True)


def members(b: Bijection) -> list[Bijection]:
    return [m for m in b.modules() if isinstance(m, Bijection) and not isinstance(m, Chain | Inverse)]


@settings(max_examples=25)
@given(st.data(), st.integers(1, 4), st.integers(1, 4))
def test_compositions_keep_to_their_depth(data: st.DataObject, dim: int, depth: int) -> None:
    b = data.draw(bijections(dim, depth=depth))
    assert 1 <= len(members(b)) <= depth
    z, log_det = b(np.zeros((2, dim)))
    assert z.shape == (2, dim) and log_det.dtype == np.float64


@settings(max_examples=10)
@given(bijections(st.just(2), depth=st.just(1)), parameters(nn.Linear(2, 2, np.random.default_rng(0)), 1e4))
def test_dimensions_may_be_drawn_and_scales_positional(b: Bijection, model: nn.Linear) -> None:
    assert len(members(b)) == 1 and b(np.zeros((2, 2)))[0].shape == (2, 2)
    assert np.abs(model.weight.data).min() > 1000


def shape(b: Bijection) -> str:
    if isinstance(b, Chain):
        return f"Chain({', '.join(map(shape, b.bijections))})"
    return f"Inverse({shape(b.bijection)})" if isinstance(b, Inverse) else type(b).__name__


@pytest.mark.parametrize(
    ("holds", "smallest"),
    [
        (lambda b: True, "ActNorm"),
        (lambda b: isinstance(b, Inverse), "Inverse(ActNorm)"),
        (lambda b: isinstance(b, Chain) and isinstance(b.bijections[0], Inverse), "Chain(Inverse(ActNorm), ActNorm)"),
    ],
)
def test_compositions_shrink(holds, smallest: str) -> None:
    few = settings(max_examples=200, database=None)
    assert shape(find(bijections(2), holds, settings=few)) == smallest


@given(st.from_type(tg.Tensor))
def test_tensors_are_known_by_their_type(x: tg.Tensor) -> None:
    assert isinstance(x, tg.Tensor) and x.requires_grad and x.dtype in (np.float32, np.float64) and x.ndim <= 3
