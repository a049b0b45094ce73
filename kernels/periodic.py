"""Sines and cosines of times, the features by which networks know them."""

import math

import numpy as np

from kernels.arguments import Array, check
from kernels.calls import empty
from kernels.compilation import jit
from kernels.elementary import FLAGS, LARGEST_ANGLE, sine_and_cosine
from kernels.threads import run, share

NANOSECONDS = 0.7
"""The time that an angle takes on one core in float32, measured."""


def sinusoids(x: Array, frequencies: Array) -> Array:
    """`kernels.reference.sinusoids`, compiled.

    Raises
    ------
    TypeError : x and frequencies are not arrays of one dtype, float32 or float64
    ValueError : they are not flat
    """
    x = check("sinusoids", "x", x, "M")
    frequencies = check("sinusoids", "frequencies", frequencies, "F", x.dtype)
    y = empty((len(x), 2 * len(frequencies)), x.dtype)
    run(_sinusoids, y.size / 2 * NANOSECONDS, x, frequencies, y)
    return y


@jit(fastmath=FLAGS)
def _sinusoids(worker: int, workers: int, x: Array, frequencies: Array, y: Array) -> None:
    half, highest = len(frequencies), 0.0
    for frequency in frequencies:
        highest = max(highest, abs(frequency))
    first, last = share(worker, workers, len(x))
    for m in range(first, last):
        time, sines, cosines = x[m], y[m, :half], y[m, half:]
        if abs(time) * highest <= LARGEST_ANGLE:
            for i in range(half):
                sines[i], cosines[i] = sine_and_cosine(time * frequencies[i])
        else:
            for i in range(half):
                angle = np.float64(time * frequencies[i])
                sines[i], cosines[i] = math.sin(angle), math.cos(angle)
