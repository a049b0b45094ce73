import pytest

from kernels import microkernel


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
