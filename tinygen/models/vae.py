"""The autoencoder, and the variational autoencoder of Kingma and Welling (2014)."""

import math
from typing import Any, Protocol, Self

import numpy as np

import tinygen as tg
from tinygen import Tensor, nn, optim
from tinygen.errors import DataError, ShapeError
from tinygen.models.common import normal
from tinygen.nn import evaluation

Array = np.ndarray


class Likelihood(Protocol):
    """p(x | z) of the pixels, which are independent given the decoder's value."""

    def observe(self, x: Array, rng: np.random.Generator) -> Array:
        """What is modelled of the data x."""

    def log_prob(self, x: Array | Tensor, decoded: Tensor) -> Tensor:
        """The log-likelihood in nats, summed over pixels: ``(N,)``."""

    def mean(self, decoded: Tensor) -> Tensor:
        """E[x | z], shaped as x."""

    def draw(self, decoded: Tensor, rng: np.random.Generator) -> Array:
        """One draw from p(x | z)."""


class BernoulliLikelihood(nn.Module):
    """Black or white pixels: the decoder gives the logit ℓ of white, log p(x) = Σ xℓ - log(1 + e^ℓ).

    Grey pixels in [0, 1] have no Bernoulli likelihood: they are taken for probabilities and an image is drawn from them
    each time that it is seen (dynamic binarisation; Salakhutdinov and Murray 2008), so the bound is one of the binary
    images.
    """

    def observe(self, x: Array, rng: np.random.Generator) -> Array:
        """White with probability x; an image that is binary already stays as it is.

        Raises
        ------
        DataError : a pixel is not in [0, 1]
        """
        if x.size and not 0 <= x.min() <= x.max() <= 1:
            raise DataError(f"BernoulliLikelihood: pixels are probabilities, but reach from {x.min()} to {x.max()}")
        return (rng.random(x.shape, dtype=np.float32) < x).astype(x.dtype)

    def log_prob(self, x: Array | Tensor, decoded: Tensor) -> Tensor:
        """Σ xℓ - log(1 + e^ℓ), ``(N,)``."""
        return -_sum_pixels(tg.binary_cross_entropy(decoded, x))

    def mean(self, decoded: Tensor) -> Tensor:
        """The probability of white."""
        return tg.sigmoid(decoded)

    def draw(self, decoded: Tensor, rng: np.random.Generator) -> Array:
        """A binary image."""
        return self.observe(self.mean(decoded).numpy(), rng)


class GaussianLikelihood(nn.Module):
    """Real pixels: the decoder gives the mean, and one σ serves all pixels.

    A learned σ weighs reconstruction against the KL by itself (Rybkin et al. 2021, "σ-VAE"); a fixed one sets that
    weight by hand.
    """

    def __init__(self, sigma: float = 1.0, *, learned: bool = True) -> None:
        log_sigma = np.array(math.log(sigma), np.float32)
        self.log_sigma: Array | nn.Parameter = nn.Parameter(log_sigma) if learned else log_sigma

    @property
    def sigma(self) -> float:
        """The standard deviation of a pixel."""
        return math.exp(float(self.log_sigma))

    def observe(self, x: Array, rng: np.random.Generator) -> Array:
        """The data themselves."""
        return x

    def log_prob(self, x: Array | Tensor, decoded: Tensor) -> Tensor:
        """Σ log N(x; decoded, σ²), ``(N,)``."""
        residual = (x - decoded) * tg.exp(-self.log_sigma)
        return _sum_pixels(-0.5 * residual * residual - self.log_sigma - 0.5 * math.log(2 * math.pi))

    def mean(self, decoded: Tensor) -> Tensor:
        """The decoder's value itself."""
        return decoded

    def draw(self, decoded: Tensor, rng: np.random.Generator) -> Array:
        """An image with its noise."""
        mean = decoded.numpy()
        return mean + self.sigma * rng.standard_normal(mean.shape, dtype=mean.dtype.type)


def _sum_pixels(values: Tensor) -> Tensor:
    return tg.sum(values, tuple(range(1, values.ndim)))


