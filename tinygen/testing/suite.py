"""All properties of a function, an operation or a bijection, in one list for ``pytest.mark.parametrize``."""

import inspect
import warnings
from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import partial
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

import tinygen as tg
from tinygen import func
from tinygen.autograd import Operation, Primitive, Tensor
from tinygen.autograd.domain import Examples
from tinygen.testing.contracts import check_contract
from tinygen.testing.differences import Vjp
from tinygen.testing.domains import arguments, bind
from tinygen.testing.flows import check_bijection
from tinygen.testing.gradients import Pullback, check_adjoint, check_taylor, check_vjp
from tinygen.testing.verdicts import CheckError, ContractError, Inconclusive, as_array, assert_close, conclude, report

EPS32 = float(np.finfo(np.float32).eps)
PROBES = 4

Check = Callable[[Any, np.random.Generator], None]


class Property:
    """One property: examples, and what must hold for each.

    Parameters
    ----------
    name : such as "order 2"
    examples : what is drawn
    check : ``check(example, rng)`` returns None or raises as checkers do
    """

    def __init__(self, name: str, examples: SearchStrategy, check: Check) -> None:
        self.name, self.examples, self.check = name, examples, check

    def __call__(self, data: st.DataObject, rng: np.random.Generator) -> None:
        """Draw an example and check it."""
        self.check(data.draw(self.examples, label=self.name), rng)

    def __repr__(self) -> str:
        return self.name


def property_suite(subject: Any, examples: SearchStrategy | None = None, *, vjp: Vjp | None = None) -> list[Property]:
    """Everything that can be checked of a differentiable function, a registered operation or a bijection.

    Parameters
    ----------
    subject : a function of arrays, or of Tensors if ``vjp`` is not given, to one array or Tensor; an operation; or an
        object with ``forward`` and ``inverse``, as for `check_bijection`
    examples : strategy of lists of float64 arguments, or of a bijection's points; an operation's domain by default
    vjp : as for `check_vjp`. What an engine promises, derivatives of order 2 among it, is not asked of a `Pullback`.

    Raises
    ------
    TypeError : there are no examples to draw

    Examples
    --------
    In a test file, one test covers all, and hypothesis keeps the examples of each apart:

    >>> import pytest
    >>> from hypothesis import given
    >>> from tinygen.testing import arrays, rngs
    >>> suite = property_suite(lambda x: x * tg.sin(x), st.tuples(arrays(shape=(3,))))
    >>> @pytest.mark.parametrize("holds", suite, ids=str)
    ... @given(data=st.data(), rng=rngs())
    ... def test_x_sin_x(holds, data, rng):
    ...     holds(data, rng)
    >>> [str(p) for p in suite]
    ['order 1', 'adjoint', 'slope', 'contract', 'contract in float32', 'float32 near float64', 'order 2']
    """
    if isinstance(subject, Operation):
        discrete = isinstance(subject, Primitive) and not subject.rules and subject.joint is None
        return _of_discrete(subject) if discrete else _of_operation(subject)
    if examples is None:
        raise TypeError(f"property_suite: {subject!r} has no domain; give examples=, a strategy of its arguments")
    if hasattr(subject, "forward") and hasattr(subject, "inverse"):
        return [Property("bijection", examples, lambda x, rng: check_bijection(subject, x, rng=rng))]
    return _of_function(examples, lambda xs: (subject, list(xs)), vjp)


# ------------------------------------------------------------------------------------------------------------ functions

Bind = Callable[[Any], tuple[Callable, list[np.ndarray]]]
"""From an example to a function of arrays and the arrays where it is checked."""


def _of_function(examples: SearchStrategy, to_function: Bind, vjp: Vjp | None) -> list[Property]:
    def run(check: Callable, example: Any, rng: np.random.Generator) -> None:
        f, xs = to_function(example)
        check(f, *xs, vjp=vjp, rng=rng)

    def adjoint(f: Callable, *xs: np.ndarray, vjp: Vjp | None, rng: np.random.Generator) -> None:
        check_adjoint(f, *xs, vjp=vjp, rng=rng, linear=_is_linear(f, xs, np.asarray if vjp else Tensor, rng))

    def in_float32(f: Callable, *xs: np.ndarray, vjp: Vjp | None, rng: np.random.Generator) -> None:
        check_contract(f, *[x.astype(np.float32) for x in xs], vjp=vjp, rng=rng)

    checks = {
        "order 1": check_vjp,
        "adjoint": adjoint,
        "slope": check_taylor,
        "contract": check_contract,
        "contract in float32": in_float32,
        "float32 near float64": _check_float32,
    }
    if not isinstance(vjp, Pullback):
        checks["order 2"] = partial(check_vjp, order=2)
    return [Property(name, examples, partial(run, check)) for name, check in checks.items()]


