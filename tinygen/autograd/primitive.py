"""How an operation is declared, and what happens when one is called.

An operation is declared once: its forward function on arrays, one derivative rule for each argument, the domain its
tests draw from, and the NumPy function it stands for. Rules use registered operations, so they run on plain arrays
(`backward`) and on Tensors (``create_graph=True``, for higher derivatives) alike.
"""

import inspect
import sys
from collections.abc import Callable, Collection
from collections.abc import Sequence as Sequence_
from dataclasses import dataclass
from functools import update_wrapper
from typing import Any

import numpy as np

from tinygen.autograd.context import anomaly, module_path, observer, recording
from tinygen.autograd.domain import Boolean, Domain, Examples, Real, Sequence
from tinygen.autograd.graph import Node, backpropagate, check_finite
from tinygen.autograd.registry import register
from tinygen.autograd.tensor import Tensor
from tinygen.errors import DTypeError, NoGradientError, ShapeError


@dataclass(frozen=True)
class Plan:
    """What a node keeps and how its rules read it, when the arguments at certain positions need gradients.

    Attributes
    ----------
    reads : the kept values: (position of an argument, whether only its shape)
    rules : for each position, its rule and where each of the rule's parameters lies in ``(g, out, saved, *kept
        values)``
    reads_out : whether any rule reads the operation's value
    """

    reads: tuple[tuple[int, bool], ...]
    rules: dict[int, tuple[Callable, tuple[int, ...]]]
    reads_out: bool


class Operation:
    """A registered operation.

    Attributes
    ----------
    function : what computes it
    name, parameters : its name, and the names of its arguments
    domain : what its tests draw
    twins : the NumPy functions that it stands for
    """

    __call__: Callable[..., Any]

    def __init__(self, function: Callable, domain: Domain | Real, twins: Callable | tuple[Callable, ...]) -> None:
        self.function = function
        self.name = function.__name__
        self.parameters = tuple(inspect.signature(function).parameters)
        self.domain: Domain = dict.fromkeys(self.parameters, domain) if isinstance(domain, Real) else domain
        self.twins = twins if isinstance(twins, tuple) else (twins,)
        update_wrapper(self, function)
        register(self.name, self, self.twins)

    def __repr__(self) -> str:
        return f"<{type(self).__name__.lower()} {self.name}({', '.join(self.parameters)})>"


class Composite(Operation):
    """A registered function made of other operations, which need no rules of its own. Made by `composite`."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function."""
        return self.function(*args, **kwargs)


