"""Mutation testing: break the mathematics in one place at a time, and list what no test notices.

cosmic-ray makes the mutants, ``tests/mutation.toml`` says which kinds, and ``make mutation`` runs all of it in a clone.
Here is which mutants are worth a run (``plan``), how one is tested in seconds (``test``), and what came of it
(``report``). The tests of a mutant are those in the directory that mirrors its own.
"""

import argparse
import ast
import os
import random
import re
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import pytest

PACKAGES = ("ops", "bijections", "distributions", "models")
RULES = "derivative rules"
WHOLE = (RULES, "bijections")
"""Parts that a sample takes entirely."""

# ----------------------------------------------------------------------------------------------------------------- plan


@lru_cache
def _statements(path: Path) -> list[ast.stmt]:
    return ast.parse(path.read_text(encoding="utf-8")).body


def _idle(path: Path) -> Iterator[ast.expr | ast.stmt | ast.keyword]:
    """Code that computes nothing: texts of errors, domains that tests draw from, types, what `zip` asserts."""
    for statement in _statements(path):
        if isinstance(statement, ast.Assign) and str(getattr(statement.targets[0], "id", "")).isupper():
            yield statement
        for node in ast.walk(statement):
            if isinstance(node, ast.Raise) or (isinstance(node, ast.keyword) and node.arg in ("domain", "strict")):
                yield node
            elif isinstance(node, ast.arg | ast.AnnAssign) and node.annotation:
                yield node.annotation
            elif isinstance(node, ast.FunctionDef) and node.returns:
                yield node.returns


def _is_idle(path: Path, place: tuple[int, int]) -> bool:
    return any(
        (n.lineno, n.col_offset) <= place < (n.end_lineno or n.lineno, n.end_col_offset or 0) for n in _idle(path)
    )


def _names(node: ast.AST) -> set[str]:
    """What a statement reads, and what it defines."""
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name)} | {getattr(node, "name", "")}


def _declares_rule(statement: ast.stmt) -> bool:
    """Whether it is ``op.vjp(...)``, or a function under ``@op.joint_vjp``."""
    if isinstance(statement, ast.FunctionDef):
        return any(isinstance(d, ast.Attribute) and d.attr == "joint_vjp" for d in statement.decorator_list)
    call = statement.value if isinstance(statement, ast.Expr) else None
    return isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "vjp"


@lru_cache
def _rules(path: Path) -> list[ast.stmt]:
    """The derivative rules of a module, and the private functions there that they call."""
    private = [s for s in _statements(path) if isinstance(s, ast.FunctionDef) and s.name.startswith("_")]
    found = [s for s in _statements(path) if _declares_rule(s)]
    for rule in found:
        found += [f for f in private if f.name in _names(rule) and f not in found]
    return found


def _part(path: Path, line: int) -> str:
    """The package that a line is in, or the derivative rules."""
    return RULES if any(s.lineno <= line <= (s.end_lineno or 0) for s in _rules(path)) else path.parent.name


def plan(session: str, sample: int | None, seed: int) -> None:
    """Skip mutants of code that computes nothing, and all but ``sample`` of each part that need not be taken whole."""
    from cosmic_ray.work_db import WorkDB, use_db  # the tests do not need cosmic-ray, nor does who runs them
    from cosmic_ray.work_item import WorkerOutcome, WorkResult

    with use_db(session, WorkDB.Mode.open) as db:
        skipped, parts = [], defaultdict(list)
        for item in db.pending_work_items:
            (m,) = item.mutations
            if _is_idle(m.module_path, m.start_pos):
                skipped.append(item.job_id)
            else:
                place = (m.module_path, m.start_pos, m.operator_name, m.occurrence)
                parts[_part(m.module_path, m.start_pos[0])].append((place, item.job_id))
        for part, mutants in sorted(parts.items()):
            jobs = [job for _, job in sorted(mutants)]
            random.Random(seed).shuffle(jobs)
            rest = [] if sample is None or part in WHOLE else jobs[sample:]
            skipped += rest
            print(f"{part}: {len(jobs) - len(rest)} of {len(jobs)} mutants")
        for job in skipped:
            db.set_result(job, WorkResult(WorkerOutcome.SKIPPED))


