"""Rearranging elements: what each operation moves forward, its rule moves back."""

import numpy as np

from kernels.calls import computed
from tinygen.autograd import Real, composite, primitive
from tinygen.autograd.domain import Axis, Broadcasting, Choice, Examples, Padding, Permutation, Reshaping, Sequence
from tinygen.errors import ShapeError
from tinygen.ops.indexing import axes_of, getitem


@primitive(domain={"x": Real("..."), "shape": Reshaping()}, numpy=np.reshape)
def reshape(x, shape):
    """The same elements in C order in another shape; one size may be -1."""
    try:
        return np.reshape(x, shape)
    except ValueError:
        raise ShapeError(f"reshape: {np.shape(x)} has {np.size(x)} elements, which do not fill {shape}") from None


reshape.vjp(x=lambda g, x_shape: reshape(g, x_shape))


@primitive(
    domain=Examples({"x": Real("..."), "axes": Permutation()}, {"x": Real("n m k"), "axes": Permutation()}),
    numpy=(np.transpose, np.permute_dims),
)
def transpose(x, axes=None):
    """The axes in another order; reversed for None."""
    return np.transpose(x, axes)


def _transpose_back(g, axes):
    return transpose(g, None if axes is None else tuple(np.argsort([a % len(axes) for a in axes]).tolist()))


transpose.vjp(x=_transpose_back)


@composite(
    domain=Examples({"x": Real("n h w c"), "source": Choice(0, 1, -1), "destination": Choice(0, 2, -1)}),
    numpy=np.moveaxis,
)
def moveaxis(x, source, destination):
    """One axis moved to another place."""
    (start,), (end,) = (axes_of("moveaxis", axis, np.ndim(x)) for axis in (source, destination))
    order = [i for i in range(np.ndim(x)) if i != start]
    order.insert(end, start)
    return transpose(x, tuple(order))


@composite(
    domain=Examples({"x": Real("n h w c"), "axis1": Choice(0, 1, -1), "axis2": Choice(0, 2, -1)}), numpy=np.swapaxes
)
def swapaxes(x, axis1, axis2):
    """Two axes exchanged."""
    order = list(range(np.ndim(x)))
    (a,), (b,) = (axes_of("swapaxes", axis, np.ndim(x)) for axis in (axis1, axis2))
    order[a], order[b] = b, a
    return transpose(x, tuple(order))


@composite(domain=Examples({"x": Real("n h"), "axis": Choice(0, 1, 2, -1)}), numpy=np.expand_dims)
def expand_dims(x, axis):
    """New axes of size 1, at ``axis`` of the result; several for a tuple."""
    shape = list(np.shape(x))
    added = len(axis) if isinstance(axis, tuple) else 1
    for place in sorted(axes_of("expand_dims", axis, len(shape) + added)):
        shape.insert(place, 1)
    return reshape(x, tuple(shape))


@composite(domain=Examples({"x": Real("a=1:1 n b=1:1"), "axis": Choice(None, 0, -1, (0, 2))}), numpy=np.squeeze)
def squeeze(x, axis=None):
    """The axes of size 1 dropped, or those named by ``axis``."""
    shape = np.shape(x)
    named = range(len(shape)) if axis is None else axes_of("squeeze", axis, len(shape))
    if axis is not None and any(shape[a] != 1 for a in named):
        raise ShapeError(f"squeeze: axis {axis} of shape {shape} has a size other than 1")
    return reshape(x, tuple(n for i, n in enumerate(shape) if n != 1 or i not in named))


@composite(domain={"x": Real("...")}, numpy=np.ravel)
def ravel(x):
    """All elements in C order along one axis."""
    return reshape(x, (-1,))


@primitive(domain={"x": Real("..."), "shape": Broadcasting()}, numpy=np.broadcast_to)
def broadcast_to(x, shape):
    """Repetition of x along new axes and axes of size 1, without copying: the result is read-only."""
    try:
        return np.broadcast_to(x, shape)
    except ValueError:
        raise ShapeError(f"broadcast_to: shape {np.shape(x)} does not broadcast to {shape}") from None


broadcast_to.vjp(x=lambda g: g)


@primitive(
    domain=Examples({"arrays": Sequence(Real("n m")), "axis": Choice(0, 1, -1, None)}),
    numpy=(np.concatenate, np.concat),
    noted=True,
)
def concatenate(arrays, axis=0):
    """Arrays joined along an existing axis; flattened first if it is None."""
    try:
        return computed(np.concatenate, arrays, axis=axis)
    except ValueError:
        shapes = ", ".join(str(np.shape(a)) for a in arrays)
        raise ShapeError(f"concatenate: shapes {shapes} must agree on all axes but {axis}") from None


def _split_back(g, arrays, axis):
    ends = np.cumsum([a.size if axis is None else a.shape[axis] for a in arrays])
    parts = split(g, [int(e) for e in ends[:-1]], axis or 0)
    return parts if axis is not None else [reshape(part, a.shape) for part, a in zip(parts, arrays, strict=True)]


concatenate.vjp(arrays=_split_back)


@composite(domain=Examples({"arrays": Sequence(Real("n m")), "axis": Choice(0, 1, 2, -1)}), numpy=np.stack)
def stack(arrays, axis=0):
    """Arrays of one shape joined along a new axis."""
    return concatenate([expand_dims(a, axis) for a in arrays], axis)


@composite(
    domain=Examples(
        {"x": Real("n=4:4 m=2:2"), "sections": Choice(1, 2, 4, (1,), (1, 3), (0, 2, 4)), "axis": Choice(0, -2)}
    ),
    numpy=(np.split,),
)
def split(x, sections, axis=0):
    """A list of parts along an axis: ``sections`` equal ones, or cut before each index of a list."""
    size = np.shape(x)[axis]
    if isinstance(sections, int | np.integer):
        if sections < 1 or size % sections:
            raise ShapeError(
                f"split: axis {axis} of shape {np.shape(x)} does not divide into {sections} equal sections"
            )
        sections = range(size // sections, size, size // sections)
    before = (slice(None),) * (axis % np.ndim(x))
    bounds = [0, *sections, size]
    return [getitem(x, (*before, slice(lo, hi))) for lo, hi in zip(bounds[:-1], bounds[1:], strict=True)]


@composite(domain={"x": Real("..."), "axis": Axis()}, numpy=np.flip)
def flip(x, axis=None):
    """The order of the elements reversed along one axis, several, or all."""
    axes = range(np.ndim(x)) if axis is None else axes_of("flip", axis, np.ndim(x))
    return getitem(x, tuple(slice(None, None, -1 if i in axes else 1) for i in range(np.ndim(x))))


@primitive(domain={"x": Real("..."), "pad_width": Padding()}, numpy=np.pad)
def pad(x, pad_width):
    """Zeros around x: ``pad_width`` is a number, a (before, after) pair for all axes, or one pair for each axis."""
    return np.pad(x, pad_width)


def _unpad(g, x_shape, pad_width):
    before = np.broadcast_to(pad_width, (len(x_shape), 2))[:, 0]
    return getitem(g, tuple(slice(int(b), int(b) + n) for b, n in zip(before, x_shape, strict=True)))


pad.vjp(x=_unpad)
