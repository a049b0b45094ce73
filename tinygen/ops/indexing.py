"""Picking elements out of an array, and the adjoint: adding values into an array of zeros."""

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from kernels.calls import do, new, note
from tinygen.autograd import Real, composite, primitive
from tinygen.autograd.domain import Choice, Examples, Index
from tinygen.autograd.tensor import plain_index
from tinygen.errors import DTypeError, ShapeError


def _parts(index):
    return index if isinstance(index, tuple) else (index,)


def _arrays_in(index):
    """The arrays in an index; without any, it picks a view. A single truth value counts as an array."""
    return [
        np.asarray(part)
        for part in _parts(index)
        if not (part is None or part is Ellipsis or isinstance(part, int | np.integer | slice))
        or isinstance(part, bool)
    ]


def _view(x, index):
    """``x[index]``, also of a single element, for an index without arrays."""
    parts = _parts(index)
    return x[parts] if any(part is Ellipsis for part in parts) else x[(*parts, ...)]


def _picks_once(arrays):
    """Whether an index with these arrays certainly picks no element twice: values can be assigned, and not added."""
    if len(arrays) != 1:
        return False
    (array,) = arrays
    return array.dtype == bool or (array.min(initial=0) >= 0 and np.unique(array).size == array.size)


def axes_of(operation, axis, ndim):
    """An axis, or several, as a tuple that counts from 0; `ShapeError` if there is none such, or one is twice."""
    try:
        return normalize_axis_tuple(axis, ndim)
    except (ValueError, TypeError) as error:
        raise ShapeError(f"{operation}: axis {axis} of an array with {ndim} axes: {error}") from None


@primitive(domain={"x": Real("..."), "index": Index()})
def getitem(x, index):
    """``x[index]``, for every index that NumPy accepts; an element that is picked twice receives both gradients."""
    try:
        return x[index]
    except IndexError as error:
        raise ShapeError(f"getitem: {error}; x has shape {np.shape(x)}") from None


@primitive(
    domain=Examples(
        {
            "values": Real("n=3:3 m=2:2"),
            "index": Choice([0, 2, 4], [1, 1, 3], slice(1, 4), (slice(1, 4), [1, 0])),
            "shape": Choice((5, 2), (6, 2)),
        },
        {"values": Real("m=2:2"), "index": Choice([0, 2], 1, ..., (..., None, slice(None))), "shape": Choice((3, 2))},
    ),
    noted=True,
)
def scatter(values, index, shape):
    """Zeros of ``shape`` with ``values`` added at ``index``: the adjoint of ``x[index]``.

    Parameters
    ----------
    values : broadcasts to the shape of what ``index`` picks
    index : any NumPy index; values for an element that is picked twice are summed
    shape : of the result

    Examples
    --------
    >>> import tinygen as tg
    >>> tg.scatter(tg.tensor([1.0, 2.0, 3.0]), [0, 2, 2], (4,))
    tensor([1., 0., 5., 0.], dtype=float32)
    """
    values = np.asarray(values)
    out = np.zeros(shape, values.dtype)
    try:
        arrays = _arrays_in(index)
        if not arrays:
            note(np.copyto, new(out), 0)
            do(np.copyto, _view(out, index), values)
        elif _picks_once(arrays):
            out[index] = values
        else:
            np.add.at(out, index, values)
    except (IndexError, ValueError) as error:
        raise ShapeError(f"scatter: values of shape {values.shape} into shape {shape}: {error}") from None
    return out


getitem.vjp(x=lambda g, x_shape, index: scatter(g, index, x_shape))
scatter.vjp(values=lambda g, index: getitem(g, index))


@composite(
    domain=Examples(
        {"x": Real("n=3:3 m=3:4"), "indices": Choice(0, [2, 0, 0], [[1, 2], [0, 1]]), "axis": Choice(None, 0, 1, -1)}
    ),
    numpy=np.take,
)
def take(x, indices, axis=None):
    """Elements, or whole slices along an axis, at integer indices; None takes from the flattened array.

    Raises
    ------
    DTypeError : for indices that are not integers
    """
    chosen = np.asarray(plain_index(indices))
    if chosen.dtype.kind not in "iu":
        raise DTypeError(f"take: indices must be integers, got {chosen.dtype}")
    if axis is None:
        return getitem(_flat(x), chosen)
    (axis,) = axes_of("take", axis, np.ndim(x))
    return getitem(x, (*(slice(None),) * axis, chosen))


def _flat(x):
    return x.reshape((-1,))


@composite(
    domain=Examples(
        {"x": Real("n=3:3 m=2:2"), "indices": Choice(np.array([[0, 2]]), np.array([[1, 1], [0, 2]])), "axis": Choice(0)}
    ),
    numpy=np.take_along_axis,
)
def take_along_axis(x, indices, axis=-1):
    """For each place in ``indices``, the element of x at that place but for ``axis``, where the index says."""
    chosen = np.asarray(plain_index(indices))
    (axis,) = axes_of("take_along_axis", axis, np.ndim(x))
    grid = list(np.ogrid[tuple(slice(n) for n in np.shape(x))])
    grid[axis] = chosen
    return getitem(x, tuple(grid))


@primitive(domain=Examples({"x": Real("n m", distinct=True), "axis": Choice(0, 1, -1)}), numpy=np.argsort)
def argsort(x, axis=-1):
    """The order that sorts x along an axis, as integers; equal elements keep their order."""
    return np.argsort(x, axis=axis, kind="stable")


@composite(domain=Examples({"x": Real("n m", distinct=True), "axis": Choice(0, 1, -1)}), numpy=np.sort)
def sort(x, axis=-1):
    """Elements in ascending order along an axis; each gradient returns to the place its element came from."""
    return take_along_axis(x, argsort(x, axis), axis)
