"""A checker of fast kernels against a plain reference."""

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import numpy as np

from tinygen.testing.strategies import LAYOUTS, Layout
from tinygen.testing.verdicts import CheckError, ContractError, assert_close, check_tolerances, conclude, generator

Results = list[np.ndarray | None]

STEP = 2.0**-30  # relative, of a probe: nearly linear, and far above float64's rounding
PROBES = 32  # their geometric mean is within a factor of 5 for all but one entry in 10⁶


def check_kernel(
    fast: Callable,
    reference: Callable,
    *args: Any,
    roundings: float = 16,
    scale: Callable | None = None,
    rng: np.random.Generator | None = None,
) -> None:
    """Check that a kernel computes what its reference does, for arguments in any layout, and touches nothing else.

    The reference, run in float64, is the truth y. With ε the spacing of numbers at 1 in the arguments' dtype, an entry
    may be off by

        roundings · ε · (|y| + Σᵢ |xᵢ ∂y/∂xᵢ| + scale),

    which is as far as y moves when it and all numbers x that it is made of change by so many roundings: the mixed
    forward-backward error of a stable algorithm (Higham 2002, "Accuracy and Stability of Numerical Algorithms", section
    1.5). For a sum the second term is the sum of the terms' magnitudes, however much they cancel. Magnitudes below the
    smallest normal number count as zero; where the reference, run in the arguments' dtype, errs too, the kernel may err
    twice as much there; and where it overflows, so may the kernel.

    *Power.* In float32 a sum is found to lack one of n terms of like size for n up to 10⁴, and to have been added up in
    half precision for any n; that its terms alone were rounded so is found for n up to about 100, for these errors
    average out, while what is allowed grows like n. In float64, much smaller mistakes are found. *False alarms.* The
    default of 16 is five standard deviations of the rounding error of 2000 terms of one sign that are added up one
    after another (Higham and Mary 2019, "A new approach to probabilistic rounding error analysis"); for n more of them,
    pass √n / 3.

    Arguments and the memory around them must not be written to, and NaN lies there, or the largest integer, so that
    reading it shows. Results must repeat bit by bit, and must not share memory with arguments, with each other or with
    those of another call, unless the reference's do. To check a kernel that works in place, wrap it and its reference
    in functions that copy the arguments which they change, and return the copies.

    Parameters
    ----------
    fast, reference : functions of arrays and settings to an array, or a tuple with arrays and Nones; the reference must
        work in float64 also, and is called some 40 times for each of two sets of arguments: those given, and, where it
        raises nothing, those whose floating arrays repeat their first slice, for strides of zero
    args : their arguments; Python's numbers are settings, which no rounding changes
    roundings : how many roundings an entry may be off; 0 for a kernel that only moves numbers
    scale : the size of numbers that cancel on the way to y whatever x is, as in x - mean(x) of a single x, or log(1 +
        x): a function of the arguments, in float64, to as many arrays or numbers as there are results
    rng : draws the probes from which the sum over i is estimated

    Raises
    ------
    ContractError : naming the result, the worst entry and the reference's own error
    ValueError : ``roundings`` or ``scale`` is negative, infinite or NaN

    Examples
    --------
    >>> check_kernel(lambda x: np.cumsum(x)[-1:], lambda x: x.sum(keepdims=True), np.linspace(-1, 1, 101))
    >>> check_kernel(lambda x: x[:100].sum(keepdims=True), lambda x: x.sum(keepdims=True), np.linspace(-1, 1, 101))
    Traceback (most recent call last):
    tinygen.testing.verdicts.ContractError: result 0 for arguments in layout C ...: 1 of 1 entries differ, ...
    """
    check_tolerances(roundings=roundings)
    rng = generator(rng)
    _check_layouts(fast, reference, args, LAYOUTS[:-1], roundings, scale, rng)
    repeated = [np.array(Layout("zero-stride")(a)) if _is_float(a) else a for a in args]
    try:
        with np.errstate(all="ignore"):
            reference(*repeated)
    except Exception:  # equal slices are outside of its domain, as equal rows of a matrix to be inverted are
        conclude(None)
        return
    longest = max((len(a) for a in repeated if _is_float(a) and a.ndim), default=1)
    if roundings:
        roundings = max(roundings, longest)  # for equal terms are all rounded to one side
    _check_layouts(fast, reference, repeated, LAYOUTS[-1:], roundings, scale, rng)
    conclude(None)


def _check_layouts(
    fast: Callable,
    reference: Callable,
    args: Sequence[Any],
    names: Sequence[str],
    roundings: float,
    scale: Callable | None,
    rng: np.random.Generator,
) -> None:
    wide = [a.astype(np.float64) if _is_float(a) else a for a in args]
    with np.errstate(all="ignore"):
        truth, naive, again = (_results(reference(*given)) for given in (wide, args, args))
        scales = _scales(scale, wide, truth)

    @cache
    def conditions() -> list[np.ndarray]:
        return [a + b for a, b in zip(_conditions(reference, wide, truth, rng), scales, strict=True)]

    def condition(i: int) -> np.ndarray:
        return conditions()[i]

    for name in names:
        found, repeat = (_call(fast, args, naive, Layout(name)) for _ in range(2))
        _check_memory(found, repeat, naive, again, name)
        for i, (actual, own, exact) in enumerate(zip(found, naive, truth, strict=True)):
            if actual is None or own is None or exact is None:
                if actual is not own:
                    conclude(ContractError(f"result {i} is None for one of kernel and reference"))
                continue
            what = f"result {i} for arguments in layout {name}"
            try:
                if own.dtype.kind != "f":
                    assert_close(actual, own, what=what)
                else:
                    _compare(actual, own, exact, roundings, partial(condition, i), what)
            except CheckError as wrong:
                conclude(ContractError(str(wrong)))


