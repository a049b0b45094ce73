"""The command line from end to end: train, stop, go on, draw, for every family."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from PIL import Image

from demos import gallery
from demos.cli import main
from demos.runs import Settings
from demos.table import DEMOS
from tinygen import training
from tinygen.models import DDPM, GAN, VAE, Flow

ROOT = Path(__file__).parents[2]
SMALL = ["--size", "4", "--batch-size", "8", "--steps", "3", "--seed", "3"]
POINTS = ["--batch-size", "16", "--steps", "3", "--seed", "3", "--data"]

EVERY = {"config.json", "metrics.csv", "checkpoint.safetensors", "summary.json", "previews"}
PICTURES = {"data.png", "samples.png", "curves.png", "animation.gif"}
# What to run, and the pictures that only such a run has.
RUNS = {
    "vae": (["vae", *SMALL], {"reconstructions.png", "latent_plane.png", "latent_walk.png"}),
    "gan": (["gan", *SMALL], set()),
    "flow": (["flow", *SMALL, "--width", "8"], set()),
    "ddpm": (["ddpm", *SMALL], {"denoising.png"}),
    "gan on points": (["gan", *POINTS, "8gaussians"], set()),
    "flow on points": (["flow", *POINTS, "moons"], {"density.png", "warped_grid.png"}),
    "ddpm on points": (["ddpm", *POINTS, "checkerboard"], {"denoising.png"}),
}


def everything(folder):
    """All tensors of the checkpoint in a run folder, and the notes but for the time that it took."""
    tensors, notes = training.read(folder / "checkpoint.safetensors")
    del notes["seconds"]
    return tensors, notes


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Run each of `RUNS` once; gives the folder."""
    folders = {}

    def get(name):
        if name not in folders:
            folder = tmp_path_factory.mktemp(name.replace(" ", "-"))
            assert main([*RUNS[name][0], "--out", str(folder)]) == 0
            folders[name] = folder
        return folders[name]

    return get


@pytest.mark.parametrize("name", RUNS)
def test_a_run_leaves_its_files_and_pictures(name, trained):
    folder = trained(name)
    assert {path.name for path in folder.iterdir()} == EVERY | PICTURES | RUNS[name][1]
    for path in [*folder.glob("*.png"), *(folder / "previews").glob("*.png")]:
        assert imread(path)[..., :3].var() > 1e-4, path
    frames = sorted((folder / "previews").glob("*.png"))
    assert len(frames) == 3
    with Image.open(folder / "animation.gif") as gif:
        assert 2 <= gif.n_frames <= 7  # equal neighbours are one frame; the last one is held
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["steps"] == 3
    assert np.isfinite(list(summary["metrics"].values())).all()


def interrupt_at(step, monkeypatch, model):
    """Send the process SIGINT in the middle of a step of training, as Ctrl-C does."""
    calls = []
    usual = model.train_step

    def train_step(self, batch, rng):
        calls.append(None)
        result = usual(self, batch, rng)
        if len(calls) == 1 + step:  # the first call rehearses
            os.kill(os.getpid(), signal.SIGINT)
        return result

    monkeypatch.setattr(model, "train_step", train_step)


@pytest.mark.parametrize("name", RUNS)
def test_stopped_and_resumed_ends_with_the_same_bits(name, trained, tmp_path, monkeypatch, capsys):
    model = {"vae": VAE, "gan": GAN, "flow": Flow, "ddpm": DDPM}[name.split()[0]]
    with monkeypatch.context() as patch:
        interrupt_at(2, patch, model)
        assert main([*RUNS[name][0], "--out", str(tmp_path)]) == 130
    demo = RUNS[name][0][0]
    told = capsys.readouterr().err
    assert f"interrupted at step 2, and saved; go on with: python -m demos {demo} --resume --out {tmp_path}" in told
    assert everything(tmp_path)[1]["step"] == 2
    assert not (tmp_path / "summary.json").exists()
    assert main([demo, "--resume", "--out", str(tmp_path)]) == 0
    (once, notes), (twice, notes_twice) = everything(trained(name)), everything(tmp_path)
    assert notes == notes_twice
    assert once.keys() == twice.keys()
    for key, array in once.items():
        assert array.dtype == twice[key].dtype and array.tobytes() == twice[key].tobytes(), key
    rows = [[line.split(",")[0], *line.split(",")[2:]] for line in (tmp_path / "metrics.csv").read_text().split()]
    assert rows == [
        [line.split(",")[0], *line.split(",")[2:]] for line in (trained(name) / "metrics.csv").read_text().split()
    ]
    assert (tmp_path / "samples.png").exists()


