"""The generative models: modules with ``train_step``, ``sample`` and, where there is one, a likelihood or a bound."""

from tinygen.models.common import Scaling
from tinygen.models.ddpm import DDPM, NoiseSchedule
from tinygen.models.denoisers import TimeMLP, UNet
from tinygen.models.flow import Flow, realnvp
from tinygen.models.gan import GAN
from tinygen.models.vae import VAE, Autoencoder, BernoulliLikelihood, GaussianLikelihood

__all__ = [
    "DDPM",
    "GAN",
    "VAE",
    "Autoencoder",
    "BernoulliLikelihood",
    "Flow",
    "GaussianLikelihood",
    "NoiseSchedule",
    "Scaling",
    "TimeMLP",
    "UNet",
    "realnvp",
]
