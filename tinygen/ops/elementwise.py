"""Arithmetic, elementary functions and selection, by elements. Arguments broadcast; the engine sums gradients back."""

import math

import numpy as np

from kernels.calls import computed
from tinygen.autograd import Real, composite, primitive
from tinygen.autograd.domain import Boolean, Choice

# ----------------------------------------------------------------------------------------------------------- arithmetic


@primitive(domain=Real(), numpy=np.add, noted=True)
def add(a, b):
    """Elementwise sum: d(a + b) = da + db."""
    return computed(np.add, a, b)


add.vjp(a=lambda g: g, b=lambda g: g)


@primitive(domain=Real(), numpy=np.subtract, noted=True)
def subtract(a, b):
    """Elementwise difference: d(a - b) = da - db."""
    return computed(np.subtract, a, b)


subtract.vjp(a=lambda g: g, b=lambda g: -g)


@primitive(domain=Real(), numpy=np.multiply, noted=True)
def multiply(a, b):
    """Elementwise product: d(ab) = b da + a db."""
    return computed(np.multiply, a, b)


multiply.vjp(a=lambda g, b: g * b, b=lambda g, a: g * a)


@primitive(domain={"a": Real(), "b": Real(avoid=(0.0,), gap=0.3)}, numpy=np.divide, noted=True)
def divide(a, b):
    """Elementwise quotient: d(a/b) = (da - (a/b) db) / b."""
    return computed(np.divide, a, b)


divide.vjp(a=lambda g, b: g / b, b=lambda g, out, b: -g * out / b)


@primitive(domain={"a": Real(low=0.2, high=3.0), "b": Real()}, numpy=(np.power, np.float_power))
def power(a, b):
    """Elementwise power: d(aᵇ) = b aᵇ⁻¹ da + aᵇ log(a) db, with the limit 0 at a = 0 for db, and 0 at b = 0 for da."""
    return a**b if isinstance(a, np.ndarray) else np.power(a, b)  # the operator has short cuts for squares and roots


def _one_less(a, b):
    """B - 1, or any finite exponent where a = b = 0, so that 0 · 0⁻¹ is not NaN."""
    if isinstance(b, int | float):
        return b - 1 if b else 0
    return where(logical_and(equal(a, 0), equal(b, 0)), 0, b - 1)


def _log_or_zero(a):
    """log(a), and any finite number where a = 0, so that 0ᵇ log(0) is not NaN."""
    if isinstance(a, int | float):  # which has no dtype to lose
        return math.log(a) if a > 0 else math.nan if a else 0.0
    return log(where(equal(a, 0), 1, a))


power.vjp(
    a=lambda g, a, b: g * (b * power(a, _one_less(a, b))),
    b=lambda g, out, a: g * (out * _log_or_zero(a)),
)


@primitive(domain=Real(), numpy=np.negative, noted=True)
def negative(x):
    """Elementwise -x."""
    return computed(np.negative, x)


negative.vjp(x=lambda g: -g)


@primitive(domain=Real(), numpy=np.square, noted=True)
def square(x):
    """Elementwise x²: d(x²) = 2x dx."""
    return computed(np.square, x)


square.vjp(x=lambda g, x: g * (2 * x))


@primitive(domain=Real(avoid=(0.0,), gap=0.3), numpy=np.reciprocal, noted=True)
def reciprocal(x):
    """Elementwise 1/x: d(1/x) = -dx/x²."""
    return computed(np.reciprocal, x)


reciprocal.vjp(x=lambda g, out: -g * out * out)


@primitive(domain=Real(avoid=(0.0,)), numpy=np.sign, noted=True)
def sign(x):
    """Elementwise sign, -1, 0 or 1. Its derivative is 0, at the step too."""
    return computed(np.sign, x)


sign.vjp(x=lambda g: g * 0)


@primitive(domain=Real(avoid=(0.0,)), numpy=(np.absolute, np.fabs))
def abs(x):
    """Elementwise |x|: d|x| = sign(x) dx, and 0 at 0."""
    return np.absolute(x)


abs.vjp(x=lambda g, x: g * sign(x))


@primitive(domain=Real(avoid=(-2.0, -1.0, 0.0, 1.0, 2.0)), numpy=np.floor, noted=True)
def floor(x):
    """Elementwise largest integer not above x. Its derivative is 0, at the steps too."""
    return computed(np.floor, x)


floor.vjp(x=lambda g: g * 0)

