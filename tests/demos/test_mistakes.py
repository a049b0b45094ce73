"""What a user can get wrong: exit status 2, a message that helps, no traceback, and no file touched."""

import json
import resource
import shutil

import numpy as np
import pytest

from demos.cli import main
from tinygen.models import VAE

QUICK = ["--size", "4", "--network", "mlp", "--batch-size", "8", "--steps", "2"]


def refused(capsys, *arguments):
    """Run a command that must fail as a user's mistake; returns the message."""
    assert main([str(argument) for argument in arguments]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("error: ") or "\nerror: " in told.err
    return told.err


def content(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["vea"], "there is no demo 'vea' in the list of python -m demos: did you mean 'vae'?"),
        (["--steps", "3"], "name a demo"),
        (["vae", "--step", "3"], "there is no option --step: did you mean '--steps'?"),
        (["vae", "--latnet=3"], "did you mean '--latent'?"),
        (["vae", "3"], "there is no option 3"),
        (["vae", "--likelihood", "bernouli"], "'bernouli' is none of bernoulli, gaussian: did you mean 'bernoulli'?"),
        (["vae", "--data", "digit"], "pinwheel: did you mean 'digits'?"),
        (["flow", "--data", "mons"], "did you mean 'moons'?"),
        (["vae", "--data", "zzz"], "--data zzz: neither a file nor one of digits, fashion, moons"),
        (["vae", "--data", "moons"], "moons: the VAE demo learns images, not points"),
        (["flow", "--data", "moons", "--size", "7"], "leave it out"),
        (["vae", "--size", "5"], "must divide"),
        (["vae", "--size", "14"], "four must divide"),
        (["ddpm", "--size", "7"], "divisible by"),
        (["vae", "--steps", "-5"], "'-5' must be a whole number of at least 1"),
        (["vae", "--steps", "many"], "'many' must be a whole number"),
        (["vae", "--seconds", "nan"], "'nan' must be a positive number"),
        (["vae", "--seed", "-1"], "at least 0"),
        (["vae", "--steps"], "expected one argument"),
        (["vae", "--batch-size", "5000"], "digits has 4000 examples"),
        (["vae", "--resume"], "holds no run"),
        (["vae", "--sample", "3"], "holds no run"),
        (["vae", "--sample", "3", "--steps", "9"], "--steps has no meaning with --sample"),
        (["gallery", "--data", "moons"], "the gallery's --data are images"),
    ],
)
def test_mistakes_are_explained_and_leave_nothing(arguments, message, tmp_path, capsys):
    out = tmp_path / "run"
    assert message in refused(capsys, *arguments, *([] if arguments[0].startswith("-") else ["--out", out]))
    assert not out.exists()


@pytest.fixture(scope="module")
def vae(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vae")
    assert main(["vae", *QUICK, "--out", str(folder)]) == 0
    return folder


@pytest.fixture
def run(vae, tmp_path):
    """A copy of a finished run."""
    return shutil.copytree(vae, tmp_path / "run")


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["vae", "--resume", "--seed", "1"], "--seed 1 differs from the run in"),
        (["vae", "--resume", "--latent", "3"], "--latent 3 differs"),
        (["vae", "--resume", "--batch-size", "9"], "--batch-size 9 differs"),
        (["gan", "--resume"], "holds a run of vae, not of gan"),
        (["gan", "--sample", "3"], "holds a run of vae, not of gan"),
    ],
)
def test_a_run_cannot_be_resumed_as_another(arguments, message, run, capsys):
    before = content(run)
    assert message in refused(capsys, *arguments, "--out", run)
    assert content(run) == before


def damage_byte(path):
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.parametrize(
    "name, damage, message",
    [
        ("checkpoint.safetensors", lambda path: path.write_bytes(path.read_bytes()[:999]), "damaged"),
        ("checkpoint.safetensors", damage_byte, "checksum"),
        (
            "checkpoint.safetensors",
            lambda path: path.write_bytes(b"GIF89a" * 100),
            "damaged, or not a safetensors file",
        ),
        ("checkpoint.safetensors", lambda path: path.unlink(), "there is no such file"),
        ("config.json", lambda path: path.write_text("{"), "cannot read"),
        ("config.json", lambda path: path.write_text('{"lr": 3}'), "not the configuration of a demo"),
        ("config.json", lambda path: path.write_text("[]"), "not the configuration of a demo"),
        ("metrics.csv", lambda path: path.unlink(), "cannot read"),
    ],
)
def test_a_damaged_run_is_refused(name, damage, message, run, capsys):
    damage(run / name)
    before = content(run)
    told = refused(capsys, "vae", "--resume", "--steps", "3", "--out", run)
    assert message in told and str(run / name) in told
    assert content(run) == before


