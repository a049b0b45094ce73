"""The command line, before anything is measured."""

import json
import math

import pytest

from benchmarks.__main__ import CORES, GROUPS, as_json, implementations, parse


def test_without_arguments_all_groups_are_measured():
    arguments, parts = parse([])
    assert tuple(arguments.groups) == GROUPS == tuple(part.group for part in parts)
    assert all(part.chosen == list(range(len(part.workloads))) for part in parts)


def test_all_groups_can_be_drawn(tmp_path):
    assert parse(["--plot", str(tmp_path / "steps.svg")])[0].plot.name == "steps.svg"


def test_only_chooses_beside_the_first_which_measures_the_limit():
    _, (part,) = parse(["steps", "--only", "vae"])
    assert [part.workloads[n].name for n in part.chosen[1:]] == ["vae784"] and part.chosen[0] == 0


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["speed"], "'speed' is none of start, kernels, steps, sampling"),
        (["--peers", "torch,tf"], "'tf' is none of"),
        (["kernels", "--batch", "2"], "needs the group `steps`"),
        (["kernels", "--plot", "steps.svg"], "needs the group `steps`"),
        (["steps", "--plot", "steps.txt"], "does not end like an image"),
        (["steps", "--plot", "nowhere/steps.svg"], "no folder 'nowhere'"),
        (["steps", "--only", "gpt"], "no workload's name contains 'gpt'"),
        (["--threads", str(len(CORES) + 1)], "cores"),
    ],
)
def test_what_cannot_be_done_is_refused(words, complaint, capsys):
    with pytest.raises(SystemExit):
        parse(words)
    assert complaint in capsys.readouterr().err


def test_peers_that_share_implementations_bring_each_once():
    assert implementations(["torch-eager", "torch"]) == ["tinygen", "torch", "torch-channels-first", "torch-compile"]


def test_json_has_null_for_what_is_not_finite():
    assert json.loads(as_json([{"a": math.nan, "b": math.inf, "c": 1.5, "d": "x"}])) == [
        {"a": None, "b": None, "c": 1.5, "d": "x"}
    ]
