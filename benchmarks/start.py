"""Starting: an import, and all from the start of a process to the end of its first training step.

Each measurement is a new process. A "cold" step finds no compiled code, a "warm" one that of an earlier process, in
folders of their own. The peers get their initial weights from tinygen; the time that this takes them, and the import of
NumPy with it, does not count.

``python -m benchmarks.start IMPLEMENTATION STEP BEGIN`` is the process of a step. BEGIN is what `time.time` said then.
"""

import importlib.util
import os
import subprocess
import sys
import time
from functools import partial
from tempfile import TemporaryDirectory

from benchmarks.caches import caches
from benchmarks.workload import Call, Workload

# The steps' own files are imported where their time counts.
STEPS = ("ddpm2d", "realnvp2d", "vae784", "gan28", "unet28", "wavenet")
VARIANTS: dict[str, dict[str, bool]] = {"tinygen": {}, "torch": {}, "torch-compile": {"compiled": True}, "jax": {}}


def workloads() -> list[Workload]:
    """All of them."""
    imports = {name: partial(_prepare_import, name) for name in ("tinygen", "torch", "jax")}
    steps = [_step(step, warm) for step in STEPS for warm in (False, True)]
    return [Workload("import", 0.0, imports, process=True), *steps]


def _step(step: str, warm: bool) -> Workload:
    prepare = {name: partial(_prepare_step, name, step, warm) for name in VARIANTS}
    name = f"first step of {step}, {'warm' if warm else 'cold'}"
    return Workload(name, 0.0, prepare, process=True, turns=None if warm else 2)


def _prepare_import(library: str) -> Call:
    _require(library)
    code = f"import time; begin = time.time(); import {library}; print(1e3 * (time.time() - begin))"
    return lambda: _run(["-c", code], {})


def _prepare_step(implementation: str, step: str, warm: bool) -> Call:
    _require(_library(implementation))
    return partial(_warm_step if warm else _cold_step, implementation, step)


def _library(implementation: str) -> str:
    return implementation.split("-")[0]


def _require(library: str) -> None:
    if importlib.util.find_spec(library) is None:
        raise ImportError(f"No module named {library!r}")


_folders: dict[tuple[str, str], TemporaryDirectory[str]] = {}
"""What the last cold process compiled, for each implementation and step; removed when this process ends."""


def _cold_step(implementation: str, step: str) -> float:
    _folders[implementation, step] = TemporaryDirectory()
    return _warm_step(implementation, step)


def _warm_step(implementation: str, step: str) -> float:
    if (implementation, step) not in _folders:
        _cold_step(implementation, step)
    folder = _folders[implementation, step].name
    arguments = ["-m", "benchmarks.start", implementation, step, str(time.time())]
    return _run(arguments, caches(folder) | {"NUMBA_CACHE_DIR": folder})


def _run(arguments: list[str], environment: dict[str, str]) -> float:
    """The milliseconds that a process prints at last."""
    process = subprocess.run(
        [sys.executable, *arguments], env=os.environ | environment, capture_output=True, text=True, check=False
    )
    if process.returncode:
        raise RuntimeError(f"{' '.join(arguments)} failed:\n{process.stderr}")
    return float(process.stdout.split()[-1])


def main(implementation: str, step: str, begin: str) -> None:
    """Take a first step, and print how long it took since ``begin``."""
    start = float(begin)
    if implementation != "tinygen":
        paused = time.time()
        importlib.import_module("benchmarks.steps.of_tinygen").state(step)
        start += time.time() - paused
    batch = importlib.import_module("benchmarks.steps").PROBLEMS[step].batch
    module = importlib.import_module(f"benchmarks.steps.of_{_library(implementation)}")
    module.prepare(step, batch, **VARIANTS[implementation])()
    print(1e3 * (time.time() - start), flush=True)
    os._exit(0)  # what follows is no part of a step


if __name__ == "__main__":
    main(*sys.argv[1:])
