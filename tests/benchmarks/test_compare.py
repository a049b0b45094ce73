import io
import json
import math
import sys
from contextlib import closing
from pathlib import Path

import pytest

from benchmarks import steps, worker
from benchmarks.compare import Worker, summarise, tell_differences
from benchmarks.steps import of_tinygen
from benchmarks.workload import Workload
from tests.kernels.support import run_python


def _answers(*ms):
    return [{"ms": m} for m in ms]


def test_ratio_is_that_of_the_fastest_peer_turn_by_turn():
    workload = Workload("product", 100.0, {})
    answers = {"tinygen": _answers(2.0, 4.0, 1.0), "slow": _answers(9.0, 9.0, 9.0), "quick": _answers(4.0, 4.0, 3.0)}
    tinygen, slow, quick = summarise(workload, answers, 200.0, {"quick": {"peak_mb": 5.0}})
    assert (tinygen["ms_median"], tinygen["ms_min"], tinygen["ms_max"]) == (2.0, 1.0, 4.0)
    assert (tinygen["ratio_min"], tinygen["ratio_to_fastest_peer"], tinygen["ratio_max"]) == (1.0, 2.0, 3.0)
    assert tinygen["flop_limit_share"] == 100 / 2 / 200
    assert slow["ratio_to_fastest_peer"] == 4 / 9  # its only peer; tinygen is nobody's
    assert (quick["peak_mb"], slow["peak_mb"]) == (5.0, None)


def test_without_peers_or_flops_there_is_nothing_to_relate_to():
    (row,) = summarise(Workload("copy", 0.0, {}), {"tinygen": _answers(2.0)}, math.nan, {})
    assert row["ratio_to_fastest_peer"] is None and row["flop_limit_share"] is None


def test_numbers_are_compared_with_those_of_tinygen():
    numbers = {"tinygen": [2.0, -1.0], "peer": [2.0, -1.1], "broken": [math.nan, -1.0]}
    checks = {name: {"numbers": own} for name, own in numbers.items()} | {"other": {"missing": "it crashed"}}
    answers = {name: _answers(1.0) for name in checks}
    tinygen, peer, broken, other = summarise(Workload("step", 0.0, {}), answers, math.nan, checks)
    assert tinygen["difference"] == 0
    assert math.isclose(peer["difference"], 0.1)
    assert math.isnan(broken["difference"])
    assert other["difference"] is None


def test_a_difference_is_told():
    said = []
    rows = [{"implementation": name, "difference": d} for name, d in [("a", None), ("b", 9e-4), ("c", 2e-3)]]
    rows.append({"implementation": "d", "difference": math.nan})
    tell_differences(Workload("step", 0.0, {}), rows, said.append)
    assert [text[0] for text in said] == ["c", "d"]


def test_agreement_is_told():
    said = []
    rows = [{"implementation": name, "difference": d} for name, d in [("tinygen", 0.0), ("a", 2e-5), ("b", None)]]
    tell_differences(Workload("step", 0.0, {}), rows, said.append)
    assert said == ["step: the numbers of a are tinygen's within 2.0e-05"]


def test_a_worker_that_died_is_missing():
    with closing(Worker("steps", "nobody", {}, {})) as dead:
        dead.process.kill()
        dead.process.wait()
        for _ in range(2):
            assert "ended with status" in dead.ask("1")["missing"]


def test_a_worker_measures_and_finds_numbers_and_a_peak(monkeypatch, capsys):
    size = 32
    monkeypatch.setattr(sys, "stdin", io.StringIO("1\n1\ncheck 1\n"))
    worker.main("steps", "tinygen", json.dumps({"batch": size}))
    first, second, check = map(json.loads, capsys.readouterr().out.splitlines())
    assert first["ms"] > 0 and second["ms"] > 0
    assert check["numbers"] == of_tinygen.losses("ddpm2d", size, steps.CHECKED)
    if check["peak_mb"] is not None:
        assert -1 <= check["peak_mb"] < 50  # some pages of what was there before are given back


def test_without_a_peak_that_can_be_forgotten_none_is_told(monkeypatch):
    monkeypatch.setattr(worker, "forget_peak", lambda: False)
    add = Workload("add", 0.0, {"tinygen": lambda: lambda: None}, {"tinygen": lambda: []})
    assert worker.check(add, "tinygen") == {"peak_mb": None, "numbers": []}


def test_peak_memory_is_what_calls_use_beyond_their_data():
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("this system does not tell a peak that it can forget")
    code = """
import numpy as np
from benchmarks.worker import check
from benchmarks.workload import Workload
def prepare():
    data = np.ones(10_000_000)  # 76 MB, and a call copies them once
    return lambda: data + 1
print(check(Workload("add", 0.0, {"tinygen": prepare}, {"tinygen": lambda: []}), "tinygen")["peak_mb"])
"""
    assert abs(float(run_python(code).stdout) - 76) < 8
