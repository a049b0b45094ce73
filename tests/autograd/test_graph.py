"""The facts about the graph that every reader may rely on."""

import gc
import threading
import weakref
from copy import deepcopy

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygen as tg
from tinygen.autograd import Real, operations
from tinygen.autograd.context import module_path
from tinygen.errors import DTypeError, GraphError, NoGradientError, NonFiniteError, ShapeError
from tinygen.testing import Graph, arrays, assert_close, check_vjp, graphs, mostly_conclusive, rngs

vectors = arrays(np.float64, (3,))


def leaf(x: object, dtype: type = np.float64) -> tg.Tensor:
    return tg.tensor(np.asarray(x, dtype), requires_grad=True)


# ------------------------------------------------------------------------------------------------------------ traversal


def test_a_chain_of_100_000_operations() -> None:
    x = leaf([0.5, -2.0])
    y = x
    for _ in range(100_000):
        y = y + 1.0
    y.backward(np.array([3.0, -7.0]))
    assert np.array_equal(x.grad.data, [3.0, -7.0])


def test_a_chain_that_was_never_run_backward_can_be_dropped() -> None:
    """Reference counting frees a chain from its end, link by link, without recursion."""
    x = leaf([1.0])
    y = x
    for _ in range(50_000):
        y = y * 1.0
    del y
    y = x  # the same, with every link held by a list argument
    for _ in range(20_000):
        y = tg.concatenate([y])
    del y


@given(x=vectors, u=vectors)
@settings(max_examples=5)
def test_a_stack_of_64_doublings(x: np.ndarray, u: np.ndarray) -> None:
    y = start = leaf(x)
    for _ in range(64):
        y = y + y
    y.backward(u)
    assert np.array_equal(start.grad.data, u * 2.0**64)


@given(x=vectors, u=vectors)
def test_a_node_waits_for_all_its_consumers(x: np.ndarray, u: np.ndarray) -> None:
    start = leaf(x)
    a = start * 2.0
    b = a * a
    c = b + a
    d = c * b
    d.backward(u)
    a_, b_ = 2 * x, 4 * x * x
    assert_close(start.grad, u * 2 * ((2 * a_ + 1) * b_ + (b_ + a_) * 2 * a_), error=1e-12)


# -------------------------------------------------------------------------------------------------------- random graphs


@given(drawn=graphs())
def test_the_value_of_a_graph_is_that_of_its_numpy_twin(drawn: tuple[Graph, list]) -> None:
    graph, xs = drawn
    value = graph(*map(leaf, xs), namespace=tg)
    # A step errs by a few units in the last place, and values of at most 1,000 enlarge what came before.
    assert_close(value, np.asarray(graph(*xs)), error=1e-11)


@mostly_conclusive
@settings(max_examples=60)
@given(drawn=graphs(), rng=rngs())
def test_gradients_of_random_graphs(drawn: tuple[Graph, list], rng: np.random.Generator) -> None:
    graph, xs = drawn
    check_vjp(lambda *xs: graph(*xs, namespace=tg), *xs, order=2, rng=rng)


@settings(max_examples=60)
@given(drawn=graphs(), rng=rngs())
def test_all_ways_to_a_gradient_agree_bit_by_bit(drawn: tuple[Graph, list], rng: np.random.Generator) -> None:
    """A retained graph gives the same again, by `grad` and by `backward`, recorded or not."""
    graph, xs = drawn
    leaves = [leaf(x) for x in xs]
    y = graph(*leaves, namespace=tg)
    u = rng.standard_normal(y.shape)
    y.backward(u, retain_graph=True)
    first = [x.grad.data.copy() for x in leaves]
    recorded = tg.grad(y, leaves, u, create_graph=True)
    y.backward(u, retain_graph=True)
    last = tg.grad(y, leaves, u)
    for x, g, again, plain in zip(leaves, first, recorded, last, strict=True):
        assert np.array_equal(again.data, g) and np.array_equal(plain.data, g) and np.array_equal(x.grad.data, 2 * g)
    y.backward(u)
    with pytest.raises(GraphError, match="retain_graph=True"):
        y.backward(u)


# ------------------------------------------------------------------------------------------------ leaves and their grad


@given(x=vectors, u=vectors)
def test_only_leaves_accumulate(x: np.ndarray, u: np.ndarray) -> None:
    a, other = leaf(x), leaf(x)
    b = a * 3.0
    c = b * b
    c.backward(u)
    first = a.grad.data.copy()
    assert b.grad is None and c.grad is None and other.grad is None
    (a * 3.0).backward(u)
    assert_close(a.grad.data, first + 3 * u)