# ------------------------------------------------------------------------------------------------- elementary functions


@primitive(domain=Real(), numpy=np.exp, noted=True)
def exp(x):
    """Elementwise eˣ: d(eˣ) = eˣ dx."""
    return computed(np.exp, x)


exp.vjp(x=lambda g, out: g * out)


@primitive(domain=Real(), numpy=np.expm1, noted=True)
def expm1(x):
    """Elementwise eˣ - 1, accurate near 0: d = eˣ dx."""
    return computed(np.expm1, x)


expm1.vjp(x=lambda g, x: g * exp(x))


@primitive(domain=Real(low=0.2, high=4.0), numpy=np.log, noted=True)
def log(x):
    """Elementwise natural logarithm: d(log x) = dx/x."""
    return computed(np.log, x)


log.vjp(x=lambda g, x: g / x)


@primitive(domain=Real(low=-0.7, high=3.0), numpy=np.log1p, noted=True)
def log1p(x):
    """Elementwise log(1 + x), accurate near 0: d = dx/(1 + x)."""
    return computed(np.log1p, x)


log1p.vjp(x=lambda g, x: g / (1 + x))


@primitive(domain=Real(low=0.2, high=4.0), numpy=np.sqrt, noted=True)
def sqrt(x):
    """Elementwise square root: d√x = dx/(2√x), infinite at 0."""
    return computed(np.sqrt, x)


sqrt.vjp(x=lambda g, out: g / (2 * out))


@primitive(domain=Real(), numpy=np.sin, noted=True)
def sin(x):
    """Elementwise sine (radians): d(sin x) = cos x dx."""
    return computed(np.sin, x)


@primitive(domain=Real(), numpy=np.cos, noted=True)
def cos(x):
    """Elementwise cosine (radians): d(cos x) = -sin x dx."""
    return computed(np.cos, x)


sin.vjp(x=lambda g, x: g * cos(x))
cos.vjp(x=lambda g, x: -g * sin(x))


@primitive(domain=Real(low=-1.2, high=1.2), numpy=np.tan, noted=True)
def tan(x):
    """Elementwise tangent (radians): d(tan x) = (1 + tan² x) dx."""
    return computed(np.tan, x)


tan.vjp(x=lambda g, out: g * (1 + out * out))


@primitive(domain=Real(), numpy=np.arctan, noted=True)
def arctan(x):
    """Elementwise inverse tangent (radians): d = dx/(1 + x²)."""
    return computed(np.arctan, x)


arctan.vjp(x=lambda g, x: g / (1 + x * x))


@primitive(domain=Real(), numpy=np.sinh, noted=True)
def sinh(x):
    """Elementwise hyperbolic sine: d(sinh x) = cosh x dx."""
    return computed(np.sinh, x)


@primitive(domain=Real(), numpy=np.cosh, noted=True)
def cosh(x):
    """Elementwise hyperbolic cosine: d(cosh x) = sinh x dx."""
    return computed(np.cosh, x)


sinh.vjp(x=lambda g, x: g * cosh(x))
cosh.vjp(x=lambda g, x: g * sinh(x))


@primitive(domain=Real())
def erf(x):
    """Elementwise error function (2/√π) ∫₀ˣ exp(-t²) dt."""
    x = np.asarray(x)
    return np.vectorize(math.erf, otypes=[x.dtype if x.dtype.kind == "f" else np.float64])(x)


erf.vjp(x=lambda g, x: g * (2 / math.sqrt(math.pi)) * exp(-x * x))


@primitive(domain=Real(), numpy=np.logaddexp, noted=True)
def logaddexp(a, b):
    """Elementwise log(eᵃ + eᵇ), without overflow: each argument's derivative is its share of the sum."""
    return computed(np.logaddexp, a, b)


def _share(g, out, a):
    return g * exp(a - where(equal(out, -math.inf), 0, out))  # -inf - -inf would be NaN


logaddexp.vjp(a=lambda g, out, a: _share(g, out, a), b=lambda g, out, b: _share(g, out, b))


# ------------------------------------------------------------------------------------------------------------ selection


