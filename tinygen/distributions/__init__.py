"""Probability distributions whose parameters may be arrays or Tensors, and so be learned."""

from tinygen.distributions.base import Distribution
from tinygen.distributions.discrete import Bernoulli, Categorical
from tinygen.distributions.divergence import kl_divergence
from tinygen.distributions.mixture import Mixture
from tinygen.distributions.normal import MultivariateNormal, Normal

__all__ = ["Bernoulli", "Categorical", "Distribution", "Mixture", "MultivariateNormal", "Normal", "kl_divergence"]
