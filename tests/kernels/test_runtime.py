import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import kernels
from kernels import affine, microkernel, runtime
from tests.kernels.support import normal

PACKAGE = Path(kernels.__file__).parent

CONVOLVE = """
import numpy as np
from kernels import convolution, reference
x, w = np.ones((1, 6, 6, 3), np.float32), np.ones((3, 3, 3, 20), np.float32)
np.testing.assert_array_equal(convolution.conv2d(x, w), reference.conv2d(x, w))
stats = convolution._correlate.stats
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


def test_a_cache_that_cannot_be_written_to_is_no_error(monkeypatch):
    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(runtime.FunctionCache, "save_overload", full_disk)
    runtime._PackageCache(_add_share).save_overload(None, None)


def test_works_after_a_fork():
    if not hasattr(os, "fork"):
        return
    code = """
import os, numpy as np
from kernels import affine, runtime
runtime.set_num_threads(2)
runtime.HANDOVER = 1e-3
x, w = np.ones((64, 32), np.float32), np.ones((32, 64), np.float32)
before = affine.linear(x, w)[0]
child = os.fork()
same = np.array_equal(affine.linear(x, w)[0], before)
if child == 0:
    os._exit(0 if same else 1)
assert same and os.waitpid(child, 0)[1] == 0
"""
    _python(code, PACKAGE.parent, PYTHONWARNINGS="ignore")


def test_several_python_threads_may_call_at_once(monkeypatch):
    monkeypatch.setattr(runtime, "HANDOVER", 1e-3)
    monkeypatch.setattr(runtime, "_num_threads", 3)
    rng = np.random.default_rng(0)
    x, w = normal(rng, (60, 32), np.float32), normal(rng, (32, 48), np.float32)
    expected = affine.linear(x, w)[0]
    results = []

    def work():
        for _ in range(100):
            results.append(np.array_equal(affine.linear(x, w)[0], expected))

    callers = [threading.Thread(target=work) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(60)
    assert len(results) == 400 and all(results)


def _add_share(worker, workers, counts):
    first, end = runtime.share.py_func(worker, workers, counts.size)
    counts[first:end] += 1


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("size", [0, 1, 4, 13])
def test_every_task_is_done_once(threads, size, monkeypatch):
    monkeypatch.setattr(runtime, "_num_threads", threads)
    counts = np.zeros(size)
    runtime.run(_add_share, 1e12, counts)
    np.testing.assert_array_equal(counts, 1)


@pytest.mark.parametrize("failing", [0, 1])
def test_an_error_in_any_worker_reaches_the_caller(failing, monkeypatch):
    monkeypatch.setattr(runtime, "_num_threads", 2)

    def kernel(worker, workers):
        if worker == failing:
            raise MemoryError("no room")

    with pytest.raises(MemoryError, match="no room"):
        runtime.run(kernel, 1e12)
    runtime.run(_add_share, 1e12, np.zeros(3))  # and the workers go on


def test_small_work_stays_on_the_calling_thread(monkeypatch):
    monkeypatch.setattr(runtime, "_num_threads", 2)
    seen = []
    runtime.run(lambda worker, workers: seen.append((workers, threading.get_ident())), 100.0)
    assert seen == [(1, threading.get_ident())]


def test_number_of_threads_is_checked():
    with pytest.raises(ValueError, match="n=0 must be at least 1"):
        runtime.set_num_threads(0)


def test_plain_arrays_are_taken_as_they_are_and_others_copied():
    array = np.ones((2, 3), np.float32)
    assert runtime.check("f", "x", array, "M,N", array.dtype) is array
    read_only = array.view()
    read_only.flags.writeable = False
    unaligned = np.frombuffer(b"\0" + array.tobytes(), np.uint8)[1:].view(np.float32).reshape(2, 3)
    for other in (array.T, np.ma.array(array), read_only, unaligned):
        plain = runtime.check("f", "x", other, "M,N")
        assert type(plain) is np.ndarray and plain.flags.carray and not np.shares_memory(plain, array)
        np.testing.assert_array_equal(plain, other)


@pytest.mark.parametrize(
    ("features", "registers"),
    [
        ("+avx512f,+avx2,+avx", (32, 64)),
        ("-avx512f,+avx2,+avx", (16, 32)),
        ("-avx512f,-avx,+sse2", (16, 16)),
        ("", (16, 16)),
    ],
)
def test_vectors_follow_the_processor(features, registers, monkeypatch):
    codegen = microkernel.cpu_target.target_context.codegen()
    monkeypatch.setattr(type(codegen), "magic_tuple", lambda self: ("x86_64-unknown-linux", "some", features))
    assert microkernel._registers.__wrapped__() == registers
