"""Planted faults: what a checker must catch before it is trusted. See `tinygen.testing.kill_matrix`."""

from tinygen.testing.faults import bijections, diffusion, distributions, gradients, kernels, optimizers
from tinygen.testing.faults.base import Checker, Fault

KINDS = (gradients, kernels, bijections, distributions, diffusion, optimizers)

FAULTS = tuple(sorted((fault for kind in KINDS for fault in kind.FAULTS), key=lambda fault: fault.number))
"""All planted faults, in the order of their numbers."""

__all__ = ["FAULTS", "Checker", "Fault"]
