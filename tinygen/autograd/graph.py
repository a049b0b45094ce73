"""The recorded graph, and the one traversal that differentiates it.

A `Node` is one recorded operation. Nodes are numbered as they are made, so descending numbers are a reverse topological
order: when a node is reached, everything that consumed its value has been. Nothing recurses, and nothing refers in a
circle: a node knows its parents and never its own output Tensor.
"""

from collections.abc import Callable, Collection, Sequence
from itertools import count
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from tinygen.autograd.context import anomaly, observer, recorded, recording
from tinygen.autograd.registry import operations as op
from tinygen.errors import GraphError, NonFiniteError

if TYPE_CHECKING:
    from tinygen.autograd.primitive import Plan, Primitive
    from tinygen.autograd.tensor import Tensor

    Place: TypeAlias = (
        "Node | Tensor"  # where a gradient goes: the node that made a value or, for a leaf, the Tensor itself
    )
    Wrap = Callable[[np.ndarray, Place | None], Tensor]

_serials = count()
FREED: Any = "freed"


class Node:
    """One recorded operation.

    Attributes
    ----------
    primitive : the operation
    parents : one ``(position, element, place)`` for every argument that needs a gradient; ``element`` counts within an
        argument that is a list of arrays, and is None otherwise
    plan : what the derivative rules read
    values, out, saved : what they read, namely arguments, the operation's value and its by-products
    shape, dtype : of the operation's value
    module : dotted path of the module that was running
    origin : the source line that called the operation, under `detect_anomaly`
    """

    __slots__ = (
        "dtype",
        "module",
        "origin",
        "out",
        "parents",
        "plan",
        "primitive",
        "saved",
        "serial",
        "shape",
        "values",
    )

    def __init__(
        self,
        primitive: "Primitive",
        parents: "tuple[tuple[int, int | None, Place], ...]",
        plan: "Plan",
        values: tuple,
        out: np.ndarray,
        saved: Any,
        module: str,
        origin: str,
    ) -> None:
        self.serial = next(_serials)
        self.primitive = primitive
        self.parents = parents
        self.plan = plan
        self.values = values
        self.out = out if plan.reads_out else None
        self.saved = saved
        self.shape = out.shape
        self.dtype = out.dtype
        self.module = module
        self.origin = origin

    def free(self) -> None:
        """Drop everything that derivatives would need."""
        self.values = self.saved = FREED
        self.out = None
        self.parents = ()

    def __str__(self) -> str:
        in_module = f" in {self.module}" if self.module else ""
        return f"{self.primitive.name}{in_module}{self.origin}"


def ancestors(roots: "Sequence[Place]", boundary: Collection[int] = ()) -> list[Node]:
    """The nodes that ``roots`` were computed from, these included, in the order in which they were made.

    The search does not go beyond nodes whose ids are in ``boundary``.
    """
    seen: dict[int, Node] = {}
    stack = [root for root in roots if type(root) is Node]
    while stack:
        node = stack.pop()
        if id(node) not in seen:
            seen[id(node)] = node
            if id(node) not in boundary:
                stack += [place for _, _, place in node.parents if type(place) is Node]
    return sorted(seen.values(), key=attrgetter("serial"))