def test_a_leaf_is_its_own_gradient() -> None:
    x = leaf([1.0, 2.0])
    u = np.array([5.0, -1.0])
    x.backward(u)
    assert np.array_equal(x.grad.data, u) and not np.shares_memory(x.grad.data, u)


@given(u=vectors)
def test_gradients_alias_nothing(u: np.ndarray) -> None:
    a, b = leaf([1.0, 2.0, 3.0]), leaf([4.0, 5.0, 6.0])
    (a + b).backward(u)
    pairs = [a.grad.data, b.grad.data, u, a.data, b.data]
    assert not any(np.shares_memory(p, q) for i, p in enumerate(pairs) for q in pairs[:i])
    before = b.grad.data.copy()
    a.grad.data[:] = 99
    assert np.array_equal(b.grad.data, before)
    c = leaf([1.0, 2.0, 3.0])
    g = tg.grad([c.reshape(3, 1), c.reshape(1, 3)], c, [u.reshape(3, 1), u.reshape(1, 3)])
    assert np.array_equal(g.data, 2 * u)


def test_views_of_a_cotangent_are_copied() -> None:
    x = leaf(np.arange(6.0).reshape(2, 3))
    u = np.arange(6.0).reshape(3, 2)
    x.reshape(3, 2).backward(u)
    assert not np.shares_memory(x.grad.data, u)
    x.grad = None
    tg.broadcast_to(x, (2, 2, 3)).sum().backward()
    assert x.grad.data.flags.writeable


# ---------------------------------------------------------------------------------------------------- freed and missing


def test_a_freed_graph_says_so() -> None:
    x = leaf([1.0])
    y = (x * x).sum()
    y.backward()
    with pytest.raises(GraphError, match=r"sum.*retain_graph=True"):
        y.backward()
    with pytest.raises(GraphError, match="retain_graph"):
        tg.grad(y, x)
    z = x * x
    y1, y2 = z.sum(), (z * 2.0).sum()
    y1.backward()
    with pytest.raises(GraphError, match="retain_graph"):
        y2.backward()


def test_a_retained_graph_gives_the_same_again() -> None:
    x = leaf([1.5, -2.0])
    y = tg.exp(x)
    u = np.array([0.3, -1.0])
    y.backward(u, retain_graph=True)
    first = x.grad.data.copy()
    y.backward(u)
    assert np.array_equal(x.grad.data, 2 * first)


@pytest.fixture
def one_sided():
    @tg.primitive(domain={"a": Real(), "b": Real()})
    def one_sided(a, b):
        """a b, without a rule for b."""
        return a * b

    one_sided.vjp(a=lambda g, b: g * b)
    yield one_sided
    del operations.__dict__["one_sided"]


def test_a_missing_rule_raises(one_sided) -> None:
    a, b = leaf([2.0]), leaf([3.0])
    assert np.array_equal(tg.grad(one_sided(a, b), a, np.array([5.0])).data, [15.0])
    with pytest.raises(NoGradientError, match=r"one_sided.*argument b.*one_sided\.vjp\(b="):
        tg.grad(one_sided(a, b), b, np.array([1.0]))
    with pytest.raises(NoGradientError):
        one_sided(a, b).backward(np.array([1.0]))


def test_a_rule_for_no_argument_is_refused(one_sided) -> None:
    with pytest.raises(TypeError, match="no argument 'c'"):
        one_sided.vjp(c=lambda g: g)
    with pytest.raises(ValueError, match="registered already"):
        tg.primitive(domain=Real())(one_sided.function)


def test_a_rule_of_wrong_shape_is_refused(one_sided) -> None:
    one_sided.vjp(b=lambda g: operations.sum(g))
    b = leaf([3.0, 1.0])
    with pytest.raises(GraphError, match=r"one_sided.*argument b.*shape \(\).*\(2,\)"):
        tg.grad(one_sided(np.array([1.0, 2.0]), b), b, np.ones(2))


def test_unused_inputs() -> None:
    x, y = leaf([1.0]), leaf([1.0])
    with pytest.raises(GraphError, match="allow_unused"):
        tg.grad((x * 2.0).sum(), [x, y])
    gx, gy = tg.grad((x * 2.0).sum(), [x, y], allow_unused=True)
    assert gx.data == [2.0] and gy is None
    with pytest.raises(GraphError, match="input 0 does not require"):
        tg.grad((x * 2.0).sum(), tg.tensor([1.0]))


