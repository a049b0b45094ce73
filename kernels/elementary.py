"""Elementary functions of one number that compilers can vectorise: no branch, no table, no call into the C library.

They are for use inside compiled kernels, on float32 and float64 alike, and keep NaN and infinities as NumPy does. A
loop over ``math.exp`` takes 3 ns an element; one over `exp` takes 0.5 ns, because eight are computed at once (AVX2,
float32). The recipe is the classic one of Cody and Waite (1980): reduce the argument until a short polynomial
suffices, and undo the reduction exactly.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from numba import types
from numba.extending import overload

from kernels.compilation import jit

FLAGS = {"contract"}
"""The only liberty elementwise kernels allow: a product and a sum may become one fused instruction, rounded once."""

_OPTIONS: Any = {"fastmath": FLAGS, "error_model": "numpy"}


class _Format(NamedTuple):
    """What the algorithms must know about a floating-point format."""

    real: type
    unsigned: type
    signed: type
    """The integers of the same width, to work on the bits."""
    mantissa: int
    """Bits of the significand that are stored, which is where the exponent's bits begin."""
    bias: int
    """Added to an exponent before it is stored."""
    underflow: float
    overflow: float
    """Where exp has reached 0 and infinity."""
    exp_degree: int
    """Taylor's remainder, (ln(2) / 2)^d / (d + 1)!, is below half a unit in the last place."""
    artanh_terms: int
    """The first term left out, s^(2n) / (2 n + 1) with s = (√2 - 1) / (√2 + 1), likewise."""


LN2_HIGH = 22713 / 32768
"""ln 2 to so few bits that its product with any exponent is exact, also in float32."""

LN2_LOW = 1.4286068203094173e-6
"""The rest of ln 2."""

HALF_PI_HIGH = 1.5707963267341256
"""π/2 to 33 bits, so that its product with any integer of 20 bits is exact in float64."""

HALF_PI_LOW = 6.077100506506192e-11
"""The rest of π/2."""

LARGEST_ANGLE = 1e6
"""Up to which the integer has no more bits."""

_FORMATS = {
    types.float32: _Format(
        real=np.float32,
        unsigned=np.uint32,
        signed=np.int32,
        mantissa=23,
        bias=127,
        underflow=-104.0,
        overflow=89.0,
        exp_degree=7,
        artanh_terms=5,
    ),
    types.float64: _Format(
        real=np.float64,
        unsigned=np.uint64,
        signed=np.int64,
        mantissa=52,
        bias=1023,
        underflow=-746.0,
        overflow=710.0,
        exp_degree=13,
        artanh_terms=10,
    ),
}


# --------------------------------------------------------------------------------------------------- those with series


def _reduce(x: Any) -> Any:
    """For x = k ln 2 + r with an integer k and |r| <= ln(2) / 2: the integer k + 2 bias, and expm1(r)."""


@overload(_reduce, jit_options=_OPTIONS)
def _reduce_for(x: Any) -> Any:
    f = _FORMATS[x]
    real, unsigned = f.real, f.unsigned
    log2_e, ln2_high, ln2_low = real(1 / math.log(2)), real(LN2_HIGH), real(LN2_LOW)
    # A number this large has no bits for a fraction: adding it rounds to an integer, which then stands in the low bits.
    round_off = real(1.5 * 2**f.mantissa)
    offset = unsigned(int(round_off.view(unsigned)) - 2 * f.bias)
    # expm1(r) / r = 1 + r/2 + r²/6 + …, highest power first
    series = tuple(real(1 / math.factorial(n + 1)) for n in range(f.exp_degree - 1, -1, -1))

    def reduce(x: Any) -> Any:
        rounded = x * log2_e + round_off
        k = rounded - round_off
        r = x - k * ln2_high - k * ln2_low
        polynomial = series[0]
        for coefficient in series[1:]:
            polynomial = polynomial * r + coefficient
        return unsigned(real(rounded).view(unsigned) - offset), polynomial * r

    return reduce


def exp(x: Any) -> Any:
    """The exponential; error below 1 unit in the last place, also where the result is subnormal."""