@pytest.mark.parametrize(
    "change, message",
    [
        ({"steps": "x"}, "steps cannot be 'x'"),
        ({"data": None}, "data cannot be None"),
        ({"options": None}, "not the configuration of a demo"),
        ({"options": {"colour": 3}}, "the options of vae are latent"),
        ({"demo": "poem"}, "not the configuration of a demo"),
    ],
)
def test_an_edited_configuration_is_refused(change, message, run, capsys):
    config = run / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | change))
    assert message in refused(capsys, "vae", "--sample", "3", "--out", run)


def test_a_configuration_from_before_an_option_has_its_default(run):
    config = run / "config.json"
    content = json.loads(config.read_text())
    del content["options"]["likelihood"]
    config.write_text(json.dumps(content))
    assert main(["vae", "--sample", "3", "--out", str(run)]) == 0


def test_data_that_are_refused_leave_an_earlier_run_alone(run, tmp_path, capsys):
    np.save(tmp_path / "two.npy", np.zeros((9, 4, 4, 2)))
    before = content(run)
    assert "channels" in refused(capsys, "vae", "--data", tmp_path / "two.npy", "--batch-size", "3", "--out", run)
    assert content(run) == before


@pytest.mark.parametrize("arguments", [["vae", "--data", "a" * 300], ["vae", "--resume", "--out", "a" * 300]])
def test_a_name_that_no_file_can_have_is_refused(arguments, capsys):
    assert "too long" in refused(capsys, *arguments)


def test_a_checkpoint_of_another_model_is_refused(run, tmp_path, capsys):
    other = tmp_path / "other"
    assert main(["vae", *QUICK, "--latent", "3", "--out", str(other)]) == 0
    shutil.copy(other / "checkpoint.safetensors", run)
    told = refused(capsys, "vae", "--sample", "3", "--out", run)
    assert "shape" in told and "checkpoint.safetensors" in told
    assert not (run / "samples.npy").exists()


@pytest.mark.parametrize(
    "name, make, message",
    [
        ("a.npy", lambda path: path.write_bytes(b"nonsense"), "not a file of plain numeric arrays"),
        ("a.idx", lambda path: path.write_bytes(b"\0\0\x08\x03" + b"\0\0\0\x05" * 3), "a.idx"),
        ("a.npy", lambda path: np.save(path, np.array(["a", "b"])), "must be real numbers"),
        ("a.npy", lambda path: np.save(path, np.full((9, 2), np.nan)), "not finite"),
        ("a.npy", lambda path: np.save(path, np.zeros((0, 2))), "holds no example"),
        ("a.npy", lambda path: np.save(path, np.zeros((9, 5))), "images (N,H,W,C) or points (N,2)"),
        ("a.npy", lambda path: np.save(path, np.full((9, 4, 4, 1), 3.0)), "pixels must lie in [0, 1]"),
        ("a.npy", lambda path: np.save(path, np.full((900, 2), 0.1)), "positive"),
        ("a.npy", lambda path: np.save(path, np.ones((1, 4, 4, 1))), "too few"),
        ("a.npy", lambda path: np.save(path, np.ones((9, 4, 4, 2))), "three or four channels"),
    ],
)
def test_unsuitable_data_are_refused(name, make, message, tmp_path, capsys):
    make(tmp_path / name)
    assert message in refused(capsys, "ddpm", "--data", tmp_path / name, "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_file_of_points_is_learned(tmp_path):
    np.save(tmp_path / "a.npy", np.random.default_rng(0).normal(size=(500, 2)))
    command = ["ddpm", "--data", str(tmp_path / "a.npy"), "--steps", "2", "--batch-size", "8"]
    assert main([*command, "--out", str(tmp_path / "run")]) == 0


def test_a_folder_that_cannot_be_is_refused(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    told = refused(capsys, "vae", *QUICK, "--out", tmp_path / "file" / "run")
    assert f"cannot write {tmp_path / 'file' / 'run'}" in told and "choose another folder" in told


@pytest.mark.parametrize("room", [100, 60_000])
def test_a_full_disk_is_reported_and_leaves_no_half_files(room, tmp_path, capsys):
    """No file may grow beyond some bytes, which at first stops the first picture and then the checkpoint."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        told = refused(capsys, "vae", *QUICK, "--out", tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "cannot write" in told and str(tmp_path) in told
    assert all(path.stat().st_size < room for path in tmp_path.rglob("*") if path.is_file())
    assert not list(tmp_path.rglob(".*"))


def test_training_that_diverges_is_no_traceback(tmp_path, capsys, monkeypatch):
    usual = VAE._terms

    def diverging(self, x, eps):
        log_likelihood, kl = usual(self, x, eps)
        return log_likelihood * (np.nan if self.optimizer.steps.max() >= 1 else 1.0), kl

    monkeypatch.setattr(VAE, "_terms", diverging)
    assert main(["vae", *QUICK, "--out", str(tmp_path)]) == 1
    assert "error: training stopped at step 2" in capsys.readouterr().err
    assert json.loads((tmp_path / "config.json").read_text())["demo"] == "vae"
