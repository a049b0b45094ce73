"""The command line: ``python -m benchmarks kernels --peers torch``."""

import argparse
import importlib
import json
import sys

from benchmarks.compare import Row, compare

GROUPS = ("kernels",)
PEERS = {"numpy": ["numpy"], "torch": ["torch", "torch-channels-first"]}


def line(row: Row) -> str:
    """One row as text."""

    def shown(key: str, form: str) -> str:
        return format(row[key], form) if row[key] is not None else "-"

    spread = f"({shown('ratio_min', '.2f')}-{shown('ratio_max', '.2f')})"
    return (
        f"{row['workload']:<44}{row['implementation']:<22}{row['ms_median']:>10.3f} ms"
        f"{shown('ratio_to_fastest_peer', '.2f'):>7} {spread:<13}"
        f"{shown('flop_limit_share', '.0%'):>5}{shown('peak_mb', '.0f'):>7} MB"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("groups", nargs="*", choices=GROUPS, default=GROUPS, help="what to measure")
    parser.add_argument("--peers", nargs="*", choices=list(PEERS), default=list(PEERS), help="whom to compare with")
    parser.add_argument("--turns", type=int, default=5, help="how often each implementation has its turn")
    parser.add_argument("--only", default="", metavar="TEXT", help="only workloads whose name contains TEXT")
    parser.add_argument("--json", action="store_true", help="print a list of objects instead of a table")
    arguments = parser.parse_args()

    def say(text: str) -> None:
        print(text, file=sys.stderr)

    names = ["tinygen", *(name for peer in arguments.peers for name in PEERS[peer])]
    results: list[Row] = []
    for group in arguments.groups:
        workloads = importlib.import_module(f"benchmarks.{group}").workloads()
        chosen = [n for n, workload in enumerate(workloads) if n == 0 or arguments.only in workload.name]
        if not arguments.json:
            print("median time; fastest peer's time / this (least-most); share of the FLOP limit; peak memory")
        for rows in compare(group, workloads, chosen, names, arguments.turns, say):
            results += rows
            for row in rows:
                if not arguments.json:
                    print(line(row), flush=True)
    if arguments.json:
        print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
