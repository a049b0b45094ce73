"""Normalizing flows: exact likelihood through an invertible map to a simple density."""

import math
from collections.abc import Sequence

import numpy as np

import tinygen as tg
from tinygen import Tensor, nn, optim
from tinygen.bijections import ActNorm, AffineCoupling, Bijection, Chain, Flatten, Logit, Permute, Reverse
from tinygen.distributions import Distribution, Normal
from tinygen.nn import evaluation

Array = np.ndarray


class Flow(nn.Module):
    """A density that is another one, pulled back through a bijection f (Rezende and Mohamed 2015; Dinh et al. 2017).

    With z = f(x) and z ~ p_z, the change of variables gives

        log p(x) = log p_z(f(x)) + log |det df/dx|,

    and training minimises -E[log p(x)], the negative log-likelihood itself. To sample, draw z and return f⁻¹(z).

    Images are numbers of finitely many levels, which have no density: a flow could make their likelihood infinite.
    Uniform dequantisation replaces a pixel k of 0 to 255 by (k + u)/256, u ~ U(0, 1). The mean log-density of these,
    with 256 levels to each unit of length, is a lower bound of the log-probability of the pixels (Theis et al. 2016,
    eq. 4 to 6). In bits for each of D pixels,

        bits/dim = (-E[log p(x)]/D + log 256) / log 2.

    Parameters
    ----------
    base : p_z, with events ``(D,)`` and no batch
    bijection : f
    quantized : whether the data are pixels k/255, to be dequantised
    lr : learning rate of Adam
    """

    def __init__(self, base: Distribution, bijection: Bijection, *, quantized: bool = False, lr: float = 1e-3) -> None:
        self.base, self.bijection = base, bijection
        self.quantized = quantized
        self.optimizer = optim.Adam(self.parameters(), lr, max_norm=5.0)

    def log_prob(self, x: Array | Tensor) -> Tensor:
        """The log-density in nats, ``(N,)``, of points ``(N, D)`` or dequantised images ``(N, H, W, C)``."""
        z, log_det = self.bijection(x)
        return self.base.log_prob(z) + log_det

    def sample(self, n: int, rng: np.random.Generator) -> Array:
        """Draw n examples, shaped as the data. Pixels are continuous, and may leave [0, 1] by the margin of `Logit`."""
        with evaluation(self):
            return self.bijection.inverse(self.base.sample(n, rng))[0].numpy()

    def train_step(self, batch: Array, rng: np.random.Generator) -> dict[str, float]:
        """One step of Adam on a batch; the mean -log p(x) in nats an example and, for images, in bits a dimension."""
        loss, norm = self._descend(dequantize(batch, rng) if self.quantized else batch)
        metrics = {"loss": loss.item(), "grad_norm": norm.item()}
        if self.quantized:
            metrics["bits_per_dim"] = bits_per_dim(loss.item(), batch[0].size)
        return metrics

    @tg.replayed
    def _descend(self, x: Tensor) -> tuple[Tensor, Tensor]:
        loss = -tg.mean(self.log_prob(x))
        return loss, self.optimizer.minimize(loss)


def dequantize(x: Array, rng: np.random.Generator) -> Array:
    """Pixels k/255, rounded to whole k, spread evenly over their levels: (k + u)/256 in [0, 1)."""
    u = rng.integers(2**16, size=x.shape).astype(x.dtype) / x.dtype.type(
        2**16
    )  # so coarse that float32 adds it exactly
    return (np.round(255 * x) + u) / x.dtype.type(256)


def bits_per_dim(nats: float, dim: int) -> float:
    """A mean negative log-density of dequantised images, in nats, as bits for each of their ``dim`` pixels."""
    return (nats / dim + math.log(256)) / math.log(2)


def realnvp(
    shape: Sequence[int],
    rng: np.random.Generator,
    *,
    couplings: int = 8,
    hidden: Sequence[int] = (64, 64),
    lr: float = 1e-3,
) -> Flow:
    """A flow of affine couplings (Dinh et al. 2017), each after an `ActNorm` and with a perceptron for conditioner.

    Parameters
    ----------
    shape : of one example: (D,) for points, or (H, W, C) for images k/255, whose pixels are dequantised, taken to the
        real line by `Logit` and to a vector
    rng : draws the weights, and the permutations that lie between couplings where there are more than two dimensions
    couplings : how many
    hidden : widths of the conditioners
    lr : learning rate of Adam
    """
    dim = math.prod(shape)
    is_image = len(shape) == 3

    def conditioner(c_in: int, c_out: int) -> nn.Module:
        return nn.MLP([c_in, *hidden, c_out], rng, last_init=nn.init.zeros)

    layers: list[Bijection] = [Logit(), Flatten(shape)] if is_image else []
    for _ in range(couplings):
        mix = Reverse() if dim <= 2 else Permute(rng.permutation(dim))
        layers += [ActNorm(dim), AffineCoupling(dim, conditioner), mix]
    standard = Normal(np.zeros(dim, np.float32), np.ones(dim, np.float32))
    return Flow(standard, Chain(*layers), quantized=is_image, lr=lr)
