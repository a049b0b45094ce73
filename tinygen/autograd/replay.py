"""Functions that are recorded and replayed: small models without Python's share of the time."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from functools import partial, update_wrapper
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from tinygen.autograd.context import anomaly, recorder, recording
from tinygen.autograd.program import Program
from tinygen.autograd.tensor import Tensor

KEPT = 4
"""Programs that are kept of one function, the latest: one for each combination of shapes and options."""


def replayed(function: Callable) -> "Replayed":
    """Make a function of arrays fast that is called again and again: a decorator, for methods too.

    Where arrays are small, most of a training step is not arithmetic: for each operation Python checks arguments, makes
    arrays and builds the graph. All of that is the same in each step. So the first two calls are recorded, forward,
    backward and the optimizers' updates; later ones make the same calls on the same memory with new arguments. The
    results have the same bits.

    The function's arguments are arrays, which it receives as Tensors, and hashable options. It returns Tensors, in
    lists, tuples or dicts if there are several. It is recorded anew for other shapes or options, in evaluation mode of
    the module whose method it is, and within `no_grad`. Functions that need much memory are called as usual.

    What changes from call to call must be an argument, random numbers for example. What it does otherwise than by
    operations happens in the first two calls only, unless it is done by `effect`; and arrays that it reads, such as a
    module's buffers, must be changed in place.

    Raises
    ------
    GraphError : the first two calls differ in more than their arguments

    Examples
    --------
    >>> import numpy as np, tinygen as tg
    >>> w = tg.tensor([1.0, 2.0], requires_grad=True)
    >>> @tg.replayed
    ... def loss_and_gradient(x):
    ...     loss = tg.mean(tg.square(x @ w))
    ...     return loss, tg.grad(loss, w)
    >>> for x in np.eye(2, dtype=np.float32), np.ones((2, 2), np.float32), np.ones((2, 2), np.float32) / 3:
    ...     print(*loss_and_gradient(x))
    tensor(2.5, dtype=float32) tensor([1., 2.], dtype=float32)
    tensor(9., dtype=float32) tensor([6., 6.], dtype=float32)
    tensor(1., dtype=float32) tensor([0.6666667, 0.6666667], dtype=float32)
    """
    return Replayed(function)


class Replayed:
    """A function that is recorded twice and replayed from then on. Made by `replayed`."""

    def __init__(self, function: Callable) -> None:
        self.function = function
        self._kept: WeakKeyDictionary[Any, _Kept] = WeakKeyDictionary()
        update_wrapper(self, function)

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else partial(self._call, instance)

    def __call__(self, *args: Any) -> Any:
        """Call the function."""
        return self._call(None, *args)

    def _call(self, instance: Any, *args: Any) -> Any:
        function = self.function if instance is None else partial(self.function, instance)
        if recorder.get() is not None:
            return function(*args)
        values = [np.asarray(a) if isinstance(a, Tensor | np.generic) else a for a in args]
        if anomaly.get():
            return function(*_as_tensors(values))
        described = [(a.shape, a.dtype) if isinstance(a, np.ndarray) else a for a in values]
        key = (recording.get(), getattr(instance, "training", None), *described)
        kept = self._kept.setdefault(self if instance is None else instance, _Kept(self.function.__qualname__))
        with kept.lock:
            return kept.call(key, function, values)


class _Kept:
    """The programs of a function of one object."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lock = threading.Lock()  # a program's memory serves one call at a time
        self.programs: OrderedDict[Hashable, tuple[Program, bool]] = OrderedDict()  # and whether they can be replayed

    def call(self, key: Hashable, function: Callable, values: Sequence[Any]) -> Any:
        """Replay the program for ``key``, or record it."""
        arrays = [v for v in values if isinstance(v, np.ndarray)]
        program, ready = self.programs.get(key, (None, False))
        if program and program.too_large:
            return function(*_as_tensors(values))
        if program and not program.valid:
            program, ready = None, False
        if program and ready:
            return program.run(arrays)
        recorded = Program(arrays)
        places = iter(recorded.arguments)
        own = [next(places) if isinstance(v, np.ndarray) else v for v in values]
        result = recorded.record(function, _as_tensors(own))
        if program:
            program.check_same(recorded, self.name)
        self.programs[key] = recorded, program is not None
        self.programs.move_to_end(key)
        if len(self.programs) > KEPT:
            self.programs.popitem(last=False)
        return result


def _as_tensors(values: Sequence[Any]) -> list[Any]:
    return [Tensor.wrap(v) if isinstance(v, np.ndarray) else v for v in values]
