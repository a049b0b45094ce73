"""Training steps of the reference models: draw the noise, forward, backward, Adam. One file for each framework.

All start from the same weights and, before they are timed, take their first steps with the same noise: their losses
then agree, or the table says that they do not.
"""

import importlib
from collections.abc import Callable
from typing import Any

from benchmarks.kernels import matmul
from benchmarks.steps.problems import PROBLEMS, Problem
from benchmarks.workload import Workload

CHECKED = 3
"""Steps whose losses are compared: from the second on, they depend on the gradients, and then on Adam's averages."""


LARGEST = 16
"""The largest batch that is measured, in reference batches: tinygen's U-Net, with 0.3 GB for one, then takes 5 GB."""


def left_out(batch: int | None = None) -> list[str]:
    """The steps for which a batch is too large."""
    return [name for name, problem in PROBLEMS.items() if (batch or 1) > LARGEST * problem.batch]


def workloads(batch: int | None = None) -> list[Workload]:
    """All of them; the first one measures the FLOP limit.

    With a ``batch``, they have so many examples in place of their own number, but for those that are `left_out`.
    """
    steps = {name: step(name, problem, batch) for name, problem in PROBLEMS.items() if name not in left_out(batch)}
    return [matmul(1024), *steps.values()]


def step(name: str, problem: Problem, batch: int | None) -> Workload:
    """One step in every framework."""
    n = batch or problem.batch
    return Workload(
        name if n == problem.batch else f"{name} batch {n}",
        n * problem.flops,
        variants("steps", problem.layout_matters, "prepare", name, n),
        variants("steps", problem.layout_matters, "losses", name, n, CHECKED),
        batch=n,
    )


def variants(group: str, layout_matters: bool, function: str, *args: Any) -> dict[str, Callable[[], Any]]:
    """A call of the function in each implementation's file; `torch.compile` has images with channels last only."""
    found = {
        "tinygen": _late(group, "of_tinygen", function, *args),
        "torch": _late(group, "of_torch", function, *args),
        "torch-compile": _late(group, "of_torch", function, *args, compiled=True),
        "jax": _late(group, "of_jax", function, *args),
    }
    if layout_matters:
        found["torch-channels-first"] = _late(group, "of_torch", function, *args, channels_last=False)
    return found


def _late(group: str, module: str, function: str, *args: Any, **options: Any) -> Callable[[], Any]:
    """A call of a framework's file, which is imported only then."""
    return lambda: getattr(importlib.import_module(f"benchmarks.{group}.{module}"), function)(*args, **options)
