"""Distributions of outcomes that can be counted, by their logits."""

import numpy as np

from tinygen import ops
from tinygen.distributions.base import Distribution, Value, as_parameters, event_axes, split_shape
from tinygen.errors import DataError, ShapeError


class Bernoulli(Distribution):
    """Independent entries that are 1 with probability σ(logit) and 0 otherwise.

    log p(x) = Σ [x · logit - softplus(logit)], which does not overflow.

    This is no likelihood of grey pixels, which are neither 0 nor 1: draw binary ones with ``rng.random(x.shape) < x``.

    Parameters
    ----------
    logits : log(p/(1 - p)), finite
    event_ndim : how many of the last axes make up one event, whose entries are summed over: 1 for vectors, 3 for images
    """

    def __init__(self, logits: Value, event_ndim: int = 1) -> None:
        (self.logits,) = as_parameters(logits)
        self.batch_shape, self.event_shape = split_shape(self.logits.shape, event_ndim, "Bernoulli")

    def log_prob(self, x: Value) -> Value:
        """As in `Distribution.log_prob`; `DataError` for entries other than 0 and 1."""
        self._check(x)
        outcome = np.asarray(x, self.logits.dtype)
        if not ((outcome == 0) | (outcome == 1)).all():
            raise DataError("log_prob of Bernoulli: x must be 0 or 1 everywhere; draw it with rng.random(x.shape) < x")
        return -ops.sum(ops.binary_cross_entropy(self.logits, outcome), event_axes(len(self.event_shape)))

    def sample(self, n: int, rng: np.random.Generator) -> Value:
        uniform = rng.random((n, *self.logits.shape), self.logits.dtype)
        return ops.less(uniform, ops.sigmoid(self.logits)).astype(self.logits.dtype)

    def entropy(self) -> Value:
        # -p log p - (1 - p) log(1 - p), where log(1 - p) = -softplus(l) and log p = l - softplus(l)
        l = self.logits
        return ops.sum(ops.softplus(l) - l * ops.sigmoid(l), event_axes(len(self.event_shape)))


class Categorical(Distribution):
    """One of K outcomes, numbered from 0, with probabilities softmax(logits). An event is one integer: it has no axes.

    Parameters
    ----------
    logits : ``(..., K)``, finite, up to a constant
    """

    def __init__(self, logits: Value) -> None:
        (self.logits,) = as_parameters(logits)
        if self.logits.ndim == 0:
            raise ShapeError("Categorical: logits must be (...,K), one for each outcome, but they are a single number")
        self.batch_shape, self.event_shape = self.logits.shape[:-1], ()

    def log_prob(self, x: Value) -> Value:
        """Logarithm of the probability of the outcomes x, integers of any shape that broadcasts with ``batch_shape``.

        Raises
        ------
        DataError : for outcomes that are not integers from 0 to K - 1
        """
        return -ops.cross_entropy(self.logits, x)

    def sample(self, n: int, rng: np.random.Generator) -> Value:
        # The place of the largest logit + Gumbel noise has the probabilities softmax(logits) (Gumbel 1954).
        gumbel = rng.gumbel(size=(n, *self.logits.shape)).astype(self.logits.dtype)
        return ops.argmax(self.logits + gumbel, -1)

    def entropy(self) -> Value:
        log_p = ops.log_softmax(self.logits)
        return -ops.sum(ops.exp(log_p) * log_p, -1)