def _is_linear(f: Callable, xs: Sequence[np.ndarray], enter: Callable, rng: np.random.Generator) -> bool:
    """Whether f(ax + bv) = a f(x) + b f(v) for several random v, which may be outside of its domain."""
    with np.errstate(all="ignore"):
        try:
            of_x = as_array(f(*map(enter, xs)))
            for a, b in rng.standard_normal((8, 2)):
                vs = [rng.standard_normal(x.shape) for x in xs]
                both = [a * x + b * v for x, v in zip(xs, vs, strict=True)]
                of_v, of_both = (as_array(f(*map(enter, args))) for args in (vs, both))
                size = max(float(np.max(np.abs(y), initial=0)) for y in (of_x, of_v, of_both))
                if not np.allclose(of_both, a * of_x + b * of_v, rtol=0, atol=1e-12 * size):
                    return False
        except ValueError:
            return False
    return True


def _check_float32(f: Callable, *xs: np.ndarray, vjp: Vjp | None, rng: np.random.Generator) -> None:
    """Value and gradients at float32 arguments are near those at the same arguments in float64.

    They may be off by 512 roundings of the largest entry, and by 8 times what is seen to change when all arguments
    change by so many roundings as 4. A gradient that is off by less than 512 roundings of the cotangent, and by less
    than half, is left open.
    """
    narrow = [x.astype(np.float32) for x in xs]
    wide = [x.astype(np.float64) for x in narrow]
    pull = vjp or func.vjp

    def at(points: list[np.ndarray]) -> list[np.ndarray]:
        y, pullback = pull(f, *[x.copy() for x in points])
        return [as_array(y), *map(as_array, pullback(u.astype(points[0].dtype)))]

    with np.errstate(all="ignore"):
        u = np.asarray(rng.standard_normal(as_array(pull(f, *[x.copy() for x in wide])[0]).shape, np.float32))
        report(f"cotangent u = {u!r}")
        expected = at(wide)
        moves = [at([x * (1 + 4 * EPS32 * rng.choice([-1.0, 1.0], x.shape)) for x in wide]) for _ in range(PROBES)]
        found = at(narrow)
    if not all(np.isfinite(a).all() for a in (*expected, *found)):
        conclude(Inconclusive("a value or gradient is not finite, in float32 perhaps for overflow"))
    unclear = None
    for i, (a, b) in enumerate(zip(found, expected, strict=True)):
        what = "the value" if i == 0 else f"the gradient of argument {i - 1}"
        if a.dtype != np.float32:
            conclude(ContractError(f"{what} is {a.dtype} for float32 arguments"))
        size = float(np.max(np.abs(b), initial=0))
        moved = max(float(np.max(np.abs(np.nan_to_num(m[i] - b)), initial=0)) for m in moves)
        try:
            assert_close(a.astype(np.float64), b, error=512 * EPS32 * size + 8 * moved, what=f"{what} in float32")
        except CheckError as error:
            # Terms as large as the cotangent may have cancelled, as in the norm of two numbers: it is always ±1.
            if i == 0 or np.max(np.abs(a - b)) > min(512 * EPS32 * np.max(np.abs(u)), 0.5 * size):
                conclude(ContractError(str(error)))
            unclear = Inconclusive(str(error))
    conclude(unclear)


# ----------------------------------------------------------------------------------------------------------- operations


def _of_operation(operation: Operation) -> list[Property]:
    examples = arguments(operation)
    suite = _of_function(examples, partial(bind, operation), None)
    if "dtype" in operation.parameters:  # the result's dtype is not the arguments'
        suite = [p for p in suite if "float32" not in p.name]
    else:
        suite.append(Property("order 2 in float32", examples, partial(_check_second_dtype, operation)))
    if getattr(operation, "composition", None):
        suite.append(Property("composition", examples, partial(_check_composition, operation)))
    if operation.twins:
        suite.append(Property("NumPy twin", examples, partial(_check_twins, operation)))
    if not isinstance(operation.domain, Examples) and any(
        "..." in getattr(spec, "shape", "") for spec in operation.domain.values()
    ):
        empty = arguments(operation, elementwise_sides=(0, 2))
        suite.append(Property("axes of size zero", empty, partial(_check_empty, operation)))
    return suite


def _of_discrete(operation: Operation) -> list[Property]:
    examples = arguments(operation)
    suite = [Property("no gradient", examples, partial(_check_no_gradient, operation))]
    if operation.twins:
        suite.append(Property("NumPy twin", examples, partial(_check_twins, operation)))
    return suite


