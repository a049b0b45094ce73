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
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
OURS = ("kernels", "tinygen", "demos", "benchmarks", "tests")

# Lowest first: a layer imports those before it, and its peers on the same line.
LAYERS = [
    ["tinygen.errors"],
    ["tinygen.files"],
    ["kernels"],  # which moreover imports none of those above
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


class Import(NamedTuple):
    name: str  # dotted, to the last part
    in_function: bool
    for_types: bool  # under `if TYPE_CHECKING:`


def imports(path: str, tree: ast.AST, *, in_function: bool = False, for_types: bool = False) -> Iterator[Import]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, in_function, for_types)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = path.split("/")[: -node.level]
                base = ".".join([*package, base] if base else package)
            for alias in node.names:
                yield Import(f"{base}.{alias.name}", in_function, for_types)
        else:
            yield from imports(
                path,
                node,
                in_function=in_function or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef),
                for_types=for_types or (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"),
            )


def violations(sources: Mapping[str, str], third_party: frozenset[str]) -> list[str]:
    """All in `sources` (text by path) that breaks the order; what is installed may import `third_party` besides."""
    modules = {module_name(path) for path in sources}
    graph: dict[str, set[str]] = {module: set() for module in modules}
    found = []
    for path, text in sources.items():
        source = module_name(path)
        layer = layer_of(source)
        installed = layer.startswith(("kernels", "tinygen")) and layer != "tinygen.testing"
        if layer not in RANK and layer not in ("tinygen", "tinygen.testing"):
            found.append(f"{path}: {layer} has no place in the order")
            continue
        for name, in_function, for_types in imports(path, ast.parse(text, path)):
            top = name.split(".")[0]
            if top not in OURS:
                if installed and top not in sys.stdlib_module_names and top not in third_party:
                    found.append(f"{path}: imports {top}, which setup.cfg does not require at run time")
                continue
            target = name if name in modules else name.rpartition(".")[0]  # a module, or a name out of one
            if target not in modules:
                found.append(f"{path}: imports {name}, which does not exist")
                continue
            if target != source and not for_types:
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
    if layer == "kernels":
        return target == "kernels"
    if layer == "tinygen":  # it gathers the public names; that nothing it gathers imports it back, the cycles show
        return target.startswith(("kernels", "tinygen")) and target != "tinygen.testing"
    return target == "tinygen" or (target in RANK and RANK[target] <= RANK[layer])


def run_time_requirements() -> frozenset[str]:
    config = ConfigParser(interpolation=None)
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    declared = {line.split(">")[0] for line in config["options"]["install_requires"].split()}
    return frozenset(declared | {"llvmlite"})  # the half of numba that emits machine code; numba pins its version


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
    "tinygen/optim/__init__.py": "import typing\nif TYPE_CHECKING:\n    from tinygen.nn import Module",
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
