"""Every implementation of a kernel computes the same."""

import importlib.util

import numpy as np
import pytest

import kernels as compiled
from benchmarks import kernels


def flat(results):
    return [r for r in results if r is not None] if isinstance(results, tuple | list) else [results]


def small(name):
    """A small workload of each kind of kernel."""
    workloads = [
        *kernels.linear(5, 4, 3, "silu"),
        *kernels.activate("leaky_relu", 3, 4),
        *kernels.convolution(2, (6, 6), 3, 5, (3, 3), 2),
        *kernels.pooling(2, (4, 6), 3),
        *kernels.group_norm(2, (3, 3), 16, "silu"),
        *kernels.layer_norm(5, 7),
        *kernels.logits(5, 7),
        *kernels.gated_tanh(5, 3),
        *kernels.bounded_affine(5, 3),
        kernels.sinusoids(5, 3),
        kernels.sum_rows(2, 7, 5),
        kernels.sum_columns(7, 5),
        kernels.norm(9),
        kernels.adam(9),
    ]
    return next(workload for workload in workloads if workload.name.split()[0] == name)


KINDS = list(compiled._MODULE_OF)


def test_every_kernel_is_measured_under_a_name_of_its_own():
    names = [workload.name for workload in kernels.workloads()]
    assert len(set(names)) == len(names)
    assert {name.split()[0] for name in names} == set(compiled._MODULE_OF)


@pytest.mark.parametrize("name", KINDS)
def test_reference_and_kernel_take_the_same_arguments(name):
    call, naive = [small(name).prepare[implementation]() for implementation in ("tinygen", "numpy")]
    for a, b in zip(flat(call()), flat(naive()), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("library", ["torch", "jax"])
@pytest.mark.parametrize("name", [name for name in KINDS if name != "adam"])
def test_peers_compute_the_same(name, library):
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed: pip install '.[bench]'")
    workload = small(name)
    expected = flat(workload.prepare["numpy"]()())
    found = flat(workload.prepare[library]()())
    for a, b in zip(found, expected[: len(found)], strict=True):  # kernels also return what gradients need
        array = np.asarray(a.detach() if library == "torch" else a)
        if library == "torch" and array.ndim == 4:
            array = array.transpose((2, 3, 1, 0) if name == "conv2d_weight_grad" else (0, 2, 3, 1))
        np.testing.assert_allclose(array, b, rtol=1e-4, atol=1e-5)
