"""The base class of everything that has parameters."""

import copy
import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from tinygen.autograd import Tensor, no_grad
from tinygen.autograd.context import module_path, observer
from tinygen.errors import CheckpointError


class Parameter(Tensor):
    """A Tensor that a `Module` trains: a leaf that requires a gradient."""

    __slots__ = ()

    def __init__(self, data: ArrayLike) -> None:
        super().__init__(data, requires_grad=True)


class Module:
    """A part of a model: parameters, buffers and further modules, held as plain attributes.

    What an attribute is decides what happens to it: a `Parameter` is trained; an ndarray is a *buffer*, part of the
    state but not trained, as is a `numpy.random.Generator`; a Module, or a list, tuple or dict of them, is walked into.
    Names that begin with an underscore are none of these.

    A subclass defines ``forward``; calling the module runs it.

    Examples
    --------
    >>> import numpy as np
    >>> from tinygen import nn
    >>> class Scale(nn.Module):
    ...     def __init__(self, width):
    ...         self.weight = nn.Parameter(np.ones(width, np.float32))
    ...     def forward(self, x):
    ...         return x * self.weight
    >>> [name for name, _ in nn.Sequential(Scale(2), Scale(2)).named_parameters()]
    ['layers.0.weight', 'layers.1.weight']
    """

    training: bool = True
    _name: str = ""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run ``forward``; operations inside know that this module called them."""
        watching = observer.get()
        if watching is not None:
            watching.calling(self)
        outer = module_path.get()
        name = self._name or type(self).__name__
        token = module_path.set(f"{outer}.{name}" if outer else name)
        try:
            return self.forward(*args, **kwargs)
        finally:
            module_path.reset(token)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module computes; defined by each subclass."""
        raise TypeError(f"{type(self).__name__} has no forward(), so it cannot be called")

    def __setattr__(self, name: str, value: Any) -> None:
        for key, module in _members({name: value}, Module):
            module.__dict__["_name"] = key
        self.__dict__[name] = value

    # ---------------------------------------------------------------------------------------------------------- walking

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, "Module"]]:
        """Itself and all modules inside, each once, with dotted names; its own is ``prefix``."""
        seen: set[int] = set()
        stack = [(prefix, self)]
        while stack:
            path, module = stack.pop()
            if id(module) in seen:
                continue
            seen.add(id(module))
            yield path, module
            inner = list(_members(vars(module), Module))
            stack += [(f"{path}.{name}" if path else name, child) for name, child in reversed(inner)]

    def modules(self) -> Iterator["Module"]:
        """Itself and all modules inside, each once."""
        return (module for _, module in self.named_modules())

    def named_members(self, kind: type) -> Iterator[tuple[str, Any]]:
        """Every public attribute of a type, in this module and all inside, each once and with its dotted name."""
        seen: set[int] = set()
        for path, module in self.named_modules():
            for name, value in _members(vars(module), kind):
                if id(value) not in seen:
                    seen.add(id(value))
                    yield (f"{path}.{name}" if path else name), value

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Every parameter once, with its dotted name."""
        return self.named_members(Parameter)

    def parameters(self) -> Iterator[Parameter]:
        """Every parameter once."""
        return (p for _, p in self.named_parameters())

    def named_buffers(self) -> Iterator[tuple[str, np.ndarray]]:
        """Every buffer once, with its dotted name."""
        return self.named_members(np.ndarray)

    def buffers(self) -> Iterator[np.ndarray]:
        """Every buffer once."""
        return (b for _, b in self.named_buffers())

    # -------------------------------------------------------------------------------------------------- modes and state

    def train(self, mode: bool = True) -> Self:
        """Switch to training behaviour (dropout, batch statistics), or with False to evaluation."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Self:
        """Switch to evaluation behaviour."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Let gradients flow to the parameters, or not."""
        for p in self.parameters():
            p.requires_grad = requires_grad
        return self

    def astype(self, dtype: DTypeLike) -> Self:
        """A deep copy with floating parameters and buffers in another dtype, in whatever attribute they are held.

        Optimizers keep the dtype that they were made with: make them anew. Gradients are not copied.

        Examples
        --------
        >>> import numpy as np
        >>> from tinygen import nn
        >>> layer = nn.Linear(2, 3, np.random.default_rng(0))
        >>> layer.astype(np.float64)(np.ones((1, 2))).dtype
        dtype('float64')
        """
        memo: dict[int, Any] = {id(b): b.astype(dtype) for b in self.buffers() if b.dtype.kind == "f"}
        for p in self.parameters():
            memo[id(p)] = Parameter(p.data.astype(dtype))
            memo[id(p)].requires_grad = p.requires_grad
        return copy.deepcopy(self, memo)  # which takes what the memo holds for the copy of what it met before

    def state_dict(self) -> dict[str, np.ndarray]:
        """Copies of parameters and buffers by dotted name; a generator is its state as JSON text in bytes."""
        state = {name: p.data.copy() for name, p in self.named_parameters()}
        state |= {name: b.copy() for name, b in self.named_buffers()}
        return state | {name: _generator_bytes(rng) for name, rng in self.named_members(np.random.Generator)}

    def load_state_dict(self, state: Mapping[str, ArrayLike]) -> None:
        """Copy a state into this module, in place.

        Raises
        ------
        CheckpointError : a name is missing or unknown, or a shape or dtype differs; nothing is changed then
        """
        targets = {name: p.data for name, p in self.named_parameters()} | dict(self.named_buffers())
        generators = dict(self.named_members(np.random.Generator))
        arrays = check_state(type(self).__name__, targets, state, other=generators)
        for name, rng in generators.items():
            _set_generator(copy.deepcopy(rng), name, arrays[name])
        for name, target in targets.items():
            target[...] = arrays[name]
        for name, rng in generators.items():
            _set_generator(rng, name, arrays[name])


