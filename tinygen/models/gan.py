"""The generative adversarial network of Goodfellow et al. (2014), with the gradient penalty that makes it converge."""

from typing import Self

import numpy as np

import tinygen as tg
from tinygen import Tensor, nn, optim
from tinygen.errors import ShapeError
from tinygen.models.common import Scaling, normal
from tinygen.nn import evaluation

Array = np.ndarray


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """-E[log σ(D(x))] - E[log(1 - σ(D(G(z))))] of logits (Goodfellow et al. 2014, eq. 1)."""
    return tg.mean(tg.softplus(-real)) + tg.mean(tg.softplus(fake))


def generator_loss(fake: Tensor) -> Tensor:
    """-E[log σ(D(G(z)))] of logits: its gradient stays where D is sure (Goodfellow et al. 2014, section 3)."""
    return tg.mean(tg.softplus(-fake))


def r1_penalty(discriminator: nn.Module, x: Array | Tensor) -> Tensor:
    """½ E‖∇ₓ D(x)‖² over real data x ``(N, ...)``, differentiable in D's parameters (Mescheder et al. 2018, eq. 9)."""
    inputs = Tensor(x, requires_grad=True)
    gradient = tg.grad(tg.sum(discriminator(inputs)), inputs, create_graph=True)  # each row's own, for rows do not mix
    return 0.5 / len(x) * tg.sum(gradient * gradient)


class GAN(nn.Module):
    """A generator G and a discriminator D that play against each other.

    D learns to tell data x from generated G(z), z ~ N(0, I), and G to be taken for data; D(·) is a logit:

        L_D = E[softplus(-D(x))] + E[softplus(D(G(z)))] + γ/2 E‖∇ₓ D(x)‖²
        L_G = E[softplus(-D(G(z)))]

    The penalty R1 flattens D on the data, and only there. Without it the game circles around its equilibrium (Mescheder
    et al. 2018). It is computed in every ``r1_every``-th step only, times ``r1_every`` (Karras et al. 2020, "lazy").

    Parameters
    ----------
    generator : z ``(N, latent)`` to data in the units of ``scaling``
    discriminator : data in those units to logits ``(N, 1)``. Without batch normalization, which would mix the rows that
        R1 keeps apart.
    latent : dimensions of z
    scaling : from data to the networks' units
    r1, r1_every : γ, and how often
    lr, betas : of both Adams
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        latent: int,
        *,
        scaling: Scaling | None = None,
        r1: float = 1.0,
        r1_every: int = 1,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.0, 0.99),
    ) -> None:
        self.generator, self.discriminator, self.latent = generator, discriminator, latent
        self.scaling = scaling or Scaling()
        self.r1, self.r1_every = r1, r1_every
        self.steps = np.array(0)
        self.generator_optimizer = optim.Adam(generator.parameters(), lr, betas=betas)
        self.discriminator_optimizer = optim.Adam(discriminator.parameters(), lr, betas=betas)

    @classmethod
    def mlp(
        cls, rng: np.random.Generator, *, scaling: Scaling | None = None, latent: int = 2, width: int = 128
    ) -> Self:
        """For points of the plane: three hidden layers each, ReLU in G and leaky ReLU in D."""
        hidden = [width] * 3
        generator = nn.MLP([latent, *hidden, 2], rng)
        discriminator = nn.MLP([2, *hidden, 1], rng, "leaky_relu", alpha=0.2)
        return cls(generator, discriminator, latent, scaling=scaling, r1=0.1, r1_every=4, betas=(0.0, 0.9))

    @classmethod
    def conv(
        cls,
        shape: tuple[int, int, int],
        rng: np.random.Generator,
        *,
        latent: int = 32,
        width: int = 32,
        r1_every: int = 4,
    ) -> Self:
        """For images of ``shape`` (H, W, C) in [0, 1], H and W divisible by 4 (after Radford et al. 2016, "DCGAN")."""
        height, width_in, channels = shape
        if height % 4 or width_in % 4:
            raise ShapeError(f"GAN.conv: four must divide H and W of (H,W,C)={shape}; pad the images")
        h, w = height // 4, width_in // 4
        wide = 2 * width
        generator = nn.Sequential(
            nn.Linear(latent, h * w * wide, rng, bias=False),
            lambda x: tg.reshape(x, (-1, h, w, wide)),
            nn.BatchNorm(wide),
            tg.relu,
            nn.ConvTranspose2d(wide, width, 4, rng, stride=2, padding=1, bias=False),
            nn.BatchNorm(width),
            tg.relu,
            nn.ConvTranspose2d(width, channels, 4, rng, stride=2, padding=1),
            tg.tanh,
        )
        discriminator = nn.Sequential(
            nn.Conv2d(channels, width, 4, rng, stride=2, padding=1),
            _leaky_relu,
            nn.Conv2d(width, wide, 4, rng, stride=2, padding=1),
            _leaky_relu,
            lambda x: tg.reshape(x, (-1, h * w * wide)),
            nn.Linear(h * w * wide, 1, rng),
        )
        return cls(generator, discriminator, latent, scaling=Scaling.of_range(0, 1), r1_every=r1_every)

    def train_step(self, batch: Array, rng: np.random.Generator) -> dict[str, float]:
        """One step of D, then one of G, on as many generated examples as the batch has.

        Returns
        -------
        Both losses, L_D without its ``penalty``; that, 0 in the steps between, so that its mean is γ/2 E‖∇ₓ D(x)‖²; the
        share that D tells apart (``accuracy``: at 1 a saturating loss would have no gradient left, at ½ D is beaten);
        and the norm of G's gradient.
        """
        penalised = bool(self.r1) and int(self.steps) % self.r1_every == 0
        parts = self._descend(self.scaling(batch), normal(self, (len(batch), self.latent), rng), penalised)
        self.steps += 1
        return {name: value.item() for name, value in parts.items()}

    @tg.replayed
    def _descend(self, x: Tensor, z: Tensor, penalised: bool) -> dict[str, Tensor]:
        fake = self.generator(z)

        on_real, on_fake = self.discriminator(x), self.discriminator(fake.detach())
        loss_d = discriminator_loss(on_real, on_fake)
        penalty = tg.tensor(0.0)
        if penalised:
            penalty = self.r1 * self.r1_every * r1_penalty(self.discriminator, x)
        self.discriminator_optimizer.minimize(loss_d + penalty if penalised else loss_d)

        loss_g = generator_loss(self.discriminator(fake))
        norm = self.generator_optimizer.minimize(loss_g)
        accuracy = (tg.mean(tg.where(on_real > 0, 1.0, 0.0)) + tg.mean(tg.where(on_fake < 0, 1.0, 0.0))) / 2
        return {"d_loss": loss_d, "penalty": penalty, "g_loss": loss_g, "g_grad_norm": norm, "accuracy": accuracy}

    def sample(self, n: int, rng: np.random.Generator) -> Array:
        """Generate n examples, in the units of data."""
        with evaluation(self):
            return self.scaling.inverse(self.generator(tg.tensor(normal(self, (n, self.latent), rng))).numpy())


def _leaky_relu(x: Tensor) -> Tensor:
    return tg.leaky_relu(x, 0.2)
