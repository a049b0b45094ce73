"""What every operation must pass: the registry says which there are, and their domains what to try them on."""

import doctest
import inspect
import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygen as tg
from tests.testing.support import rejected
from tinygen import ops
from tinygen.autograd import Composite, Primitive, operations
from tinygen.autograd.domain import Examples
from tinygen.testing import (
    GradientError,
    Property,
    arguments,
    bind,
    check_vjp,
    mostly_conclusive,
    property_suite,
    rngs,
)

OPERATIONS = operations.all()
DISCRETE = {
    *("equal", "not_equal", "less", "less_equal", "greater", "greater_equal", "isfinite", "isnan"),
    *("logical_and", "logical_or", "logical_not", "argmax", "argmin", "argsort"),
}

every_operation = pytest.mark.parametrize("name", OPERATIONS)


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


# ----------------------------------------------------------------------------------------------------------- properties

SUITES = {f"{name}-{holds}": holds for name in OPERATIONS for holds in property_suite(OPERATIONS[name])}


@pytest.mark.parametrize("holds", SUITES.values(), ids=SUITES)
@mostly_conclusive
@settings(max_examples=8)
@given(data=st.data(), rng=rngs())
def test_property(holds: Property, data: st.DataObject, rng: np.random.Generator) -> None:
    holds(data, rng)


# ------------------------------------------------------------------------------------------------------------------
# self-test

FAULTS = {
    "zero": lambda g: g * 0,
    "1 % too large": lambda g: g * 1.01,
    "wrong sign": lambda g: -g,
    "permuted": lambda g: np.roll(np.asarray(g).ravel(), 1).reshape(np.shape(g)),
    "transposed": lambda g: np.ravel(g, order="F").reshape(np.shape(g)),
}
ZERO_GRADIENT = {"sign", "floor"}
ONE_AXIS = {  # rules of vectors, whose gradients have no axes to exchange
    *(("linear", 2), ("conv2d", 2), ("group_norm", 2), ("group_norm", 3), ("layer_norm", 1), ("layer_norm", 2)),
    ("sinusoids", 1),
}
RULES = [
    (name, position)
    for name, operation in OPERATIONS.items()
    if isinstance(operation, Primitive)
    for position in (operation.arrays if operation.joint else operation.rules)
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
    """In the first examples wherever it shows, and in more until each has shown."""
    operation = OPERATIONS[name]
    possible = set() if name in ZERO_GRADIENT else set(FAULTS)
    if (name, position) in ONE_AXIS:
        possible.remove("transposed")
    caught: set[str] = set()
    examples = itertools.count()

    @settings(max_examples=100, database=None)
    @given(data=st.data(), rng=rngs(), seed=st.integers(0, 2**32 - 1))
    def search(data: st.DataObject, rng: np.random.Generator, seed: int) -> None:
        f, xs = bind(operation, data.draw(arguments(operation) | arguments(operation, elementwise_sides=(2, 3))))
        if next(examples) >= 6 and caught >= possible:
            return
        y, pullback = tg.func.vjp(f, *xs)
        u = np.random.default_rng(seed).standard_normal(y.shape)
        right = arrays_of(pullback(u))
        check_vjp(f, *xs, rng=np.random.default_rng(seed))
        for fault, spoil in FAULTS.items():
            with Faulty(operation, position, spoil):
                wrong = arrays_of(tg.func.vjp(f, *xs)[1](u))
                size = max(np.abs(g).max(initial=0) for g in right)
                if all(np.allclose(a, b, rtol=0, atol=1e-3 * size) for a, b in zip(right, wrong, strict=True)):
                    continue  # this example hides the fault, as a symmetric gradient hides its transposition
                with rejected(GradientError):
                    check_vjp(f, *xs, rng=np.random.default_rng(seed))
                caught.add(fault)

    search()
    assert caught == possible


def test_every_primitive_has_its_rules_tested() -> None:
    tested = {name for name, _ in RULES}
    without = {n for n, o in OPERATIONS.items() if not isinstance(o, Composite)} - tested
    assert without <= DISCRETE
