"""What every operation must pass: the registry says which there are, and their domains what to try them on."""

import doctest
import inspect
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygen as tg
from tinygen import ops
from tinygen.autograd import Composite, Primitive, operations
from tinygen.autograd.domain import Examples
from tinygen.testing import (
    GradientError,
    Inconclusive,
    arguments,
    assert_close,
    bind,
    check_adjoint,
    check_contract,
    check_vjp,
    mostly_conclusive,
    rngs,
)

OPERATIONS = operations.all()
DISCRETE = {
    *("equal", "not_equal", "less", "less_equal", "greater", "greater_equal", "isfinite", "isnan"),
    *("logical_and", "logical_or", "logical_not", "argmax", "argmin", "argsort"),
}
LINEAR = {
    *("add", "subtract", "negative", "alias", "sum", "mean", "cumsum", "reshape", "transpose", "moveaxis", "swapaxes"),
    *("expand_dims", "squeeze", "ravel", "broadcast_to", "concatenate", "stack", "split", "flip", "pad", "getitem"),
    *("scatter", "take", "take_along_axis", "sum_pool2d", "upsample2d", "avg_pool2d", "where", "dropout", "astype"),
}
SMOOTH = [name for name in OPERATIONS if name not in DISCRETE]
FUSED = [name for name in SMOOTH if getattr(OPERATIONS[name], "composition", None)]
EPS32 = float(np.finfo(np.float32).eps)

every_operation = pytest.mark.parametrize("name", OPERATIONS)
every_smooth_operation = pytest.mark.parametrize("name", SMOOTH)


def some(examples: int) -> settings:
    return settings(max_examples=examples)


def arrays_of(tensors: Any) -> list[np.ndarray]:
    return [t.data for t in tensors]


# --------------------------------------------------------------------------------------------------------- declarations


@pytest.mark.parametrize("name", ops.__all__)
def test_public_operations_are_registered(name: str) -> None:
    assert OPERATIONS.get(name) is getattr(ops, name)


@every_operation
def test_domain_and_docstring(name: str) -> None:
    operation = OPERATIONS[name]
    assert operation.__doc__
    cases = operation.domain.cases if isinstance(operation.domain, Examples) else (operation.domain,)
    assert cases, "without a domain there is nothing to test"
    parameters = inspect.signature(operation.function).parameters
    variadic = any(p.kind is p.VAR_POSITIONAL for p in parameters.values())
    for case in cases:
        assert case
        assert variadic or tuple(case) == tuple(parameters)[: len(case)], (
            "a domain's arguments stand in their own order"
        )
        assert variadic or all(p.default is not p.empty for p in list(parameters.values())[len(case) :])


@pytest.mark.parametrize("name", [name for name in OPERATIONS if ">>>" in (OPERATIONS[name].__doc__ or "")])
def test_docstring_examples(name: str) -> None:
    operation = OPERATIONS[name]
    test = doctest.DocTestParser().get_doctest(operation.__doc__, {}, name, None, None)
    report: list[str] = []
    doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=report.append)
    assert not report, "".join(report)


# ------------------------------------------------------------------------------------------------------------ gradients


@every_smooth_operation
@mostly_conclusive
@some(12)
@given(data=st.data(), rng=rngs())
def test_first_derivative(name: str, data: st.DataObject, rng: np.random.Generator) -> None:
    f, xs = bind(OPERATIONS[name], data.draw(arguments(OPERATIONS[name])))
    check_vjp(f, *xs, rng=rng)


@every_smooth_operation
@mostly_conclusive
@some(4)
@given(data=st.data(), rng=rngs())
def test_second_derivative(name: str, data: st.DataObject, rng: np.random.Generator) -> None:
    f, xs = bind(OPERATIONS[name], data.draw(arguments(OPERATIONS[name])))
    check_vjp(f, *xs, order=2, rng=rng)


@every_smooth_operation
@mostly_conclusive
@some(5)
@given(data=st.data(), rng=rngs())
def test_adjoint(name: str, data: st.DataObject, rng: np.random.Generator) -> None:
    f, xs = bind(OPERATIONS[name], data.draw(arguments(OPERATIONS[name])))
    check_adjoint(f, *xs, linear=name in LINEAR, rng=rng)


@pytest.mark.parametrize("name", FUSED)
@some(10)
@given(data=st.data(), rng=rngs())
def test_fused_is_its_composition(name: str, data: st.DataObject, rng: np.random.Generator) -> None:
    operation = OPERATIONS[name]
    args = data.draw(arguments(operation))
    defaults = [p.default for p in inspect.signature(operation.function).parameters.values()]
    args += defaults[len(args) :]
    fused, xs = bind(operation, args)
    composed, _ = bind(operation.composition, args)
    y, pullback = tg.func.vjp(fused, *xs)
    expected, pullback_composed = tg.func.vjp(composed, *xs)
    assert_close(y, expected, error=1e-13, what="value")
    u = rng.standard_normal(y.shape)
    for i, (g, h) in enumerate(zip(pullback(u), pullback_composed(u), strict=True)):
        assert_close(g, h, error=1e-12 * (1 + np.abs(h.data).max(initial=0)), what=f"gradient of argument {i}")


