import pytest

from kernels import microkernel
from tests.kernels.support import run_python

WIDE = """
from numba.core.registry import cpu_target
codegen = cpu_target.target_context.codegen()
triple, name, features = codegen.magic_tuple()
type(codegen).magic_tuple = lambda self: (triple, name, features + ",+avx512f")  # the compiler divides the vectors
"""

COMPARE = """
import numpy as np
from kernels import microkernel
from tests.kernels.support import check
rng = np.random.default_rng(0)
for dtype in (np.float32, np.float64):
    for m, k, n in ((50, 40, 70), (7, 300, 33)):
        check("linear", (m, k, n, "identity", 0.0, True), dtype, rng)
        check("linear_grad", (m, k, n, "identity", 0.0, (True, True, True)), dtype, rng)
    for n, c_in, c_out, width, stride in ((3, 5, 40, 2, 1), (3, 37, 3, 2, 1), (3, 37, 40, 2, 2), (7, 19, 40, 3, 1)):
        settings = n, (9, 8), c_in, c_out, (3, width), (stride, stride), ((1, 1), (1, 0)), (1, 1)
        for name in ("conv2d", "conv2d_input_grad", "conv2d_weight_grad"):
            check(name, settings, dtype, rng)
print(microkernel.ROWS, microkernel.panel_width(np.dtype("f")))
"""


@pytest.mark.parametrize(
    ("before", "environment", "tile"),
    [("", {"NUMBA_CPU_NAME": "generic"}, ["6", "8"]), (WIDE, {}, ["8", "32"])],
    ids=["narrow", "wide"],
)
def test_products_on_other_vectors(before, environment, tile, tmp_path):
    assert run_python(before + COMPARE, NUMBA_CACHE_DIR=str(tmp_path), **environment).stdout.split() == tile


@pytest.mark.parametrize(
    ("features", "registers"),
    [
        ("+avx512f,+avx2,+avx", (32, 64)),
        ("-avx512f,+avx2,+avx", (16, 32)),
        ("-avx512f,-avx,+sse2", (16, 16)),
        ("", (16, 16)),
        ("aarch64", (32, 16)),
    ],
)
def test_vectors_follow_the_processor(features, registers, monkeypatch):
    codegen = microkernel.cpu_target.target_context.codegen()
    machine = ("aarch64-linux", "some", "+neon") if features == "aarch64" else ("x86_64-linux", "some", features)
    monkeypatch.setattr(type(codegen), "magic_tuple", lambda self: machine)
    assert microkernel._registers.__wrapped__() == registers
