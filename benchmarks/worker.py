"""The process of one implementation: measures the workloads whose numbers come in, one turn for each line.

Run as ``python -m benchmarks.worker GROUP IMPLEMENTATION``; answers with one line of JSON each.
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


def main(group: str, implementation: str) -> None:
    """Answer lines on standard input until it closes."""
    workloads = importlib.import_module(f"benchmarks.{group}").workloads()
    current, call, before = None, None, 0.0
    for line in sys.stdin:
        if int(line) != current:
            current, call = int(line), None
            try:
                prepared = workloads[current].prepare[implementation]()
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
