"""Modules: parameters, layers and their initial values."""

from tinygen.nn import init
from tinygen.nn.layers import (
    MLP,
    Conv1d,
    Conv2d,
    ConvTranspose2d,
    Embedding,
    Linear,
    Sequential,
    SpectralNorm,
    spectral_norm,
)
from tinygen.nn.module import Module, Parameter, evaluation
from tinygen.nn.normalization import BatchNorm, Dropout, GroupNorm, LayerNorm

__all__ = [
    "MLP",
    "BatchNorm",
    "Conv1d",
    "Conv2d",
    "ConvTranspose2d",
    "Dropout",
    "Embedding",
    "GroupNorm",
    "LayerNorm",
    "Linear",
    "Module",
    "Parameter",
    "Sequential",
    "SpectralNorm",
    "evaluation",
    "init",
    "spectral_norm",
]
