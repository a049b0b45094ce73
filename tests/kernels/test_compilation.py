import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import kernels
from kernels import compilation

PACKAGE = Path(kernels.__file__).parent

CONVOLVE = """
import numpy as np
from kernels import convolution, reference, threads
x, w = np.ones((1, 6, 6, 3), np.float32), np.ones((3, 3, 3, 20), np.float32)
np.testing.assert_array_equal(convolution.conv2d(x, w), reference.conv2d(x, w))
stats = threads._launcher(convolution._correlate).stats
print(sum(stats.cache_hits.values()), sum(stats.cache_misses.values()))
"""


def _python(code: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run code in a new process that imports the package from ``folder``."""
    variables = {k: v for k, v in os.environ.items() if not k.startswith(("NUMBA_", "PYTHON"))} | environment
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=variables, capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stderr
    return result


@pytest.fixture
def copy(tmp_path):
    """A folder with a copy of the package that has no cache yet."""
    shutil.copytree(PACKAGE, tmp_path / "kernels", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_second_process_finds_the_machine_code_until_any_file_changes(copy):
    first, second = _python(CONVOLVE, copy), _python(CONVOLVE, copy)
    assert (first.stdout.split(), second.stdout.split()) == (["0", "1"], ["1", "0"])
    assert first.stderr.count("compiling") == 1
    assert second.stderr == ""
    with open(copy / "kernels" / "microkernel.py", "a") as file:
        file.write("# changed\n")
    assert _python(CONVOLVE, copy).stdout.split() == ["0", "1"]


def test_works_without_a_cache_and_on_a_narrower_processor(copy):
    # All folders that Numba would try are files; SSE2 and NEON have vectors of 16 bytes.
    (copy / "kernels" / "__pycache__").touch()
    nowhere = str(copy / "kernels" / "__pycache__" / "cache")
    places = dict.fromkeys(("NUMBA_CACHE_DIR", "HOME", "XDG_CACHE_HOME"), nowhere)
    code = CONVOLVE + "from kernels import microkernel\nprint(microkernel.panel_width(np.dtype('f')))"
    result = _python(code, copy, PYTHONDONTWRITEBYTECODE="1", NUMBA_CPU_NAME="generic", **places)
    assert result.stdout.split() == ["0", "1", "8"]


def _function():
    pass


def test_a_cache_that_cannot_be_written_to_is_no_error(monkeypatch):
    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(compilation.FunctionCache, "save_overload", full_disk)
    compilation._PackageCache(_function).save_overload(None, None)
