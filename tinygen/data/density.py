"""Densities on the plane whose likelihood and entropy are known, so that a model's distance from the optimum is too."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from tinygen.errors import ShapeError

Array = np.ndarray

_CHUNK = 1 << 17  # entries of a (points, centers) matrix held at once: 1 MB, which stays in cache
_MARGIN = 7.0  # a Gaussian leaves 2e-11 of its mass beyond this many standard deviations


@dataclass(frozen=True, eq=False)
class Density(ABC):
    """A probability density on the plane.

    Attributes
    ----------
    name : str
    """

    name: str

    @abstractmethod
    def sample(self, n: int, rng: np.random.Generator) -> Array:
        """Draw n points: ``(n, 2)``, float32."""

    def log_prob(self, x: Array) -> Array:
        """Log-density in nats, normalised, in float64.

        Parameters
        ----------
        x : array_like, (N, 2)
            Points; computed in float64 whatever the dtype.

        Returns
        -------
        ndarray, (N,)
            ``-inf`` where the density is zero.

        Raises
        ------
        ShapeError
            If x is not of shape (N, 2).
        """
        x = np.asarray(x, dtype=np.float64)
        if x.ndim != 2 or x.shape[1] != 2:
            raise ShapeError(
                f"log_prob of {self.name}: x has shape {x.shape} but points of the plane are (N, D)=(N, 2)"
            )
        return self._log_prob(x)

    def entropy(self) -> float:
        """Differential entropy ``-∫ p log p`` in nats, to 1e-6.

        By the trapezoidal rule on `box`, halving the step until two values agree to 1e-6. On a smooth function that
        vanishes at the edges the rule converges exponentially (Trefethen and Weideman 2014), so the second value is
        far closer than that.
        """
        step, previous = self.scale, np.inf
        while True:
            axes = [np.arange(low, high + step, step) for low, high in self.box.T]
            log_p = self._log_prob(np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 2))
            value = -(step**2) * float(np.exp(log_p) @ log_p)
            if abs(value - previous) < 1e-6:
                return value
            step, previous = step / 2, value

    @property
    @abstractmethod
    def box(self) -> Array:
        """Lower left and upper right corner ``(2, 2)`` of a rectangle that holds all but 1e-9 of the mass."""

    @property
    @abstractmethod
    def scale(self) -> float:
        """The shortest distance over which the density changes much."""

    @abstractmethod
    def _log_prob(self, x: Array) -> Array:
        """`log_prob` of checked points."""


@dataclass(frozen=True, eq=False)
class GaussianMixture(Density):
    """Round Gaussians of one size: ``p(x) = Σ_k weights[k] N(x; centers[k], sigma² I)``.

    Attributes
    ----------
    centers : ndarray, (K, 2), float64
    weights : ndarray, (K,), float64
        They sum to one.
    sigma : float
        The standard deviation along each axis.
    """

    centers: Array
    weights: Array
    sigma: float

    def sample(self, n: int, rng: np.random.Generator) -> Array:
        """Draw n points: ``(n, 2)``, float32."""
        centers = self.centers[rng.choice(len(self.weights), size=n, p=self.weights)]
        return (centers + self.sigma * rng.standard_normal((n, 2))).astype(np.float32)

    @property
    def box(self) -> Array:
        """Lower left and upper right corner ``(2, 2)`` of a rectangle that holds all but 1e-9 of the mass."""
        margin = _MARGIN * self.sigma
        return np.stack([self.centers.min(axis=0) - margin, self.centers.max(axis=0) + margin])

    @property
    def scale(self) -> float:
        """The standard deviation."""
        return self.sigma

    def _log_prob(self, x: Array) -> Array:
        rows = max(1, _CHUNK // len(self.weights))
        parts = [self._log_prob_of_chunk(x[i : i + rows]) for i in range(0, len(x), rows)]
        return np.concatenate(parts) if parts else np.empty(0)

    def _log_prob_of_chunk(self, x: Array) -> Array:
        # -|x-c|²/2σ² = (x·c - |c|²/2)/σ² - |x|²/2σ²; only the first part differs between centers.
        precision = 1 / self.sigma**2
        log_scale = np.log(self.weights * precision / (2 * np.pi)) - 0.5 * precision * (self.centers**2).sum(axis=1)
        log_parts = x @ (precision * self.centers.T) + log_scale
        top = log_parts.max(axis=1)
        log_sum = top + np.log(np.exp(log_parts - top[:, None]).sum(axis=1))
        return log_sum - 0.5 * precision * (x**2).sum(axis=1)


@dataclass(frozen=True, eq=False)
class SeparateModes(GaussianMixture):
    """Equal Gaussians that lie apart, so that a sample's mode can be told: mode coverage is counted on these."""

    @property
    def modes(self) -> Array:
        """The centres ``(K, 2)``."""
        return self.centers