@overload(exp, jit_options=_OPTIONS)
def _exp_for(x: Any) -> Any:
    f = _FORMATS[x]
    real, unsigned = f.real, f.unsigned
    one, lowest, highest = real(1), real(f.underflow), real(f.overflow)
    to_exponent, one_bit = unsigned(f.mantissa), unsigned(1)

    def exp(x: Any) -> Any:
        x = lowest if x < lowest else x  # in this order NaN stays NaN
        x = highest if x > highest else x
        k, expm1_r = _reduce(x)
        # 2^k in two factors: for large |k| it is beyond what one exponent field holds, though the result need not be.
        first = unsigned(k >> one_bit)
        second = unsigned(k - first)
        scale = unsigned(first << to_exponent).view(real)
        return (one + expm1_r) * scale * unsigned(second << to_exponent).view(real)

    return exp


def expm1(x: Any) -> Any:
    """``exp(x) - 1`` for ``x <= 0``, without the cancellation; error below 2 units in the last place."""


@overload(expm1, jit_options=_OPTIONS)
def _expm1_for(x: Any) -> Any:
    f = _FORMATS[x]
    real, unsigned = f.real, f.unsigned
    one, lowest = real(1), real(-f.mantissa)  # exp(-mantissa) is already lost beside 1
    to_exponent, bias = unsigned(f.mantissa), unsigned(f.bias)

    def expm1(x: Any) -> Any:
        x = lowest if x < lowest else x
        k, expm1_r = _reduce(x)
        scale = unsigned(unsigned(k - bias) << to_exponent).view(real)
        return expm1_r * scale - (one - scale)

    return expm1


def log1p(x: Any) -> Any:
    """``log(1 + x)`` for ``0 <= x <= 1``; error below 3 units in the last place."""


@overload(log1p, jit_options=_OPTIONS)
def _log1p_for(x: Any) -> Any:
    real, terms = _FORMATS[x].real, _FORMATS[x].artanh_terms
    zero, one, two, three = real(0), real(1), real(2), real(3)
    middle, ln2 = real(math.sqrt(2) - 1), real(math.log(2))
    series = tuple(real(2 / (2 * n + 1)) for n in range(terms - 1, -1, -1))

    def log1p(x: Any) -> Any:
        # log(y) = log(c) + 2 artanh((y - c) / (y + c)), with c = 1 or 2, whichever is nearer to y = 1 + x
        above = x > middle
        s = (x - one if above else x) / (x + (three if above else two))
        square = s * s
        polynomial = series[0]
        for coefficient in series[1:]:
            polynomial = polynomial * square + coefficient
        return polynomial * s + (ln2 if above else zero)

    return log1p


def sine_and_cosine(x: Any) -> Any:
    """Both of an angle up to `LARGEST_ANGLE`, in radians; error below 1.5 units in the last place; -0 counts as 0."""


@overload(sine_and_cosine, jit_options=_OPTIONS)
def _sine_and_cosine_for(x: Any) -> Any:
    if x == types.float64:  # several times slower, but float64 is for tests and studies

        def both64(x: Any) -> Any:
            return math.sin(x), math.cos(x)

        return both64

    # x = k π/2 + r with an integer k and |r| <= π/4. In float64, in which the product of k and the high part is exact,
    # r keeps all digits that float32 can hold, also near a multiple of π/2.
    quarters, high, low = 2 / math.pi, HALF_PI_HIGH, HALF_PI_LOW
    round_off = 1.5 * 2.0**52  # as in `_reduce`
    sine = tuple(np.float32((-1) ** n / math.factorial(2 * n + 1)) for n in range(4, 0, -1))
    cosine = tuple(np.float32((-1) ** n / math.factorial(2 * n)) for n in range(5, 0, -1))
    one, zero, bit, two = np.float32(1), np.uint64(0), np.uint64(1), np.uint64(2)

    def both(x: Any) -> Any:
        rounded = np.float64(x) * quarters + round_off
        k = rounded - round_off
        quadrant = np.float64(rounded).view(np.uint64)
        r = np.float32(np.float64(x) - k * high - k * low)
        square = r * r
        s, c = sine[0], cosine[0]
        for coefficient in sine[1:]:
            s = s * square + coefficient
        for coefficient in cosine[1:]:
            c = c * square + coefficient
        s, c = s * square * r + r, c * square + one
        sin = s if quadrant & bit == zero else c
        cos = c if quadrant & bit == zero else -s
        return sin if quadrant & two == zero else -sin, cos if quadrant & two == zero else -cos

    return both


