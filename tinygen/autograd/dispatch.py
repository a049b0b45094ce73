"""NumPy functions that are given a Tensor run the registered operation instead (NEP 13 and NEP 18)."""

from typing import Any

import numpy as np

from tinygen.autograd.registry import numpy_twins, operations
from tinygen.errors import did_you_mean

_ABOUT_SHAPE: dict[Any, Any] = {
    np.shape: lambda x: x.shape,
    np.ndim: lambda x: x.ndim,
    np.size: lambda x: x.size,
    np.iscomplexobj: lambda x: False,
}


def array_ufunc(self: Any, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
    """`Tensor.__array_ufunc__`."""
    if method != "__call__":
        raise TypeError(f"np.{ufunc.__name__}.{method} is not differentiable; use an operation such as tinygen.sum")
    if kwargs:
        raise TypeError(f"np.{ufunc.__name__} of a Tensor does not take {', '.join(kwargs)}: results are new Tensors")
    return _twin(ufunc, ufunc.__name__)(*inputs)


def array_function(self: Any, func: Any, types: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    """`Tensor.__array_function__`."""
    return _twin(func, func.__name__)(*args, **kwargs)


def _twin(function: Any, name: str) -> Any:
    if function in _ABOUT_SHAPE:
        return _ABOUT_SHAPE[function]
    if function not in numpy_twins:
        hint = did_you_mean(name, operations.all())
        raise TypeError(
            f"np.{name} would lose the gradient (which detach().numpy() does on purpose); it is no operation here{hint}"
        )
    return numpy_twins[function]
