import os
import threading
import time

import numpy as np
import pytest

from kernels import affine, atomic, threads
from kernels.compilation import jit
from tests.kernels.support import normal, run_python


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


@jit()
def _meet(worker, workers, met, turns):
    """Every share waits for the others, so one thread cannot do them one after another."""
    atomic.add(met, 0, 1)
    while atomic.load(met, 0) < workers and turns > 0:
        turns -= 1
        atomic.pause()
    met[1 + worker] = atomic.load(met, 0)


def _all_meet(workers):
    """Whether they ever do: a worker that falls asleep at the wrong moment misses a job, which its caller then does."""
    for _ in range(100):
        met = np.zeros(1 + workers, np.int64)
        threads.run(_meet, 1e12, met, 10**7)
        if met[1:].tolist() == [workers] * workers:
            return True
    return False


def test_shares_run_at_once_also_after_an_error_and_after_sleep(monkeypatch):
    monkeypatch.setattr(threads, "_num_threads", 2)
    threads.run(_meet, 1.0, np.zeros(2, np.int64), 1)  # compiles, while the worker would fall asleep again
    assert _all_meet(2)
    with pytest.raises(MemoryError):
        threads.run(_fail, 1e12, 1, np.zeros(2))
    assert _all_meet(2)
    deadline = time.monotonic() + 60
    while not threads._workers[0].sleeps:
        assert time.monotonic() < deadline, "the worker never goes to sleep"
        time.sleep(1e-3)
    assert _all_meet(2)


def test_a_second_caller_does_not_wait_for_the_workers(monkeypatch):
    monkeypatch.setattr(threads, "_num_threads", 2)
    calls = np.zeros(2)
    threads._job[threads.BUSY] = 1
    try:
        threads.run(_count, 1e12, np.zeros(3), calls)
    finally:
        threads._job[threads.BUSY] = 0
    assert calls.tolist() == [1, 0]


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


def test_a_series_does_all_calls_in_order_and_names_the_one_that_failed(workers):
    counts, calls, done = np.zeros(7), np.zeros(workers), np.zeros(workers)
    series = threads.Series([(_count, 1e12, counts, calls), (_count, 100.0, counts, calls)])
    for repeat in range(1, 300):
        series()
        np.testing.assert_array_equal(counts, 2 * repeat)
        np.testing.assert_array_equal(calls, repeat + repeat * (np.arange(workers) == 0))
    failing = threads.Series([(_fail, 1e12, 0, done), (_count, 1e12, counts, calls)])
    with pytest.raises(MemoryError, match="_fail: no memory"):
        failing()
    np.testing.assert_array_equal(done, 1)
    np.testing.assert_array_equal(counts, 2 * repeat)  # what follows was not done


def test_a_series_follows_the_number_of_threads(monkeypatch):
    calls = np.zeros(3)
    series = threads.Series([(_count, 1e12, np.zeros(3), calls)])
    for number in (3, 1, 2):
        monkeypatch.setattr(threads, "_num_threads", number)
        calls[:] = 0
        series()
        np.testing.assert_array_equal(calls, np.arange(3) < number)


def test_small_work_stays_on_the_calling_thread(monkeypatch):
    monkeypatch.setattr(threads, "_num_threads", 2)
    calls = np.zeros(2)
    threads.run(_count, 100.0, np.zeros(3), calls)
    assert calls.tolist() == [1, 0]


def test_several_python_threads_may_call_at_once(monkeypatch):
    monkeypatch.setattr(threads, "GRAIN", 1e-3)
    monkeypatch.setattr(threads, "_num_threads", 3)
    rng = np.random.default_rng(0)
    x, w = normal(rng, np.float32, 60, 32), normal(rng, np.float32, 32, 48)
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
        pytest.skip("this system does not fork")
    code = """
import os, numpy as np
from kernels import affine, atomic, threads
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
    run_python(code, PYTHONWARNINGS="ignore")


def test_number_of_threads_is_checked():
    with pytest.raises(ValueError, match="n=0 must be at least 1"):
        threads.set_num_threads(0)
