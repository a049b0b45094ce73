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
from kernels import affine, convolution, microkernel, reference, weight_gradient
rng = np.random.default_rng(0)
PADDING = ((1, 1), (1, 0))
for dtype in (np.float32, np.float64):
    def compare(compiled, kernel, *arrays, rest=()):
        wide = [a.astype(np.float64) for a in arrays]
        found, expected, magnitude = (f(*a, *rest) for f, a in (
            (compiled, arrays), (kernel, wide), (kernel, [abs(a) for a in wide])))
        if not isinstance(found, tuple):
            found, expected, magnitude = (found,), (expected,), (magnitude,)
        for f, e, m in zip(found, expected, magnitude):
            assert f.dtype == dtype and np.all(abs(f - e) <= 2000 * np.finfo(dtype).eps * m)  # sums of at most 1000
    normal = lambda *shape: rng.standard_normal(shape).astype(dtype)
    for m, k, n in ((50, 40, 70), (7, 300, 33)):
        x, w, b, g = normal(m, k), normal(k, n), normal(n), normal(m, n)
        compare(affine.linear, reference.linear, x, w, b)
        compare(affine.linear_grad, reference.linear_grad, g, x, w, g)
    for c_in, c_out, stride in ((5, 40, 1), (37, 3, 1), (37, 40, 2)):
        x, w = normal(3, 9, 8, c_in), normal(3, 2, c_in, c_out)
        geometry = ((stride, stride), PADDING, (1, 1))
        g = normal(*reference.conv2d(x, w, None, *geometry).shape)
        compare(convolution.conv2d, reference.conv2d, x, w, rest=(None, *geometry))
        compare(convolution.conv2d_input_grad, reference.conv2d_input_grad, g, w, rest=((9, 8), *geometry))
        compare(weight_gradient.conv2d_weight_grad, reference.conv2d_weight_grad, x, g, rest=((3, 2), *geometry))
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
