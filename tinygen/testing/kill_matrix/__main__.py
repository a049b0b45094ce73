"""``python -m tinygen.testing.kill_matrix``: run every checker on every planted fault, and write the tables."""

import argparse
import os
import shlex
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from tqdm import tqdm

from tinygen.files import write_atomically
from tinygen.testing.faults import FAULTS, KINDS, Checker, Fault, gradients
from tinygen.testing.faults.hostile import CORPUS, Hostile
from tinygen.testing.kill_matrix import Tally, false_alarms, kill_matrix, peers

Case = tuple[Fault | Hostile, str, Checker]

SURE = 0.95  # the share of the seeds on which a checker must catch what it is there to catch

ABOUT = """# Planted faults, and the checkers that catch them

Made by `python -m tinygen.testing.kill_matrix {arguments}`, with {versions}.

A number says on how many of {seeds} seeds a hypothesis test of {examples} examples rejected the fault: **bold** where
the checker is there to catch it, – where it cannot be run. "wrongly" counts the seeds on which the fault's neighbour,
the same code without it, was rejected. "30 % judged" says that the checker had a verdict on so few of the examples of
what is right, and left the others open, as it should at a kink; it is left out from a half on. The other libraries'
checkers run with their own tolerances, in float64; at kinks (16 and 17) their manuals promise nothing, and JAX's draws
the same directions whatever the seed. The faults are in `tinygen/testing/faults`.
"""
HOSTILE = """## Correct but hostile code

On how many of {seeds} seeds a checker rejected what is right.
"""


def main(arguments: list[str]) -> int:
    """Run every checker on every planted fault, and on correct but hostile code; print the tables as Markdown.

    The exit status is 1 if one of tinygen's checkers misses a fault that it is there to catch on more than 5 % of the
    seeds, or rejects what is right on any.
    """
    parser = argparse.ArgumentParser(prog="python -m tinygen.testing.kill_matrix", description=main.__doc__)
    parser.add_argument("--seeds", type=int, default=20, help="hypothesis tests for each pair (default: %(default)s)")
    parser.add_argument("--examples", type=int, default=100, help="examples in each test (default: %(default)s)")
    parser.add_argument("--only", type=int, nargs="+", metavar="FAULT", help="numbers of faults (default: all)")
    parser.add_argument("--no-peers", action="store_true", help="leave out other libraries' checkers")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="write the tables to this file too")
    options = parser.parse_args(arguments)
    if min(options.seeds, options.examples, options.jobs) < 1:
        parser.error("--seeds, --examples and --jobs must be at least 1")
    unknown = set(options.only or []) - {fault.number for fault in FAULTS}
    if unknown:
        parser.error(f"--only: there is no fault {min(unknown)}")

    todo = cases(options)
    with ProcessPoolExecutor(options.jobs) if options.jobs > 1 else nullcontext() as pool:
        tallies = (pool.map if pool else map)(partial(tally, options), range(len(todo)))
        found = list(zip(todo, tqdm(tallies, total=len(todo)), strict=True))
    cells = {(case.title, name): shown(case, name, of) for (case, name, _), of in found}

    text = ABOUT.format(arguments=shlex.join(arguments), versions=versions(options), **vars(options))
    for kind in KINDS:
        of_kind = [f for f in kind.FAULTS if any(f is case for case, _, _ in todo)]
        if of_kind:
            text += f"\n## {kind.__name__.rpartition('.')[2].capitalize()}\n\n{table(of_kind, cells)}"
    if not options.only:
        text += f"\n{HOSTILE.format(**vars(options))}\n{table(CORPUS, cells)}"
    print(text)
    if options.out:
        write_atomically(options.out, text.encode())
    wrong = [complaint for (case, name, _), of in found for complaint in complaints(case, name, of, options.seeds)]
    for complaint in wrong:
        print(complaint, file=sys.stderr)
    return 1 if wrong else 0


def versions(options: argparse.Namespace) -> str:
    """The libraries that took part."""
    others = [] if options.no_peers else [module for module, _ in peers.PEERS.values() if find_spec(module)]
    return ", ".join(f"{name} {version(name)}" for name in dict.fromkeys(["hypothesis", "numpy", *others]))


def cases(options: argparse.Namespace) -> list[Case]:
    """All pairs of code and checker, with the checker's name."""
    others = {} if options.no_peers else peers.installed()
    found: list[Case] = []
    for kind in KINDS:
        for fault in kind.FAULTS:
            if not options.only or fault.number in options.only:
                checkers = dict(fault.checkers) | (others if kind is gradients else {})
                found += [(fault, name, checker) for name, checker in checkers.items()]
    if not options.only:
        found += [(h, name, checker) for h in CORPUS for name, checker in h.checkers.items()]
    return found


def tally(options: argparse.Namespace, index: int) -> Tally:
    """Run one pair. Functions do not travel between processes, so it is given by its index."""
    case, name, checker = cases(options)[index]
    if isinstance(case, Hostile):
        check = partial(checker, case.subject)
        return Tally(0, *false_alarms(check, case.examples, options.seeds, options.examples))
    (of,) = kill_matrix({name: checker}, faults=[case], seeds=options.seeds, examples=options.examples).values()
    return of


def shown(case: Fault | Hostile, name: str, of: Tally) -> str:
    """One cell of the tables."""
    notes = [f"{100 * of.judged:.0f} % judged"] if of.judged < 0.5 else []
    if isinstance(case, Hostile):
        number = str(of.false_alarms)
    else:
        number = f"**{of.caught}**" if name in case.caught_by else str(of.caught)
        notes = [f"{of.false_alarms} wrongly"] * bool(of.false_alarms) + notes
    return number + (f" ({', '.join(notes)})" if notes else "")


def complaints(case: Fault | Hostile, name: str, of: Tally, seeds: int) -> list[str]:
    """What tinygen's own checkers must not do."""
    title = f"{case.number} {case.title}" if isinstance(case, Fault) else case.title
    found = []
    if isinstance(case, Fault) and name in case.caught_by and of.caught < SURE * seeds:
        found.append(f"{title}: {name} caught it on {of.caught} of {seeds} seeds only")
    if of.false_alarms and name not in peers.PEERS:
        found.append(f"{title}: {name} rejected what is right on {of.false_alarms} of {seeds} seeds")
    return found


def table(subjects: Sequence[Fault | Hostile], cells: dict[tuple[str, str], str]) -> str:
    """A row for each case, and a column for each checker that was run on any of them."""
    titles = {case.title: f"{case.number} {case.title}" if isinstance(case, Fault) else case.title for case in subjects}
    columns = list(dict.fromkeys(name for title, name in cells if title in titles))
    rows = [[shown, *(cells.get((title, name), "–") for name in columns)] for title, shown in titles.items()]
    return "".join(map(_row, [["", *columns], ["---"] * (len(columns) + 1), *rows]))


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
