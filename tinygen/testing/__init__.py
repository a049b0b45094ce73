"""Property testing of operations, kernels, bijections and densities: strategies that draw, and checkers that judge.

A checker returns None for a pass, raises an AssertionError that says what is wrong, or raises `Inconclusive`, at which
hypothesis draws another example. The functions under test may come from any engine; those of tinygen need no adapter.
"""

from hypothesis import strategies as st

from tinygen.autograd import Tensor
from tinygen.testing import faults
from tinygen.testing.autoregressive import check_autoregressive
from tinygen.testing.contracts import check_contract, check_state_roundtrip
from tinygen.testing.densities import check_density, check_kl
from tinygen.testing.diffusion import DiffusionProcess, check_diffusion
from tinygen.testing.domains import arguments, bind
from tinygen.testing.flows import check_bijection
from tinygen.testing.gradients import Pullback, check_adjoint, check_subgradient, check_taylor, check_vjp
from tinygen.testing.graphs import Graph, Step, graphs
from tinygen.testing.kernels import check_kernel
from tinygen.testing.kill_matrix import kill_matrix
from tinygen.testing.modules import FAMILIES, bijections, parameters
from tinygen.testing.noise_schedules import schedules
from tinygen.testing.optimizers import adam_rule, check_optimizer, sgd_rule
from tinygen.testing.samplers import check_sampler
from tinygen.testing.strategies import LAYOUTS, Layout, arrays, broadcast_args, layouts, rngs, shapes, tensors
from tinygen.testing.suite import Property, property_suite
from tinygen.testing.verdicts import (
    BijectionError,
    CheckError,
    ContractError,
    DensityError,
    DiffusionError,
    DivergenceError,
    GradientError,
    Inconclusive,
    OptimizerError,
    SamplerError,
    assert_close,
    mostly_conclusive,
)

__all__ = [
    "FAMILIES",
    "LAYOUTS",
    "BijectionError",
    "CheckError",
    "ContractError",
    "DensityError",
    "DiffusionError",
    "DiffusionProcess",
    "DivergenceError",
    "GradientError",
    "Graph",
    "Inconclusive",
    "Layout",
    "OptimizerError",
    "Property",
    "Pullback",
    "SamplerError",
    "Step",
    "adam_rule",
    "arguments",
    "arrays",
    "assert_close",
    "bijections",
    "bind",
    "broadcast_args",
    "check_adjoint",
    "check_autoregressive",
    "check_bijection",
    "check_contract",
    "check_density",
    "check_diffusion",
    "check_kernel",
    "check_kl",
    "check_optimizer",
    "check_sampler",
    "check_state_roundtrip",
    "check_subgradient",
    "check_taylor",
    "check_vjp",
    "faults",
    "graphs",
    "kill_matrix",
    "layouts",
    "mostly_conclusive",
    "parameters",
    "property_suite",
    "rngs",
    "schedules",
    "sgd_rule",
    "shapes",
    "tensors",
]

st.register_type_strategy(Tensor, tensors(st.sampled_from(["float64", "float32"]), shapes()))
