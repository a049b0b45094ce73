"""Training works after a fork, in several Python threads at once, and on one core; and has the same bits there."""

import os
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from kernels import threads
from tests.kernels.support import run_python
from tinygen.models import DDPM, GAN, VAE, realnvp

STEPS = 6
MODELS: dict[str, tuple[Callable[[np.random.Generator], Any], tuple[int, ...]]] = {
    "ddpm": (DDPM.mlp, (2,)),
    "flow": (lambda rng: realnvp((2,), rng), (2,)),
    "gan": (lambda rng: GAN.conv((8, 8, 1), rng), (8, 8, 1)),
    "vae": (lambda rng: VAE.conv((8, 8, 1), 3, rng), (8, 8, 1)),
}

TRAIN = """
import numpy as np
from tinygen.models import GAN

rng = np.random.default_rng(0)
model, batch = GAN.conv((8, 8, 1), rng), rng.random((32, 8, 8, 1), dtype=np.float32)

def train(steps):
    return [model.train_step(batch, rng) for _ in range(steps)]
"""


@pytest.fixture
def shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even small work is divided, so that all callers want the workers."""
    for grain in ("GRAIN", "SERIES_GRAIN"):
        monkeypatch.setattr(threads, grain, 1e-3)
    monkeypatch.setattr(threads, "_num_threads", 3)


def made(name: str) -> tuple[Any, np.ndarray]:
    make, shape = MODELS[name]
    rng = np.random.default_rng(1)
    return make(rng), rng.random((32, *shape), dtype=np.float32)


def train(model: Any, batch: np.ndarray, steps: int) -> None:
    rng = np.random.default_rng(2)
    for _ in range(steps):
        model.train_step(batch, rng)


def at_once(*calls: Callable[[], None]) -> None:
    callers = [threading.Thread(target=call, daemon=True) for call in calls]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(60)
        assert not caller.is_alive()


def bits(model: Any) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in model.state_dict().items()}


@pytest.mark.usefixtures("shared_out")
def test_models_may_be_trained_at_once() -> None:
    expected = {}
    for name in MODELS:
        model, batch = made(name)
        train(model, batch, STEPS)
        expected[name] = bits(model)
    pairs = {name: made(name) for name in MODELS}
    at_once(*(lambda m=model, b=batch: train(m, b, STEPS) for model, batch in pairs.values()))
    for name, (model, _) in pairs.items():
        assert bits(model) == expected[name], name


@pytest.mark.usefixtures("shared_out")
def test_threads_may_train_one_model() -> None:
    """Its steps follow one another: those of this flow draw nothing, so it does not matter who takes which."""
    model, batch = made("flow")
    train(model, batch, 2 * STEPS)
    expected = bits(model)
    model, batch = made("flow")
    at_once(*2 * [lambda: train(model, batch, STEPS)])
    assert bits(model) == expected


def test_training_goes_on_after_a_fork() -> None:
    if not hasattr(os, "fork"):
        pytest.skip("this system does not fork")
    code = """
import os
from kernels import threads
threads.GRAIN = threads.SERIES_GRAIN = 1e-3
threads._num_threads = 3
train(3)
read, write = os.pipe()
child = os.fork()
if child == 0:
    os.write(write, repr(train(3)).encode())
    os._exit(0)
own = repr(train(3)).encode()
os.close(write)
assert os.read(read, 10**5) == own, "child and parent differ"
assert os.waitpid(child, 0)[1] == 0
"""
    run_python(TRAIN + code, PYTHONWARNINGS="ignore")


def test_one_core_gives_the_same_bits() -> None:
    one, two = (run_python(TRAIN + "print(train(4))", NUMBA_NUM_THREADS=n).stdout for n in "12")
    assert one == two and one.count("g_loss") == 4