class Primitive(Operation):
    """An operation with derivative rules. Made by `primitive`.

    Calling it with ndarrays and numbers computes and returns an ndarray; with a Tensor among the arguments, it returns
    a Tensor and records itself if a gradient is needed.
    """

    def __init__(
        self,
        function: Callable,
        domain: Domain | Real,
        twins: Callable | tuple[Callable, ...],
        composition: Callable | None,
        noted: bool,
    ) -> None:
        super().__init__(function, domain, twins)
        self.composition = composition
        self.noted = noted
        self.rules: dict[int, Callable] = {}
        self.joint: Callable | None = None
        self._joint_reads: tuple[str, ...] = ()
        self._plans: dict[tuple[int, ...], Plan] = {}
        self._defaults = tuple(p.default for p in inspect.signature(function).parameters.values())
        self.arrays = self._positions((Real, Sequence))
        self.read_as_tensors = self._positions((Real, Sequence, Boolean))
        self._sequences = self._positions((Sequence,))

    def _positions(self, kinds: tuple[type, ...]) -> tuple[int, ...]:
        """The arguments whose domain is of one of these kinds."""
        cases = self.domain.cases if isinstance(self.domain, Examples) else (self.domain,)
        names = {name for case in cases for name, spec in case.items() if isinstance(spec, kinds)}
        return tuple(i for i, name in enumerate(self.parameters) if name in names)

    def vjp(self, **rules: Callable) -> None:
        """Declare the derivative rules of arguments.

        A rule returns the argument's cotangent. Its parameters name what it reads: ``g``, the cotangent of the value;
        ``out``, the value; any argument of the operation; or ``<argument>_shape``, which keeps the shape alone alive.
        The rule need not sum over broadcast axes. For an argument that is a list of arrays it returns a list.
        """
        for name, rule in rules.items():
            if name not in self.parameters:
                raise TypeError(f"{self.name} has no argument {name!r}; its arguments are {', '.join(self.parameters)}")
            self.rules[self.parameters.index(name)] = rule

    def joint_vjp(self, rule: Callable) -> Callable:
        """Declare, as a decorator, one rule for all arguments of an operation that has a ``composition``.

        The rule runs on plain arrays. Its parameters name what it reads, as in `vjp`; beside those ``saved`` is the
        by-product that forward returned, and ``needs`` the set of argument names whose cotangent is needed. It returns
        a dict by argument name.
        """
        self.joint = rule
        self._joint_reads = tuple(inspect.signature(rule).parameters)
        return rule

    # ---------------------------------------------------------------------------------------------------------- calling

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Compute, and record if a gradient is needed."""
        if kwargs or len(args) != len(self.parameters):
            args = self._bind(args, kwargs)
        for arg in args:
            if isinstance(arg, Tensor):
                return self._apply(args)
        for i in self._sequences:
            if any(isinstance(a, Tensor) for a in args[i]):
                return self._apply(args)
        watching = observer.get()
        out = self.compute(args) if watching is None else watching.operation(self, args, args)
        return np.asarray(out[0] if self.composition else out)

    def compute(self, args: Sequence_[Any]) -> Any:
        """Call the function on arrays, and give errors that NumPy raises there a type and the operation's name."""
        try:
            return self.function(*args)
        except (ValueError, IndexError, TypeError) as error:
            if isinstance(error, np.linalg.LinAlgError) or str(error).startswith(f"{self.name}:"):
                raise
            shown = ", ".join(
                f"{name} {value.dtype} {value.shape}" if isinstance(value, np.ndarray) else f"{name}={value!r}"
                for name, value in zip(self.parameters, args, strict=True)
            )
            kind = DTypeError if isinstance(error, TypeError) else ShapeError
            raise kind(f"{self.name}: {error}; the arguments are {shown}") from error

    def _bind(self, args: tuple, kwargs: dict[str, Any]) -> tuple:
        values = [*args, *self._defaults[len(args) :]]
        for name, value in kwargs.items():
            if name not in self.parameters[len(args) :]:
                problem = "got two values for" if name in self.parameters else "has no"
                raise TypeError(f"{self.name}() {problem} argument {name!r}; arguments: {', '.join(self.parameters)}")
            values[self.parameters.index(name)] = value
        if len(values) > len(self.parameters):
            raise TypeError(f"{self.name}() takes {len(self.parameters)} arguments, got {len(args)}")
        missing = [n for n, v in zip(self.parameters, values, strict=True) if v is inspect.Parameter.empty]
        if missing:
            raise TypeError(f"{self.name}() is missing {', '.join(missing)}")
        return tuple(values)

    def _apply(self, args: tuple) -> Tensor:
        values: list[Any] = []
        parents: list[tuple[int, int | None, Any]] = []
        tracking = recording.get()
        for i, arg in enumerate(args):
            if isinstance(arg, Tensor):
                values.append(arg.data)
                if tracking and (arg.node is not None or arg.requires_grad):
                    parents.append((i, None, arg.node or arg))
            elif i in self._sequences:
                values.append([a.data if isinstance(a, Tensor) else a for a in arg])
                if tracking:
                    parents += [
                        (i, j, a.node or a) for j, a in enumerate(arg) if isinstance(a, Tensor) and a.requires_grad
                    ]
            else:
                values.append(arg.item() if isinstance(arg, np.generic) else arg)  # NumPy scalars adopt the dtype too
        self._check_dtypes(values)
        watching = observer.get()
        result = self.compute(values) if watching is None else watching.operation(self, args, values)
        out, saved = result if self.composition else (result, None)
        if type(out) is not np.ndarray:
            out = np.asarray(out)
        origin = ""
        if anomaly.get():
            origin = _caller()
            check_finite(out, "value", f"{self.name}{_in_module()}{origin}")
        if not parents or out.dtype.kind != "f":
            return Tensor.wrap(out)
        positions = tuple([edge[0] for edge in parents])
        plan = self._plans.get(positions) or self._make_plan(positions)
        kept = tuple([np.shape(values[i]) if shape_only else values[i] for i, shape_only in plan.reads])
        return Tensor.wrap(out, Node(self, tuple(parents), plan, kept, out, saved, module_path.get(), origin))

    def _check_dtypes(self, values: list[Any]) -> None:
        """Refuse array arguments whose dtypes would be promoted; lists adopt the dtype of the arrays, as numbers do."""
        found: np.dtype | None = None
        listed = []
        for i in self.arrays:
            value = values[i]
            if type(value) is np.ndarray:
                if value.dtype is not found:
                    found = self._joined(found, value.dtype, i)
            elif i in self._sequences:
                for element in value:
                    if type(element) is np.ndarray:
                        found = self._joined(found, element.dtype, i)
            elif type(value) in (list, tuple):
                listed.append(i)
        for i in listed:
            try:
                values[i] = np.asarray(values[i], found)
            except (ValueError, TypeError) as error:
                raise DTypeError(f"{self.name}: argument {self.parameters[i]} is not numbers: {error}") from None

    def _joined(self, found: np.dtype | None, dtype: np.dtype, position: int) -> np.dtype | None:
        """The dtype that arguments have so far, if another of ``dtype`` does not change it."""
        if dtype.kind == "b":
            return found
        if found is not None and dtype != found and "f" in (dtype.kind, found.kind):
            raise DTypeError(
                f"{self.name}: argument {self.parameters[position]} is {dtype} but an earlier one is {found}, and the "
                f"result would be {np.result_type(dtype, found)}; cast one, for example with .astype(np.{found})"
            )
        return dtype if found is None else found

    # -------------------------------------------------------------------------------------------------- differentiation

    def _make_plan(self, positions: tuple[int, ...]) -> Plan:
        """The plan for arguments at ``positions``, remembered."""
        if self.composition:  # reruns on all arguments for higher derivatives
            reads_all = tuple((i, False) for i in range(len(self.parameters)))
            self._plans[positions] = Plan(reads_all, {}, "out" in self._joint_reads)
            return self._plans[positions]
        base = ("g", "out", "saved")
        reads: list[tuple[int, bool]] = []
        rules = {}
        for position in positions:
            if position not in self.rules:
                continue
            where = []
            for name in inspect.signature(self.rules[position]).parameters:
                if name in base:
                    where.append(base.index(name))
                    continue
                shape_only = name not in self.parameters
                read = (self.parameters.index(name.removesuffix("_shape") if shape_only else name), shape_only)
                if read not in reads:
                    reads.append(read)
                where.append(len(base) + reads.index(read))
            rules[position] = (self.rules[position], tuple(where))
        self._plans[positions] = Plan(tuple(reads), rules, any(1 in where for _, where in rules.values()))
        return self._plans[positions]

    def pull(self, node: Node, g: Any, positions: Collection[int], wrap: Any) -> dict[int, Any]:
        """The cotangents of the arguments at ``positions``, from the cotangent ``g`` of the value of ``node``."""
        if self.composition:
            return self._pull_composed(node, g, positions, wrap) if wrap else self._pull_joint(node, g, positions)
        values, out = _kept(node)
        if wrap:
            values = _on_graph(node, wrap)
            out = None if out is None else wrap(node.out, node)
        context = (g, out, None, *values)
        pulled = {}
        for position in positions:
            if position not in node.plan.rules:
                raise NoGradientError(
                    f"{node}: no derivative rule for argument {self.parameters[position]}; declare one with "
                    f"{self.name}.vjp({self.parameters[position]}=...), or detach() the argument"
                )
            rule, where = node.plan.rules[position]
            pulled[position] = rule(*[context[k] for k in where])
        return pulled

    def _pull_joint(self, node: Node, g: Any, positions: Collection[int]) -> dict[int, Any]:
        if self.joint is None:
            raise NoGradientError(f"{node}: no derivative rule; declare one with {self.name}.joint_vjp")
        context = dict(zip(self.parameters, node.values, strict=True))
        context |= {
            "g": g.data if isinstance(g, Tensor) else g,
            "out": node.out,
            "saved": node.saved,
            "needs": {self.parameters[i] for i in positions},
        }
        reads = {name: context[name] for name in self._joint_reads}
        watching = observer.get()
        if watching is None:
            gradients = self.joint(**reads)
            return {i: gradients[self.parameters[i]] for i in positions}
        gradients = watching.rule(self, self.joint, reads)
        return {i: Tensor.wrap(gradients[self.parameters[i]]) for i in positions}

    def _pull_composed(self, node: Node, g: Any, positions: Collection[int], wrap: Any) -> dict[int, Any]:
        """Differentiate the composition instead, which records itself."""
        assert self.composition is not None
        values = _on_graph(node, wrap)
        args = [alias(v) if i in positions else v for i, v in enumerate(values)]  # so that f(x, x) has two arguments
        out = self.composition(*args)
        targets = {i: args[i].node for i in positions}
        reached = backpropagate([out.node], [g], list(targets.values()), wrap=wrap, partial=True)
        pulled = {id(place): gradient for place, gradient in reached}
        return {i: pulled[id(target)] for i, target in targets.items()}


