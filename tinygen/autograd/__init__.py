"""The engine: Tensors that record operations, and one traversal that differentiates them."""

from tinygen.autograd.context import detect_anomaly, no_grad
from tinygen.autograd.domain import Real
from tinygen.autograd.primitive import Composite, Operation, Primitive, composite, primitive
from tinygen.autograd.program import effect
from tinygen.autograd.registry import operations
from tinygen.autograd.replay import replayed
from tinygen.autograd.tensor import Tensor, grad, tensor

__all__ = [
    "Composite",
    "Operation",
    "Primitive",
    "Real",
    "Tensor",
    "composite",
    "detect_anomaly",
    "effect",
    "grad",
    "no_grad",
    "operations",
    "primitive",
    "replayed",
    "tensor",
]
