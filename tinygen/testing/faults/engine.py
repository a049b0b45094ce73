"""A small engine of reverse mode, and the mistakes that it can be given."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray


class Variable:
    """A value of a very small engine: it knows what it was made of, and the local derivatives."""

    def __init__(self, value: Array, *parents: tuple["Variable", Array]) -> None:
        self.value, self.parents = value, parents
        self.gradient: Any = 0.0

    def __mul__(self, other: "Variable") -> "Variable":
        return Variable(self.value * other.value, (self, other.value), (other, self.value))


@dataclass(frozen=True)
class Engine:
    """Reverse mode for products, and three mistakes that it can be given."""

    overwrites: bool = False
    too_early: bool = False
    keeps: bool = False

    def vjp(self, f: Callable, *xs: Array) -> tuple[Array, Callable]:
        """The value of ``f``, and its pullback."""
        leaves = [Variable(x) for x in xs]
        y = f(*leaves)
        order: list[Variable] = []

        def visit(v: Variable) -> None:
            if v not in order:
                if self.too_early:
                    order.append(v)
                for parent, _ in v.parents:
                    visit(parent)
                if not self.too_early:
                    order.append(v)

        visit(y)

        def pullback(u: Array) -> list[Array]:
            for v in order:
                if v.parents or not self.keeps:
                    v.gradient = 0.0
            y.gradient = y.gradient + u
            for v in order if self.too_early else reversed(order):
                for parent, derivative in v.parents:
                    arrived = 0.0 if self.overwrites else parent.gradient
                    parent.gradient = arrived + v.gradient * derivative
            return [leaf.gradient for leaf in leaves]

        return y.value, pullback
