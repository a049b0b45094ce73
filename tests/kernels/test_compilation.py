import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import kernels
from kernels import compilation
from tests.kernels.support import run_python

PACKAGE = Path(kernels.__file__).parent

CONVOLVE = """
import numpy as np
from kernels import convolution, reference, threads
x, w = np.ones((1, 6, 6, 3), np.float32), np.ones((3, 3, 3, 20), np.float32)
np.testing.assert_array_equal(convolution.conv2d(x, w), reference.conv2d(x, w))
stats = threads._launcher(convolution._correlate).stats
print(sum(stats.cache_hits.values()), sum(stats.cache_misses.values()))
"""

POOL = """
import numpy as np
from kernels import pooling, reference, threads
x = np.ones((1, 6, 6, 3), np.float32)
np.testing.assert_array_equal(pooling.sum_pool2d(x, (2, 3)), reference.sum_pool2d(x, (2, 3)))
stats = threads._launcher(pooling._sum_pool).stats
print(sum(stats.cache_hits.values()), sum(stats.cache_misses.values()))
"""


def cached(folder):
    """The files with machine code."""
    return sorted(folder.rglob("*.nbc"))


@pytest.fixture
def copy(tmp_path):
    """A folder with a copy of the package that has no cache yet."""
    shutil.copytree(PACKAGE, tmp_path / "kernels", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_second_process_finds_the_machine_code_until_any_file_changes(copy):
    first, second = run_python(CONVOLVE, copy), run_python(CONVOLVE, copy)
    assert (first.stdout.split(), second.stdout.split()) == (["0", "1"], ["1", "0"])
    assert first.stderr.count("compiling") == 1
    assert second.stderr == ""
    with open(copy / "kernels" / "microkernel.py", "a") as file:
        file.write("# changed\n")
    before = cached(copy)
    assert run_python(CONVOLVE, copy).stdout.split() == ["0", "1"]
    after = cached(copy)
    assert len(after) == len(before) and not set(after) & set(before)  # the old code is gone


@pytest.mark.parametrize("damage", ["empty", "short", "zeros"])
def test_damaged_files_are_made_again(copy, damage):
    run_python(POOL, copy)
    for path in cached(copy):
        content = path.read_bytes()
        middle = len(content) // 2
        path.write_bytes(
            {"empty": b"", "short": content[:-100], "zeros": content[:middle] + bytes(64) + content[middle + 64 :]}[
                damage
            ]
        )
    assert run_python(POOL, copy).stdout.split() == ["0", "1"]
    assert run_python(POOL, copy).stdout.split() == ["1", "0"]


def test_another_compiler_compiles_anew(copy):
    other = "import numba; numba.__version__ = '0.0.1'\n" + POOL
    assert [run_python(code, copy).stdout.split() for code in (POOL, other)] == 2 * [["0", "1"]]


def test_two_processes_may_compile_at_once(copy):
    """In different dtypes, too: neither finds the other's code, or loses its own."""
    codes = [POOL, POOL, POOL.replace("float32", "float64")]
    with ThreadPoolExecutor() as pool:
        results = [r.stdout.split() for r in pool.map(run_python, codes, [copy] * 3)]
    assert all(result in (["0", "1"], ["1", "0"]) for result in results)
    for code in codes:
        assert run_python(code, copy).stdout.split() == ["1", "0"]


def test_works_without_a_cache_and_on_a_narrower_processor(copy):
    # All folders that Numba would try are files; SSE2 and NEON have vectors of 16 bytes.
    (copy / "kernels" / "__pycache__").touch()
    nowhere = str(copy / "kernels" / "__pycache__" / "cache")
    places = dict.fromkeys(("NUMBA_CACHE_DIR", "HOME", "XDG_CACHE_HOME"), nowhere)
    code = CONVOLVE + "from kernels import microkernel\nprint(microkernel.panel_width(np.dtype('f')))"
    result = run_python(code, copy, PYTHONDONTWRITEBYTECODE="1", NUMBA_CPU_NAME="generic", **places)
    assert result.stdout.split() == ["0", "1", "8"]


def _function():
    pass


def test_a_cache_that_cannot_be_written_to_is_no_error(monkeypatch):
    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(compilation.FunctionCache, "save_overload", full_disk)
    compilation._PackageCache(_function).save_overload(None, None)
