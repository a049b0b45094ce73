"""A spline, and the mistakes that its log-determinant can be given."""

import numpy as np

Array = np.ndarray
Pair = tuple[Array, Array]


class Spline:
    """A monotone quadratic spline of every entry (Müller et al. 2019), with straight tails beyond -2 and 2.

    In bin k, where x = x_k + ξ w, the slope is d_k + ξ (d_{k+1} - d_k).

    Attributes
    ----------
    wraps : in the log-determinant, the index of the slope after the last bin wraps around to the first
    flat_tails : the log-determinant takes the tails' slope for one
    """

    def __init__(self, rng: np.random.Generator, *, wraps: bool = False, flat_tails: bool = False) -> None:
        self.bins = 5
        widths = rng.uniform(0.5, 1.5, self.bins)
        self.x = np.append(0, np.cumsum(widths)) * (4 / widths.sum()) - 2
        self.d = np.append(rng.uniform(0.4, 2, self.bins), 2.5)
        rises = np.diff(self.x) * (self.d[:-1] + self.d[1:]) / 2
        self.y = np.append(0, np.cumsum(rises)) - 2
        self.slopes = self.bins if wraps else self.bins + 1
        self.flat_tails = flat_tails

    def bin_of(self, knots: Array, place: Array) -> Array:
        """The bins of places within the knots."""
        return np.clip(np.searchsorted(knots, place) - 1, 0, self.bins - 1)

    def forward(self, x: Array) -> Pair:
        """To z."""
        inside = np.clip(x, self.x[0], self.x[-1])
        k = self.bin_of(self.x, inside)
        width, bend = np.diff(self.x)[k], np.diff(self.d)[k]
        xi = (inside - self.x[k]) / width
        z = self.y[k] + width * xi * (self.d[k] + xi * bend / 2) + (self.d[k] + xi * bend) * (x - inside)
        return z, self.log_det(k, xi, x == inside)

    def inverse(self, z: Array) -> Pair:
        """To x."""
        inside = np.clip(z, self.y[0], self.y[-1])
        k = self.bin_of(self.y, inside)
        width, bend = np.diff(self.x)[k], np.diff(self.d)[k]
        rise = (inside - self.y[k]) / width
        xi = 2 * rise / (self.d[k] + np.sqrt(self.d[k] ** 2 + 2 * bend * rise))  # of two roots, the one without 0/0
        x = self.x[k] + width * xi + (z - inside) / (self.d[k] + xi * bend)
        return x, -self.log_det(k, xi, z == inside)

    def log_det(self, k: Array, xi: Array, within: Array) -> Array:
        """The sum of the slopes' logarithms."""
        after = self.d[(k + 1) % self.slopes]
        logs = np.log(self.d[k] + xi * (after - self.d[k]))
        return np.where(within | (not self.flat_tails), logs, 0).sum(axis=1)
