"""``python -m tinygen.testing.kill_matrix``: run every checker on every planted fault, and write the tables."""

import argparse
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

from tqdm import tqdm

from tinygen.files import write_atomically
from tinygen.testing.faults import KINDS, Fault, gradients
from tinygen.testing.faults.hostile import CORPUS, Hostile
from tinygen.testing.kill_matrix import kill_matrix, peers, rejects

Cells = dict[tuple[str, str], str]

ABOUT = """# Planted faults, and the checkers that catch them

Made by `python -m tinygen.testing.kill_matrix --out docs/kill_matrix.md`.

A number says on how many of {seeds} seeds a hypothesis test of {examples} examples rejected the fault: **bold** where
the checker is there to catch it, – where it cannot be run. "wrongly" counts the seeds on which the fault's neighbour,
the same code without it, was rejected too. The other libraries' checkers run as their manuals say, in float64. The
faults are in `tinygen/testing/faults`.
"""
HOSTILE = """## Correct but hostile code

On how many of {seeds} seeds a checker rejected what is right.
"""


def main() -> None:
    """Run every checker on every planted fault, and on correct but hostile code; print the tables as Markdown."""
    parser = argparse.ArgumentParser(prog="python -m tinygen.testing.kill_matrix", description=main.__doc__)
    parser.add_argument("--seeds", type=int, default=20, help="hypothesis tests for each pair (default: %(default)s)")
    parser.add_argument("--examples", type=int, default=100, help="examples in each test (default: %(default)s)")
    parser.add_argument("--only", type=int, nargs="+", metavar="FAULT", help="numbers of faults (default: all)")
    parser.add_argument("--no-peers", action="store_true", help="leave out other libraries' checkers")
    parser.add_argument("--out", type=Path, help="write the tables to this file too")
    options = parser.parse_args()

    others = {} if options.no_peers else peers.installed()
    planted = {kind: [f for f in kind.FAULTS if not options.only or f.number in options.only] for kind in KINDS}
    faults = [
        (fault, name, checker)
        for kind, of_kind in planted.items()
        for fault in of_kind
        for name, checker in (dict(fault.checkers) | (others if kind is gradients else {})).items()
    ]
    corpus = [] if options.only else [(h, name, checker) for h in CORPUS for name, checker in h.checkers.items()]
    size = {"seeds": options.seeds, "examples": options.examples}
    cells: Cells = {}
    with tqdm(total=len(faults) + len(corpus)) as bar:
        for fault, name, checker in faults:
            (tally,) = kill_matrix({name: checker}, faults=[fault], **size).values()
            caught = f"**{tally.caught}**" if name in fault.caught_by else str(tally.caught)
            cells[fault.title, name] = caught + (f" ({tally.false_alarms} wrongly)" if tally.false_alarms else "")
            bar.update()
        for h, name, checker in corpus:
            check = partial(checker, h.subject)
            alarms = [rejects(check, h.examples, at, options.examples) for at in range(options.seeds)]
            cells[h.title, name] = str(sum(alarms))
            bar.update()

    text = ABOUT.format(**size)
    for kind, of_kind in planted.items():
        if of_kind:
            text += f"\n## {kind.__name__.rpartition('.')[2].capitalize()}\n\n{table(of_kind, cells)}"
    if corpus:
        text += f"\n{HOSTILE.format(**size)}\n{table(CORPUS, cells)}"
    print(text)
    if options.out:
        write_atomically(options.out, text.encode())


def table(cases: Sequence[Fault | Hostile], cells: Cells) -> str:
    """A row for each case, and a column for each checker that was run on any of them."""
    titles = {case.title: f"{case.number} {case.title}" if isinstance(case, Fault) else case.title for case in cases}
    columns = list(dict.fromkeys(name for title, name in cells if title in titles))
    rows = [[shown, *(cells.get((title, name), "–") for name in columns)] for title, shown in titles.items()]
    return "".join(map(_row, [["", *columns], ["---"] * (len(columns) + 1), *rows]))


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |\n"


if __name__ == "__main__":
    main()