def test_a_gradient_by_a_value_on_the_way() -> None:
    x = leaf([1.0, 2.0])
    y = x * 3.0
    z = y * y
    u = np.array([1.0, -2.0])
    by_y, by_x = tg.grad(z, [y, x], u)
    assert np.array_equal(by_y.data, 2 * y.data * u) and np.array_equal(by_x.data, 6 * y.data * u)
    assert np.array_equal(tg.grad(y, y, u).data, u)


def test_backward_without_a_graph_raises() -> None:
    with pytest.raises(GraphError, match="depends on nothing"):
        tg.tensor([1.0]).backward(np.ones(1))
    with pytest.raises(ShapeError, match=r"shape \(2,\)"):
        leaf([1.0, 2.0]).backward()
    with pytest.raises(ShapeError, match="cotangent"):
        leaf([1.0, 2.0]).backward(np.ones(3))
    with pytest.raises(DTypeError, match="cotangent"):
        leaf([1.0]).backward(tg.tensor([1.0]))


def test_requires_grad_belongs_to_floating_leaves() -> None:
    x = leaf([1.0])
    with pytest.raises(GraphError, match="only a leaf"):
        (x * 2.0).requires_grad = False
    with pytest.raises(DTypeError, match="floating"):
        tg.tensor([1, 2], requires_grad=True)


# -------------------------------------------------------------------------------------------------------------- context


def test_no_grad_records_nothing_and_ends() -> None:
    x = leaf([1.0])
    with tg.no_grad():
        assert not (x * 2.0).requires_grad
    assert (x * 2.0).requires_grad
    with pytest.raises(ZeroDivisionError), tg.no_grad():
        raise ZeroDivisionError
    assert (x * 2.0).requires_grad


def test_flags_belong_to_their_thread() -> None:
    x = leaf([1.0])
    inside, checked = threading.Event(), threading.Event()
    seen: list[bool] = []

    def other() -> None:
        with tg.no_grad():
            inside.set()
            checked.wait(10)
            seen.append((x * 2.0).requires_grad)

    thread = threading.Thread(target=other)
    thread.start()
    assert inside.wait(10)
    seen.append((x * 2.0).requires_grad)
    checked.set()
    thread.join()
    assert seen == [True, False]


