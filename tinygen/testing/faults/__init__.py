"""Planted faults: what a checker must catch before it is trusted. See `tinygen.testing.kill_matrix`."""

from tinygen.testing.faults import gradients, kernels
from tinygen.testing.faults.base import Checker, Fault

FAULTS = tuple(sorted(gradients.FAULTS + kernels.FAULTS, key=lambda fault: fault.number))
"""All planted faults, in the order of their numbers."""

__all__ = ["FAULTS", "Checker", "Fault"]
