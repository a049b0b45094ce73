"""The hypothesis strategy of noise schedules."""

import math

import numpy as np
from hypothesis import strategies as st
from hypothesis.errors import InvalidArgument
from hypothesis.strategies import SearchStrategy


def schedules(T: int | SearchStrategy[int]) -> SearchStrategy[np.ndarray]:
    """Noise schedules β_1 … β_T, ``(T,)`` in float64, that leave at most 1 % of the signal's power: Π (1-β) <= 0.01.

    Any shape is drawn, and the two that people use: linear (Ho et al. 2020, section 4, times 1000/T; from T = 21 on, as
    β would pass 1 before), and cosine (Nichol and Dhariwal 2021, eq. 17).

    Parameters
    ----------
    T : how many steps, at least 1, or a strategy that says how many

    Raises
    ------
    hypothesis.errors.InvalidArgument : T is not a whole number from 1 on; at once if it is a value

    Examples
    --------
    >>> from hypothesis import given, strategies as st
    >>> from tinygen.models.ddpm import NoiseSchedule
    >>> from tinygen.testing import check_diffusion, rngs, schedules
    >>> @given(schedules(st.integers(1, 30)).map(NoiseSchedule), rngs())
    ... def test_diffusion(process, rng):
    ...     check_diffusion(process, rng=rng)
    >>> test_diffusion()
    """
    return T.flatmap(_schedules) if isinstance(T, SearchStrategy) else _schedules(T)


def _schedules(steps: int) -> SearchStrategy[np.ndarray]:
    if not isinstance(steps, int | np.integer) or steps < 1:
        raise InvalidArgument(f"schedules: T={steps!r} is not a number of steps, which is a whole number from 1 on")
    rates = st.lists(st.integers(1, 100), min_size=steps, max_size=steps).map(np.array)
    total = st.integers(5, 12)  # -log Π (1-β), in nats; log 100 = 4.6
    anything = st.builds(lambda rate, total: -np.expm1(-total * rate / rate.sum()), rates, total)
    cosine = np.cos((np.arange(steps + 1) / steps + 0.008) / 1.008 * math.pi / 2) ** 2
    usual = [np.minimum(1 - cosine[1:] / cosine[:-1], 0.999)]
    if steps > 20:
        usual.append(np.linspace(1e-4, 0.02, steps) * 1000 / steps)
    return st.one_of(anything, st.sampled_from(usual).map(np.copy))
