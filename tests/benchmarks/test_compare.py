import math

from benchmarks import kernels
from benchmarks.compare import summarise, tell_differences
from benchmarks.workload import Workload


def _answers(*ms):
    return [{"ms": m, "peak_mb": 5.0} for m in ms]


def test_ratio_is_that_of_the_fastest_peer_turn_by_turn():
    workload = Workload("product", 100.0, {})
    answers = {"tinygen": _answers(2.0, 4.0, 1.0), "slow": _answers(9.0, 9.0, 9.0), "quick": _answers(4.0, 4.0, 3.0)}
    tinygen, slow, quick = summarise(workload, answers, limit=200.0)
    assert (tinygen["ms_median"], tinygen["ms_min"], tinygen["ms_max"]) == (2.0, 1.0, 4.0)
    assert (tinygen["ratio_min"], tinygen["ratio_to_fastest_peer"], tinygen["ratio_max"]) == (1.0, 2.0, 3.0)
    assert tinygen["flop_limit_share"] == 100 / 2 / 200
    assert slow["ratio_to_fastest_peer"] == 4 / 9  # its only peer; tinygen is nobody's
    assert quick["peak_mb"] == 5.0


def test_without_peers_or_flops_there_is_nothing_to_relate_to():
    (row,) = summarise(Workload("copy", 0.0, {}), {"tinygen": _answers(2.0)}, limit=math.nan)
    assert row["ratio_to_fastest_peer"] is None and row["flop_limit_share"] is None


def test_losses_are_compared_with_those_of_tinygen():
    losses = {"tinygen": [2.0, -1.0], "peer": [2.0, -1.1], "broken": [math.nan, -1.0], "other": None}
    answers = {name: _answers(1.0) for name in losses}
    tinygen, peer, broken, other = summarise(Workload("step", 0.0, {}), answers, math.nan, losses)
    assert tinygen["loss_difference"] == 0
    assert math.isclose(peer["loss_difference"], 0.1)
    assert math.isnan(broken["loss_difference"])
    assert other["loss_difference"] is None


def test_a_difference_of_losses_is_told():
    said = []
    rows = [{"implementation": name, "loss_difference": d} for name, d in [("a", None), ("b", 9e-4), ("c", 2e-3)]]
    rows.append({"implementation": "d", "loss_difference": math.nan})
    tell_differences(Workload("step", 0.0, {}), rows, said.append)
    assert [text[0] for text in said] == ["c", "d"]


def test_every_workload_has_a_name_of_its_own_and_runs_in_tinygen():
    workloads = kernels.workloads()
    assert len({workload.name for workload in workloads}) == len(workloads)
    for workload in workloads:
        assert "tinygen" in workload.prepare
    workloads[3].prepare["tinygen"]()()
    workloads[3].prepare["numpy"]()()
