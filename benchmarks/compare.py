"""Runs every implementation in its own process, in turns, and summarises what they answer."""

import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.caches import caches
from benchmarks.workload import Workload

PAUSE = 0.2
"""Seconds between turns, after which the threads of OpenBLAS, which spin for 0.11 s in the hope of more work, sleep."""

TOLERANCE = 1e-3
"""Least relative difference of two implementations' numbers that is worth a warning; rounding makes one of 1e-5."""

OWN_MALLOC = {"MALLOC_ARENA_TEST": "8"}
"""Keeps malloc as it is without tinygen, whose `keep_freed_memory` such a variable stops; 8 is the default."""

Row = dict[str, Any]


class Worker:
    """The process of one implementation."""

    def __init__(self, group: str, implementation: str, options: dict[str, int], environment: dict[str, str]) -> None:
        command = [sys.executable, "-m", "benchmarks.worker", group, implementation, json.dumps(options)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | environment
        )

    def turn(self, workload: int) -> dict[str, Any]:
        """Measure once more."""
        answer = self.ask(str(workload))
        time.sleep(PAUSE)
        return answer

    def ask(self, text: str) -> dict[str, Any]:
        """The answer to one line."""
        assert self.process.stdin and self.process.stdout
        with suppress(BrokenPipeError):  # of a process that has ended
            self.process.stdin.write(f"{text}\n")
            self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            return {"missing": f"its process ended with status {self.process.wait()}"}
        return dict(json.loads(answer))

    def close(self) -> None:
        """End the process."""
        self.process.communicate()


def compare(
    group: str,
    workloads: list[Workload],
    chosen: list[int],
    implementations: list[str],
    turns: int,
    say: Callable[[str], None],
    options: dict[str, int],
) -> Iterator[list[Row]]:
    """For each chosen workload, one row for each implementation that can run it, tinygen first.

    A ratio is that of the fastest peer's time to the implementation's own time in the same turn: above 1 it is faster
    than all peers. ``difference`` is the largest relative one to tinygen's numbers. Processes of their own compute
    these, and find the peak of memory, for what earlier workloads left would hide it. ``flop_limit_share`` relates to
    the rate of the first workload's fastest implementation.

    Times are those under tinygen's settings of malloc, which spare the peers page faults too; but the peers' memory is
    that under malloc's own.
    """
    needed = [name for name in implementations if any(name in workloads[n].prepare for n in chosen)]
    limit = math.nan
    with TemporaryDirectory() as folder, ExitStack() as stack:

        def start(name: str, **environment: str) -> Worker:
            return Worker(group, name, options, caches(folder) | environment)

        workers = {name: stack.enter_context(closing(start(name))) for name in needed}
        for number in chosen:
            workload = workloads[number]
            answers: dict[str, list[dict[str, Any]]] = {name: [] for name in workers if name in workload.prepare}
            for _ in range(min(turns, workload.turns or turns)):
                for name in list(answers):
                    answer = workers[name].turn(number)
                    if "missing" in answer:
                        say(f"{name} is left out: {answer['missing']}")
                        del workers[name], answers[name]
                    else:
                        answers[name].append(answer)
            checks = {}
            for name in answers if workload.checks else ():
                with closing(start(name, **({} if name == "tinygen" else OWN_MALLOC))) as worker:
                    checks[name] = worker.ask(f"check {number}")
                if "missing" in checks[name]:
                    say(f"{name} has no numbers and no peak memory: {checks[name]['missing']}")
            rows = summarise(workload, answers, limit, checks)
            if math.isnan(limit):
                limit = workload.flops / min(row["ms_min"] for row in rows)
                rows = summarise(workload, answers, limit, checks)
            tell_differences(workload, rows, say)
            yield rows


def tell_differences(workload: Workload, rows: list[Row], say: Callable[[str], None]) -> None:
    """Name the implementations whose numbers are not tinygen's, or say how well those of all agree."""
    found = {row["implementation"]: row["difference"] for row in rows if row["difference"] is not None}
    found.pop("tinygen", None)
    far = {name: value for name, value in found.items() if not value <= TOLERANCE}  # nor is NaN
    for name, value in far.items():
        say(f"{name} computes another {workload.name}: its numbers differ by {value:.2%}")
    if found and not far:
        say(f"{workload.name}: the numbers of {', '.join(found)} are tinygen's within {max(found.values()):.1e}")


def summarise(
    workload: Workload,
    answers: dict[str, list[dict[str, Any]]],
    limit: float,
    checks: dict[str, dict[str, Any]],
) -> list[Row]:
    """The rows of one workload; ``limit`` is in FLOPs a millisecond, and ``checks`` are what `worker.check` found."""
    rows = []
    numbers = {name: check.get("numbers") for name, check in checks.items()}
    for name, own in answers.items():
        times = [answer["ms"] for answer in own]
        peers = [[answer["ms"] for answer in other] for peer, other in answers.items() if peer not in (name, "tinygen")]
        fastest = min(peers, key=statistics.median, default=[])
        ratios = [peer / time for peer, time in zip(fastest, times, strict=False)]
        median = statistics.median(times)
        rows.append(
            {
                "workload": workload.name,
                "implementation": name,
                "ms_median": median,
                "ms_min": min(times),
                "ms_max": max(times),
                "ratio_to_fastest_peer": statistics.median(ratios) if ratios else None,
                "ratio_min": min(ratios, default=None),
                "ratio_max": max(ratios, default=None),
                "difference": difference(numbers.get(name), numbers.get("tinygen")),
                "flop_limit_share": None
                if not workload.flops or math.isnan(limit)
                else workload.flops / median / limit,
                "peak_mb": checks.get(name, {}).get("peak_mb"),
                "batch": workload.batch,
                "threads": threads(),
            }
        )
    return rows


def difference(numbers: list[float] | None, expected: list[float] | None) -> float | None:
    """The largest relative difference of numbers, NaN if one is; None where there is nothing to compare."""
    if numbers is None or expected is None:
        return None
    return float(np.abs(np.divide(numbers, expected) - 1).max())


def threads() -> int:
    """The cores that this process may use, and the processes that it starts."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