def check_state(
    what: str, targets: Mapping[str, np.ndarray], state: Mapping[str, ArrayLike], other: Collection[str] = ()
) -> dict[str, np.ndarray]:
    """A state as arrays, if it has the names, shapes and dtypes of ``targets``, and beside those the names ``other``.

    Raises
    ------
    CheckpointError : it does not
    """
    expected = [*targets, *other]
    missing = [name for name in expected if name not in state]
    unknown = [name for name in state if name not in expected]
    if missing or unknown:
        problems = [
            f"{text} {', '.join(names[:3])}" for text, names in (("lacks", missing), ("has unknown", unknown)) if names
        ]
        raise CheckpointError(f"the state does not fit {what}: it {' and '.join(problems)}")
    arrays = {name: np.asarray(value) for name, value in state.items()}
    for name, target in targets.items():
        if (arrays[name].shape, arrays[name].dtype) != (target.shape, target.dtype):
            raise CheckpointError(
                f"{name}: the state has {arrays[name].dtype} of shape {arrays[name].shape}, "
                f"but {what} {target.dtype} of shape {target.shape}"
            )
    return arrays


def _members(attributes: Mapping, kind: type) -> Iterator[tuple[str, Any]]:
    """The values of a type among public attributes, and within lists, tuples and dicts there."""
    for name, value in attributes.items():
        if isinstance(value, kind):
            if not str(name).startswith("_"):
                yield str(name), value
        elif isinstance(value, list | tuple | dict) and not str(name).startswith("_"):
            inner = value if isinstance(value, dict) else dict(enumerate(value))
            yield from ((f"{name}.{key}", item) for key, item in _members(inner, kind))


def _generator_bytes(rng: np.random.Generator) -> np.ndarray:
    text = json.dumps(rng.bit_generator.state, default=np.ndarray.tolist)  # some kinds have arrays in their state
    return np.frombuffer(text.encode(), np.uint8)


def _set_generator(rng: np.random.Generator, name: str, state: np.ndarray) -> None:
    try:
        rng.bit_generator.state = json.loads(state.tobytes())
    except (ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{name}: not the state of a {type(rng.bit_generator).__name__} ({error})") from None


@contextmanager
def evaluation(model: Module) -> Iterator[None]:
    """Inside, nothing is recorded and ``model`` is in evaluation mode; afterwards each module is as it was."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training
