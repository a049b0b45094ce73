"""Random graphs are what they say, run in any namespace, and show an engine that forgets that values are used again."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st
from hypothesis.errors import InvalidArgument

import tinygen as tg
from tinygen.testing import GradientError, Graph, Inconclusive, Step, assert_close, check_vjp, graphs, rngs

X = np.array([0.5, -1.0])


@settings(max_examples=50)
@given(drawn=graphs(), data=st.data())
def test_every_argument_and_step_is_used(drawn: tuple[Graph, list], data: st.DataObject) -> None:
    graph, xs = drawn
    assert len(xs) == graph.leaves <= 3 and 1 <= len(graph.steps) <= 8
    uses = Counter(place for step in graph.steps for place in step.places)
    places = graph.leaves + len(graph.steps)
    assert set(uses) == set(range(places - 1))  # the last is the result
    assert all(place < graph.leaves + i for i, step in enumerate(graph.steps) for place in step.places)
    assert np.abs(graph(*xs)).max() <= 1000
    narrow, (x,) = data.draw(graphs(["negative"], max_nodes=2, max_dims=1, max_side=1, domain=(1, 2), dtype=np.float32))
    assert len(narrow.steps) <= 2 and x.size == 1 and x.dtype == np.float32 and abs(narrow(x)) >= 1


@pytest.mark.parametrize(
    "wanted",
    [
        lambda graph: any(step.places[0] == step.places[-1] for step in graph.steps if len(step.places) == 2),
        lambda graph: sum(0 in step.places for step in graph.steps) == 3,
        lambda graph: sum(graph.leaves in step.places for step in graph.steps) == 3,
        lambda graph: graph.leaves == 3 and len(graph.steps) == 8,
        lambda graph: {"sum", "mean"} & {step.op for step in graph.steps[:-1]},
    ],
    ids=["x op x", "a leaf thrice", "a step thrice", "the largest", "a reduction within"],
)
def test_what_occurs(wanted) -> None:
    assert find(
        graphs(),
        lambda drawn: wanted(drawn[0]),
        settings=settings(max_examples=1000, database=None, phases=[Phase.generate]),
    )


@pytest.mark.parametrize(
    ("holds", "smallest"),
    [
        (lambda graph, xs: graph.leaves == 2, "x0 + x1"),
        (lambda graph, xs: len(graph.steps) == 3, "a = sin(x0); b = sin(a); sin(b)"),
        (lambda graph, xs: graph.steps[-1].op == "multiply", "x0 * x0"),
    ],
)
def test_shrinking(holds, smallest: str) -> None:
    graph, xs = find(graphs(), lambda drawn: holds(*drawn), settings=settings(max_examples=1000, database=None))
    assert repr(graph) == smallest and all(x.shape == () and x == 0 for x in xs)


def test_the_repr_is_the_program() -> None:
    graph = Graph(2, (Step("sin", (0,)), Step("multiply", (2, 2)), Step("hypot", (3, 1)), Step("sum", (4,))))
    assert repr(graph) == "a = sin(x0); b = a * a; c = hypot(b, x1); sum(c)"
    *lines, last = repr(graph).split("; ")
    names = {"x0": X, "x1": 3.0, **{name: getattr(np, name) for name in ("sin", "hypot", "sum")}}
    exec("\n".join(lines), names)
    assert eval(last, names) == graph(X, 3.0)
    long = Graph(1, tuple(Step("sin", (i,)) for i in range(30)))
    assert repr(long).split("; ")[21:25] == ["v = sin(u)", "w = sin(v)", "a1 = sin(w)", "b1 = sin(a1)"]


def test_any_namespace_that_has_the_names() -> None:
    class Doubled:
        sin = staticmethod(lambda x: 2 * x)

    assert Graph(1, (Step("sin", (0,)), Step("sin", (1,))))(3.0, namespace=Doubled) == 12
    t = tg.Tensor(X, requires_grad=True)
    graph = Graph(1, (Step("sin", (0,)), Step("multiply", (0, 1))))
    assert_close(graph(t), graph(t, namespace=tg))
    assert isinstance(graph(X), np.ndarray)
    with pytest.raises(TypeError, match=r"sin\(x0\).*takes 1 arguments, got 2"):
        graph(1.0, 2.0)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"ops": []}, "needs an operation"),
        ({"ops": ["sine"]}, "'sine' must name a NumPy ufunc"),
        ({"ops": ["cumsum"]}, "'cumsum' must name"),
        ({"ops": ["modf"]}, "'modf' must name"),
        ({"ops": ["pi"]}, "'pi' must name"),
        ({"max_nodes": 0}, "max_nodes=0"),
        ({"max_leaves": 0}, "max_leaves=0"),
    ],
)
def test_arguments_are_validated(options: dict, text: str) -> None:
    with pytest.raises(InvalidArgument, match=text):
        find(graphs(**options), lambda drawn: True)


@settings(max_examples=50)
@given(drawn=graphs(["log", "multiply", "divide"], domain=(-1, 2)))
def test_values_on_the_way_are_finite_and_small(drawn: tuple[Graph, list]) -> None:
    graph, xs = drawn
    for end in range(1, len(graph.steps) + 1):
        assert (np.abs(Graph(graph.leaves, graph.steps[:end])(*xs)) <= 1000).all()


def test_places_are_traced() -> None:
    graph = Graph(2, (Step("sin", (0,)), Step("multiply", (2, 1))))
    assert graph.trace(0.5, 3.0) == [0.5, 3.0, np.sin(0.5), 3 * np.sin(0.5)]


@given(drawn=graphs(["sin"], 2))
def test_the_number_of_nodes_may_be_positional(drawn: tuple[Graph, list]) -> None:
    assert len(drawn[0].steps) <= 2


# ------------------------------------------------------------------------------------ an engine that accumulates or not


def pull(graph: Graph, xs: list, u: np.ndarray, fault: str) -> list[np.ndarray]:
    """Reverse mode in a few lines, for sums, products and sines of numbers; ``fault`` is a mistake in the traversal."""
    values = list(xs)
    for step in graph.steps:
        values.append(getattr(np, step.op)(*(values[place] for place in step.places)))
    gradients = [np.zeros(())] * len(values)
    gradients[-1] = u
    order = range(len(graph.steps))
    for i in order if fault == "visits before all consumers" else reversed(order):
        step, g = graph.steps[i], gradients[graph.leaves + i]
        a, b = (values[step.places[0]], values[step.places[-1]])
        parts = {"sin": (g * np.cos(a),), "add": (g, g), "multiply": (g * b, g * a)}[step.op]
        for place, part in zip(step.places, parts, strict=True):
            gradients[place] = part if fault == "overwrites" else gradients[place] + part
    return gradients[: graph.leaves]


def check(graph: Graph, xs: list, fault: str, rng: np.random.Generator) -> None:
    check_vjp(graph, *xs, vjp=lambda f, *xs: (f(*xs), lambda u: pull(f, list(xs), u, fault)), rng=rng)


plain = graphs(["sin", "add", "multiply"], max_dims=0)


@pytest.mark.parametrize("fault", ["overwrites", "visits before all consumers"])
def test_faults_of_traversal_show_at_once(fault: str) -> None:
    def shows(drawn: tuple[Graph, list]) -> bool:
        try:
            check(*drawn, fault, np.random.default_rng(0))
        except GradientError:
            return True
        except Inconclusive:
            pass
        return False

    few = settings(max_examples=100, database=None)
    graph, _ = find(plain, shows, settings=few)
    assert len(graph.steps) <= 2, "and the smallest program is small"


@settings(max_examples=50)
@given(drawn=plain, rng=rngs())
def test_the_same_engine_without_a_fault(drawn: tuple[Graph, list], rng: np.random.Generator) -> None:
    check(*drawn, "", rng)