class Autoencoder(nn.Module):
    """An encoder to a code z of few dimensions and a decoder back, trained to reconstruct: max log p(x | z = e(x)).

    There is no distribution over codes, so `sample` decodes standard normal codes *as if* there were: a control for the
    `VAE`.

    Parameters
    ----------
    encoder : data ``(N, ...)`` to ``(N, codes · latent)``
    decoder : ``(N, latent)`` to the likelihood's parameter, shaped as the data
    latent : dimensions of z
    likelihood : `BernoulliLikelihood` (the default) or `GaussianLikelihood`
    lr : learning rate of Adam
    """

    codes = 1
    """Numbers that the encoder gives for each dimension of z."""

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        latent: int,
        likelihood: Likelihood | None = None,
        *,
        lr: float = 2e-3,
    ) -> None:
        self.encoder, self.decoder, self.latent = encoder, decoder, latent
        self.likelihood = likelihood or BernoulliLikelihood()
        self.optimizer = optim.Adam(self.parameters(), lr)

    @classmethod
    def mlp(
        cls,
        shape: tuple[int, ...],
        latent: int,
        rng: np.random.Generator,
        *,
        width: int = 400,
        likelihood: Likelihood | None = None,
        lr: float = 1e-3,
    ) -> Self:
        """With one hidden layer each way, for data of any ``shape``, without the batch axis."""
        size = math.prod(shape)
        encoder = nn.Sequential(lambda x: tg.reshape(x, (-1, size)), nn.MLP([size, width, cls.codes * latent], rng))
        decoder = nn.Sequential(nn.MLP([latent, width, size], rng), lambda x: tg.reshape(x, (-1, *shape)))
        return cls(encoder, decoder, latent, likelihood, lr=lr)

    @classmethod
    def conv(
        cls,
        shape: tuple[int, int, int],
        latent: int,
        rng: np.random.Generator,
        *,
        width: int = 16,
        likelihood: Likelihood | None = None,
        lr: float = 2e-3,
    ) -> Self:
        """With two strided convolutions each way, for images of ``shape`` (H, W, C) whose H and W four divides."""
        height, width_in, channels = shape
        if height % 4 or width_in % 4:
            raise ShapeError(
                f"{cls.__name__}.conv: four must divide H and W of (H,W,C)={shape}; pad the images, or use mlp"
            )
        h, w = height // 4, width_in // 4
        size = h * w * 2 * width
        encoder = nn.Sequential(
            nn.Conv2d(channels, width, 4, rng, stride=2, padding=1),
            tg.relu,
            nn.Conv2d(width, 2 * width, 4, rng, stride=2, padding=1),
            tg.relu,
            lambda x: tg.reshape(x, (-1, size)),
            nn.Linear(size, cls.codes * latent, rng),
        )
        decoder = nn.Sequential(
            nn.Linear(latent, size, rng, activation="relu"),
            lambda x: tg.reshape(x, (-1, h, w, 2 * width)),
            nn.ConvTranspose2d(2 * width, width, 4, rng, stride=2, padding=1),
            tg.relu,
            nn.ConvTranspose2d(width, channels, 4, rng, stride=2, padding=1),
        )
        return cls(encoder, decoder, latent, likelihood, lr=lr)

    def train_step(self, batch: Array, rng: np.random.Generator) -> dict[str, float]:
        """One step of Adam on a batch; the mean negative log-likelihood of the reconstruction, in nats an example."""
        return {name: value.item() for name, value in self._descend(self.likelihood.observe(batch, rng)).items()}

    @tg.replayed
    def _descend(self, x: Tensor) -> dict[str, Tensor]:
        loss = -tg.mean(self.likelihood.log_prob(x, self.decoder(self.encoder(x))))
        return {"loss": loss, "grad_norm": self.optimizer.minimize(loss)}

    def encode(self, x: Array) -> Array:
        """The codes ``(N, latent)`` of data; for a `VAE`, the means of their posteriors."""
        with evaluation(self):
            return self.encoder(x)[:, : self.latent].numpy()

    def decode(self, z: Array) -> Array:
        """The mean E[x | z] for codes ``(N, latent)``, shaped as data."""
        with evaluation(self):
            return self.likelihood.mean(self.decoder(tg.tensor(z))).numpy()

    def reconstruct(self, x: Array) -> Array:
        """Data, encoded and decoded."""
        return self.decode(self.encode(x))

    def sample(self, n: int, rng: np.random.Generator, *, noise: bool = False) -> Array:
        """Decode n standard normal codes: the means E[x | z], as in pictures, or with ``noise`` draws from p(x | z)."""
        z = normal(self, (n, self.latent), rng)
        if not noise:
            return self.decode(z)
        with evaluation(self):
            return self.likelihood.draw(self.decoder(tg.tensor(z)), rng)


