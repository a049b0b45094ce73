"""Kullback-Leibler divergences."""

from tinygen import ops
from tinygen.distributions.base import Distribution, Value, event_axes
from tinygen.distributions.discrete import Bernoulli, Categorical
from tinygen.distributions.normal import MultivariateNormal, Normal, solve_factor
from tinygen.errors import ShapeError


def kl_divergence(p: Distribution, q: Distribution) -> Value:
    """KL(p ‖ q) = E_p[log p(x) - log q(x)] in nats, in closed form; not negative, and 0 only for p = q.

    Parameters
    ----------
    p, q : two `Normal`, `MultivariateNormal`, `Bernoulli` or `Categorical`, of one event shape; their batch shapes
        broadcast

    Returns
    -------
    The batch shapes, broadcast. Differentiable in the parameters of both.

    Raises
    ------
    TypeError : the pair has no closed form here
    ShapeError : the event shapes differ

    Examples
    --------
    >>> import numpy as np
    >>> float(kl_divergence(Normal(np.array([1.0]), np.ones(1)), Normal(np.zeros(1), np.ones(1))))
    0.5
    """
    if p.event_shape != q.event_shape:
        raise ShapeError(f"kl_divergence: the event shapes are {p.event_shape} and {q.event_shape}, but must be equal")
    match p, q:
        case Normal(), Normal():
            each = _normal(p, q)
        case MultivariateNormal(), MultivariateNormal():
            return _multivariate_normal(p, q)
        case Bernoulli(), Bernoulli():
            # p (l_p - l_q) + log(1 - p) - log(1 - q), where p = σ(l) and log(1 - p) = -softplus(l)
            each = ops.sigmoid(p.logits) * (p.logits - q.logits) + ops.softplus(q.logits) - ops.softplus(p.logits)
        case Categorical(), Categorical():
            return _categorical(p, q)
        case _:
            raise TypeError(
                f"kl_divergence: no closed form for {type(p).__name__} and {type(q).__name__}; "
                f"estimate it by the mean of p.log_prob(x) - q.log_prob(x) over x = p.sample(n, rng)"
            )
    return ops.sum(each, event_axes(len(p.event_shape)))


def _normal(p: Normal, q: Normal) -> Value:
    """½ [(σ_p/σ_q)² + ((μ_p - μ_q)/σ_q)² - 1] - log(σ_p/σ_q), of each entry."""
    ratio, shift = p.std / q.std, (p.mean - q.mean) / q.std
    return 0.5 * (ratio * ratio + shift * shift - 1) - ops.log(ratio)


def _multivariate_normal(p: MultivariateNormal, q: MultivariateNormal) -> Value:
    """½ [|L_q⁻¹ L_p|² + |L_q⁻¹ (μ_p - μ_q)|² - D] + log det L_q - log det L_p, with the Frobenius norm."""
    ratio = ops.solve_triangular(q.factor, p.lower_factor())
    shift = solve_factor(q.factor, p.mean - q.mean)
    log_det = ops.sum(ops.log(ops.einsum("...ii->...i", ratio)), -1)
    return 0.5 * (ops.sum(ratio * ratio, (-2, -1)) + ops.sum(shift * shift, -1) - p.event_shape[0]) - log_det


def _categorical(p: Categorical, q: Categorical) -> Value:
    if p.logits.shape[-1] != q.logits.shape[-1]:
        raise ShapeError(f"kl_divergence: K={p.logits.shape[-1]} outcomes against {q.logits.shape[-1]}")
    log_p, log_q = ops.log_softmax(p.logits), ops.log_softmax(q.logits)
    return ops.sum(ops.exp(log_p) * (log_p - log_q), -1)