def _scales(scale: Callable | None, wide: Sequence[Any], truth: Results) -> Sequence[Any]:
    if scale is None:
        return [0.0] * len(truth)
    given = scale(*wide)
    scales = given if isinstance(given, tuple) else (given,)
    for size, exact in zip(scales, truth, strict=True):
        if exact is not None:
            check_tolerances(scale=np.where(np.isfinite(exact), size, 0))
    return [np.nan_to_num(size, nan=0.0, posinf=0.0) for size in scales]


def _check_memory(found: Results, repeat: Results, naive: Results, again: Results, name: str) -> None:
    """Check that results repeat, and that they share memory only where the reference's do."""
    for i, (a, b) in enumerate(zip(found, repeat, strict=True)):
        if a is not None and b is not None and a.tobytes() != b.tobytes():
            conclude(ContractError(f"result {i} for arguments in layout {name} differs when computed again"))
        for j in range(len(found)):
            if _overlap(a, repeat[j]) and not _overlap(naive[i], again[j]):
                conclude(ContractError(f"result {i} shares memory with result {j} of another call"))
            if j < i and _overlap(a, found[j]) and not _overlap(naive[i], naive[j]):
                conclude(ContractError(f"result {i} shares memory with result {j}"))


def _overlap(a: np.ndarray | None, b: np.ndarray | None) -> bool:
    return a is not None and b is not None and np.shares_memory(a, b)


def _is_float(a: Any) -> bool:
    return isinstance(a, np.ndarray) and a.dtype.kind == "f"


def _results(y: Any) -> Results:
    given = y if isinstance(y, tuple) else (y,)
    arrays = {id(a): np.asarray(a) for a in given}  # what is returned twice stays one, even as one of NumPy's scalars
    return [None if a is None else arrays[id(a)] for a in given]


def _call(fast: Callable, args: Sequence[Any], naive: Results, layout: Layout) -> Results:
    """The kernel's results, after a check that it left alone what is not its own."""
    plain = Layout("C") if layout.name == "zero-stride" else layout  # other than floats may be indices, none alike
    given = [(layout if _is_float(a) else plain)(a) if isinstance(a, np.ndarray) else a for a in args]
    arrays = {i: a for i, a in enumerate(given) if isinstance(a, np.ndarray)}
    before = {i: (a.tobytes(), _owner(a).tobytes()) for i, a in arrays.items()}
    found = _results(fast(*given))
    if len(found) != len(naive):
        conclude(ContractError(f"{len(found)} results, but the reference has {len(naive)}"))
    for i, a in arrays.items():
        if a.tobytes() != before[i][0]:
            conclude(ContractError(f"argument {i} was written to"))
        if _owner(a).tobytes() != before[i][1]:
            conclude(ContractError(f"the memory around argument {i}, a view in layout {layout.name}, was written to"))
        for k, (result, own) in enumerate(zip(found, naive, strict=True)):
            if _overlap(result, a) and not _overlap(own, args[i]):
                conclude(ContractError(f"result {k} shares memory with argument {i}"))
    return found


def _owner(a: np.ndarray) -> np.ndarray:
    """The array in whose memory a view lies."""
    while isinstance(a.base, np.ndarray):
        a = a.base
    return a


def _compare(
    actual: np.ndarray,
    own: np.ndarray,
    exact: np.ndarray,
    roundings: float,
    condition: Callable[[], np.ndarray],
    what: str,
) -> None:
    """Compare with the truth; ``own`` is what the reference makes of it in its arguments' dtype."""
    info = np.finfo(own.dtype)
    with np.errstate(all="ignore"):
        expected = exact.astype(own.dtype)
        if actual.shape == own.shape == exact.shape:
            overflown = ~np.isfinite(own) & ((actual == own) | (np.isnan(actual) & np.isnan(own)))
            expected = np.where(overflown, own, expected)
        error = np.nan_to_num(np.abs(own - exact), nan=0.0, posinf=0.0)
        what = f"{what} (the reference in {own.dtype} errs by {np.max(error, initial=0):.2g})"
        allowed = np.where(
            np.isfinite(exact), float(info.tiny) + 2 * error + roundings * float(info.eps) * np.abs(exact), 0
        )
        try:
            assert_close(actual, expected, error=allowed, rtol=0, what=what)
        except CheckError:  # conditions are asked for only where an entry's own size does not explain its error
            allowed += roundings * float(info.eps) * condition()
            assert_close(actual, expected, error=allowed, rtol=0, what=what)


def _conditions(reference: Callable, args: Sequence[Any], truth: Results, rng: np.random.Generator) -> list[np.ndarray]:
    """Estimates of Σᵢ |xᵢ ∂y/∂xᵢ| for each entry y of each result.

    If each xᵢ is changed by a Cauchy number times xᵢ, y changes by a Cauchy number times that sum (Indyk 2006, "Stable
    distributions, pseudorandom generators, embeddings, and data stream computation"); and the geometric mean of such a
    number's magnitude is 1.
    """
    logs: list[Any] = [0.0] * len(truth)
    with np.errstate(all="ignore"):
        for _ in range(PROBES):
            moved = [a * (1 + STEP * rng.standard_cauchy(a.shape)) if _is_float(a) else a for a in args]
            for i, (y, exact) in enumerate(zip(_results(reference(*moved)), truth, strict=True)):
                if y is not None and exact is not None and exact.dtype.kind == "f":
                    logs[i] += np.log(np.abs(y - exact)) / PROBES
        return [np.nan_to_num(np.exp(log) / STEP, nan=0.0, posinf=0.0) for log in logs]
