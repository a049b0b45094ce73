"""The process of one implementation: measures the workloads whose numbers come in, one turn for each line.

Run as ``python -m benchmarks.worker GROUP IMPLEMENTATION OPTIONS``, where the options, in JSON, are the
arguments of the group's ``workloads``; answers with one line of JSON each. ``losses N`` asks for those of a workload.
"""

import importlib
import json
import statistics
import sys
import time
from contextlib import suppress
from pathlib import Path

SECONDS = 0.1
"""Least length of a turn."""


def memory(field: str) -> float:
    """``VmRSS`` or ``VmHWM`` (its peak) of this process in MB; NaN where the system does not tell."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(float(line.split()[1]) / 1024 for line in lines if line.startswith(field))
    except (OSError, StopIteration):
        return float("nan")


def forget_peak() -> None:
    """Let the peak start again from what is in use now, where the system can."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def main(group: str, implementation: str, options: str) -> None:
    """Answer lines on standard input until it closes."""
    workloads = importlib.import_module(f"benchmarks.{group}").workloads(**json.loads(options))
    current, call, before = None, None, 0.0
    for line in sys.stdin:
        *word, number = line.split()
        workload = workloads[int(number)]
        if word:
            print(json.dumps({"losses": workload.losses[implementation]()}), flush=True)
            continue
        if int(number) != current:
            current, call = int(number), None
            try:
                prepared = workload.prepare[implementation]()
            except ImportError as error:
                print(json.dumps({"missing": str(error)}), flush=True)
                continue
            call, before = prepared, memory("VmRSS")
            forget_peak()
            call()  # compiles, and fills caches
        assert call is not None
        times: list[float] = []
        call()
        while sum(times) < SECONDS or len(times) < 3:
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
        answer = {"ms": 1e3 * statistics.median(times), "peak_mb": memory("VmHWM") - before}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
