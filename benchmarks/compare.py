"""Runs every implementation in its own process, in turns, and summarises what they answer."""

import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.workload import Workload

PAUSE = 0.2
"""Seconds between turns, after which the threads of OpenBLAS, which spin for 0.11 s in the hope of more work, sleep."""

Row = dict[str, Any]


class Worker:
    """The process of one implementation."""

    def __init__(self, group: str, implementation: str) -> None:
        command = [sys.executable, "-m", "benchmarks.worker", group, implementation]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def turn(self, workload: int) -> dict[str, Any]:
        """Measure once more."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(f"{workload}\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            return {"missing": f"its process ended with status {self.process.wait()}"}
        time.sleep(PAUSE)
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
) -> Iterator[list[Row]]:
    """For each chosen workload, one row for each implementation that can run it, tinygen first.

    A ratio is that of the fastest peer's time to the implementation's own time in the same turn: above 1 it is faster
    than all peers. ``flop_limit_share`` relates to the rate of the first workload's fastest implementation.
    """
    workers = {name: Worker(group, name) for name in implementations}
    limit = math.nan
    try:
        for number in chosen:
            workload = workloads[number]
            names = [name for name in workers if name in workload.prepare]
            answers: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
            for _ in range(turns):
                for name in list(answers):
                    answer = workers[name].turn(number)
                    if "missing" in answer:
                        say(f"{name} is left out: {answer['missing']}")
                        del workers[name], answers[name]
                    else:
                        answers[name].append(answer)
            rows = summarise(workload, answers, limit)
            if math.isnan(limit):
                limit = workload.flops / min(row["ms_min"] for row in rows)
                rows = summarise(workload, answers, limit)
            yield rows
    finally:
        for worker in workers.values():
            worker.close()


def summarise(workload: Workload, answers: dict[str, list[dict[str, Any]]], limit: float) -> list[Row]:
    """The rows of one workload; ``limit`` is in FLOPs a millisecond."""
    rows = []
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
                "flop_limit_share": workload.flops / median / limit if workload.flops and limit == limit else None,
                "peak_mb": None if math.isnan(own[-1]["peak_mb"]) else own[-1]["peak_mb"],
            }
        )
    return rows
