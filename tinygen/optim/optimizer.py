"""Optimizers. They write parameters in place, and leave alone those that no gradient has reached."""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import compress

import numpy as np

import kernels
from kernels.calls import by_kernels, do
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
    gradients = [p.grad.data for p in parameters if p.grad is not None]
    norm = math.hypot(*(float(kernels.norm(g.reshape(-1))) for g in gradients))
    _clip(gradients, norm, max_norm)
    return norm


def _clip(gradients: Sequence[np.ndarray], norm: float, max_norm: float) -> None:
    if not math.isfinite(norm):
        raise NonFiniteError(
            f"the norm of the gradients is {norm}; lower the learning rate, or find the cause with detect_anomaly()"
        )
    if norm > max_norm:
        for g in gradients:
            g *= max_norm / norm


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
        self._gradient = np.zeros_like(self.flat.data)
        self._views: list[Tensor] = []
        self.steps = np.zeros(len(self.parameters), np.int64)  # taken by each parameter
        self._steps_now = np.zeros_like(self.steps)  # the same in this step, but 0 for those without a gradient

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
        gradients = grad(loss, self.parameters, allow_unused=True)
        norm = effect(self._gather, gradients)
        effect(self._accept, norm, np.array([g is not None for g in gradients]))
        effect(self._update, self._steps_now)
        return Tensor.wrap(norm)

    @by_kernels
    def _gather(self, gradients: Sequence[np.ndarray | None]) -> np.ndarray:
        """Copy gradients side by side; their norm."""
        for place, gradient in zip(self._places, gradients, strict=True):
            do(np.copyto, place.data, 0 if gradient is None else gradient)
        return kernels.norm(self._gradient)

    def _accept(self, norm: np.ndarray, reached: np.ndarray) -> None:
        """Check and clip the gradient, and prepare to take a step."""
        _clip([self._gradient], norm.item(), self.max_norm)
        for p, place, yes in zip(self.parameters, self._places, reached, strict=True):
            p.grad = place if yes else None
        self._prepare(reached)

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for p in self.parameters:
            p.grad = None

    def step(self) -> None:
        """Update every parameter that has a gradient."""
        for p, place in zip(self.parameters, self._places, strict=True):
            if p.grad is not None and p.grad is not place:
                place.data[...] = p.grad.data
        self._prepare(np.array([p.grad is not None for p in self.parameters]))
        self._update(self._steps_now)

    def _prepare(self, reached: np.ndarray) -> None:
        """Count a step of the parameters that a gradient has reached."""
        self.flat.adopt()
        self.steps += reached
        np.multiply(self.steps, reached, out=self._steps_now)

    def _update(self, steps: np.ndarray) -> None:
        """Update the flat parameters with their gradient, in place.

        ``steps`` counts the steps of each from 1, this one included; it is 0 for those to be left alone.
        """
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

    def _update(self, steps: np.ndarray) -> None:
        for part in compress(self.flat.slices, steps):
            p, v = self.flat.data[part], self.velocity[part]
            v *= self.momentum
            v += self._gradient[part]
            p -= self.lr * self.lr_scale * (v + self.weight_decay * p)


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
        self._settings = np.empty(5)  # in memory, where a replayed step finds what they have become

    def _moments(self) -> dict[str, np.ndarray]:
        return {"mean": self.mean, "mean_square": self.mean_square}

    def _prepare(self, reached: np.ndarray) -> None:
        super()._prepare(reached)
        self._settings[:] = self.lr * self.lr_scale, *self.betas, self.eps, self.weight_decay

    @by_kernels
    def _update(self, steps: np.ndarray) -> None:
        averages = self.mean, self.mean_square
        kernels.adam(self.flat.data, self._gradient, *averages, self.flat.ends, steps, self._settings)


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
