"""The process of one implementation: measures the workloads whose numbers come in, one turn for each line.

Run as ``python -m benchmarks.worker GROUP IMPLEMENTATION OPTIONS``, where the options, in JSON, are the arguments of
the group's ``workloads``; answers with one line of JSON each. After ``check N`` a process is of no more use.
"""

import importlib
import json
import math
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.kernels import matmul
from benchmarks.workload import Call, Workload

SECONDS = 0.1
"""Least length of a turn."""

STEADY = 3
"""Calls until memory is in its final state: tinygen records a step twice before it replays it."""


def memory(field: str) -> float:
    """``VmRSS``, ``RssFile`` or ``VmHWM`` (the peak) of this process in MB; NaN where the system does not tell."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(float(line.split()[1]) / 1024 for line in lines if line.startswith(field))
    except (OSError, StopIteration):
        return float("nan")


def forget_peak() -> bool:
    """Let the peak start again from what is in use now; whether the system can."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def warm_up(implementation: str) -> None:
    """Load a library's own code: that of a small product and, of `torch.compile`, its compiler."""
    small = matmul(8)
    small.prepare.get(implementation, small.prepare["torch"])()()  # variants of torch have the same code
    if implementation == "torch-compile":
        import torch

        x = torch.ones(8, requires_grad=True)
        torch.compile(lambda x: x.exp().sum())(x).backward()


def measure(call: Call) -> dict[str, Any]:
    """The median time of some calls."""
    times: list[float] = []
    call()
    while sum(times) < SECONDS or len(times) < 3:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return {"ms": 1e3 * statistics.median(times)}


def check(workload: Workload, implementation: str) -> dict[str, Any]:
    """Peak memory, and the numbers by which implementations are compared.

    ``peak_mb`` is the most memory that the first calls use beyond what is there before: the library's code, the data,
    the weights and Adam's averages. Gradients count, and so does the code that is compiled for the call, which another
    process should have compiled before, where that can be kept. Pages of files, the libraries', that are mapped in
    meanwhile do not count. None if the system does not tell.
    """
    warm_up(implementation)
    call = workload.prepare[implementation]()
    before, files = memory("VmRSS"), memory("RssFile")
    told = forget_peak()
    for _ in range(STEADY):
        call()
    peak = memory("VmHWM") - before - (memory("RssFile") - files)
    return {
        "peak_mb": peak if told and not math.isnan(peak) else None,
        "numbers": workload.checks[implementation](),
    }


def main(group: str, implementation: str, options: str) -> None:
    """Answer lines on standard input until it closes."""
    workloads = importlib.import_module(f"benchmarks.{group}").workloads(**json.loads(options))
    current, call = None, None
    for line in sys.stdin:
        *word, number = line.split()
        workload = workloads[int(number)]
        if word:
            print(json.dumps(check(workload, implementation)), flush=True)
            continue
        if int(number) != current:
            current, call = int(number), None
            try:
                call = workload.prepare[implementation]()
            except ImportError as error:
                print(json.dumps({"missing": str(error)}), flush=True)
                continue
            if not workload.process:
                call()  # compiles, and fills caches
        assert call is not None
        print(json.dumps({"ms": call()} if workload.process else measure(call)), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
