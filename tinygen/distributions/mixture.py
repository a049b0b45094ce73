"""Mixtures of distributions."""

import numpy as np

from tinygen import ops
from tinygen.autograd import no_grad
from tinygen.distributions.base import Distribution, Value
from tinygen.distributions.discrete import Categorical
from tinygen.errors import ShapeError


class Mixture(Distribution):
    """p(x) = Σ_k w_k p_k(x) with weights w = softmax(logits).

    Parameters
    ----------
    logits : ``(..., K)``
    components : a distribution whose batch shape is ``(..., K)`` as well

    Raises
    ------
    ShapeError : if the two shapes differ

    Examples
    --------
    >>> import numpy as np
    >>> from tinygen.distributions import Normal
    >>> two = Mixture([0.0, 0.0], Normal(np.array([[-1.0], [1.0]]), np.ones((2, 1))))
    >>> two.sample(5, np.random.default_rng(0)).shape
    (5, 1)
    """

    def __init__(self, logits: Value, components: Distribution) -> None:
        self.choice = Categorical(logits)
        if self.choice.logits.shape != components.batch_shape:
            raise ShapeError(
                f"Mixture: logits are (...,K)={self.choice.logits.shape} but the components' batch is "
                f"{components.batch_shape}; they must be equal"
            )
        self.components = components
        self.batch_shape, self.event_shape = self.choice.batch_shape, components.event_shape

    def log_prob(self, x: Value) -> Value:
        self._check(x)
        each = self.components.log_prob(ops.expand_dims(x, -1 - len(self.event_shape)))
        return ops.logsumexp(each + ops.log_softmax(self.choice.logits), -1)

    def sample(self, n: int, rng: np.random.Generator) -> Value:
        with no_grad():  # the gradient through the components' draws alone would lack the part of the choice
            chosen = ops.equal(self.choice.sample(n, rng)[..., None], np.arange(self.choice.logits.shape[-1]))
            draws = self.components.sample(n, rng)
            mask = chosen.reshape(*chosen.shape, *(1 for _ in self.event_shape))
            return ops.sum(ops.where(mask, draws, 0), -1 - len(self.event_shape))

    def entropy(self) -> Value:
        """Raises: a mixture's entropy has no closed form."""
        raise TypeError("the entropy of a Mixture has no closed form; estimate it by -log_prob(sample(n, rng)).mean()")
