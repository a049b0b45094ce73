"""The command line: ``python -m benchmarks steps --peers torch,jax``."""

import argparse
import importlib
import json
import math
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure

from benchmarks.compare import Row, compare
from benchmarks.plot import draw_steps
from benchmarks.steps import left_out
from benchmarks.workload import Workload

GROUPS = ("start", "kernels", "steps", "sampling")
EAGER = ["torch", "torch-channels-first"]
PEERS = {"numpy": ["numpy"], "torch": [*EAGER, "torch-compile"], "torch-eager": EAGER, "jax": ["jax"]}
CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


class Part(NamedTuple):
    """What is measured with one number of threads: workloads of a group, and the options that make these."""

    group: str
    options: dict[str, int]
    workloads: list[Workload]
    chosen: list[int]


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


def as_json(rows: list[Row]) -> str:
    """A list of objects; JSON has no number for what is not finite, which becomes null."""

    def finite(value: object) -> object:
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return json.dumps([{key: finite(value) for key, value in row.items()} for row in rows], indent=2, allow_nan=False)


def numbers(text: str) -> list[int]:
    """Positive numbers that are separated by commas."""
    found = [int(part) for part in text.split(",")]
    if min(found) < 1:
        raise ValueError
    return found


def parse(words: Sequence[str] | None = None) -> tuple[argparse.Namespace, list[Part]]:
    """The arguments and what they ask for; ends the process where that cannot be done."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
    # argparse would check an empty list against its choices, and refuse it.
    parser.add_argument("groups", nargs="*", help=f"what to measure: {', '.join(GROUPS)}; all of them if none is named")
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
        help="examples in each step, in place of the reference's; steps whose own batch is less than 1/16 are left out",
    )
    parser.add_argument("--threads", type=numbers, metavar="N,...", help="run on the first N cores only")
    arguments = parser.parse_args(words)
    arguments.groups = arguments.groups or list(GROUPS)
    arguments.peers = [peer for text in arguments.peers for peer in text.split(",")]
    for name, given, known in (("groups", arguments.groups, GROUPS), ("--peers", arguments.peers, PEERS)):
        if unknown := [each for each in given if each not in known]:
            parser.error(f"{name}: {unknown[0]!r} is none of {', '.join(known)}")
    if arguments.batch and "steps" not in arguments.groups:
        parser.error("--batch is one of steps: it needs the group `steps`")
    if arguments.threads and not CORES:
        parser.error("--threads: this system cannot keep a process on some of its cores")
    if arguments.threads and max(arguments.threads) > len(CORES):
        parser.error(f"--threads: there are {len(CORES)} cores for this process")
    if file := arguments.plot:
        if "steps" not in arguments.groups or arguments.batch:
            parser.error("--plot draws steps with their own batches: it needs the group `steps`, and no --batch")
        if file.suffix[1:] not in Figure().canvas.get_supported_filetypes():
            parser.error(f"--plot: {file.name!r} does not end like an image, such as .svg or .png")
        if not file.parent.is_dir():
            parser.error(f"--plot: there is no folder {str(file.parent)!r}")
    found = list(parts(arguments))
    if not any(arguments.only in workload.name for part in found for workload in part.workloads):
        parser.error(f"--only: no workload's name contains {arguments.only!r}")
    return arguments, found


def implementations(peers: list[str]) -> list[str]:
    """Tinygen and all that belongs to the peers, each once."""
    return list(dict.fromkeys(["tinygen", *(name for peer in peers for name in PEERS[peer])]))


def parts(arguments: argparse.Namespace) -> Iterator[Part]:
    """All groups and batches."""
    for group in arguments.groups:
        for batch in (group == "steps" and arguments.batch) or [None]:
            options = {"batch": batch} if batch else {}
            workloads = importlib.import_module(f"benchmarks.{group}").workloads(**options)
            # The first one measures the FLOP limit.
            chosen = [n for n, workload in enumerate(workloads) if n == 0 or arguments.only in workload.name]
            yield Part(group, options, workloads, chosen)


def measured(arguments: argparse.Namespace, found: list[Part]) -> Iterator[Row]:
    """The rows of all parts and numbers of threads."""
    names = implementations(arguments.peers)

    def say(text: str) -> None:
        print(text, file=sys.stderr)

    for part in found:
        for name in left_out(**part.options) if part.group == "steps" else ():
            say(f"{name} is left out: {part.options['batch']} examples are too many")
        for threads in arguments.threads or [None]:
            if threads:  # processes inherit it, and all libraries make as many threads as they may use cores
                os.sched_setaffinity(0, CORES[:threads])
            for rows in compare(part.group, part.workloads, part.chosen, names, arguments.turns, say, part.options):
                yield from rows


def main() -> None:
    """Measure and print."""
    arguments, found = parse()
    if not arguments.json:
        print("threads; median time; fastest peer's time / this (least-most); share of the FLOP limit; peak memory")
    results: list[Row] = []
    for row in measured(arguments, found):
        results.append(row)
        if not arguments.json:
            print(line(row), flush=True)
    if arguments.json:
        print(as_json(results))
    if arguments.plot:
        draw_steps(results).savefig(arguments.plot, dpi=150)


if __name__ == "__main__":
    main()