# ----------------------------------------------------------------------------------------------------------------- test


class _NearestFirst:
    """A pytest plugin: the tests that are named like something around a mutated line come first, and fail fast."""

    def __init__(self, path: Path, line: int) -> None:
        mutated = next(s for s in _statements(path) if line <= (s.end_lineno or 0))
        near = [mutated, *(s for s in _statements(path) if getattr(mutated, "name", None) in _names(s))]
        self.names = {name.lower() for s in near for name in _names(s)} | {path.stem}

    def pytest_configure(self) -> None:
        from hypothesis import Phase, settings  # pytest prepares the assertions of what is imported after it starts

        fast = settings(settings.get_profile("ci"), phases=[Phase.explicit, Phase.generate], report_multiple_bugs=False)
        settings.register_profile("mutation", fast)  # nobody reads the smallest example
        settings.load_profile("mutation")

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        def common(item: pytest.Item) -> int:
            words = re.findall(r"\w+", item.nodeid.lower())
            return len(self.names.intersection(words + "_".join(words).split("_")))

        items.sort(key=common, reverse=True)


def run() -> int:
    """Run the tests of the mutated package, or of all packages if nothing is mutated; pytest's exit code."""
    os.environ["CI"] = "true"  # hypothesis draws the same examples for every mutant
    diff = subprocess.run(["git", "diff", "-U0", "--", "tinygen"], capture_output=True, text=True, check=True).stdout
    place = re.search(r"^\+\+\+ b/(.*)\n@@ -(\d+)", diff, re.MULTILINE)
    path, line = (Path(place[1]), int(place[2])) if place else (Path("tinygen/ops/__init__.py"), 1)
    tests = [f"tests/{package}" for package in ([path.parent.name] if place else PACKAGES)]
    return pytest.main(["-x", "-q", "--tb=line", "-p", "no:cacheprovider", *tests], plugins=[_NearestFirst(path, line)])


# --------------------------------------------------------------------------------------------------------------- report


def report(session: str) -> None:
    """Print the survivors, and how many mutants of each module were killed; one that is no Python is not counted."""
    from cosmic_ray.work_db import WorkDB, use_db
    from cosmic_ray.work_item import WorkerOutcome

    killed, survived = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    with use_db(session, WorkDB.Mode.open) as db:
        for item, result in db.completed_work_items:
            if result.worker_outcome is WorkerOutcome.SKIPPED or "SyntaxError" in result.output:
                continue
            (m,) = item.mutations
            part, place = _part(m.module_path, m.start_pos[0]), f"{m.module_path}:{m.start_pos[0]}"
            for row in ((part, m.module_path.stem), (part, "together")):
                (killed if result.is_killed else survived)[row] += 1
            if result.output == "timeout":
                print(f"{place} ran out of time, which counts as killed")
            if not result.is_killed:
                print(place, *re.findall(r"^[-+](?![-+]).*", result.diff, re.MULTILINE), sep="\n")
    print(f"\n{'':32}{'mutants':>10}{'killed':>10}{'score':>10}")
    for row in sorted({*killed, *survived}):
        total = killed[row] + survived[row]
        print(f"{': '.join(row):32}{total:10}{killed[row]:10}{killed[row] / total:10.1%}")


def main() -> None:
    """Run one of the three commands."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    planning = commands.add_parser("plan", help="skip mutants that are not worth a run")
    planning.add_argument("session", help="made by cosmic-ray init")
    planning.add_argument(
        "--sample", type=int, help=f"how many of each part except {' and '.join(WHOLE)}; default: all"
    )
    planning.add_argument("--seed", type=int, default=0, help="of the sample")
    commands.add_parser("test", help="test the mutant in this checkout")
    reporting = commands.add_parser("report", help="list survivors, and count")
    reporting.add_argument("session")
    args = parser.parse_args()
    if args.command == "plan":
        plan(args.session, args.sample, args.seed)
    elif args.command == "test":
        sys.exit(run())
    else:
        report(args.session)


if __name__ == "__main__":
    main()
