"""CPU kernels: plain functions from ndarrays to ndarrays, compiled by Numba.

The package knows nothing of tensors or gradients and imports nothing else of the project. ``kernels.reference`` defines
what every kernel computes, as naive NumPy; the compiled modules compute the same, fast. ``TINYGEN_KERNELS=reference``
in the environment makes the whole package resolve to the reference, to debug or to study.

The modules are loaded when a kernel is first asked for, because importing Numba takes longer than everything else
together.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

from kernels.memory import keep_freed_memory

if TYPE_CHECKING:
    from kernels.reference import *  # noqa: F403  (the contract of every name below)

MARKER = "tinygen"  # distinguishes this package from other distributions that install a module named `kernels`

_MODULE_OF = {
    "activate": "activation",
    "activate_grad": "activation",
    "gated_tanh": "activation",
    "gated_tanh_grad": "activation",
    "linear": "affine",
    "linear_grad": "affine",
    "conv2d": "convolution",
    "conv2d_input_grad": "convolution",
    "conv2d_weight_grad": "weight_gradient",
    "sinusoids": "periodic",
    "bounded_affine": "coupling",
    "bounded_affine_grad": "coupling",
    "group_norm": "normalization",
    "group_norm_grad": "normalization",
    "layer_norm": "normalization",
    "layer_norm_grad": "normalization",
    "softmax": "logits",
    "softmax_grad": "logits",
    "log_softmax": "logits",
    "log_softmax_grad": "logits",
    "cross_entropy": "logits",
    "cross_entropy_grad": "logits",
    "binary_cross_entropy": "logits",
    "sum_rows": "reduction",
    "sum_columns": "reduction",
    "norm": "reduction",
    "sum_pool2d": "pooling",
    "upsample2d": "pooling",
    "max_pool2d": "pooling",
    "max_pool2d_grad": "pooling",
    "adam": "optimizer",
}

keep_freed_memory()

__all__ = ["MARKER", "backend", *_MODULE_OF]


def backend() -> str:
    """The backend in use, ``"compiled"`` or ``"reference"``: the environment variable ``TINYGEN_KERNELS``."""
    name = os.environ.get("TINYGEN_KERNELS", "compiled")
    if name not in ("compiled", "reference"):
        raise ValueError(f"TINYGEN_KERNELS={name!r} is not a backend: choose 'compiled' or 'reference'")
    return name


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'kernels' has no attribute {name!r}")
    module = "reference" if backend() == "reference" else _MODULE_OF[name]
    value = getattr(importlib.import_module(f"kernels.{module}"), name)
    globals()[name] = value  # the next look-up does not come here
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
