"""tinygen: a small deep-learning framework to be read, run and tested."""

from importlib import import_module as _import_module
from types import ModuleType as _ModuleType

import kernels

if getattr(kernels, "MARKER", None) != "tinygen":
    raise ImportError(
        f"tinygen needs its own package `kernels`, but another one comes first on the path: {kernels.__file__}; "
        "remove that one or put tinygen before it"
    )

from tinygen import errors, func
from tinygen.autograd import Tensor, detect_anomaly, grad, no_grad, primitive, replayed, tensor
from tinygen.ops import *  # noqa: F403
from tinygen.ops import __all__ as _operations

__version__ = "0.1.0"
__all__ = [
    "Tensor",
    "detect_anomaly",
    "errors",
    "func",
    "grad",
    "no_grad",
    "primitive",
    "replayed",
    "tensor",
    *_operations,
]

_PACKAGES = (
    "bijections",
    "data",
    "distributions",
    "models",
    "nn",
    "optim",
    "testing",
    "training",
    "viz",
)


def __getattr__(name: str) -> _ModuleType:
    """Import a package when it is first used, so that ``import tinygen`` is quick."""
    if name in _PACKAGES:
        return _import_module(f"tinygen.{name}")
    raise AttributeError(f"module 'tinygen' has no attribute {name!r}")
