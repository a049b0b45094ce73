"""How a Tensor feels: NumPy's names, dtypes that stay, and errors that teach."""

import operator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygen as tg
from tinygen.autograd import operations
from tinygen.errors import DTypeError, GraphError, ShapeError, TinygenError
from tinygen.testing import arrays, assert_close, shapes

DTYPES = st.sampled_from([np.float32, np.float64])
ARITHMETIC = [operator.add, operator.sub, operator.mul, operator.truediv, operator.pow]
COMPARISON = [operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge]


# --------------------------------------------------------------------------------------------------------------- dtypes


@given(
    dtype=DTYPES,
    f=st.sampled_from(ARITHMETIC),
    scalar=st.sampled_from([2, 2.0, np.sqrt(2.0), np.float32(2), np.int64(2), True]),
)
def test_scalars_adopt_the_dtype(dtype: type, f: object, scalar: object) -> None:
    x = tg.tensor(np.array([1.5, 2.5], dtype), requires_grad=True)
    for y in (f(x, scalar), f(scalar, x)):
        assert isinstance(y, tg.Tensor) and y.dtype == dtype
        first = tg.grad(y.sum(), x, create_graph=True)
        assert first.dtype == dtype
        if first.requires_grad:
            assert tg.grad(first.sum(), x, allow_unused=True).dtype == dtype


@pytest.mark.parametrize("f", ARITHMETIC)
def test_mixed_dtypes_raise(f: object) -> None:
    narrow, wide = tg.tensor([1.0, 2.0]), np.array([1.0, 2.0])
    for a, b in ((narrow, wide), (wide, narrow), (narrow, tg.Tensor(wide)), (tg.Tensor(wide), narrow)):
        with pytest.raises(DTypeError, match=r"float(32|64).*astype\(np\.float(32|64)\)"):
            f(a, b)
    with pytest.raises(DTypeError):
        tg.concatenate([narrow, tg.Tensor(wide)])
    with pytest.raises(DTypeError):
        f(narrow, np.array([1, 2]))
    assert f(narrow, [1, 2]).dtype == np.float32


def test_construction() -> None:
    assert tg.tensor([1.0]).dtype == np.float32 and tg.tensor(1.0).dtype == np.float32
    assert tg.tensor(np.array([1.0])).dtype == np.float64 and tg.tensor(np.float64(1.0)).dtype == np.float64
    assert tg.tensor([1, 2]).dtype.kind == "i" and tg.tensor([True]).dtype == bool
    assert tg.tensor([1, 2], dtype=np.float32, requires_grad=True).requires_grad
    source = np.ones(3)
    assert not np.shares_memory(tg.tensor(source).data, source) and np.shares_memory(tg.Tensor(source).data, source)
    with pytest.raises(DTypeError, match="expected numbers"):
        tg.tensor(["a", "b"])
    with pytest.raises(DTypeError, match="expected numbers"):
        tg.tensor([1 + 2j])
    with pytest.raises(ShapeError, match="nested evenly"):
        tg.tensor([[1.0], [1.0, 2.0]])


@given(dtype=DTYPES)
def test_zero_dimensions_stay(dtype: type) -> None:
    x = tg.tensor(np.array(0.75, dtype), requires_grad=True)
    for name, operation in operations.all().items():
        domain = operation.domain
        if not (isinstance(domain, dict) and set(domain) <= {"x"} and domain["x"].__class__.__name__ == "Real"):
            continue
        if domain["x"].shape != "..." or name == "ravel":
            continue
        y = operation(x)
        assert type(y.data) is np.ndarray and y.shape == (), name
        assert type(operation(x.data)) is np.ndarray, name
        if y.requires_grad:
            g = tg.grad(y, x)
            assert type(g.data) is np.ndarray and g.shape == () and g.dtype == dtype, name
    for y in (x + 1, 1 - x, x * x, x / 3, x**2, x[...], x.sum(), x.mean(), x.max()):
        assert type(y.data) is np.ndarray and y.shape == ()
    (x * x).backward()
    assert type(x.grad.data) is np.ndarray and x.grad.shape == ()


# ---------------------------------------------------------------------------------------------------------------- NumPy


@given(x=arrays(np.float64, shapes(max_dims=2, min_side=1), domain=(0.5, 2.0)))
def test_methods_are_numpys(x: np.ndarray) -> None:
    t = tg.tensor(x)
    for f in ARITHMETIC + COMPARISON:
        assert_close(f(t, 1.25), f(x, 1.25), what=f.__name__)
        assert_close(f(1.25, t), f(1.25, x), what=f.__name__)
        assert_close(f(x, t), f(x, x), what=f.__name__)
    for name in ("sum", "mean", "var", "std", "max", "min", "argmax", "argmin", "cumsum", "squeeze"):
        assert_close(getattr(t, name)(), np.asarray(getattr(x, name)()), error=1e-15, what=name)
    assert_close(t.T, x.T)
    assert_close(t.reshape(-1), x.reshape(-1))
    assert_close(t.transpose(), x.transpose())
    assert_close(-t, -x)
    assert_close(+t, x)
    assert_close(abs(t), x)
    assert_close(t.clip(0.7, 1.5), x.clip(0.7, 1.5))
    assert_close(t.detach(), x)
    assert (t.shape, t.dtype, t.ndim, t.size) == (x.shape, x.dtype, x.ndim, x.size)
    assert_close(~(t > 1) & (t < 1.5) | (t == 1), ~(x > 1) & (x < 1.5) | (x == 1))