def backpropagate(
    roots: "Sequence[Place]",
    cotangents: Sequence[Any],
    targets: "Sequence[Place] | None" = None,
    *,
    wrap: "Wrap | None" = None,
    partial: bool = False,
    free: bool = False,
) -> "list[tuple[Place, Any]]":
    """Pull cotangents of ``roots`` back through the graph.

    Parameters
    ----------
    roots, cotangents : where to start, and with what
    targets : where the gradient is wanted; None for every leaf
    wrap : makes a Tensor of an array and its place in the graph. If given, the rules run on Tensors and record
        themselves; otherwise they run on plain arrays.
    partial : differentiate as if the targets did not depend on each other
    free : free the nodes that are passed

    Returns
    -------
    Each target that was reached, with its gradient: an array, or a Tensor under ``wrap``. Gradients may share memory
    with each other and with the cotangents.
    """
    if wrap and not recording.get():
        with recorded():
            return backpropagate(roots, cotangents, targets, wrap=wrap, partial=partial, free=free)
    wanted = None if targets is None else {id(target) for target in targets}
    nodes = ancestors(roots, wanted or () if partial else ())
    leads = None if wanted is None else _lead_to(wanted, nodes)
    reached: dict[int, Place] = {}
    arrived: dict[int, Any] = {}  # the sum of the gradients that have arrived at a place
    check = anomaly.get()
    watching = observer.get()

    def deliver(place: "Place", gradient: Any) -> None:
        key = id(place)
        arrived[key] = arrived[key] + gradient if key in arrived else gradient
        if type(place) is not Node if wanted is None else key in wanted:
            reached[key] = place

    for root, cotangent in zip(roots, cotangents, strict=True):
        deliver(root, cotangent)
    for node in reversed(nodes):
        key = id(node)
        if key not in arrived or (partial and key in reached):
            continue
        if node.values is FREED:
            raise GraphError(
                f"the graph was freed by an earlier backward() (found at {node}); "
                "give that call retain_graph=True to use the graph again"
            )
        g = arrived[key] if key in reached else arrived.pop(key)
        if watching:
            watching.differentiating(node)
        parents = node.parents if leads is None else [edge for edge in node.parents if id(edge[2]) in leads]
        pulled = node.primitive.pull(node, g, {position for position, _, _ in parents}, wrap)
        for position, element, place in parents:
            gradient = pulled[position] if element is None else pulled[position][element]
            if gradient.shape != place.shape or gradient.dtype != place.dtype:
                gradient = _fit(gradient, place, node, position)
            if check:
                check_finite(gradient, f"gradient of {node.primitive.parameters[position]}", str(node))
            deliver(place, gradient)
        if free:
            node.free()
    if watching:
        watching.differentiating(None)
    return [(place, arrived[key]) for key, place in reached.items()]


def _lead_to(wanted: set[int], nodes: list[Node]) -> set[int]:
    """The wanted places, and the nodes that were computed from any of them."""
    leads = set(wanted)
    for node in nodes:
        # What a freed node was computed from is forgotten: it may have been a target, and must not be passed silently.
        if node.values is FREED or any(id(place) in leads for _, _, place in node.parents):
            leads.add(id(node))
    return leads


def _fit(gradient: Any, place: "Place", node: Node, position: int) -> Any:
    """Sum a gradient over the axes along which the argument was broadcast, and cast it to the argument's dtype."""
    have, want = gradient.shape, place.shape
    if have != want:
        aligned = (1,) * (len(have) - len(want)) + want
        if len(aligned) != len(have) or any(h != w != 1 for h, w in zip(have, aligned, strict=True)):
            raise GraphError(
                f"{node}: the rule for argument {node.primitive.parameters[position]} returned a gradient of shape "
                f"{have}, but the argument has shape {want}"
            )
        axes = tuple(
            i for i, (h, w) in enumerate(zip(have, aligned, strict=True)) if h != w or i < len(have) - len(want)
        )
        gradient = op.reshape(op.sum(gradient, axes), want)
    return gradient if gradient.dtype == place.dtype else op.astype(gradient, place.dtype)


def check_finite(value: Any, what: str, where: str) -> None:
    """Raise `NonFiniteError` naming the first entry of ``value``, an array or Tensor, that is infinite or NaN."""
    array = np.asarray(value if isinstance(value, np.ndarray | np.generic) else value.data)
    if array.dtype.kind != "f" or (finite := np.isfinite(array)).all():
        return
    first = tuple(int(i) for i in np.argwhere(~finite)[0])
    number = array.size - int(finite.sum())
    raise NonFiniteError(
        f"{where}: {what}, shape {array.shape}, has {number} non-finite {'entry' if number == 1 else 'entries'}, "
        f"the first at index {first}: {array[first]}"
    )
