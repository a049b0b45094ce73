import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import kernels
from kernels import affine, threads
from kernels.compilation import jit
from tests.kernels.support import normal


@jit()
def _count(worker, workers, counts, calls):
    """Count how often each task and each share is done."""
    first, end = threads.share(worker, workers, counts.size)
    for task in range(first, end):
        counts[task] += 1
    calls[worker] += 1


@jit()
def _fail(worker, workers, failing, done):
    done[worker] = 1
    if worker == failing:
        raise MemoryError("no room")


@pytest.fixture(params=[1, 2, 5])
def workers(request, monkeypatch):
    monkeypatch.setattr(threads, "_num_threads", request.param)
    return request.param


@pytest.mark.parametrize("size", [0, 1, 4, 13])
def test_every_task_is_done_once(workers, size):
    for repeat in range(1, 300):  # workers come late, or leave, at different moments
        counts, calls = np.zeros(size), np.zeros(workers)
        threads.run(_count, 1e12, counts, calls)
        np.testing.assert_array_equal(counts, 1)
        np.testing.assert_array_equal(calls, 1, err_msg=f"repetition {repeat}")


def test_workers_that_fell_asleep_are_woken(monkeypatch):
    monkeypatch.setattr(threads, "_num_threads", 2)
    kernel_done = np.zeros(2)
    threads.run(_count, 1e12, np.zeros(2), kernel_done)
    deadline = time.monotonic() + 60
    while len(threads._asleep) < len(threads._workers):
        assert time.monotonic() < deadline, "the workers never go to sleep"
        time.sleep(1e-3)
    threads.run(_count, 1e12, np.zeros(2), kernel_done)
    assert not threads._asleep or len(threads._asleep) <= len(threads._workers)
    np.testing.assert_array_equal(kernel_done, 2)


@pytest.mark.parametrize("failing", range(5))
def test_an_error_in_any_share_reaches_the_caller(workers, failing):
    done = np.zeros(workers)
    if failing < workers:
        with pytest.raises(MemoryError, match="_fail: no memory"):
            threads.run(_fail, 1e12, failing, done)
    else:
        threads.run(_fail, 1e12, failing, done)
    np.testing.assert_array_equal(done, 1)  # all shares have ended
    calls = np.zeros(workers)
    threads.run(_count, 1e12, np.zeros(3), calls)  # and the workers go on
    np.testing.assert_array_equal(calls, 1)


def test_small_work_stays_on_the_calling_thread(monkeypatch):
    monkeypatch.setattr(threads, "_num_threads", 2)
    calls = np.zeros(2)
    threads.run(_count, 100.0, np.zeros(3), calls)
    assert calls.tolist() == [1, 0]


def test_several_python_threads_may_call_at_once(monkeypatch):
    monkeypatch.setattr(threads, "GRAIN", 1e-3)
    monkeypatch.setattr(threads, "_num_threads", 3)
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


def test_works_after_a_fork():
    if not hasattr(os, "fork"):
        return
    code = """
import os, numpy as np
from kernels import affine, threads
threads.set_num_threads(2)
threads.GRAIN = 1e-3
x, w = np.ones((64, 32), np.float32), np.ones((32, 64), np.float32)
before = affine.linear(x, w)[0]
threads._job[threads.BUSY] = 1  # as if another Python thread were in the middle of a kernel
child = os.fork()
if child == 0:
    free = threads._job[threads.BUSY] == 0 and not threads._workers
    os._exit(0 if free and np.array_equal(affine.linear(x, w)[0], before) and threads._workers else 1)
threads._job[threads.BUSY] = 0
assert np.array_equal(affine.linear(x, w)[0], before) and os.waitpid(child, 0)[1] == 0
"""
    folder = Path(kernels.__file__).parent.parent
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], cwd=folder, capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stderr


def test_number_of_threads_is_checked():
    with pytest.raises(ValueError, match="n=0 must be at least 1"):
        threads.set_num_threads(0)
