"""Sampling from the reference models, after they are built. One file for each framework.

All have the same weights, which are random, so no layer is zero and nothing can be left out. Before they are timed, all
draw from the same noise: their samples then agree, or the table says that they do not.
"""

from benchmarks.kernels import matmul
from benchmarks.sampling.problems import DRAWS, Draw
from benchmarks.steps import variants
from benchmarks.workload import Workload


def workloads() -> list[Workload]:
    """All of them; the first one measures the FLOP limit."""
    return [matmul(1024), *(_drawn(name, draw) for name, draw in DRAWS.items())]


def _drawn(name: str, draw: Draw) -> Workload:
    return Workload(
        f"{name}: {draw.what}",
        2.0 * draw.n * draw.multiplications,
        variants("sampling", draw.layout_matters, "prepare", name, draw.n),
        variants("sampling", draw.layout_matters, "numbers", name, draw.n),
    )
