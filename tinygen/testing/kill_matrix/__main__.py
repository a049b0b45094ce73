"""``python -m tinygen.testing.kill_matrix``: run every checker on every planted fault, and write the table."""

import argparse
from collections.abc import Iterable
from pathlib import Path

from tqdm import tqdm

from tinygen.files import write_atomically
from tinygen.testing.faults import FAULTS, Fault, gradients
from tinygen.testing.kill_matrix import Tally, kill_matrix, peers

Table = dict[tuple[str, str], Tally]


def main() -> None:
    """Read the options, run, print, write."""
    parser = argparse.ArgumentParser(prog="python -m tinygen.testing.kill_matrix", description=main.__doc__)
    parser.add_argument("--seeds", type=int, default=20, help="hypothesis tests for each pair (default: %(default)s)")
    parser.add_argument("--examples", type=int, default=100, help="examples in each test (default: %(default)s)")
    parser.add_argument("--only", type=int, nargs="+", metavar="FAULT", help="numbers of faults (default: all)")
    parser.add_argument("--no-peers", action="store_true", help="leave out other libraries' checkers")
    parser.add_argument("--out", type=Path, help="write the table, as Markdown, to this file")
    options = parser.parse_args()
    faults = [f for f in FAULTS if not options.only or f.number in options.only]
    others = {} if options.no_peers else peers.installed()
    table: Table = {}
    runs = [(f, dict(f.checkers) | (others if f in gradients.FAULTS else {})) for f in faults]
    with tqdm(total=sum(len(checkers) for _, checkers in runs), desc="faults × checkers") as bar:
        for fault, checkers in runs:
            for name, checker in checkers.items():
                table |= kill_matrix({name: checker}, faults=[fault], seeds=options.seeds, examples=options.examples)
                bar.update()
    text = report(faults, table, list(others), options.seeds, options.examples)
    print(text)
    if options.out:
        write_atomically(options.out, text.encode())


def report(faults: list[Fault], table: Table, others: list[str], seeds: int, examples: int) -> str:
    """The tables and what they mean, as Markdown."""
    about_gradients = [f for f in faults if f in gradients.FAULTS]
    rest = [f for f in faults if f not in gradients.FAULTS]
    return "\n".join(
        [
            "# Planted faults and the checkers that catch them",
            "",
            "Made by `python -m tinygen.testing.kill_matrix --out docs/kill_matrix.md`. "
            f"A number says on how many of {seeds} seeds a hypothesis test of {examples} examples rejected the fault; "
            "**bold** where this checker is there to catch it; – where it cannot be run. "
            "“wrongly” counts the seeds on which the fault's correct neighbour was rejected too.",
            "",
            "## Gradients",
            "",
            *_table(about_gradients, table, [*gradients.AT_KINKS, "check_vjp, order 2", *others]),
            "",
            "## Kernels, flows, densities, samplers, diffusion, optimizers",
            "",
            *_rows(["", "fault", "checker", "caught"]),
            *(_row([str(f.number), f.title, f"`{name}`", _cell(f, name, table)]) for f in rest for name in f.checkers),
            "",
        ]
    )


def _table(faults: list[Fault], table: Table, columns: list[str]) -> list[str]:
    """A row for each fault, and a column for each checker."""
    rows = [_row([str(f.number), f.title, *(_cell(f, name, table) for name in columns)]) for f in faults]
    return [*_rows(["", "fault", *columns]), *rows]


def _cell(fault: Fault, name: str, table: Table) -> str:
    tally = table.get((fault.title, name))
    if tally is None:
        return "–"
    caught = f"**{tally.caught}**" if name in fault.caught_by else str(tally.caught)
    return caught + (f" ({tally.false_alarms} wrongly)" if tally.false_alarms else "")


def _rows(heads: list[str]) -> list[str]:
    return [_row(heads), _row(["---"] * len(heads))]


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
