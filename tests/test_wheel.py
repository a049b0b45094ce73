"""What is installed works by itself: the wheel holds the code and the data, and nothing else of the checkout."""

import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parent.parent


def pip(*arguments: object) -> None:
    subprocess.run([sys.executable, "-m", "pip", "--quiet", *map(str, arguments)], check=True)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build from a copy, since setuptools leaves files in the tree that the next build would take up."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    ignore = shutil.ignore_patterns(".*", "__pycache__", "build", "*.egg-info", "out", "runs")
    shutil.copytree(ROOT, source, ignore=ignore, dirs_exist_ok=True)
    pip("wheel", source, "--no-deps", "--no-build-isolation", "--wheel-dir", out)
    (built,) = out.iterdir()
    return built


def test_wheel_holds_the_packages_and_nothing_else(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        licences = {Path(name).name for name in archive.namelist() if ".dist-info/" in name}
    expected = {
        path.relative_to(ROOT).as_posix()
        for package in ("kernels", "tinygen")
        for pattern in ("*.py", "py.typed", "data/digits.npz", "data/DIGITS.md")
        for path in (ROOT / package).rglob(pattern)
    }
    assert names == expected
    assert {"LICENSE", "METADATA"} <= licences


def test_installed_wheel_loads_the_digits(wheel: Path, tmp_path: Path) -> None:
    pip("install", "--no-deps", "--target", tmp_path, wheel)
    program = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
import kernels, tinygen
from tinygen.data import load
assert all(module.__file__.startswith({str(tmp_path)!r}) for module in (kernels, tinygen)), tinygen.__file__
print(load("digits").x.shape, load("digits", split="test", size=7).x.shape)
"""
    # -I: neither the working directory nor PYTHONPATH may lend it the checkout
    run = subprocess.run([sys.executable, "-I", "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert (run.returncode, run.stdout) == (0, "(4000, 28, 28, 1) (1000, 7, 7, 1)\n"), run.stderr
