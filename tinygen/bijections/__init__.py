"""Invertible maps that know how much they stretch volume: the layers of normalizing flows."""

from tinygen.bijections.base import Bijection, Chain, Inverse
from tinygen.bijections.coupling import AdditiveCoupling, AffineCoupling, Coupling
from tinygen.bijections.elementwise import ActNorm, Logit
from tinygen.bijections.rearrange import Flatten, Permute, Reverse

__all__ = [
    "ActNorm",
    "AdditiveCoupling",
    "AffineCoupling",
    "Bijection",
    "Chain",
    "Coupling",
    "Flatten",
    "Inverse",
    "Logit",
    "Permute",
    "Reverse",
]
