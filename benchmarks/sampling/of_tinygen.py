"""Sampling in tinygen, by its own models."""

import numpy as np

from benchmarks.sampling.problems import DRAWS, summary
from benchmarks.steps.of_tinygen import model
from benchmarks.workload import Call


def prepare(name: str, n: int) -> Call:
    """Draw n examples."""
    made, rng = model(name), np.random.default_rng(2)
    return lambda: made.sample(n, rng, **DRAWS[name].options)


def numbers(name: str, n: int) -> list[float]:
    """Those of the first draw."""
    return summary(prepare(name, n)())