def _check_second_dtype(operation: Operation, args: list, rng: np.random.Generator) -> None:
    """Derivatives of order 2 of float32 arguments are float32."""
    f, xs = bind(operation, args)
    leaves = [Tensor(x.astype(np.float32), requires_grad=True) for x in xs]
    y = f(*leaves)
    first = tg.grad(y, leaves, rng.standard_normal(y.shape).astype(np.float32), create_graph=True)
    weighted = [tg.sum(g * rng.standard_normal(g.shape).astype(np.float32)) for g in first]
    curved = [t for t in weighted if t.requires_grad]
    second = tg.grad(curved, leaves, allow_unused=True) if curved else ()
    for t in (*first, *second):
        if t is not None and t.dtype != np.float32:
            conclude(ContractError(f"a derivative of float32 arguments is {t.dtype}"))
    conclude(None)


def _check_composition(operation: Operation, args: list, rng: np.random.Generator) -> None:
    """A fused operation is its composition of basic ones."""
    defaults = [p.default for p in inspect.signature(operation.function).parameters.values()]
    args = [*args, *defaults[len(args) :]]
    fused, xs = bind(operation, args)
    composed, _ = bind(operation.composition, args)  # type: ignore[attr-defined]
    y, pullback = func.vjp(fused, *xs)
    expected, pullback_composed = func.vjp(composed, *xs)
    assert_close(y, expected, error=1e-13, what="the value, against the composition's")
    u = rng.standard_normal(y.shape)
    for i, (g, h) in enumerate(zip(pullback(u), pullback_composed(u), strict=True)):
        size = 1 + float(np.abs(h.data).max(initial=0))
        assert_close(g, h, error=1e-12 * size, what=f"the gradient of argument {i}, against the composition's")
    conclude(None)


def _check_twins(operation: Operation, args: list, rng: np.random.Generator) -> None:
    """The NumPy functions that an operation stands for agree with it, and find it where they are given Tensors."""
    expected = operation(*deepcopy(args))
    tensors = [_lifted(a) for a in args]
    of_tensors = operation(*deepcopy(tensors))
    for twin in operation.twins:
        for inputs, wanted in ((args, expected), (tensors, of_tensors)):
            found = _call_twin(twin, operation, deepcopy(inputs))
            pairs = zip(found, wanted, strict=True) if isinstance(wanted, tuple | list) else [(found, wanted)]
            for a, b in pairs:
                if isinstance(a, Tensor) != isinstance(b, Tensor):
                    conclude(ContractError(f"{twin.__name__} gives {type(a).__name__}, not {type(b).__name__}"))
                assert_close(np.asarray(as_array(a)), as_array(b), rtol=1e-13, error=1e-14, what=twin.__name__)
    conclude(None)


def _lifted(x: Any) -> Any:
    """A floating array as a leaf, a boolean one as a Tensor, in lists too."""
    if isinstance(x, np.ndarray) and x.dtype.kind in "fb":
        return Tensor(x, requires_grad=x.dtype.kind == "f")
    return [_lifted(e) for e in x] if isinstance(x, list) and x and isinstance(x[0], np.ndarray) else x


def _call_twin(twin: Any, operation: Operation, args: list) -> Any:
    """Call a NumPy function, with arguments by name where it has the same names, for its order may be another."""
    ours = inspect.signature(operation.function).parameters.values()
    if isinstance(twin, np.ufunc) or any(p.kind is p.VAR_POSITIONAL for p in ours):
        return twin(*args)
    theirs = inspect.signature(twin).parameters
    named = {p for p in operation.parameters[1:] if p in theirs and theirs[p].default is not inspect.Parameter.empty}
    given = list(zip(operation.parameters, args, strict=False))
    return twin(*[a for p, a in given if p not in named], **{p: a for p, a in given if p in named})


def _check_empty(operation: Operation, args: list, rng: np.random.Generator) -> None:
    """Axes of size zero give empty gradients, or a ValueError where nothing has no value."""
    f, xs = bind(operation, args)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)  # a mean of nothing is NaN, which NumPy remarks on
        try:
            y, pullback = func.vjp(f, *xs)
        except ValueError:
            if not any(0 in x.shape for x in xs):
                raise
            conclude(None)
            return
        for i, (x, g) in enumerate(zip(xs, pullback(rng.standard_normal(y.shape)), strict=True)):
            if (g.shape, g.dtype) != (x.shape, x.dtype):
                conclude(ContractError(f"argument {i} is {x.dtype} {x.shape} but its gradient {g.dtype} {g.shape}"))
    conclude(None)


def _check_no_gradient(operation: Operation, args: list, rng: np.random.Generator) -> None:
    """An operation without rules has no real values, the same for Tensors, and records nothing."""
    expected = np.asarray(operation(*args))
    y = operation(*map(_lifted, args))
    if expected.dtype.kind not in "bi" or getattr(y, "requires_grad", False):
        conclude(ContractError(f"{operation.name} has real values {expected.dtype} but no derivative rules"))
    assert_close(as_array(y), expected, what=operation.name)
    conclude(None)
