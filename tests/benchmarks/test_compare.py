import math

from benchmarks import kernels
from benchmarks.compare import summarise
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


def test_every_workload_has_a_name_of_its_own_and_runs_in_tinygen():
    workloads = kernels.workloads()
    assert len({workload.name for workload in workloads}) == len(workloads)
    for workload in workloads:
        assert "tinygen" in workload.prepare
    workloads[3].prepare["tinygen"]()()
    workloads[3].prepare["numpy"]()()