class VAE(Autoencoder):
    """The variational autoencoder (Kingma and Welling 2014; Rezende, Mohamed and Wierstra 2014).

    The model is z ~ N(0, I), x ~ p(x | z). The encoder gives an approximate posterior q(z | x) = N(μ(x), diag σ²(x)),
    and training maximises the evidence lower bound

        ELBO(x) = E_q[log p(x | z)] - KL(q(z | x) ‖ N(0, I))  ≤  log p(x),

    with z = μ + σ ε, ε ~ N(0, I), so that gradients reach μ and σ (their eq. 4), and the KL in closed form (appendix B)

        KL = ½ Σ (μ² + σ² - 1 - log σ²).

    Parameters
    ----------
    encoder : data ``(N, ...)`` to ``(N, 2 · latent)``: μ beside log σ²
    decoder, latent, likelihood, lr : as of `Autoencoder`
    """

    codes = 2

    def train_step(self, batch: Array, rng: np.random.Generator) -> dict[str, float]:
        """One step of Adam on a batch; the mean negative ELBO and its two parts, in nats an example."""
        return {name: value.item() for name, value in self._descend(*self._drawn(batch, rng)).items()}

    @tg.replayed
    def _descend(self, x: Tensor, eps: Tensor) -> dict[str, Tensor]:
        log_likelihood, kl = (tg.mean(term) for term in self._terms(x, eps))
        loss = kl - log_likelihood
        norm = self.optimizer.minimize(loss)
        return {"loss": loss, "reconstruction": -log_likelihood, "kl": kl, "grad_norm": norm}

    def elbo(self, x: Array, rng: np.random.Generator) -> Tensor:
        """A lower bound of log p(x) in nats, ``(N,)``, unbiased from one draw of z: differentiable."""
        log_likelihood, kl = self.terms(x, rng)
        return log_likelihood - kl

    def terms(self, x: Array, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """The parts of the ELBO, each ``(N,)``: log p(x | z) at one z drawn from q(z | x), and the KL."""
        return self._terms(*self._drawn(x, rng))

    def _drawn(self, x: Array, rng: np.random.Generator) -> tuple[Array, Array]:
        """What is modelled of the data, and the noise ε of z."""
        return self.likelihood.observe(x, rng), normal(self, (len(x), self.latent), rng)

    def _terms(self, x: Any, eps: Any) -> tuple[Tensor, Tensor]:
        mean, log_var = self.posterior(x)
        z = mean + tg.exp(0.5 * log_var) * eps
        return self.likelihood.log_prob(x, self.decoder(z)), kl_to_prior(mean, log_var)

    def posterior(self, x: Array) -> tuple[Tensor, Tensor]:
        """The mean and the log-variance of q(z | x), each ``(N, latent)``."""
        parameters = self.encoder(x)
        return parameters[:, : self.latent], parameters[:, self.latent :]


def kl_to_prior(mean: Tensor, log_var: Tensor) -> Tensor:
    """KL(N(μ, diag σ²) ‖ N(0, I)) in nats, ``(N,)``, from μ and log σ², ``(N, latent)``."""
    return 0.5 * tg.sum(mean * mean + tg.exp(log_var) - 1 - log_var, 1)
