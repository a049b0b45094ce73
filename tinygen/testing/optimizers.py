"""The textbook rules of optimizers, and the checker that holds an optimizer to its rule."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinygen.autograd import Tensor
from tinygen.nn import Parameter
from tinygen.testing.strategies import LAYOUTS, Layout
from tinygen.testing.verdicts import CheckError, OptimizerError, assert_close, conclude, generator, report

Rule = Callable[[np.ndarray, Sequence[np.ndarray]], np.ndarray]
"""``rule(p, gradients)``: where p gets to by one step for each gradient, oldest first."""

STEPS = 8
SHAPES = ((3, 2), (4,), (), (2, 1, 2), (2, 1, 3, 2), (5,))
# An optimizer that writes to a gradient is to be found out, not stopped.
WRITABLE = [Layout(name) for name in LAYOUTS if name not in ("read-only", "zero-stride")]
MOVES, PLACES = 2**14, 64  # units in the last place that steps, and positions, may be off


def sgd_rule(
    p: np.ndarray,
    gradients: Sequence[np.ndarray],
    lr: float,
    *,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
) -> np.ndarray:
    """Where gradient descent gets to from ``p``, in float64.

    v ← momentum · v + g and p ← p - lr · (v + weight_decay · p): Polyak's (1964) heavy ball with the learning rate
    outside of v, which for a constant rate is Sutskever et al. (2013), eq. 1 and 2; weight decay decoupled (Loshchilov
    and Hutter 2019, algorithm 1, with lr · weight_decay for their η λ).
    """
    v = np.zeros(p.shape)
    for g in gradients:
        v = momentum * v + g
        p = p - lr * (v + weight_decay * p)
    return p


def adam_rule(
    p: np.ndarray,
    gradients: Sequence[np.ndarray],
    lr: float = 1e-3,
    *,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> np.ndarray:
    """Where Adam gets to from ``p``, in float64 (Kingma and Ba 2015, algorithm 1).

    With ``weight_decay`` it is AdamW (Loshchilov and Hutter 2019, algorithm 2, with lr · weight_decay for their η λ).
    """
    mean, mean_square = np.zeros(p.shape), np.zeros(p.shape)
    for t, g in enumerate(gradients, 1):
        mean = betas[0] * mean + (1 - betas[0]) * g
        mean_square = betas[1] * mean_square + (1 - betas[1]) * g**2
        unbiased, unbiased_square = mean / (1 - betas[0] ** t), mean_square / (1 - betas[1] ** t)
        p = p - lr * (unbiased / (np.sqrt(unbiased_square) + eps) + weight_decay * p)
    return p


def check_optimizer(
    make: Callable[[list[Parameter]], Any], rule: Rule | None = None, *, rng: np.random.Generator | None = None
) -> None:
    """Check an optimizer over eight steps with random gradients, some missing or zero, in float64 and in float32.

    Each parameter goes where the rule leads by the gradients that it has had: to within rounding, and in its own dtype.
    A parameter without a gradient keeps every bit. Parameters are written in place, gradients are not written to, in
    whatever layout they come, and ``zero_grad`` forgets them. The state saved after four steps and loaded into a new
    optimizer of copies leads to the same bits as going on, twice, and so does running again from the start.

    Parameters
    ----------
    make : makes a new optimizer of a list of parameters. They have ``data``, an array, and ``grad``, a Tensor with
        ``data`` or None; the optimizer has ``step()``, ``zero_grad()``, ``state_dict()``, a snapshot that no later
        step changes, and ``load_state_dict(state)``. One that works on other objects is wrapped in a class with
        these methods, as below.
    rule : ``rule(p, gradients) -> p``, where the textbook gets from p by one step for each gradient, all in float64:
        `adam_rule` or `sgd_rule` with the options of ``make``, or your own. If left out, the rest is checked.
    rng : draws parameters and gradients

    Raises
    ------
    OptimizerError : naming the parameter and the step, both values and the error that is allowed
    TypeError : the optimizer lacks a method

    Examples
    --------
    >>> from functools import partial
    >>> from tinygen import optim
    >>> from tinygen.testing import adam_rule, check_optimizer, sgd_rule
    >>> check_optimizer(partial(optim.Adam, lr=0.1), partial(adam_rule, lr=0.1))

    An update of plain arrays, wrapped:

    >>> def descend(arrays, gradients):
    ...     for a, g in zip(arrays, gradients):
    ...         a -= 0.1 * g if g is not None else 0.01  # wrong: what has no gradient moves
    >>> class Wrapped:
    ...     def __init__(self, parameters):
    ...         self.parameters = parameters
    ...     def step(self):
    ...         gradients = [None if p.grad is None else p.grad.data for p in self.parameters]
    ...         descend([p.data for p in self.parameters], gradients)
    ...     def zero_grad(self):
    ...         for p in self.parameters:
    ...             p.grad = None
    ...     def state_dict(self):
    ...         return {}
    ...     def load_state_dict(self, state):
    ...         pass
    >>> check_optimizer(Wrapped, partial(sgd_rule, lr=0.1))
    Traceback (most recent call last):
        ...
    tinygen.testing.verdicts.OptimizerError: float64 parameter ..., step 1: without a gradient it moved from ...
    """
    rng = generator(rng)
    verdict = None
    try:
        for dtype in (np.float64, np.float32):
            start, gradients = _draw(rng, dtype)
            report(f"parameters {start!r}, gradients of each step {gradients!r}")
            _check_run(make, rule, start, gradients)
    except CheckError as error:
        verdict = OptimizerError(str(error))
    conclude(verdict)


# ------------------------------------------------------------------------------------------------------------ machinery

Arrays = list[np.ndarray]
Gradients = list[list[np.ndarray | None]]


def _draw(rng: np.random.Generator, dtype: type) -> tuple[Arrays, Gradients]:
    """Parameters, and their gradients in each step: of one always, of one never, of the others now and then.

    In one step, not the first, all gradients are zero: then momentum and weight decay still move.
    """
    start: Arrays = [np.asarray(rng.standard_normal(shape)).astype(dtype) for shape in SHAPES]
    sizes = 10.0 ** rng.uniform(-3, 1, len(SHAPES))
    gradients: Gradients = []
    still = int(rng.integers(1, STEPS))
    for step in range(STEPS):
        scales = sizes * (step != still)
        made = [np.asarray(scale * rng.standard_normal(p.shape)) for p, scale in zip(start, scales, strict=True)]
        reached = (True, *(rng.random(len(SHAPES) - 2) < 0.7), False)
        gradients.append([g.astype(dtype) if yes else None for g, yes in zip(made, reached, strict=True)])
    return start, gradients


def _check_run(make: Callable, rule: Rule | None, start: Arrays, gradients: Gradients) -> None:
    half = STEPS // 2
    optimizer, ps = _begin(make, start)
    first = _run(optimizer, ps, gradients[:half], 1)
    state = optimizer.state_dict()
    path = first + _run(optimizer, ps, gradients[half:], half + 1)
    if rule is not None:
        _check_rule(rule, start, gradients, path)
    repeated = _run(*_begin(make, start), gradients, 1)
    _check_same("run again from the start", path, repeated, 1)
    for what in ("continued from a saved state", "continued once more from the same saved state"):
        optimizer, ps = _begin(make, path[half - 1])
        optimizer.load_state_dict(state)
        _check_same("after loading a state", [path[half - 1]], [[p.data for p in ps]], half)
        _check_same(what, path[half:], _run(optimizer, ps, gradients[half:], half + 1), half + 1)


def _begin(make: Callable, start: Arrays) -> tuple[Any, list[Parameter]]:
    ps = [Parameter(p.copy()) for p in start]
    optimizer = make(ps)
    lacks = [m for m in ("step", "zero_grad", "state_dict", "load_state_dict") if not hasattr(optimizer, m)]
    if lacks:
        raise TypeError(f"check_optimizer: {type(optimizer).__name__} lacks {', '.join(lacks)}")
    _check_same("after making the optimizer", [start], [[p.data for p in ps]], 0)
    return optimizer, ps


def _run(optimizer: Any, ps: list[Parameter], gradients: Gradients, first: int) -> list[Arrays]:
    """Where the parameters are after each step; ``first`` is the number of the first one."""
    path = []
    for step, given in enumerate(gradients, first):
        held = [None if g is None else Tensor(WRITABLE[(step + i) % len(WRITABLE)](g)) for i, g in enumerate(given)]
        for p, gradient in zip(ps, held, strict=True):
            p.grad = gradient
        arrays, before = [p.data for p in ps], [p.data.tobytes() for p in ps]
        gradients_before = [None if g is None else g.data.tobytes() for g in held]
        optimizer.step()
        for i, (p, array, gradient) in enumerate(zip(ps, arrays, held, strict=True)):
            name = _name(i, array, step)
            if (p.data.dtype, p.data.shape) != (array.dtype, array.shape):
                raise CheckError(f"{name}: it became {p.data.dtype} {p.data.shape}")
            if p.data.tobytes() != array.tobytes():
                raise CheckError(f"{name}: it has a new array, and the old one keeps {array!r}; write in place")
            if gradient is None and p.data.tobytes() != before[i]:
                was = np.frombuffer(before[i], array.dtype).reshape(array.shape)
                raise CheckError(f"{name}: without a gradient it moved from {was!r} to {p.data!r}")
            if gradient is not None and gradient.data.tobytes() != gradients_before[i]:
                raise CheckError(f"{name}: its gradient was written to")
        optimizer.zero_grad()
        for i, p in enumerate(ps):
            if p.grad is not None and p.grad.data.any():
                raise CheckError(f"{_name(i, p.data, step)}: zero_grad() leaves the gradient {p.grad.data!r}")
        path.append([p.data.copy() for p in ps])
    return path


def _check_rule(rule: Rule, start: Arrays, gradients: Gradients, path: list[Arrays]) -> None:
    for i, p in enumerate(start):
        eps = float(np.finfo(p.dtype).eps)
        begin, history = p.astype(np.float64), []
        place, way = begin, np.zeros(p.shape)
        for step, (given, after) in enumerate(zip(gradients, path, strict=True), 1):
            g = given[i]
            if g is None:
                continue
            history.append(g.astype(np.float64))
            moved = np.asarray(rule(begin.copy(), history), np.float64)
            way = way + np.abs(moved - place)
            place = moved
            allowed = eps * (MOVES * way + PLACES * (np.abs(begin) + np.abs(place)))
            what = f"{_name(i, p, step)} against the rule"
            assert_close(after[i].astype(np.float64), place, error=allowed, rtol=0.0, what=what)


def _check_same(what: str, expected: list[Arrays], found: list[Arrays], first: int) -> None:
    for step, (wanted, had) in enumerate(zip(expected, found, strict=True), first):
        for i, (a, b) in enumerate(zip(had, wanted, strict=True)):
            if a.tobytes() != b.tobytes():
                assert_close(a, b, rtol=0.0, what=f"{_name(i, b, step)}, {what}")
                raise CheckError(f"{_name(i, b, step)}, {what}: the bits of {a!r} and {b!r} differ")


def _name(i: int, p: np.ndarray, step: int) -> str:
    return f"{p.dtype} parameter {i} of shape {p.shape}, step {step}"
