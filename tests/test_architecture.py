"""The house stands as it was drawn: imports run one way, and only declared dependencies are used.

The order is the one of CONTRIBUTING.md. Imports are read with `ast`, so a module need not work to be judged, and an
import that is hidden inside a function is seen too.
"""

import ast
import sys
from collections.abc import Iterator, Mapping
from configparser import ConfigParser
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
OURS = ("kernels", "tinygen", "demos", "benchmarks", "tests")

# Lowest first: a layer imports those before it, and its peers on the same line.
LAYERS = [
    ["kernels"],
    ["tinygen.autograd"],
    ["tinygen.ops"],
    ["tinygen.func", "tinygen.data", "tinygen.nn", "tinygen.optim", "tinygen.distributions", "tinygen.bijections"],
    ["tinygen.models"],
    ["tinygen.metrics", "tinygen.viz"],
    ["tinygen.training"],
    ["demos", "benchmarks"],
]
RANK = {layer: rank for rank, peers in enumerate(LAYERS) for layer in peers}


def layer_of(module: str) -> str:
    """`tinygen.nn` for `tinygen.nn.linear`, `kernels` for `kernels.reference`, `tinygen` for the package itself."""
    parts = module.split(".")
    return ".".join(parts[:2]) if parts[0] == "tinygen" else parts[0]