def test_kill_int_from_outside(tmp_path):
    command = [
        sys.executable,
        "-m",
        "demos",
        "vae",
        "--network",
        "mlp",
        "--size",
        "7",
        "--batch-size",
        "8",
        "--seconds",
        "600",
    ]
    with subprocess.Popen([*command, "--out", str(tmp_path)], cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        try:
            while not any((tmp_path / "previews").glob("*.png")):
                assert process.poll() is None, process.stderr.read()
                time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            told = process.communicate(timeout=60)[1]
        finally:
            process.kill()
    assert process.returncode == 130
    assert "--resume" in told and "Traceback" not in told
    step = everything(tmp_path)[1]["step"]
    assert step > 0
    assert main(["vae", "--resume", "--out", str(tmp_path), "--steps", str(step + 2)]) == 0
    assert everything(tmp_path)[1]["step"] == step + 2


@pytest.mark.parametrize("name, shape", [("vae", (5, 4, 4, 1)), ("flow on points", (5, 2))])
def test_samples_come_from_the_average_of_the_weights(name, shape, trained, capsys):
    folder = trained(name)
    demo = RUNS[name][0][0]
    assert main([demo, "--sample", "5", "--seed", "8", "--out", str(folder), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    samples = np.load(told["samples"])
    assert samples.shape == shape == tuple(told["shape"])
    assert samples.dtype == np.float32
    assert np.isfinite(samples).all() and samples.var() > 0
    assert main([demo, "--sample", "5", "--seed", "8", "--out", str(folder)]) == 0
    assert np.array_equal(np.load(told["samples"]), samples)
    model = Settings.read(folder).build()
    training.load(folder / "checkpoint.safetensors", model, averaged=True)
    assert np.array_equal(model.sample(5, np.random.default_rng([8, 4])), samples)
    training.load(folder / "checkpoint.safetensors", model, averaged=False)
    assert not np.array_equal(model.sample(5, np.random.default_rng([8, 4])), samples)


def test_json_is_all_that_stdout_has(tmp_path, capsys):
    assert main(["vae", *SMALL, "--network", "mlp", "--out", str(tmp_path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["demo"] == "vae" and told["steps"] == 3 and told["parameters"] > 0
    assert all(Path(picture).exists() for picture in told["pictures"])
    assert {"loss", "reconstruction", "kl"} <= told["metrics"].keys()


def test_a_new_run_replaces_the_old_one_and_says_so(tmp_path, capsys):
    command = ["vae", *SMALL, "--network", "mlp", "--out", str(tmp_path)]
    assert main(command) == 0
    (tmp_path / "mine.txt").write_text("keep")
    (tmp_path / "previews" / "0000099.png").write_text("from a longer run")
    capsys.readouterr()
    assert main([*command, "--seed", "4"]) == 0
    assert "replaces" in capsys.readouterr().err
    assert (tmp_path / "mine.txt").read_text() == "keep"
    assert len(list((tmp_path / "previews").glob("*.png"))) == 3


def test_resuming_a_finished_run_changes_nothing_but_may_extend_it(trained, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(trained("vae"), folder)
    before, summary = everything(folder), (folder / "summary.json").read_text()
    assert main(["vae", "--resume", "--out", str(folder)]) == 0
    after = everything(folder)
    assert before[1] == after[1] and (folder / "summary.json").read_text() == summary
    assert all(np.array_equal(array, after[0][key]) for key, array in before[0].items())
    assert main(["vae", "--resume", "--steps", "6", "--out", str(folder)]) == 0
    assert everything(folder)[1]["step"] == 6
    assert json.loads((folder / "config.json").read_text())["steps"] == 6


def test_gallery_trains_all_then_keeps_them(tmp_path, capsys):
    command = ["gallery", "--size", "4", "--steps", "2", "--batch-size", "8", "--out", str(tmp_path), "--json"]
    assert main(command) == 0
    told = capsys.readouterr()
    assert str((tmp_path / "gallery.png").resolve()) in told.err
    assert json.loads(told.out)["runs"].keys() == gallery.PANELS.keys()
    assert {panel.demo for panel in gallery.PANELS.values()} == DEMOS.keys()
    assert imread(tmp_path / "gallery.png")[..., :3].var() > 1e-3
    before = {name: everything(tmp_path / "gallery" / name) for name in gallery.PANELS}
    stamp = (tmp_path / "gallery" / "vae" / "checkpoint.safetensors").stat().st_mtime_ns
    (tmp_path / "gallery" / "gan" / "summary.json").unlink()  # as if it had been interrupted
    damaged = tmp_path / "gallery" / "flow-points" / "checkpoint.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    assert main(command) == 0
    told = capsys.readouterr().err
    assert told.count("finished already, and kept") == len(gallery.PANELS) - 2
    assert f"{damaged}: damaged" in told and "training anew" in told
    assert stamp == (tmp_path / "gallery" / "vae" / "checkpoint.safetensors").stat().st_mtime_ns
    for name, (tensors, notes) in before.items():
        again = everything(tmp_path / "gallery" / name)
        assert again[1] == notes and all(np.array_equal(array, again[0][key]) for key, array in tensors.items())


def test_without_a_name_the_demos_are_listed(capsys):
    assert main([]) == 0
    told = capsys.readouterr().out
    assert all(name in told for name in [*DEMOS, "gallery", "moons", "digits"])


@pytest.mark.parametrize("name", [*DEMOS, "gallery"])
def test_help_is_complete(name, capsys):
    with pytest.raises(SystemExit) as stop:
        main([name, "--help"])
    assert stop.value.code == 0
    told = capsys.readouterr().out
    options = ["data", "size", "steps", "seconds", "batch-size", "seed", "out", "json"]
    options += ["resume", "sample", *DEMOS[name].options] if name in DEMOS else []
    assert all(f"--{option}" in told for option in options)
