"""Functions that are recorded and replayed: small models without Python's share of the time."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from functools import partial, update_wrapper
from typing import Any

import numpy as np

from tinygen.autograd.context import anomaly, observer, recording
from tinygen.autograd.program import Program, detached, name_of
from tinygen.autograd.tensor import Tensor

KEPT = 8
"""Programs that are kept of one function, the latest: one for each combination of shapes and options."""


def replayed(function: Callable) -> "Replayed":
    """Make a function of arrays fast that is called again and again: a decorator, for methods too.

    Where arrays are small, most of a training step is not arithmetic: for each operation Python checks arguments, makes
    arrays and builds the graph. All of that is the same in each step. So the first two calls are recorded, forward,
    backward and the optimizers' updates; later ones make the same calls with new arguments, in memory that was set
    aside for them. The results have the same bits.

    The function's arguments, given by position, are arrays, which it receives as Tensors, and hashable options. It
    returns Tensors without history, in lists, tuples or dicts if there are several. It is recorded anew for other
    shapes and options, within `no_grad`, and when modules that it calls change between training and evaluation, or
    parameters get other arrays or no longer require gradients. Functions that need much memory are called as usual.

    What changes from call to call must be an argument: random numbers, for example. Whatever is not computed by
    operations happens in the first two calls only, unless an `effect` does it; and what the function reads beside its
    arguments, such as a module's buffers and layers, must be changed in place. What differs between the first two calls
    is noticed, but what changes later is not.

    Raises
    ------
    GraphError : the first two calls differ in more than their arguments, a Tensor's value is read, or a shape depends
        on values

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
        self._programs = _Programs()
        update_wrapper(self, function, updated=())

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else partial(self._call, instance)

    def __deepcopy__(self, memo: dict) -> "Replayed":
        return self  # as functions are

    def __call__(self, *args: Any) -> Any:
        """Call the function."""
        return self._programs.call(self.function, args, name_of(self.function))

    def _call(self, instance: Any, *args: Any) -> Any:
        kept = vars(instance).setdefault("_programs", {})
        programs = kept.get(self) or kept.setdefault(self, _Programs())
        return programs.call(partial(self.function, instance), args, name_of(self.function))


class _Programs:
    """The programs of a function, or of a method of one object."""

    def __init__(self) -> None:
        self.programs: OrderedDict[Hashable, tuple[Program, bool]] = OrderedDict()  # and whether to replay it
        self.lock = threading.RLock()  # a program's memory serves one call at a time
        self.busy = False

    def __deepcopy__(self, memo: dict) -> "_Programs":
        return _Programs()  # for a program uses the memory of the object that it was recorded for

    def call(self, function: Callable, args: Sequence[Any], name: str) -> Any:
        """Replay the program for these arguments, record it, or call the function as it is."""
        if observer.get() is not None:
            return function(*_as_tensors(args))
        values = [a.numpy() if isinstance(a, Tensor) else a for a in args]
        with self.lock:
            if anomaly.get() or self.busy:  # an effect calls the function that it is part of
                return detached(function(*_as_tensors(values)))
            self.busy = True
            try:
                return self._replay(function, values, name)
            finally:
                self.busy = False

    def _replay(self, function: Callable, values: Sequence[Any], name: str) -> Any:
        arrays = [v for v in values if isinstance(v, np.ndarray)]
        described = [(v.shape, v.dtype) if isinstance(v, np.ndarray) else (type(v), v) for v in values]
        key = (recording.get(), *described)
        try:
            program, ready = self.programs.get(key, (None, False))
        except TypeError as error:
            raise TypeError(f"{name}: an argument of a replayed function is an array or a hashable: {error}") from None
        if program and program.too_large:
            return detached(function(*_as_tensors(values)))
        if program and not program.valid:
            program, ready = None, False
        if program and ready:
            self.programs.move_to_end(key)
            return program.run(arrays)
        recorded = Program(arrays)
        places = iter(recorded.arguments)
        own = [next(places) if isinstance(v, np.ndarray) else v for v in values]
        result = recorded.record(function, _as_tensors(own))
        if program and not recorded.too_large:
            program.check_same(recorded, name)
        self.programs[key] = recorded, program is not None
        self.programs.move_to_end(key)
        if len(self.programs) > KEPT:
            self.programs.popitem(last=False)
        return result


def _as_tensors(values: Sequence[Any]) -> list[Any]:
    return [Tensor.wrap(v) if isinstance(v, np.ndarray) else v for v in values]
