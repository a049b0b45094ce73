"""Optimizers, learning-rate schedules and the moving average of weights."""

from tinygen.optim import schedules
from tinygen.optim.ema import EMA
from tinygen.optim.optimizer import SGD, Adam, AdamW, Optimizer, clip_grad_norm

__all__ = ["EMA", "SGD", "Adam", "AdamW", "Optimizer", "clip_grad_norm", "schedules"]
