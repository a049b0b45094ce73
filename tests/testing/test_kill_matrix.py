"""The kill matrix: what a test of a checker comes to, the command with its tables, and the peers' adapters."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume
from hypothesis import strategies as st

from tinygen.testing import Inconclusive, kill_matrix
from tinygen.testing.faults import FAULTS, Fault, gradients
from tinygen.testing.faults.hostile import Hostile
from tinygen.testing.kill_matrix import Outcome, __main__, peers, search

FAST = ["--seeds", "2", "--examples", "5", "--jobs", "1"]


def passes(subject: Any, example: Any, rng: np.random.Generator) -> None:
    """A checker that accepts anything."""


def rejects(subject: Any, example: Any, rng: np.random.Generator) -> None:
    """A checker that accepts nothing."""
    raise AssertionError


def shrugs(subject: Any, example: Any, rng: np.random.Generator) -> None:
    """A checker that hardly ever has a verdict."""
    if rng.random() > 0.1:
        raise Inconclusive


def planted(*titles: str) -> tuple[Fault, ...]:
    """The faults of gradients with these titles."""
    return tuple(fault for fault in gradients.FAULTS if fault.title in titles)


# ------------------------------------------------------------------------------------------------------------- outcomes


def test_outcomes() -> None:
    def never(example: int, rng: np.random.Generator) -> None:
        raise Inconclusive

    def flaky(example: int, rng: np.random.Generator) -> None:
        calls.append(example)
        assert len(calls) != 1

    calls: list[int] = []
    assert search(lambda example, rng: None, st.integers()) == Outcome(False, 1.0)
    assert search(lambda example, rng: passes(None, example, rng), st.integers(), at=3) == Outcome(False, 1.0)
    assert search(lambda example, rng: rejects(None, example, rng), st.integers()) == Outcome(True, 1.0)
    assert search(never, st.integers()) == Outcome(False, 0.0)
    assert search(flaky, st.integers()).rejected
    halved = search(lambda example, rng: assume(example % 2), st.integers(0, 1000), at=0, examples=50)
    assert not halved.rejected
    assert 0.3 < halved.judged < 0.7


def test_other_errors_come_through() -> None:
    with pytest.raises(ZeroDivisionError):
        search(lambda example, rng: 1 // 0, st.integers())


def test_the_neighbour_is_run_where_the_fault_was_missed() -> None:
    def backwards(subject: Callable, example: Any, rng: np.random.Generator) -> None:
        assert subject(example)

    fault = Fault(0, "of a checker that has it backwards", lambda faulty: lambda x: faulty, st.integers(), {}, ())
    ((_, tally),) = kill_matrix({"backwards": backwards}, faults=[fault], seeds=3, examples=5).items()
    assert (tally.caught, tally.false_alarms) == (0, 3)


# -------------------------------------------------------------------------------------------------------------- command


def test_command(tmp_path: Path) -> None:
    arguments = ["--only", "1", "38", "--seeds", "2", "--examples", "10", "--no-peers", "--jobs", "2"]
    run = subprocess.run(
        [sys.executable, "-m", "tinygen.testing.kill_matrix", *arguments, "--out", tmp_path / "table.md"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    text = (tmp_path / "table.md").read_text()
    assert run.stdout == text + "\n"
    assert "on how many of 2 seeds a hypothesis test of 10 examples" in text
    assert [line for line in text.splitlines() if line.startswith(("##", "|"))] == [
        "## Gradients",
        "|  | check_vjp | check_adjoint | check_taylor | check_contract |",
        "| --- | --- | --- | --- | --- |",
        "| 1 pullback × 1.0001 | **2** | **2** | 2 | 0 |",
        "## Diffusion",
        "|  | check_diffusion |",
        "| --- | --- |",
        "| 38 noise added at the last step | **2** |",
    ]


def test_a_weak_checker_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    (fault,) = planted("wrong sign on one argument")
    weak = replace(fault, checkers={"passes": passes, "rejects": rejects, "shrugs": shrugs}, caught_by=("passes",))
    monkeypatch.setattr(gradients, "FAULTS", (weak,))
    assert __main__.main([*FAST, "--only", "3", "--no-peers"]) == 1
    shown = capsys.readouterr()
    assert "| 3 wrong sign on one argument | **0** | 2 (2 wrongly) | 0 (" in shown.out
    assert " % judged) |" in shown.out
    assert "3 wrong sign on one argument: passes caught it on 0 of 2 seeds only\n" in shown.err
    assert "3 wrong sign on one argument: rejects rejected what is right on 2 of 2 seeds\n" in shown.err
    assert "shrugs" not in shown.err


def test_a_false_alarm_on_hostile_code_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    hostile = Hostile("a | b", None, st.integers(), {"passes": passes, "rejects": rejects, "shrugs": shrugs})
    monkeypatch.setattr(__main__, "KINDS", ())
    monkeypatch.setattr(__main__, "CORPUS", (hostile,))
    assert __main__.main(FAST) == 1
    shown = capsys.readouterr()
    assert "|  | passes | rejects | shrugs |" in shown.out
    assert "| a &#124; b | 0 | 2 | 0 (" in shown.out
    assert "a | b: rejects rejected what is right on 2 of 2 seeds\n" in shown.err
    assert "passes" not in shown.err


def test_peers_are_shown_and_do_not_matter(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr(peers, "PEERS", {"a peer": ("numpy", rejects), "not installed": ("no_such_module", rejects)})
    assert __main__.main([*FAST, "--only", "2", "40"]) == 0
    table = capsys.readouterr().out
    assert "| check_contract | a peer |\n" in table
    assert "| **2** | 2 (2 wrongly) |" in table
    assert "| 40 checkpoint loses Adam's step count | **2** | **2** |" in table


@pytest.mark.parametrize("arguments", [["--only", "99"], ["--seeds", "0"], ["--jobs", "0"], ["--examples", "-1"]])
def test_arguments_are_checked(arguments: list[str], capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit, match="2"):
        __main__.main(arguments)
    assert arguments[0] in capsys.readouterr().err


@pytest.mark.parametrize(("caught", "complains"), [(20, False), (19, False), (18, True)])
def test_one_seed_of_twenty_may_be_missed(caught: int, complains: bool) -> None:
    (fault,) = planted("pullback × 1.0001")
    tally = SimpleNamespace(caught=caught, false_alarms=0)
    assert bool(__main__.complaints(fault, "check_vjp", tally, 20)) == complains
    assert not __main__.complaints(fault, "check_taylor", tally, 20)


# ---------------------------------------------------------------------------------------------------------------- peers


@pytest.mark.parametrize("number", [3, 5, 20])
@pytest.mark.parametrize("peer", peers.PEERS)
def test_peers_reject_faults_and_accept_neighbours(peer: str, number: int) -> None:
    module, check = peers.PEERS[peer]
    pytest.importorskip(module, reason=f"{module} is not installed")
    (fault,) = (fault for fault in FAULTS if fault.number == number)
    for faulty in (True, False):
        subject = fault.subject(faulty)
        found = search(lambda xs, rng, subject=subject: check(subject, xs, rng), fault.examples, at=0, examples=5)
        assert found == Outcome(faulty, 1.0)
