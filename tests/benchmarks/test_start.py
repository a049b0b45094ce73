"""Starting is measured in processes of its own, which find and leave nothing."""

import importlib.util

import pytest

from benchmarks import start
from benchmarks.steps import PROBLEMS


def test_every_step_is_started_cold_and_warm():
    assert list(start.STEPS) == list(PROBLEMS)
    names = [workload.name for workload in start.workloads()]
    assert names[0] == "import" and names[1:3] == ["first step of ddpm2d, cold", "first step of ddpm2d, warm"]
    assert len(names) == 1 + 2 * len(PROBLEMS)


def test_import_takes_some_milliseconds():
    assert 1 < start.workloads()[0].prepare["tinygen"]()() < 60_000


def test_a_peer_that_is_not_installed_is_missing():
    with pytest.raises(ImportError, match="No module named 'nowhere'"):
        start._require("nowhere")


def test_a_failing_process_says_why():
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        start._run(["-c", "1 / 0"], {})


def test_a_first_step_prints_its_time():
    if importlib.util.find_spec("torch") is None:
        pytest.skip("torch is not installed: pip install '.[bench]'")  # tinygen would compile for half a minute
    assert 1 < start._prepare_step("torch", "ddpm2d", False)() < 600_000
