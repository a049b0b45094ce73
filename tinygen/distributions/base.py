"""What all distributions have in common: the meaning of their axes."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygen.autograd import Tensor
from tinygen.errors import ShapeError
from tinygen.nn import Module

Value = Any  # an ndarray or a Tensor; arrays give arrays, and Tensors give Tensors
Shape = tuple[int, ...]


class Distribution(Module):
    """Base of the distributions.

    The shape of the parameters is ``(*batch_shape, *event_shape)``: one distribution for each entry of the batch, whose
    draws are events. Entries of one event count together, so a `log_prob` has no event axes: with parameters ``(D,)``
    points ``(N, D)`` have log-probabilities ``(N,)``, and so they have with parameters ``(N, D)``, a distribution for
    each point.

    A distribution is a Module: parameters that are `tinygen.nn.Parameter` belong to what a model trains, arrays to its
    state. All logarithms are natural, so log-probabilities, entropies and divergences are in nats.

    Attributes
    ----------
    batch_shape, event_shape : tuple of int
    """

    batch_shape: Shape
    event_shape: Shape

    def log_prob(self, x: Value) -> Value:
        """Logarithm of the density, or of the probability, at x.

        Parameters
        ----------
        x : ``(..., *event_shape)``, its leading axes broadcasting with ``batch_shape``

        Returns
        -------
        The leading axes, broadcast. Differentiable in the parameters, and in x where x is continuous.

        Raises
        ------
        ShapeError : if x has another event shape
        """
        raise NotImplementedError

    def sample(self, n: int, rng: np.random.Generator) -> Value:
        """Draw n independent events from each distribution of the batch: ``(n, *batch_shape, *event_shape)``.

        Of the normal distributions a draw is a differentiable function of the parameters (the reparametrisation of
        Kingma and Welling 2014); of the others it carries no gradient.
        """
        raise NotImplementedError

    def entropy(self) -> Value:
        """Entropy in nats, of shape ``batch_shape``."""
        raise NotImplementedError

    def _check(self, x: Value) -> None:
        shape = np.shape(x)
        if shape[len(shape) - len(self.event_shape) :] != self.event_shape:
            raise ShapeError(
                f"log_prob of {type(self).__name__}: x is {shape} but must be (..., *event)=(..., "
                f"{', '.join(map(str, self.event_shape))})"
            )

    def __repr__(self) -> str:
        return f"{type(self).__name__}(batch_shape={self.batch_shape}, event_shape={self.event_shape})"


def as_parameters(*values: Any) -> list[Value]:
    """Numbers, lists and integer arrays as floating arrays, of the dtype that another value has, or else float32."""
    dtypes = [value.dtype for value in values if _is_floating(value)]
    dtype = dtypes[0] if dtypes else np.float32
    return [value if _is_floating(value) else np.asarray(value, dtype) for value in values]


def _is_floating(value: Any) -> bool:
    return isinstance(value, np.ndarray | Tensor) and value.dtype.kind == "f"


def split_shape(shape: Sequence[int], event_ndim: int, name: str) -> tuple[Shape, Shape]:
    """The batch's and the event's part of the parameters' shape; `ShapeError` if there are too few axes."""
    if not 0 <= event_ndim <= len(shape):
        raise ShapeError(
            f"{name}: event_ndim={event_ndim} but the parameters have the {len(shape)} axes {tuple(shape)}"
        )
    split = len(shape) - event_ndim
    return tuple(shape[:split]), tuple(shape[split:])


def common_shape(name: str, **shapes: Shape) -> Shape:
    """The shape that parameters of these shapes broadcast to, by name; `ShapeError` if there is none."""
    try:
        return np.broadcast_shapes(*shapes.values())
    except ValueError:
        listed = ", ".join(f"{key} {shape}" for key, shape in shapes.items())
        raise ShapeError(f"{name}: the parameters' shapes do not broadcast: {listed}") from None


def event_axes(event_ndim: int) -> tuple[int, ...]:
    """The last axes, which make up an event."""
    return tuple(range(-event_ndim, 0))