# ------------------------------------------------------------------------------------------------------------- contract


@pytest.mark.parametrize("name", [name for name in SMOOTH if name != "astype"])
@some(6)
@given(data=st.data(), dtype=st.sampled_from([np.float32, np.float64]), rng=rngs())
def test_contract(name: str, data: st.DataObject, dtype: type, rng: np.random.Generator) -> None:
    f, xs = bind(OPERATIONS[name], data.draw(arguments(OPERATIONS[name], dtype=dtype)))
    check_contract(f, *xs, rng=rng)


@pytest.mark.parametrize("name", [name for name in SMOOTH if name != "astype"])
@some(5)
@given(data=st.data(), rng=rngs())
def test_float32_stays_and_is_close_to_float64(name: str, data: st.DataObject, rng: np.random.Generator) -> None:
    f, xs = bind(OPERATIONS[name], data.draw(arguments(OPERATIONS[name], dtype=np.float32)))
    leaves = [tg.tensor(x, requires_grad=True) for x in xs]
    wide = [tg.tensor(x.astype(np.float64), requires_grad=True) for x in xs]
    y, y_wide = f(*leaves), f(*wide)
    u = rng.standard_normal(y.shape).astype(np.float32)
    first = tg.grad(y, leaves, u, create_graph=True)
    first_wide = tg.grad(y_wide, wide, u.astype(np.float64), create_graph=True)
    second: tuple = ()
    together = [(g * w.astype(np.float32)).sum() for g in first if (w := rng.standard_normal(g.shape)) is not None]
    if any(t.requires_grad for t in together):
        second = tg.grad([t for t in together if t.requires_grad], leaves, allow_unused=True)
    for t in [y, *first, *second]:
        assert t is None or t.dtype == np.float32
    for a, b in zip([y, *first], [y_wide, *first_wide], strict=True):
        size = np.abs(b.data).max(initial=1)
        assert_close(a.data.astype(np.float64), b.data, error=512 * EPS32 * size, what="float32 result")


@pytest.mark.parametrize("name", [n for n in OPERATIONS if OPERATIONS[n].twins and n != "dropout"])
@some(8)
@given(data=st.data())
def test_numpy_twin_agrees_and_dispatches(name: str, data: st.DataObject) -> None:
    operation = OPERATIONS[name]
    args = data.draw(arguments(operation))
    expected = operation(*args)
    tensors = [lifted(a) for a in args]
    for twin in operation.twins:
        for inputs, kind in ((args, np.ndarray), (tensors, tg.Tensor)):
            found = twin(*inputs) if isinstance(twin, np.ufunc) else by_name(twin, operation, inputs)
            if not isinstance(found, tuple | list):
                found, wanted = [found], [expected]
            else:
                wanted = list(expected)
            for a, b in zip(found, wanted, strict=True):
                if name not in ("argsort", "slogdet"):
                    assert kind is np.ndarray or isinstance(a, kind)
                assert_close(
                    np.asarray(a.data if kind is tg.Tensor else a), b, rtol=1e-13, error=1e-14, what=twin.__name__
                )


def lifted(x: Any) -> Any:
    if isinstance(x, np.ndarray) and x.dtype.kind in "fb":
        return tg.Tensor(x)
    return [lifted(e) for e in x] if isinstance(x, list) and x and isinstance(x[0], np.ndarray) else x


def by_name(twin: Any, operation: Any, args: list) -> Any:
    """Call a NumPy function with arguments by name where it has the same names, for its order may be another."""
    theirs = inspect.signature(twin).parameters
    named = [p for p in operation.parameters[1:] if p in theirs and theirs[p].default is not inspect.Parameter.empty]
    positional = [a for p, a in zip(operation.parameters, args, strict=False) if p not in named]
    if operation.name == "einsum":
        return twin(*args)
    return twin(*positional, **{p: a for p, a in zip(operation.parameters, args, strict=False) if p in named})


DOTTED = [
    name
    for name in SMOOTH
    for domain in [OPERATIONS[name].domain]
    if not isinstance(domain, Examples) and any("..." in getattr(spec, "shape", "") for spec in domain.values())
]


