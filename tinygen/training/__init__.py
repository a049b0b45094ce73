"""The training loop, and the checkpoints and run folders that it leaves."""

from tinygen.training.checkpoint import load, read, save
from tinygen.training.loop import Outcome, fit
from tinygen.training.run import Run

__all__ = ["Outcome", "Run", "fit", "load", "read", "save"]
