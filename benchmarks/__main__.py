"""The command line: ``python -m benchmarks steps --peers torch,jax``."""

import argparse
import importlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.compare import Row, compare
from benchmarks.plot import draw_steps

GROUPS = ("start", "kernels", "steps")
PEERS = {"numpy": ["numpy"], "torch": ["torch", "torch-channels-first", "torch-compile"], "jax": ["jax"]}


def line(row: Row) -> str:
    """One row as text."""

    def shown(key: str, form: str) -> str:
        return format(row[key], form) if row[key] is not None else "-"

    spread = f"({shown('ratio_min', '.2f')}-{shown('ratio_max', '.2f')})"
    return (
        f"{row['workload']:<46}{row['threads']:>3} {row['implementation']:<20}{row['ms_median']:>10.3f} ms"
        f"{shown('ratio_to_fastest_peer', '.2f'):>7} {spread:<13}"
        f"{shown('flop_limit_share', '.0%'):>5}{shown('peak_mb', '.0f'):>7} MB"
    )


def numbers(text: str) -> list[int]:
    """Positive numbers that are separated by commas."""
    found = [int(part) for part in text.split(",")]
    if min(found) < 1:
        raise ValueError
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("groups", nargs="*", choices=GROUPS, default=GROUPS, help="what to measure")
    parser.add_argument("--peers", nargs="*", default=list(PEERS), help=f"whom to compare with: {', '.join(PEERS)}")
    parser.add_argument("--turns", type=int, default=5, help="how often each implementation has its turn")
    parser.add_argument("--only", default="", metavar="TEXT", help="only workloads whose name contains TEXT")
    parser.add_argument("--json", action="store_true", help="print a list of objects instead of a table")
    parser.add_argument(
        "--plot", metavar="FILE", type=Path, help="draw the steps with their own batches to an image file"
    )
    parser.add_argument(
        "--batch",
        type=numbers,
        metavar="N,...",
        help="examples in each step, in place of the reference's, if at most 16 times as many",
    )
    parser.add_argument("--threads", type=numbers, metavar="N,...", help="run on the first N cores only")
    arguments = parser.parse_args()
    peers = [peer for text in arguments.peers for peer in text.split(",")]
    if unknown := [peer for peer in peers if peer not in PEERS]:
        parser.error(f"--peers: {unknown[0]!r} is none of {', '.join(PEERS)}")
    if arguments.plot and ("steps" not in arguments.groups or arguments.batch):
        parser.error("--plot draws steps with their own batches: it needs the group `steps`, and no --batch")
    names = ["tinygen", *(name for peer in peers for name in PEERS[peer])]
    if not arguments.json:
        print("threads; median time; fastest peer's time / this (least-most); share of the FLOP limit; peak memory")
    results: list[Row] = []
    for row in measured(arguments, names):
        results.append(row)
        if not arguments.json:
            print(line(row), flush=True)
    if arguments.json:
        print(json.dumps(results, indent=2))
    if arguments.plot:
        draw_steps(results).savefig(arguments.plot, dpi=150)


def measured(arguments: argparse.Namespace, names: list[str]) -> Iterator[Row]:
    """The rows of all groups, batches and numbers of threads."""

    def say(text: str) -> None:
        print(text, file=sys.stderr)

    for group in arguments.groups:
        for threads in arguments.threads or [None]:
            if threads:  # processes inherit it, and all libraries make as many threads as they may use cores
                os.sched_setaffinity(0, CORES[:threads])
            for batch in (group == "steps" and arguments.batch) or [None]:
                options = {"batch": batch} if batch else {}
                workloads = importlib.import_module(f"benchmarks.{group}").workloads(**options)
                chosen = [n for n, workload in enumerate(workloads) if n == 0 or arguments.only in workload.name]
                for rows in compare(group, workloads, chosen, names, arguments.turns, say, options):
                    yield from rows


CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


if __name__ == "__main__":
    main()