def _kept(node: Node) -> tuple[tuple, Any]:
    """What rules read: arguments and value, arrays or, so that what rules do with them is noted, Tensors."""
    if observer.get() is None:
        return node.values, node.out
    tensors = [
        _as_tensors(value) if position in node.primitive.read_as_tensors and not shape_only else value
        for value, (position, shape_only) in zip(node.values, node.plan.reads, strict=True)
    ]
    return tuple(tensors), _as_tensors(node.out)


def _as_tensors(value: Any) -> Any:
    if isinstance(value, list):
        return [_as_tensors(v) for v in value]
    return Tensor.wrap(value) if isinstance(value, np.ndarray) else value


def _on_graph(node: Node, wrap: Any) -> tuple:
    """The values that a node keeps, as Tensors where they are differentiable arguments."""
    values = list(_kept(node)[0])
    at = {position: k for k, (position, shape_only) in enumerate(node.plan.reads) if not shape_only}
    for position, element, place in node.parents:
        if (k := at.get(position)) is None:
            continue
        if element is None:
            values[k] = wrap(node.values[k], place)
        else:
            values[k] = [wrap(node.values[k][j], place) if j == element else v for j, v in enumerate(values[k])]
    return tuple(values)


def _in_module() -> str:
    return f" in {module_path.get()}" if module_path.get() else ""


