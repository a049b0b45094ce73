"""What is replayed does the same as what is called: every operation, gradients of both orders, models in training."""

import gc
import threading
import tracemalloc
import weakref
from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import partial
from itertools import count
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygen as tg
from kernels.calls import do
from tinygen import nn, optim
from tinygen.autograd import Primitive, effect, memory, operations, program
from tinygen.autograd.domain import Boolean
from tinygen.autograd.program import Program
from tinygen.errors import GraphError, NonFiniteError
from tinygen.models import VAE
from tinygen.testing import arguments, bind, rngs

OPERATIONS = {n: o for n, o in operations.all().items() if not isinstance(o, Primitive) or o.rules or o.joint}
del OPERATIONS["dropout"]  # each call of `bind` gives it a copy of its generator, which is seen; it has its own test


@pytest.fixture(scope="module", autouse=True)
def poisoned() -> Iterator[None]:
    """What is read before it is written is NaN."""
    made = memory._block
    with pytest.MonkeyPatch.context() as patch:

        def poison(size: int) -> np.ndarray:
            block = made(size)
            block.fill(255)
            return block

        patch.setattr(memory, "_block", poison)
        yield


def bits(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [bits(v) for v in value]
    return None if value is None else (value.shape, value.dtype, value.data.tobytes())


def thrice(f: Callable, draw: Callable[[], list[np.ndarray]]) -> None:
    """Three calls of a replayed function, the last of which is replayed, give the bits of the function itself."""
    again = tg.replayed(f)
    for _ in range(3):
        xs = draw()
        expected = bits(f(*[tg.Tensor(x.copy()) for x in xs]))
        assert bits(again(*xs)) == expected


@pytest.mark.parametrize("name", OPERATIONS)
@settings(max_examples=8)
@given(data=st.data(), rng=rngs())
def test_every_operation_and_its_gradients(name: str, data: st.DataObject, rng: np.random.Generator) -> None:
    """The arguments move a little from call to call, and those that need no gradient do too."""
    f, xs = bind(OPERATIONS[name], data.draw(arguments(OPERATIONS[name])))
    wanted = data.draw(st.lists(st.sampled_from(range(len(xs))), unique=True))
    order, strided = data.draw(st.integers(1, 2)), data.draw(st.booleans())

    def value_and_gradients(*args: tg.Tensor) -> list:
        inputs = [tg.Tensor(a.data, requires_grad=i in wanted) for i, a in enumerate(args[: len(xs)])]
        # Every second element of a larger array: what needs contiguous arrays copies it.
        places = [tg.stack([t, -t], -1)[..., 0] for t in inputs] if strided else inputs
        y, leaves = f(*places), [inputs[i] for i in wanted]
        if not leaves or not y.requires_grad:
            return [y]
        first = tg.grad(y, leaves, args[-1], create_graph=order == 2, allow_unused=True)
        if order == 1:
            return [y, first]
        curved = [g for g in first if g is not None and g.requires_grad]
        weights = [g.detach() * 0.5 for g in curved]
        return [y, first, tg.grad(curved, leaves, weights, allow_unused=True) if curved else None]

    u = rng.standard_normal(np.shape(f(*xs)))

    def draw() -> list[np.ndarray]:
        moved = [np.asarray(x + 1e-6 * rng.uniform(-1, 1, x.shape)) for x in xs]
        return [*moved, np.asarray(rng.standard_normal(u.shape))]

    thrice(value_and_gradients, draw)


# ------------------------------------------------------------------------------------------------------------- training


def copies(rng: np.random.Generator) -> list:
    """The same small network and optimizer twice."""
    state = rng.bit_generator.state
    made = []
    for _ in range(2):
        rng.bit_generator.state = state
        net = nn.Sequential(nn.Linear(3, 4, rng), nn.BatchNorm(4), tg.relu, nn.Linear(4, 2, rng, activation="silu"))
        made.append((net, optim.Adam(net.parameters(), 0.01, max_norm=0.5)))
    return made


def weights(net: nn.Module) -> list:
    return [(name, a.tobytes()) for name, a in net.state_dict().items()]


@settings(max_examples=5)
@given(rng=rngs())
def test_training_with_two_updates_has_the_same_bits(rng: np.random.Generator) -> None:
    """The second loss of a step sees the weights that the first has led to; buffers follow by an effect."""
    (net, optimizer), (usual, usual_optimizer) = copies(rng)

    def step(net: nn.Module, optimizer: optim.Optimizer, x: tg.Tensor, double: bool) -> tuple:
        h = net(x)
        loss = tg.mean(tg.square(h))
        norm = optimizer.minimize(loss)
        return loss, norm, optimizer.minimize(tg.mean(h * net(x))) if double else None

    again = tg.replayed(lambda x, double: step(net, optimizer, x, double))
    for k in range(8):
        x = rng.standard_normal((5, 3)).astype(np.float32)
        optimizer.lr_scale = usual_optimizer.lr_scale = 1 / (1 + k)
        if k == 6:
            optimizer.betas = usual_optimizer.betas = (0.8, 0.99)
            optimizer.eps = usual_optimizer.eps = 0.1
            optimizer.weight_decay = usual_optimizer.weight_decay = 0.2
        expected = step(usual, usual_optimizer, tg.Tensor(x), k % 2 == 0)
        assert bits(again(x, k % 2 == 0)) == bits(expected)
        assert weights(net) == weights(usual)
    assert optimizer.steps.tolist() == [12] * len(optimizer.steps)


def test_what_an_optimizer_adds_to_a_step_is_replayed(runs: list) -> None:
    class Shrinking(optim.Adam):
        def _update(self, steps: np.ndarray) -> None:
            self.flat.data *= 0.9
            super()._update(steps)

    (net, _), (usual, _) = copies(np.random.default_rng(3))
    steps = []
    for each in net, usual:
        optimizer = Shrinking(each.parameters(), 0.01)
        steps.append(partial(lambda n, o, x: o.minimize(tg.mean(tg.square(n(x)))), each, optimizer))
    again = tg.replayed(steps[0])
    for x in np.random.default_rng(4).standard_normal((5, 6, 3)).astype(np.float32):
        assert bits(again(x)) == bits(steps[1](tg.Tensor(x)))
        assert weights(net) == weights(usual)
    assert len(runs) == 3


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list:
    """One entry for each call that was replayed."""
    seen: list = []
    run = Program.run

    def counted(self: Program, arguments: Any) -> Any:
        seen.append(self)
        return run(self, arguments)

    monkeypatch.setattr(Program, "run", counted)
    return seen


class Scaled(nn.Module):
    """A module within a module, a parameter, and a buffer that follows."""

    def __init__(self) -> None:
        self.inner = nn.Sequential(nn.BatchNorm(2))
        self.factor = nn.Parameter(np.array([2.0, 3.0], np.float32))

    @tg.replayed
    def value(self, x: tg.Tensor, power: float) -> list:
        y = self.inner(x) * self.factor**power
        trained = [p for p in self.parameters() if p.requires_grad]
        return [y, tg.grad(tg.sum(y * y), trained) if y.requires_grad else None]


CHANGES: dict[str, Callable[[Scaled], Any]] = {
    "a submodule's mode": lambda m: m.inner.eval(),
    "a parameter's array": lambda m: setattr(m.factor, "data", m.factor.data * 3),
    "the array of a parameter used later": lambda m: setattr(m.inner.layers[0].bias, "data", np.ones(2, np.float32)),
    "a parameter that is frozen": lambda m: setattr(m.factor, "requires_grad", False),
    "a buffer in place": lambda m: m.inner.layers[0].running_var.fill(5),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_changes_between_calls_are_seen(change: Callable, runs: list) -> None:
    rng = np.random.default_rng(0)
    model, usual = Scaled(), Scaled()
    optim.Adam([*model.parameters()])  # whose flat array is the memory of all parameters
    for training in (True, False):
        for m in (model, usual):
            m.train(training)
        for k in range(12):
            if k == 6:
                change(model)
                change(usual)
            x = rng.standard_normal((3, 2)).astype(np.float32)
            assert bits(model.value(x, 2.0)) == bits(Scaled.value.function(usual, tg.Tensor(x), 2.0))
            assert weights(model) == weights(usual)
    assert len(runs) >= 12


def test_shapes_options_and_recording_are_told_apart(runs: list) -> None:
    rng = np.random.default_rng(0)
    model, usual = Scaled().eval(), Scaled().eval()
    for k in range(24):
        x = rng.standard_normal((3 + k % 2, 2)).astype(np.float32)
        for power in (1, 1.0, True):
            assert bits(model.value(x, power)) == bits(Scaled.value.function(usual, tg.Tensor(x), power))
    with tg.no_grad():
        for _ in range(4):
            assert bits(model.value(x, 1)) == bits(Scaled.value.function(usual, tg.Tensor(x), 1))
    assert len(runs) == 3 * 24 - 12 + 2


def test_dropout_and_spectral_norm_draw_and_iterate_in_every_call(runs: list) -> None:
    def made() -> tuple[nn.Module, optim.Optimizer]:
        rng = np.random.default_rng(0)
        net = nn.Sequential(nn.spectral_norm(nn.Linear(4, 4, rng), rng), nn.Dropout(0.1, rng), nn.Linear(4, 2, rng))
        return net, optim.SGD(net.parameters(), 0.1)

    (net, optimizer), (usual, usual_optimizer) = made(), made()
    step = tg.replayed(lambda x: optimizer.minimize(tg.sum(tg.square(net(x)))))
    for _ in range(8):
        x = np.random.default_rng(1).standard_normal((3, 4)).astype(np.float32)
        expected = usual_optimizer.minimize(tg.sum(tg.square(usual(tg.Tensor(x)))))
        assert bits(step(x)) == bits(expected)
        assert weights(net) == weights(usual)
    assert len(runs) == 6


@pytest.fixture
def registry() -> Iterator[None]:
    """Operations that are registered in a test are gone after it."""
    before = dict(operations.__dict__)
    yield
    operations.__dict__.clear()
    operations.__dict__.update(before)


@pytest.mark.usefixtures("registry")
def test_operations_of_users() -> None:
    rng = np.random.default_rng(0)

    @tg.primitive(domain=tg.autograd.Real())
    def shifted_after_a_kernel(x):
        """NumPy's part of an operation is done again too, unless it says that kernels do everything."""
        return tg.relu(x) + 1

    @tg.primitive(domain={"x": tg.autograd.Real(), "mask": Boolean()})
    def unmasked(x, mask):
        """A rule that computes with a truth value."""
        return np.where(mask, 0, x)

    unmasked.vjp(x=lambda g, mask: g * ~mask)

    @tg.primitive(domain=tg.autograd.Real(), noted=True)
    def padded(x):
        """Calls that do not write all of an array, and do not say who made it."""
        out = np.zeros(len(x) + 2)
        do(np.copyto, out[1:-1], x)
        return out

    def f(x: tg.Tensor, m: tg.Tensor) -> list:
        leaf = tg.Tensor(x.data, requires_grad=True)
        y = unmasked(leaf, m) * tg.tensor(x)
        return [shifted_after_a_kernel(x), y, tg.grad(tg.sum(y), leaf), tg.sin(padded(x)), tg.cos(x)]

    thrice(f, lambda: [rng.standard_normal(8), rng.random(8) < 0.5])
    thrice(lambda x: list(tg.slogdet(x)), lambda: [rng.standard_normal((5, 3, 3))])


@settings(max_examples=3)
@given(rng=rngs())
def test_copies_go_their_own_way(rng: np.random.Generator) -> None:
    """A deep copy of a model that has been replayed learns as the model would, and leaves it alone."""
    model = VAE.mlp((3,), 2, rng, width=4)
    x = rng.integers(0, 2, (5, 3)).astype(np.float32)
    for seed in range(3):
        model.train_step(x, np.random.default_rng(seed))
    copy, before = deepcopy(model), weights(model)
    for seed in range(3, 7):
        copy.train_step(x, np.random.default_rng(seed))
    assert weights(model) == before != weights(copy)
    for seed in range(3, 7):
        model.train_step(x, np.random.default_rng(seed))
    assert weights(model) == weights(copy)


def test_what_is_chosen_by_values_is_chosen_anew() -> None:
    """Orders, extremes and conditions."""
    rng = np.random.default_rng(0)

    def f(x: tg.Tensor) -> list:
        leaf = tg.Tensor(x.data, requires_grad=True)
        y = tg.sort(leaf, 0) * np.arange(1.0, 7)[:, None] + tg.max(leaf, 0) + tg.where(leaf > 0, leaf, leaf * leaf)
        y = y + tg.take_along_axis(leaf, tg.argsort(leaf, 1), 1)
        return [y, tg.grad(tg.sum(y * y), leaf)]

    for _ in range(5):
        thrice(f, lambda: [rng.standard_normal((6, 4))])


# ------------------------------------------------------------------------------------------------------------- mistakes


def called_twice(f: Callable, *xs: np.ndarray) -> None:
    again = tg.replayed(f)
    for _ in range(2):
        again(*xs)


class Halves(NamedTuple):
    first: tg.Tensor
    second: tg.Tensor


X = np.array([1.0, 2.0])
DRAWS = np.random.default_rng(0)
COUNTER = count(1)
W = tg.Tensor(np.ones(2), requires_grad=True)

DIFFERENT = {
    "random numbers": (lambda x: x + DRAWS.standard_normal(2), r"add was given .*<constant float64 \(2,\)>"),
    "a random number": (lambda x: x * float(DRAWS.random()), "multiply was given"),
    "other operations": (lambda x: x * x if next(COUNTER) % 2 else x + x, "multiply was given .* in one, add"),
    "what an effect is given": (lambda x: effect(np.add, x, next(COUNTER)), "effect add was given"),
    "a cotangent": (lambda x: tg.grad(W * x, W, DRAWS.standard_normal(2), create_graph=True), "was given"),
    "a result that is no Tensor": (lambda x: (x, DRAWS.random()), "return was given"),
}


@pytest.mark.parametrize(("f", "text"), DIFFERENT.values(), ids=DIFFERENT)
def test_functions_that_change_are_refused(f: Callable, text: str) -> None:
    with pytest.raises(GraphError, match=text):
        called_twice(f, X)


READS: dict[str, Callable] = {
    "item": lambda x: x * (10 if tg.max(x).item() > 5 else 1),
    "bool": lambda x: x if tg.max(x) > 5 else -x,
    "float": lambda x: x / float(tg.sum(x)),
    "numpy": lambda x: x.numpy() + 1,
    "asarray": lambda x: tg.sum(x) + np.asarray(x),
}


@pytest.mark.parametrize("f", READS.values(), ids=READS)
def test_reading_a_value_is_refused(f: Callable) -> None:
    with pytest.raises(GraphError, match="cannot be read"):
        called_twice(f, X)


def test_shapes_that_depend_on_values_are_refused() -> None:
    f = tg.replayed(lambda x: tg.exp(x) * tg.tensor([1.0]).astype(np.float64) + tg.sum(_positive(x)))
    for _ in range(2):
        f(X)
    with pytest.raises(GraphError, match="getitem now gives .* shapes must not depend on values"):
        f(X - 1.5)


def _positive(x: tg.Tensor) -> tg.Tensor:
    return x[(x > 0)]


def test_arguments_must_be_hashable() -> None:
    with pytest.raises(TypeError, match="an array or a hashable"):
        tg.replayed(lambda x, k: x)(X, [1])


def test_backward_is_refused() -> None:
    w = tg.tensor(2.0, requires_grad=True)
    with pytest.raises(GraphError, match="use grad"):
        called_twice(lambda x: (x.astype(np.float32) * w).sum().backward(), X)


def test_a_loss_that_is_not_finite_leaves_the_parameters() -> None:
    p = nn.Parameter(np.ones(2))
    optimizer = optim.SGD([p], 0.1)
    step = tg.replayed(lambda x: optimizer.minimize(tg.sum(p * x)))
    for _ in range(3):
        step(X)
    before = p.data.copy()
    with pytest.raises(NonFiniteError):
        step(np.array([np.nan, 1.0]))
    assert np.array_equal(p.data, before)
    step(X)
    assert np.allclose(p.data, before - 0.1 * X)


def test_results_and_arguments_are_the_callers_own() -> None:
    double = tg.replayed(lambda x: {"twice": x + x, "same": x})
    x = X.copy()
    for _ in range(3):
        first = double(x)
        first["same"].data[...] = 0
        second = double(x)
        assert np.array_equal(second["same"].data, X) and np.array_equal(second["twice"].data, 2 * X)
        assert np.array_equal(x, X) and not np.may_share_memory(second["same"].data, x)


def test_named_tuples_keep_their_names() -> None:
    split = tg.replayed(lambda x: Halves(x[:1], x[1:]))
    for _ in range(3):
        assert bits(split(X).second) == bits(tg.Tensor(X[1:]))


def test_memory_is_used_again() -> None:
    """Of what is made while a function is recorded or replayed, only what is still needed takes memory."""
    n, arrays = 2**16, 20

    @tg.replayed
    def chain(x: tg.Tensor) -> tg.Tensor:
        for k in range(arrays):
            x = tg.sin(x) if k % 2 else tg.cumsum(x)  # NumPy with an output given, and called again
        return tg.mean(x)

    for _ in range(3):
        chain(np.zeros(1))
    x = np.random.default_rng(0).standard_normal(n)
    tracemalloc.start()
    try:
        for _ in range(4):
            chain(x)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert 3 * x.nbytes < peak < 7 * x.nbytes  # the argument of each recording, and two arrays or three


def test_large_functions_are_called_as_usual(monkeypatch: pytest.MonkeyPatch, runs: list) -> None:
    monkeypatch.setattr(program, "LIMIT", 200)
    (net, optimizer), (usual, usual_optimizer) = copies(np.random.default_rng(0))
    alive = []

    def step(net: nn.Module, optimizer: optim.Optimizer, x: tg.Tensor) -> tuple:
        h = net(x)
        loss = tg.mean(tg.square(h))
        alive.extend(weakref.ref(t.data) for t in (h, loss, x))
        return loss, optimizer.minimize(loss), x

    again = tg.replayed(lambda x: step(net, optimizer, x))
    for _ in range(4):
        x = np.random.default_rng(1).standard_normal((9, 3)).astype(np.float32)
        found = again(x)
        assert bits(found) == bits(step(usual, usual_optimizer, tg.Tensor(x)))
        assert weights(net) == weights(usual)
        assert not found[0].requires_grad and not np.may_share_memory(found[2].data, x)
    del x, found
    assert not runs and not any(ref() is not None for ref in alive)


def test_what_a_result_was_computed_from_takes_no_memory(monkeypatch: pytest.MonkeyPatch, runs: list) -> None:
    """Its history, that is, which nobody can ask for."""
    monkeypatch.setattr(program, "LIMIT", 5 * 8 * 1000)
    w = tg.Tensor(np.ones(1000), requires_grad=True)

    @tg.replayed
    def value(x: tg.Tensor) -> tg.Tensor:
        y = x * w
        for _ in range(20):
            y = tg.sin(y)
        return tg.sum(y)

    for _ in range(3):
        value(np.ones(1000))
    assert len(runs) == 1


def test_anomalies_are_looked_for_in_every_call() -> None:
    log = tg.replayed(tg.log)
    for _ in range(3):
        log(X)
    with tg.detect_anomaly(), np.errstate(divide="ignore"), pytest.raises(NonFiniteError, match="log"):
        log(0 * X)


def test_effects_run_where_they_stand() -> None:
    seen = []

    @tg.replayed
    def f(x: tg.Tensor) -> tg.Tensor:
        y = x * x
        effect(lambda arrays: seen.append(float(arrays[0].sum())), [y])
        return y + 1

    for k in range(5):
        f(np.full(2, float(k)))
    assert seen == [2.0 * k * k for k in range(5)]


def test_callables_need_no_name() -> None:
    seen: list = []
    f = tg.replayed(partial(lambda k, x: x + effect(partial(np.add, k), x), 1))
    again = tg.replayed(lambda x: effect(partial(seen.append), x))
    for k in range(4):
        assert f(np.array([float(k)])).item() == 2.0 * k + 1
        again(X)
    assert len(seen) == 4


def test_an_effect_may_call_the_function_itself() -> None:
    @tg.replayed
    def f(x: tg.Tensor, depth: int) -> tg.Tensor:
        inner = effect(lambda a: f(a + 1, depth - 1).data if depth else a, x)
        return x + inner

    for k in range(4):
        assert f(np.array([float(k)]), 2).item() == 4.0 * k + 5


def test_an_object_and_its_programs_can_be_forgotten() -> None:
    class Counter(nn.Module):
        def __init__(self) -> None:
            self.count = np.zeros(())

        def follow(self, x: np.ndarray) -> None:
            self.count += 1

        @tg.replayed
        def value(self, x: tg.Tensor) -> tg.Tensor:
            effect(self.follow, x)
            return x * x

    counter = Counter()
    for _ in range(3):
        counter.value(X)
    assert counter.count == 3
    gone = weakref.ref(counter)
    del counter
    gc.collect()
    assert gone() is None


def test_threads_wait_for_each_other() -> None:
    f = tg.replayed(lambda x: tg.cumsum(x * x))
    wrong = []

    def work(k: int) -> None:
        for _ in range(200):
            x = np.full(100, float(k))
            wrong.extend([] if np.array_equal(f(x).data, np.cumsum(x * x)) else [k])

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong
