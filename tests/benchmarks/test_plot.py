"""The picture of the training steps."""

import pytest

from benchmarks.plot import draw_steps


def row(workload, implementation, ms, threads=2):
    times = {"ms_median": ms, "ms_min": 0.9 * ms, "ms_max": 1.5 * ms}
    return {"workload": workload, "implementation": implementation, "threads": threads, **times}


def test_bars_are_relative_to_tinygen_and_the_fastest_peer_is_bold(tmp_path):
    rows = [row("linear", "tinygen", 1.0), row("vae784", "tinygen", 4.0), row("vae784", "torch", 10.0)]
    rows += [row("vae784", "jax", 6.0), row("wavenet batch 1", "tinygen", 3.0), row("vae784", "tinygen", 7.0, 1)]
    figure = draw_steps(rows)
    (ax,) = figure.axes
    assert [bar.get_height() for bar in ax.patches] == [1.0, 2.5, 1.5]
    assert [(text.get_text(), text.get_weight()) for text in ax.texts] == [("2.5", "normal"), ("1.5", "bold")]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["vae784\n4 ms"]
    for name in ("steps.png", "steps.svg"):
        figure.savefig(tmp_path / name)
        assert (tmp_path / name).stat().st_size > 1000


def test_something_must_be_there():
    with pytest.raises(ValueError, match="no training step"):
        draw_steps([row("linear", "tinygen", 1.0)])