def _caller() -> str:
    """The innermost source line outside the engine and the operations."""
    frame = sys._getframe(1)
    while frame.f_back and frame.f_globals.get("__name__", "").startswith(("tinygen.autograd", "tinygen.ops")):
        frame = frame.f_back
    return f" (called at {frame.f_code.co_filename}:{frame.f_lineno})"


# ------------------------------------------------------------------------------------------------------------ declaring


def primitive(
    *,
    domain: Domain | Real,
    numpy: Callable | tuple[Callable, ...] = (),
    composition: Callable | None = None,
    noted: bool = False,
) -> Callable[[Callable], Primitive]:
    """Declare a differentiable operation: a decorator for its function that computes it.

    Parameters
    ----------
    domain : what its tests draw: a spec for each argument, or one `Real` for all
    numpy : the NumPy function or functions that dispatch to it when given a Tensor
    composition : for a fused operation, the same function composed of other operations. The forward function then
        returns ``(value, by-product)``, `Primitive.joint_vjp` declares a fast rule, and higher derivatives
        differentiate the composition.
    noted : whether everything that the function and its rule do to memory is done by kernels, or by `kernels.calls`, so
        that it can be done again by these calls alone where it is `replayed`. Otherwise it is called again itself.

    Examples
    --------
    >>> import numpy as np, tinygen as tg
    >>> from tinygen.autograd import Real
    >>> @tg.primitive(domain=Real())
    ... def cube(x):
    ...     '''Elementwise cube: d(x³) = 3x² dx.'''
    ...     return x * x * x
    >>> cube.vjp(x=lambda g, x: g * 3 * x * x)
    >>> x = tg.tensor(2.0, requires_grad=True)
    >>> tg.grad(cube(x), x)
    tensor(12., dtype=float32)
    """
    return lambda function: Primitive(function, domain, numpy, composition, noted)


def composite(*, domain: Domain | Real, numpy: Callable | tuple[Callable, ...] = ()) -> Callable[[Callable], Composite]:
    """Register a function made of other operations, which needs no rules: a decorator. Parameters as `primitive`."""
    return lambda function: Composite(function, domain, numpy)


@primitive(domain=Real())
def alias(x: Any) -> Any:
    """The same values as a new Tensor, at a new place in the graph."""
    return x


alias.vjp(x=lambda g: g)
