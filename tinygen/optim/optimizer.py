"""Optimizers. They write parameters in place, and leave alone those that no gradient has reached."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby

import numpy as np

import kernels
from tinygen.autograd import Tensor, effect, grad
from tinygen.errors import NonFiniteError
from tinygen.nn import Parameter
from tinygen.nn.module import check_state
from tinygen.optim.flat import FlatParameters


def clip_grad_norm(parameters: Iterable[Parameter], max_norm: float) -> float:
    """Scale all gradients together so that their joint Euclidean norm is at most ``max_norm``; returns the norm before.

    Raises
    ------
    NonFiniteError : a gradient is not finite; nothing is changed then
    """
    return _clip([p.grad.data for p in parameters if p.grad is not None], max_norm)


def _clip(gradients: Sequence[np.ndarray], max_norm: float) -> float:
    norm = math.sqrt(sum(float(np.vdot(g, g)) for g in gradients))
    if not math.isfinite(norm):  # the squares may have overflowed
        norm = math.sqrt(sum(float(np.square(g, dtype=np.float64).sum()) for g in gradients))
    if not math.isfinite(norm):
        raise NonFiniteError(
            f"the norm of the gradients is {norm}; lower the learning rate, or find the cause with detect_anomaly()"
        )
    if norm > max_norm:
        for g in gradients:
            g *= max_norm / norm
    return norm


def _check_finite(loss: np.ndarray) -> None:
    if not math.isfinite(loss.item()):
        raise NonFiniteError(f"the loss is {loss.item()}")


class Optimizer:
    """Base of the optimizers.

    Parameters
    ----------
    parameters : what to train
    lr : learning rate
    max_norm : bound for the joint norm of the gradients, applied by `minimize`

    Attributes
    ----------
    lr_scale : factor on the learning rate, which a schedule sets
    """

    def __init__(self, parameters: Iterable[Parameter], lr: float, *, max_norm: float = math.inf) -> None:
        self.flat = FlatParameters(parameters)
        self.lr = lr
        self.lr_scale = 1.0
        self.max_norm = max_norm
        self._gradient = np.empty_like(self.flat.data)
        self._views: list[Tensor] = []
        self.steps = np.zeros(len(self.parameters), np.int64)  # taken by each parameter

    @property
    def parameters(self) -> list[Parameter]:
        """What is trained."""
        return self.flat.parameters

    @property
    def _places(self) -> list[Tensor]:
        """The gradient of each parameter, as a part of the flat one."""
        if not self._views or self._views[0].data.base is not self._gradient:  # as those of a deep copy are not
            self._views = [
                Tensor.wrap(self._gradient[where].reshape(p.shape))
                for p, where in zip(self.parameters, self.flat.slices, strict=True)
            ]
        return self._views

    def minimize(self, loss: Tensor) -> Tensor:
        """Take one step down the gradient of ``loss``, a single number.

        Returns the norm of the gradient before clipping. Only gradients of this optimizer's parameters are computed.
        May be used in a `replayed` function.

        Raises
        ------
        NonFiniteError : the loss or the gradient is not finite; no parameter has changed then
        """
        effect(_check_finite, loss)
        return Tensor.wrap(effect(self._descend, grad(loss, self.parameters, allow_unused=True)))

    def _descend(self, gradients: Sequence[np.ndarray | None]) -> np.ndarray:
        for p, place, gradient in zip(self.parameters, self._places, gradients, strict=True):
            p.grad = None if gradient is None else place
            place.data[...] = 0 if gradient is None else gradient
        norm = _clip([self._gradient], self.max_norm)
        self.step()
        return np.array(norm)

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for p in self.parameters:
            p.grad = None

    def step(self) -> None:
        """Update every parameter that has a gradient."""
        self.flat.adopt()
        for p, place in zip(self.parameters, self._places, strict=True):
            if p.grad is not None and p.grad is not place:
                place.data[...] = p.grad.data
        for first, last in self._runs():
            self.steps[first:last] += 1
            part = slice(self.flat.slices[first].start, self.flat.slices[last - 1].stop)
            self._update(part, self._gradient[part], int(self.steps[first]), self.lr * self.lr_scale)

    def _runs(self) -> Iterator[tuple[int, int]]:
        """Runs of parameters that can be updated as one: all with gradients, all after as many steps."""
        kinds = [
            steps if p.grad is not None else None for p, steps in zip(self.parameters, self.steps.tolist(), strict=True)
        ]
        first = 0
        for steps, run in groupby(kinds):
            last = first + len(list(run))
            if steps is not None:
                yield first, last
            first = last

    def _update(self, part: slice, g: np.ndarray, step: int, lr: float) -> None:
        """Update one part of the flat parameters with its gradient, in place; ``step`` counts from 1."""
        raise NotImplementedError

    def _moments(self) -> dict[str, np.ndarray]:
        """The running averages that belong to the state."""
        return {}

    def state_dict(self) -> dict[str, np.ndarray]:
        """Copies of the running averages and step counts."""
        return {name: a.copy() for name, a in (self._moments() | {"steps": self.steps}).items()}

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Copy a state into this optimizer; `CheckpointError` if it does not fit, and nothing is changed then."""
        targets = self._moments() | {"steps": self.steps}
        for name, array in check_state(type(self).__name__, targets, state).items():
            targets[name][...] = array


class SGD(Optimizer):
    """Gradient descent with momentum: v ← momentum · v + g, p ← p - lr · (v + weight_decay · p)."""

    def __init__(
        self,
        parameters: Iterable[Parameter],
        lr: float,
        *,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        max_norm: float = math.inf,
    ) -> None:
        super().__init__(parameters, lr, max_norm=max_norm)
        self.momentum, self.weight_decay = momentum, weight_decay
        self.velocity = np.zeros_like(self.flat.data)

    def _moments(self) -> dict[str, np.ndarray]:
        return {"velocity": self.velocity}

    def _update(self, part: slice, g: np.ndarray, step: int, lr: float) -> None:
        p, v = self.flat.data[part], self.velocity[part]
        v *= self.momentum
        v += g
        p -= lr * (v + self.weight_decay * p)


class Adam(Optimizer):
    """Adam (Kingma and Ba 2015, algorithm 1).

    Parameters
    ----------
    parameters, lr, max_norm : see `Optimizer`
    betas : decay of the running mean and of the running mean square of the gradient
    eps : added to the root of the mean square
    """

    weight_decay = 0.0

    def __init__(
        self,
        parameters: Iterable[Parameter],
        lr: float = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        max_norm: float = math.inf,
    ) -> None:
        super().__init__(parameters, lr, max_norm=max_norm)
        self.betas, self.eps = betas, eps
        self.mean = np.zeros_like(self.flat.data)
        self.mean_square = np.zeros_like(self.flat.data)

    def _moments(self) -> dict[str, np.ndarray]:
        return {"mean": self.mean, "mean_square": self.mean_square}

    def _update(self, part: slice, g: np.ndarray, step: int, lr: float) -> None:
        kernels.adam(
            self.flat.data[part],
            g,
            self.mean[part],
            self.mean_square[part],
            step,
            lr,
            *self.betas,
            self.eps,
            self.weight_decay,
        )


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019): p shrinks by lr · weight_decay a step too."""

    def __init__(
        self,
        parameters: Iterable[Parameter],
        lr: float = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        max_norm: float = math.inf,
    ) -> None:
        super().__init__(parameters, lr, betas=betas, eps=eps, max_norm=max_norm)
        self.weight_decay = weight_decay
