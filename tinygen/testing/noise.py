"""The judge of normal noise, in bounds that hold at any sample size."""

import math
from statistics import NormalDist

import numpy as np

from tinygen.testing.verdicts import CheckError

QUANTILES = np.arange(1, 32) / 32


def check_noise(noise: np.ndarray, sd: float, sd_error: float, false_alarm: float, what: str) -> None:
    """Raise `CheckError` unless ``noise`` (calls, examples, entries) looks independent and N(0, sd²), all of it.

    Ten bounds are tried, each of which breaks with probability e^-x at most if it is so: two of χ² for the variance and
    two for each axis (Laurent and Massart 2000, lemma 1), and the distance of distribution functions (Massart 1990),
    which counts as two.

    Parameters
    ----------
    noise : all from one generator, in three axes
    sd, sd_error : the standard deviation that is expected, and how far rounding may lead from it
    false_alarm : probability that noise as it should be is rejected
    what : where the noise was found, for the message
    """
    x = math.log(10 / false_alarm)
    z = noise / sd
    low, high = _chi_square(z.size, x)
    power = float(np.mean(z**2))
    wrong = []
    for axis, name in enumerate(("calls", "examples", "entries") if power else ()):
        # Sums of k independent entries have k times their power. Divided by the power, σ does not matter.
        least, most = _chi_square(z.size // z.shape[axis], x)
        ratio = float(np.mean(z.sum(axis=axis) ** 2)) / z.shape[axis] / power
        if not least / high <= ratio <= most / low:
            wrong.append((abs(ratio - 1), name, ratio, least / high, most / low))
    if wrong:
        _, name, ratio, least, most = max(wrong)
        raise CheckError(
            f"{what}: the noise of different {name} is not independent: the power of its sums is {ratio:.4g} of "
            f"the sum of powers, expected 1, from {least:.4g} to {most:.4g}"
        )
    found, least, most = math.sqrt(power) * sd, math.sqrt(low) * (sd - sd_error), math.sqrt(high) * (sd + sd_error)
    if not least <= found <= most:
        raise CheckError(
            f"{what}: the noise has standard deviation {found:.6g}, expected {sd:.6g}, from {least:.6g} to {most:.6g} "
            f"in {z.size} entries"
        )
    allowed = math.sqrt(x / (2 * z.size)) + sd_error / sd
    for q in QUANTILES.tolist():
        share = np.count_nonzero(z <= NormalDist().inv_cdf(q)) / z.size
        if abs(share - q) > allowed:
            raise CheckError(
                f"{what}: {share:.4g} of the noise is below the normal quantile {q}, not {q} ± {allowed:.2g}"
            )


def detectable(n: int, false_alarm: float, missed: float) -> float:
    """A σ that is wrong by this factor, up or down, passes `check_noise` of n entries with probability ``missed``.

    At most, that is: it passes only if χ²_n / n is beyond a bound that holds but with that probability.
    """
    low, high = _chi_square(n, math.log(10 / false_alarm))
    least, most = _chi_square(n, math.log(1 / missed))
    return math.sqrt(max(high / least, most / low))


def _chi_square(n: int, x: float) -> tuple[float, float]:
    """Bounds of χ²_n / n that each hold but with probability e^-x (Laurent and Massart 2000, lemma 1)."""
    return 1 - 2 * math.sqrt(x / n), 1 + 2 * math.sqrt(x / n) + 2 * x / n