def test_threads_build_graphs_at_once() -> None:
    def work(k: int, found: list[float]) -> None:
        x = leaf([float(k)])
        y = x
        for _ in range(300):
            y = y * 1.0 + x * 0.0
        found[k] = float(tg.grad(y, x, np.array([float(k)])).data[0])

    found = [-1.0] * 8
    threads = [threading.Thread(target=work, args=(k, found)) for k in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert found == list(map(float, range(8)))


def test_anomaly_mode_names_operation_module_and_line() -> None:
    x = leaf([4.0, 0.0])
    token = module_path.set("decoder.layers.2")
    try:
        with np.errstate(divide="ignore"), tg.detect_anomaly():
            with pytest.raises(
                NonFiniteError, match=rf"log in decoder\.layers\.2 \(called at {__file__}:\d+\).*index \(1,\): -inf"
            ):
                tg.log(x)
            y = tg.sqrt(x)
            with pytest.raises(
                NonFiniteError, match=rf"sqrt in decoder\.layers\.2 \(called at {__file__}:\d+\): gradient of x"
            ):
                y.backward(np.ones(2))
    finally:
        module_path.reset(token)
    with np.errstate(divide="ignore"):
        assert np.isinf(tg.log(x).data[1])


# --------------------------------------------------------------------------------------------------------------- memory


def test_reference_counting_frees_a_graph() -> None:
    def layer(hidden: tg.Tensor) -> tg.Tensor:
        return tg.relu(tg.linear(hidden.reshape(1, 2), leaf([[1.0], [2.0]]), None, "silu")).sum()

    x = leaf([1.0, 2.0])
    tg.grad(layer(x), x, create_graph=True)  # to compile a kernel makes cycles that hold its arguments
    gc.collect()
    gc.disable()
    try:
        hidden = tg.exp(x * 2.0)
        y = layer(hidden)
        kept = [weakref.ref(hidden.data), weakref.ref(hidden)]
        del hidden
        assert kept[1]() is None and kept[0]() is not None, "a node keeps the arrays that its rule reads, not Tensors"
        g = tg.grad(y, x, create_graph=True)
        second = weakref.ref(g.data)
        del y, g
        assert kept[0]() is None and second() is None
        y = tg.exp(x).sum()
        node = y.node
        array = weakref.ref(node.parents[0][2].out)
        y.backward()
        assert array() is None, "backward frees what the graph kept, even if the result lives on"
    finally:
        gc.enable()


def test_a_node_keeps_only_what_its_rules_read() -> None:
    x, w = leaf([1.0, 2.0]), np.array([3.0, 4.0])
    kept = weakref.ref((x * 1.0).data)
    assert kept() is None
    summand = x * 2.0
    array = weakref.ref(summand.data)
    y = summand + w
    del summand
    assert array() is None and y.requires_grad


def test_deepcopy_copies_leaves_alone() -> None:
    x = leaf([1.0, 2.0])
    (x * 2.0).sum().backward()
    both = deepcopy({"a": x, "b": x})
    assert both["a"] is both["b"] and both["a"] is not x
    assert both["a"].requires_grad and np.array_equal(both["a"].grad.data, [2.0, 2.0])
    assert not np.shares_memory(both["a"].data, x.data) and not np.shares_memory(both["a"].grad.data, x.grad.data)
    with pytest.raises(GraphError, match="deepcopy"):
        deepcopy(x * 2.0)


# --------------------------------------------------------------------------------------------------- higher derivatives


@settings(max_examples=10)
@given(x=arrays(np.float64, (3,), domain=(0.3, 2.0)), rng=rngs())
def test_third_order(x: np.ndarray, rng: np.random.Generator) -> None:
    check_vjp(lambda x: tg.exp(x) * tg.sin(x) / x, x, order=3, rng=rng)


def test_create_graph_leaves_grad_alone_and_can_be_repeated() -> None:
    x = leaf(3.0)
    y = x**4
    for expected in (108.0, 108.0, 72.0, 24.0):
        y = tg.grad(y, x, create_graph=True)
        assert float(y) == pytest.approx(expected)
    assert x.grad is None


@settings(max_examples=5)
@given(seed=st.integers(0, 2**32 - 1))
def test_gradient_penalty_through_convolutions(seed: int) -> None:
    """d/dw of ‖d critic/d image‖, critic = Σ u · conv ∘ silu ∘ conv: by central differences to a relative 1e-6."""
    rng = np.random.default_rng(seed)
    image = rng.standard_normal((2, 5, 5, 2))
    weights = [rng.standard_normal((3, 3, 2, 3)) / 3, rng.standard_normal((3, 3, 3, 1)) / 3]
    u = rng.standard_normal((2, 2, 2, 1))

    def penalty(w1: tg.Tensor, w2: tg.Tensor) -> tg.Tensor:
        x = tg.tensor(image, requires_grad=True)
        score = tg.conv2d(tg.silu(tg.conv2d(x, w1, stride=2, padding=1)), w2, padding=(1, 1), stride=2)
        g = tg.grad(score, x, u, create_graph=True)
        return (tg.sqrt((g * g).sum((1, 2, 3)) + 1e-12) - 1.0).sum() ** 2

    leaves = [leaf(w) for w in weights]
    found = tg.grad(penalty(*leaves), leaves)
    for k, w in enumerate(weights):
        differences = np.zeros_like(w)
        for place in np.ndindex(w.shape):
            moved = [[v.copy() for v in weights] for _ in range(2)]
            moved[0][k][place] += 1e-5
            moved[1][k][place] -= 1e-5
            ahead, behind = (float(penalty(*[leaf(v) for v in m])) for m in moved)
            differences[place] = (ahead - behind) / 2e-5
        assert np.abs(found[k].data - differences).max() <= 1e-6 * np.abs(differences).max()


def test_a_freed_part_is_not_passed_silently() -> None:
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    y = x * x
    y.sum().backward()
    with pytest.raises(GraphError, match="retain_graph"):
        tg.grad((y * 3 + x).sum(), x)
    with pytest.raises(GraphError, match="retain_graph"):
        tg.grad((y * 3).sum(), x, allow_unused=True)


def test_derivatives_asked_for_by_name_are_recorded_within_no_grad() -> None:
    x = tg.tensor([-1.0, 2.0], requires_grad=True)
    y = tg.sum(tg.silu(x))
    with tg.no_grad():
        first = tg.grad(y, x, create_graph=True)
        slope = tg.func.grad(lambda x: (x**2).sum())(tg.tensor([3.0]))
    np.testing.assert_allclose(first.data, tg.grad(y, x).data, rtol=1e-6)
    assert first.requires_grad
    assert slope.data == 6


def test_a_recorded_gradient_is_not_the_cotangent() -> None:
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    c = np.array([3.0, 4.0], np.float32)
    assert not np.shares_memory(tg.grad(x + 1, x, c, create_graph=True).data, c)