# ------------------------------------------------------------------------------------------------ composed of the above


@jit(fastmath=FLAGS)
def sigmoid(x: Any) -> Any:
    """``1 / (1 + exp(-x))``, which exponentiates only what cannot overflow."""
    one = type(x)(1)
    e = exp(-abs(x))
    return (one if x >= 0 else e) / (one + e)


@jit(fastmath=FLAGS)
def tanh(x: Any) -> Any:
    """The hyperbolic tangent, from ``expm1`` so that small arguments keep their digits."""
    e = expm1(type(x)(-2) * abs(x))
    magnitude = e / (type(x)(2) + e)
    odd = -magnitude if x > 0 else magnitude
    return x if x == 0 else odd  # keeps the sign of a zero


@jit(fastmath=FLAGS)
def softplus(x: Any) -> Any:
    """``log(1 + exp(x))``, which exponentiates only what cannot overflow."""
    zero = type(x)(0)
    return (zero if x < zero else x) + log1p(exp(-abs(x)))


@jit(fastmath=FLAGS)
def normal_pdf(x: Any) -> Any:
    """The standard normal density, exp(-x²/2) / √(2π)."""
    real = type(x)
    return exp(-x * x * real(0.5)) * real(1 / math.sqrt(2 * math.pi))


_TAIL = (
    0.0157418441,
    -0.05837098,
    0.0415892863,
    0.0413678096,
    0.00240035857,
    0.0919320949,
    0.0702728822,
    0.0958633854,
    0.0994535661,
    0.0997497554,
)
"""Φ(-a) exp(a²/2) = Σ c t^n for 0 <= a <= 14.5, where t = 1 / (1 + a/4) and n counts from 10 down to 1: interpolated
at the Chebyshev nodes in t, relative error 1.3e-8. Beyond, Φ(-a) is 0 in float32. (The form is Hastings', 1955.)"""


def normal_cdf(x: Any) -> Any:
    """The standard normal distribution function Φ(x) = erfc(-x/√2) / 2; the left tail keeps its digits too."""


@overload(normal_cdf, jit_options=_OPTIONS, inline="always")
def _normal_cdf_for(x: Any) -> Any:
    if x == types.float64:  # the C library's erfc is 20 times slower, but float64 is for tests and studies

        def cdf64(x: Any) -> Any:
            return 0.5 * math.erfc(-x / math.sqrt(2.0))

        return cdf64

    series = tuple(np.float32(c) for c in _TAIL)
    one, quarter, half = np.float32(1), np.float32(0.25), np.float32(0.5)

    def cdf(x: Any) -> Any:
        t = one / (one + quarter * abs(x))
        polynomial = series[0]
        for coefficient in series[1:]:
            polynomial = polynomial * t + coefficient
        tail = polynomial * t * exp(-x * x * half)
        return one - tail if x > 0 else tail

    return cdf


# ------------------------------------------------------------------------------------------------------ of many numbers


def largest(row: Any) -> Any:
    """The largest element of a row that has one, or NaN. A NaN whose sign bit is set is passed over."""


@overload(largest, jit_options=_OPTIONS)
def _largest_for(row: Any) -> Any:
    real, signed = _FORMATS[row.dtype].real, _FORMATS[row.dtype].signed
    lowest = signed(np.iinfo(signed).min)

    def largest(row: Any) -> Any:
        # Turned from sign and magnitude into two's complement, the bits have the order of the numbers; and a maximum of
        # integers vectorises, where one of numbers, because of NaN, does not.
        top = lowest
        for i in range(row.size):
            bits = real(row[i]).view(signed)
            ordered = bits if bits >= 0 else signed(lowest - bits)
            top = ordered if ordered > top else top
        return signed(top if top >= 0 else lowest - top).view(real)

    return largest
