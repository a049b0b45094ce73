"""What a planted fault is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis.strategies import SearchStrategy

Checker = Callable[[Any, Any, np.random.Generator], None]
"""``checker(subject, example, rng)`` returns None or raises what the checkers of `tinygen.testing` raise."""


@dataclass(frozen=True)
class Fault:
    """A mistake that people make, and the same code without it.

    Attributes
    ----------
    number, title : what it is called in the table
    subject : ``subject(faulty)`` makes the code under test: with the fault, or its correct neighbour
    examples : what the checkers try it on
    checkers : those that can be run on the subject, by name
    caught_by : the names of those that must reject it
    """

    number: int
    title: str
    subject: Callable[[bool], Any]
    examples: SearchStrategy
    checkers: Mapping[str, Checker]
    caught_by: tuple[str, ...]
