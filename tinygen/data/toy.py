"""The 2-D densities that generative models are compared on."""

from collections.abc import Callable
from math import ceil

import numpy as np

from tinygen.data.density import Checkerboard, Density, GaussianMixture, Pinwheel, SeparateModes
from tinygen.errors import DataError, did_you_mean

Array = np.ndarray


def toy(name: str, *, sigma: float | None = None) -> Density:
    """A density on the plane by its name.

    ============== =================================================================== ======== =============
    name           definition                                                          sigma    entropy, nats
    ============== =================================================================== ======== =============
    `moons`        half circles (cos t, sin t) and (1 - cos t, ½ - sin t)              .05      0.2892
    `8gaussians`   ring of radius 4, all divided by 1.414 (Grathwohl et al. 2019)      .5/1.414 2.8319
    `25grid`       {-4, -2, 0, 2, 4}² (Lin et al. 2018, PacGAN)                        .05      0.0653
    `8ring`        ring of radius 1 (Lin et al. 2018, PacGAN)                          .01      -4.2930
    `checkerboard` eight squares of side 2 in [-4, 4]² (Grathwohl et al. 2019)                  ln 32
    `spirals`      two arms of 1½ turns (Grathwohl et al. 2019, less uniform jitter)   .1       2.5406
    `pinwheel`     five swirled blades (after Johnson et al. 2016)                              2.3206
    ============== =================================================================== ======== =============

    Parameters
    ----------
    name : str
    sigma : float, optional
        Standard deviation of the Gaussian noise, in place of the table's.

    Returns
    -------
    Density
        `8gaussians`, `25grid` and `8ring` are `SeparateModes`, whose ``modes`` and ``sigma`` mode counts need.

    Raises
    ------
    DataError
        If there is no such density, or sigma is not positive or not the density's to choose.

    Examples
    --------
    >>> import numpy as np
    >>> moons = toy("moons")
    >>> x = moons.sample(1000, np.random.default_rng(0))
    >>> x.shape, x.dtype
    ((1000, 2), dtype('float32'))
    >>> round(moons.entropy(), 4)
    0.2892
    """
    if name not in _MAKERS:
        raise DataError(f"toy: {name!r} is none of {', '.join(_MAKERS)}{did_you_mean(name, _MAKERS)}")
    if sigma is None:
        return _MAKERS[name]()
    if name in _WITHOUT_SIGMA:
        raise DataError(f"toy: sigma={sigma} was given but {name!r} has no sigma: leave it out")
    if not 0 < sigma < float("inf"):
        raise DataError(f"toy: sigma={sigma} must be positive and finite")
    return _MAKERS[name](sigma)


def _moons(sigma: float = 0.05) -> Density:
    """Two half circles."""
    t, weights = _nodes(np.pi, 32 + ceil(8 / sigma))
    cos, sin = np.cos(t), np.sin(t)
    arcs = [np.stack([cos, sin], axis=1), np.stack([1 - cos, 0.5 - sin], axis=1)]
    return GaussianMixture("moons", np.concatenate(arcs), np.tile(weights / weights.sum() / 2, 2), sigma)


def _spirals(sigma: float = 0.1) -> Density:
    """Two arms of 1½ turns, t = 3π√u for uniform u (Grathwohl et al. 2019, without their further uniform jitter)."""
    t, weights = _nodes(3 * np.pi, 32 + ceil(45 / sigma))
    arm = np.stack([-t * np.cos(t), t * np.sin(t)], axis=1) / 3
    weights = weights * t  # the density of t grows as t
    return GaussianMixture("spirals", np.concatenate([arm, -arm]), np.tile(weights / weights.sum() / 2, 2), sigma)


def _eight_gaussians(sigma: float = 0.5 / 1.414) -> Density:
    """A ring of radius 4, everything divided by 1.414 (Grathwohl et al. 2019)."""
    return _separate("8gaussians", _ring(8) * 4 / 1.414, sigma)


def _eight_ring(sigma: float = 0.01) -> Density:
    """A ring of radius 1 (Lin et al. 2018, PacGAN; their Gaussians have variance 0.0001)."""
    return _separate("8ring", _ring(8), sigma)


def _grid(sigma: float = 0.05) -> Density:
    """Five by five, two apart (Lin et al. 2018, PacGAN; their Gaussians have variance 0.0025)."""
    ticks = np.arange(-4.0, 5.0, 2.0)
    return _separate("25grid", np.stack(np.meshgrid(ticks, ticks), axis=-1).reshape(-1, 2), sigma)


def _nodes(length: float, n: int) -> tuple[Array, Array]:
    """Gauss-Legendre nodes and weights on the interval from 0.

    A curve blurred by a Gaussian is the same density, to 1e-9, as a Gaussian at each of such nodes once they lie closer
    than about σ on the curve. That mixture then stands for the curve in everything, sampling included.
    """
    t, weights = np.polynomial.legendre.leggauss(n)
    return length * (t + 1) / 2, weights


def _ring(n: int) -> Array:
    angle = 2 * np.pi * np.arange(n) / n
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def _separate(name: str, modes: Array, sigma: float) -> Density:
    return SeparateModes(name, modes, np.full(len(modes), 1 / len(modes)), sigma)


_MAKERS: dict[str, Callable[..., Density]] = {
    "moons": _moons,
    "8gaussians": _eight_gaussians,
    "25grid": _grid,
    "8ring": _eight_ring,
    "checkerboard": lambda: Checkerboard("checkerboard"),
    "spirals": _spirals,
    "pinwheel": lambda: Pinwheel("pinwheel"),
}
_WITHOUT_SIGMA = ("checkerboard", "pinwheel")

TOYS = tuple(_MAKERS)