def test_matmul_and_dot() -> None:
    rng = np.random.default_rng(0)
    for a, b in (((2, 3), (3, 4)), ((3,), (3, 2)), ((5, 2, 3), (3, 4)), ((2, 3), (5, 3, 2)), ((3,), (3,))):
        x, y = rng.standard_normal(a), rng.standard_normal(b)
        assert_close(tg.tensor(x) @ y, x @ y, error=1e-14)
        assert_close(x @ tg.tensor(y), x @ y, error=1e-14)
        assert_close(tg.tensor(x).dot(y), np.asarray(x.dot(y)), error=1e-14)


def test_numpy_functions_dispatch() -> None:
    t = tg.tensor(np.array([[1.0, 2.0], [3.0, 4.0]]), requires_grad=True)
    for y in (
        np.exp(t),
        np.concatenate([t, t]),
        np.sum(t, axis=1),
        np.where(t.data > 2, t, 0.0),
        np.einsum("ij->i", t),
    ):
        assert isinstance(y, tg.Tensor) and y.requires_grad
    assert np.shape(t) == (2, 2) and np.ndim(t) == 2 and np.size(t) == 4
    assert isinstance(np.float64(2.0) * t, tg.Tensor) and isinstance(np.ones(2) + t, tg.Tensor)


def test_an_unregistered_function_names_the_nearest() -> None:
    t = tg.tensor([1.0, 2.0], requires_grad=True)
    with pytest.raises(TypeError, match=r"np\.exp2.*gradient.*did you mean 'exp'"):
        np.exp2(t)
    with pytest.raises(TypeError, match=r"np\.nansum.*did you mean 'sum'"):
        np.nansum(t)
    with pytest.raises(TypeError, match="np.fft|np.rfft"):
        np.fft.rfft(t)
    with pytest.raises(TypeError, match=r"np\.add\.reduce"):
        np.add.reduce(t)
    with pytest.raises(TypeError, match="out"):
        np.add(t, 1.0, out=np.zeros(2, np.float32))


def test_a_silent_loss_of_the_gradient_is_an_error() -> None:
    t = tg.tensor([1.0, 2.0], requires_grad=True)
    for convert in (np.asarray, np.array, lambda t: t.numpy(), lambda t: tg.tensor(t)):
        with pytest.raises(GraphError, match="detach"):
            convert(t)
    assert np.array_equal(np.asarray(t.detach()), [1.0, 2.0])
    x = np.zeros(2, np.float32)
    with pytest.raises((TypeError, GraphError)):
        x += t


def test_assignment_names_the_way_out() -> None:
    t = tg.tensor([1.0, 2.0])
    with pytest.raises(GraphError, match=r"where.*scatter"):
        t[0] = 3.0


# -------------------------------------------------------------------------------------------------- numbers and indices


def test_numbers() -> None:
    t = tg.tensor([[2.5]])
    assert (t.item(), float(t), int(t), bool(t), f"{t:.1f}") == (2.5, 2.5, 2, True, "2.5")
    assert range(5)[tg.tensor(3)] == 3 and len(tg.tensor([1.0, 2.0])) == 2
    with pytest.raises(ShapeError, match=r"\(2,\)"):
        tg.tensor([1.0, 2.0]).item()
    with pytest.raises(ValueError):
        bool(tg.tensor([1.0, 2.0]))
    assert repr(tg.tensor([1.0], requires_grad=True)) == "tensor([1.], dtype=float32, requires_grad=True)"


def test_iteration_and_membership() -> None:
    t = tg.tensor(np.array([[1.0, 2.0], [3.0, 4.0]]), requires_grad=True)
    a, b = t
    (a * b).sum().backward()
    assert np.array_equal(t.grad.data, [[3.0, 4.0], [1.0, 2.0]])
    with pytest.raises((TypeError, IndexError, TinygenError)):
        iter(tg.tensor(1.0)).__next__()


def test_tensors_index_tensors() -> None:
    t = tg.tensor(np.arange(5.0), requires_grad=True)
    y = t[tg.tensor([1, 1, 3])] + t[(tg.tensor([0, 2, 4]),)]
    u = np.array([1.0, 10.0, 100.0])
    assert np.array_equal(tg.grad(y, t, u).data, [1.0, 11.0, 10.0, 100.0, 100.0])
    mask = t > 2.5
    assert np.array_equal(tg.grad(t[mask], t, np.array([7.0, 8.0])).data, [0, 0, 0, 7.0, 8.0])
    with pytest.raises(ShapeError, match=r"getitem.*\(5,\)"):
        t[7]


def test_hash_is_identity() -> None:
    a, b = tg.tensor([1.0]), tg.tensor([1.0])
    assert len({a, b, a}) == 2
