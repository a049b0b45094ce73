"""Operations that draw random numbers, from a generator that they are given."""

import numpy as np

from tinygen.autograd import Real, composite, effect
from tinygen.autograd.domain import Choice, Generator
from tinygen.ops.elementwise import where


@composite(domain={"x": Real(), "p": Choice(0.5), "rng": Generator()})
def dropout(x, p, rng):
    """Each element is set to 0 with probability p, and divided by 1 - p otherwise (Srivastava et al. 2014)."""
    if not 0 <= p < 1:
        raise ValueError(f"dropout: p={p} must be from 0 to less than 1")
    kept = effect(_draw, np.shape(x), p, rng)
    return where(kept, x / (1 - p), 0)


def _draw(shape, p, rng):
    return np.asarray(rng.random(shape, dtype=np.float32) >= p)