def module_name(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def imported_names(path: str, tree: ast.AST) -> Iterator[tuple[str, bool]]:
    """Yield each imported dotted name with whether the import stands inside a function."""
    inside = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, id(node) in inside
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = path.split("/")[: -node.level]
                base = ".".join([*package, base] if base else package)
            for alias in node.names:
                yield f"{base}.{alias.name}", id(node) in inside


def violations(sources: Mapping[str, str], third_party: frozenset[str]) -> list[str]:
    """All in `sources` (text by path) that breaks the order; what is installed may import `third_party` besides."""
    modules = {module_name(path) for path in sources}
    graph: dict[str, set[str]] = {module: set() for module in modules}
    found = []
    for path, text in sources.items():
        source = module_name(path)
        layer = layer_of(source)
        installed = layer.startswith(("kernels", "tinygen")) and layer != "tinygen.testing"
        if layer not in RANK and layer not in ("tinygen", "tinygen.errors", "tinygen.testing"):
            found.append(f"{path}: {layer} has no place in the order")
            continue
        for name, in_function in imported_names(path, ast.parse(text, path)):
            top = name.split(".")[0]
            if top not in OURS:
                if installed and top not in sys.stdlib_module_names and top not in third_party:
                    found.append(f"{path}: imports {top}, which setup.cfg does not require at run time")
                continue
            target = name if name in modules else name.rpartition(".")[0]  # a module, or a name out of one
            if target not in modules:
                found.append(f"{path}: imports {name}, which does not exist")
                continue
            if target != source:
                graph[source].add(target)
            if in_function:
                found.append(f"{path}: imports {target} inside a function")
            if not may_import(layer, layer_of(target)):
                found.append(f"{path}: {layer} imports {layer_of(target)}, against the order")
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        found.append("cycle: " + " → ".join(reversed(error.args[1])))
    return found


def may_import(layer: str, target: str) -> bool:
    if layer == "tinygen.testing":
        return True
    if target in ("tinygen.testing", "tests"):
        return layer == target
    if target == "tinygen.errors":
        return layer != "kernels"
    if layer == "tinygen":  # the package gathers public names; that nothing it gathers imports it back, the cycles show
        return target not in ("demos", "benchmarks")
    if layer == "tinygen.errors":
        return False
    if target == "tinygen":
        return layer != "kernels"
    return RANK[target] <= RANK[layer]


def run_time_requirements() -> frozenset[str]:
    config = ConfigParser(interpolation=None)
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    return frozenset(line.split(">")[0] for line in config["options"]["install_requires"].split())


def test_the_project_keeps_its_order() -> None:
    sources = {
        path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
        for top in OURS
        if top != "tests"
        for path in (ROOT / top).rglob("*.py")
    }
    assert {"kernels/__init__.py", "tinygen/errors.py"} <= set(sources)
    assert violations(sources, run_time_requirements()) == []


SOUND = {
    "kernels/__init__.py": "",
    "kernels/matmul.py": "import numpy as np\nfrom kernels import tile",
    "kernels/tile.py": "import math",
    "tinygen/__init__.py": "import kernels\nfrom tinygen.autograd import Tensor\nfrom tinygen.ops import exp",
    "tinygen/errors.py": "",
    "tinygen/autograd/__init__.py": "from .tensor import Tensor",
    "tinygen/autograd/tensor.py": "import kernels.matmul\nfrom ..errors import ShapeError",
    "tinygen/ops/__init__.py": "from tinygen.autograd import Tensor",
    "tinygen/nn/__init__.py": "from tinygen import ops\nfrom tinygen.optim import Adam",
    "tinygen/optim/__init__.py": "",
    "tinygen/models/gan.py": "import tinygen as tg\nfrom tinygen import nn",
    "tinygen/training/__init__.py": "def fit():\n    import matplotlib.pyplot as plt",
    "tinygen/testing/__init__.py": "import hypothesis\nfrom tinygen.training import fit",
    "demos/gallery.py": "import PIL\nfrom tinygen.models import gan",
}

FAULTS = {
    "upwards": ("tinygen/ops/__init__.py", "from tinygen import nn", "against the order"),
    "upwards, relative": ("tinygen/autograd/tensor.py", "from ..ops import exp", "against the order"),
    "upwards, for types": (
        "tinygen/optim/__init__.py",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from tinygen.models.gan import GAN",
        "against the order",
    ),
    "models know training": ("tinygen/models/gan.py", "import tinygen.training", "against the order"),
    "kernels know errors": ("kernels/tile.py", "from tinygen.errors import ShapeError", "against the order"),
    "errors know tensors": ("tinygen/errors.py", "import tinygen.autograd", "against the order"),
    "testing is used": ("demos/gallery.py", "from tinygen.testing import check_vjp", "against the order"),
    "testing is published": ("tinygen/__init__.py", "from tinygen import testing", "against the order"),
    "a demo is used": ("tinygen/training/__init__.py", "import demos.gallery", "against the order"),
    "inside a function": (
        "tinygen/training/__init__.py",
        "def fit():\n    from tinygen import nn",
        "inside a function",
    ),
    "inside a method": (
        "tinygen/nn/__init__.py",
        "class A:\n    async def f(self):\n        if self:\n            import tinygen.ops",
        "inside a function",
    ),
    "cycle of files": ("kernels/tile.py", "from kernels.matmul import matmul", "cycle: "),
    "cycle of a package with its file": ("tinygen/autograd/tensor.py", "from tinygen.autograd import grad", "cycle: "),
    "cycle through peers": ("tinygen/optim/__init__.py", "from tinygen.nn import Module", "cycle: "),
    "cycle through the package": ("tinygen/ops/__init__.py", "import tinygen", "cycle: "),
    "a new room": ("tinygen/utils/__init__.py", "", "no place in the order"),
    "a new room, used": ("tinygen/nn/__init__.py", "from tinygen.utils import flatten", "does not exist"),
    "undeclared dependency": ("tinygen/nn/__init__.py", "import scipy.special", "does not require"),
    "a test's dependency": ("kernels/tile.py", "from hypothesis import given", "does not require"),
}


def test_sound_sources_pass() -> None:
    assert violations(SOUND, frozenset({"numpy", "matplotlib"})) == []


@pytest.mark.parametrize(("path", "text", "complaint"), FAULTS.values(), ids=FAULTS)
def test_each_fault_is_seen(path: str, text: str, complaint: str) -> None:
    found = violations({**SOUND, path: text}, frozenset({"numpy", "matplotlib"}))
    assert any(complaint in line for line in found), found