@primitive(domain={"condition": Boolean(), "a": Real(), "b": Real()}, numpy=np.where)
def where(condition, a, b):
    """Elementwise a where the condition holds, b elsewhere.

    The gradient is selected too, never multiplied by a mask. A branch that is not chosen is still evaluated, and a
    derivative *inside* it that is not finite still propagates (0 · inf = NaN): guard its argument with a second where.

    Examples
    --------
    >>> import tinygen as tg
    >>> x = tg.tensor([-1.0, 4.0], requires_grad=True)
    >>> safe = tg.where(x > 0, x, 1.0)  # sqrt never sees the negative entry
    >>> tg.grad(tg.where(x > 0, tg.sqrt(safe), 0.0).sum(), x)
    tensor([0.  , 0.25], dtype=float32)
    """
    return np.where(condition, a, b)


where.vjp(a=lambda g, condition: where(condition, g, 0), b=lambda g, condition: where(condition, 0, g))


@primitive(domain=Real(gap=0.01), numpy=np.maximum, noted=True)
def maximum(a, b):
    """Elementwise larger value; at a tie, each gets half of the gradient."""
    return computed(np.maximum, a, b)


maximum.vjp(a=lambda g, a, b: _to_larger(g, a, b), b=lambda g, a, b: _to_larger(g, b, a))


@primitive(domain=Real(gap=0.01), numpy=np.minimum, noted=True)
def minimum(a, b):
    """Elementwise smaller value; at a tie, each gets half of the gradient."""
    return computed(np.minimum, a, b)


minimum.vjp(a=lambda g, a, b: _to_larger(g, b, a), b=lambda g, a, b: _to_larger(g, a, b))


def _to_larger(g, a, b):
    """All of g where a > b, half of it where they are equal."""
    return where(greater(a, b), g, where(equal(a, b), 0.5 * g, 0))


@composite(domain={"x": Real(avoid=(-1.0, 1.0)), "low": Choice(None, -1.0), "high": Choice(None, 1.0)}, numpy=np.clip)
def clip(x, low=None, high=None):
    """Elementwise x limited to [low, high]; None is no limit. On the limit itself, half of the gradient passes."""
    if low is not None:
        x = maximum(x, low)
    return x if high is None else minimum(x, high)


# ------------------------------------------------------------------------------------------------- comparison and logic


@primitive(domain=Real(), numpy=np.equal, noted=True)
def equal(a, b):
    """Elementwise a == b, boolean."""
    return computed(np.equal, a, b)


@primitive(domain=Real(), numpy=np.not_equal, noted=True)
def not_equal(a, b):
    """Elementwise a != b, boolean."""
    return computed(np.not_equal, a, b)


@primitive(domain=Real(), numpy=np.less, noted=True)
def less(a, b):
    """Elementwise a < b, boolean."""
    return computed(np.less, a, b)


@primitive(domain=Real(), numpy=np.less_equal, noted=True)
def less_equal(a, b):
    """Elementwise a <= b, boolean."""
    return computed(np.less_equal, a, b)


@primitive(domain=Real(), numpy=np.greater, noted=True)
def greater(a, b):
    """Elementwise a > b, boolean."""
    return computed(np.greater, a, b)


@primitive(domain=Real(), numpy=np.greater_equal, noted=True)
def greater_equal(a, b):
    """Elementwise a >= b, boolean."""
    return computed(np.greater_equal, a, b)


@primitive(domain={"a": Boolean(), "b": Boolean()}, numpy=np.logical_and, noted=True)
def logical_and(a, b):
    """Elementwise a and b, boolean."""
    return computed(np.logical_and, a, b)


@primitive(domain={"a": Boolean(), "b": Boolean()}, numpy=np.logical_or, noted=True)
def logical_or(a, b):
    """Elementwise a or b, boolean."""
    return computed(np.logical_or, a, b)


@primitive(domain={"x": Boolean()}, numpy=np.logical_not, noted=True)
def logical_not(x):
    """Elementwise not, boolean."""
    return computed(np.logical_not, x)


@primitive(domain=Real(), numpy=np.isfinite, noted=True)
def isfinite(x):
    """Elementwise whether x is neither infinite nor NaN, boolean."""
    return computed(np.isfinite, x)


@primitive(domain=Real(), numpy=np.isnan, noted=True)
def isnan(x):
    """Elementwise whether x is NaN, boolean."""
    return computed(np.isnan, x)


# ----------------------------------------------------------------------------------------------------------------- cast


@primitive(domain={"x": Real(), "dtype": Choice(np.float64)}, numpy=np.astype)
def astype(x, dtype):
    """X with another dtype. The gradient is cast back by the engine."""
    return np.asarray(x).astype(dtype)


astype.vjp(x=lambda g: g)