@dataclass(frozen=True, eq=False)
class Checkerboard(Density):
    """Uniform on the eight squares of side 2 of ``[-4, 4]²`` whose column and row numbers have an even sum."""

    def sample(self, n: int, rng: np.random.Generator) -> Array:
        """Draw n points: ``(n, 2)``, float32."""
        column = rng.integers(4, size=n)
        row = 2 * rng.integers(2, size=n) + column % 2
        corner = 2 * np.stack([column, row], axis=1) - 4
        # On a grid that float32 represents: rounding never carries a point over the edge of its square.
        return (corner + rng.integers(1 << 21, size=(n, 2)) / (1 << 20)).astype(np.float32)

    def entropy(self) -> float:
        """``ln 32`` nats: the logarithm of the area."""
        return float(np.log(32))

    @property
    def box(self) -> Array:
        """Lower left and upper right corner ``(2, 2)``."""
        return np.array([[-4.0, -4.0], [4.0, 4.0]])

    @property
    def scale(self) -> float:
        """The side of a square."""
        return 2.0

    def _log_prob(self, x: Array) -> Array:
        inside = ((x >= -4) & (x < 4)).all(axis=1)
        even = np.floor(x / 2).sum(axis=1) % 2 == 0
        return np.where(inside & even, -np.log(32), -np.inf)


@dataclass(frozen=True, eq=False)
class Pinwheel(Density):
    """Five swirled blades: ``x = 2 R(angle_k + exp(|f|)/4) f`` with ``f ~ N((1, 0), diag(.3², .1²))``, R a rotation.

    Johnson et al. 2016 turn by ``exp(f₁)/4`` and so fold the plane. Turning by the radius, which differs little since
    f₁ ≈ |f|, preserves area: the density is that of f, over the 4 by which the plane is enlarged.
    """

    _BLADES = 2 * np.pi * np.arange(5) / 5
    _MEAN = np.array([1.0, 0.0])
    _STD = np.array([0.3, 0.1])

    def sample(self, n: int, rng: np.random.Generator) -> Array:
        """Draw n points: ``(n, 2)``, float32."""
        f = self._MEAN + self._STD * rng.standard_normal((n, 2))
        angle = rng.choice(self._BLADES, size=n) + np.exp(np.linalg.norm(f, axis=1)) / 4
        return (2 * _rotate(f, angle)).astype(np.float32)

    @property
    def box(self) -> Array:
        """Lower left and upper right corner ``(2, 2)`` of a rectangle that holds all but 1e-9 of the mass."""
        radius = 2 * (1 + _MARGIN * 0.3)
        return np.array([[-radius, -radius], [radius, radius]])

    @property
    def scale(self) -> float:
        """The smaller standard deviation."""
        return 0.2

    def _log_prob(self, x: Array) -> Array:
        f = x / 2
        swirl = np.exp(np.minimum(np.linalg.norm(f, axis=1), 700)) / 4  # farther out, the angle only has to be finite
        z = np.stack([(_rotate(f, -blade - swirl) - self._MEAN) / self._STD for blade in self._BLADES])
        log_parts = -0.5 * (z**2).sum(axis=-1)
        normalizer = np.log(4 * len(self._BLADES) * 2 * np.pi * self._STD.prod())
        return np.logaddexp.reduce(log_parts, axis=0) - normalizer


def _rotate(x: Array, angle: Array) -> Array:
    """Turn the points x ``(N, 2)`` by angle ``(N,)``, counter-clockwise."""
    cos, sin = np.cos(angle), np.sin(angle)
    return np.stack([cos * x[:, 0] - sin * x[:, 1], sin * x[:, 0] + cos * x[:, 1]], axis=1)