@pytest.mark.parametrize("name", DOTTED)
@some(8)
@given(data=st.data())
@pytest.mark.filterwarnings("ignore:Mean of empty slice:RuntimeWarning")
def test_axes_of_size_zero(name: str, data: st.DataObject) -> None:
    args = data.draw(arguments(OPERATIONS[name], elementwise_sides=(0, 2)))
    f, xs = bind(OPERATIONS[name], args)
    with np.errstate(all="ignore"):
        try:
            y, pullback = tg.func.vjp(f, *xs)
        except ValueError:  # an extreme of nothing does not exist
            assert name in ("max", "min", "norm", "logsumexp") and 0 in xs[0].shape
            return
        for x, g in zip(xs, pullback(np.ones(y.shape)), strict=True):
            assert (g.shape, g.dtype) == (x.shape, x.dtype)


@pytest.mark.parametrize("name", sorted(DISCRETE))
@some(5)
@given(data=st.data())
def test_discrete_operations_have_no_gradient(name: str, data: st.DataObject) -> None:
    args = data.draw(arguments(OPERATIONS[name]))
    expected = OPERATIONS[name](*args)
    leaves = [
        tg.tensor(a, requires_grad=True) if isinstance(a, np.ndarray) and a.dtype.kind == "f" else a for a in args
    ]
    y = OPERATIONS[name](*leaves)
    assert not getattr(y, "requires_grad", False)
    assert np.array_equal(expected, getattr(y, "data", y)) and expected.dtype.kind in "bi"


# ------------------------------------------------------------------------------------------------------------------
# self-test

FAULTS = {
    "zero": lambda g: g * 0,
    "1 % too large": lambda g: g * 1.01,
    "wrong sign": lambda g: -g,
    "permuted": lambda g: np.roll(np.asarray(g).ravel(), 1).reshape(np.shape(g)),
    "transposed": lambda g: np.swapaxes(g, -1, -2) if np.ndim(g) > 1 and g.shape[-1] == g.shape[-2] else g,
}
ZERO_GRADIENT = {"sign", "floor"}
RULES = [
    (name, position)
    for name, operation in OPERATIONS.items()
    if isinstance(operation, Primitive)
    for position in (operation._arrays if operation.joint else operation.rules)
]


class Faulty:
    """An operation with a fault in the rule of one argument, as long as the block lasts."""

    def __init__(self, operation: Primitive, position: int, fault: Any) -> None:
        self.operation, self.position, self.fault = operation, position, fault
        self.before = (operation.joint, dict(operation.rules))

    def __enter__(self) -> None:
        joint, rules = self.before
        if joint:
            name = self.operation.parameters[self.position]
            self.operation.joint = lambda **reads: self._spoil(joint(**reads), name)
        else:
            rule = rules[self.position]

            def faulty(*reads: Any) -> Any:
                g = rule(*reads)
                return [self.fault(e) for e in g] if isinstance(g, list) else self.fault(g)

            faulty.__signature__ = inspect.signature(rule)  # type: ignore[attr-defined]
            self.operation.rules[self.position] = faulty
        self.operation._plans.clear()

    def _spoil(self, gradients: dict, name: str) -> dict:
        return {k: self.fault(g) if k == name and g is not None else g for k, g in gradients.items()}

    def __exit__(self, *error: Any) -> None:
        self.operation.joint, self.operation.rules = self.before
        self.operation._plans.clear()


@pytest.mark.parametrize(("name", "position"), RULES)
def test_each_fault_in_each_rule_is_rejected(name: str, position: int) -> None:
    operation = OPERATIONS[name]
    caught = dict.fromkeys(FAULTS, 0)

    @settings(max_examples=6, database=None)
    @given(data=st.data(), rng=rngs(), seed=st.integers(0, 2**32 - 1))
    def search(data: st.DataObject, rng: np.random.Generator, seed: int) -> None:
        f, xs = bind(operation, data.draw(arguments(operation)))
        y, pullback = tg.func.vjp(f, *xs)
        u = np.random.default_rng(seed).standard_normal(y.shape)
        right = arrays_of(pullback(u))
        try:
            check_vjp(f, *xs, rng=np.random.default_rng(seed))
        except Inconclusive:
            return
        for fault, spoil in FAULTS.items():
            with Faulty(operation, position, spoil):
                wrong = arrays_of(tg.func.vjp(f, *xs)[1](u))
                size = max(np.abs(g).max(initial=0) for g in right)
                if all(np.allclose(a, b, rtol=0, atol=1e-3 * size) for a, b in zip(right, wrong, strict=True)):
                    continue  # this example hides the fault, as a symmetric gradient hides its transposition
                with pytest.raises(GradientError):
                    check_vjp(f, *xs, rng=np.random.default_rng(seed))
                caught[fault] += 1

    search()
    if name not in ZERO_GRADIENT:
        assert all(caught[fault] for fault in ("zero", "1 % too large", "wrong sign")), caught


def test_every_primitive_has_its_rules_tested() -> None:
    tested = {name for name, _ in RULES}
    without = {n for n, o in OPERATIONS.items() if not isinstance(o, Composite)} - tested
    assert without <= DISCRETE
