"""The checker of diffusion processes: the chain of DDPM, and the steps of DDIM."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from tinygen.testing.noise import check_noise, detectable
from tinygen.testing.verdicts import (
    CheckError,
    DiffusionError,
    Inconclusive,
    as_array,
    assert_close,
    conclude,
    generator,
    reporting,
)

ALL_PAIRS, TIMES = 8, 20  # steps are judged for all t and s up to the first T, then from this many t at most
LAWS = 4  # noises that are judged by statistics in one check
NOISE = (2, 128, 256)  # calls, examples in each, entries of each
RESOLVED = 0.25  # a standard deviation that rounding may change by more than this share of it is not judged
ARGUMENTS = {"diffuse": ("x0", "t", "eps"), "posterior_mean": ("x0", "x", "t"), "step": ("x0", "x", "t", "s", "eta")}


class DiffusionProcess(Protocol):
    """What `check_diffusion` calls. Whatever is named or written otherwise is wrapped in a class that has these.

    Arrays are float64, except that a process may compute in float32 and return that: the tolerances follow. The
    entries of x are treated alike, so that any shape ``(N, ...)`` will do. Nothing is clipped.

    Attributes
    ----------
    steps : T
    beta, alpha_bar, posterior_var : tables ``(T + 1,)`` *whose index is t*. x_0 are the data and x_1 is the first noisy
        state, x_t = √(1-β_t) x_{t-1} + √β_t ε, so β_0 = 0, ᾱ_0 = 1 and β̃_0 = 0. Here ᾱ_t is the share of the signal's
        power in x_t, and β̃_t the variance of q(x_{t-1} | x_t, x_0).
    """

    steps: int
    beta: np.ndarray
    alpha_bar: np.ndarray
    posterior_var: np.ndarray

    def diffuse(self, x0: np.ndarray, t: Any, eps: np.ndarray) -> np.ndarray:
        """The draw from q(x_t | x_0) that has the noise eps; t from 0 to T, a number or ``(N,)``, one per example."""

    def posterior_mean(self, x0: np.ndarray, x: np.ndarray, t: int) -> np.ndarray:
        """The mean of q(x_{t-1} | x_t = x, x_0 = x0), t from 1 to T."""

    def step(self, x0: np.ndarray, x: np.ndarray, t: int, s: int, eta: float, rng: np.random.Generator) -> np.ndarray:
        """A draw of x_s given x_t = x, 0 <= s < t <= T, if the data were x0; all that is random comes from ``rng``.

        Of the noise in x_s, variance σ² = η² (1-ᾱ_s)/(1-ᾱ_t) (1-ᾱ_t/ᾱ_s) is fresh, and the rest is that of x_t (Song et
        al. 2021, eq. 12 and 16).
        """


def check_diffusion(
    process: DiffusionProcess, *, false_alarm: float = 1e-6, rng: np.random.Generator | None = None
) -> None:
    """Check tables, closed form, posterior and sampling steps of a diffusion process against the chain that β defines.

    The chain is iterated in float64 from β; all else must follow from it. The tables hold ᾱ and β̃ for each t,
    ``diffuse`` has the mean and variance of the chain, and the posterior is Bayes' rule. Steps are judged from each t
    to each s if T is at most 8, else from up to 20 times to t - 1 and to one s at random, with η = 0, 1 and between.
    They have the right mean for any x_0 and x_t, hence, with the right σ, the right marginal at s; with η = 1 and s =
    t - 1 they are the posterior; and there is no noise for η = 0, nor in the last step, to s = 0. No argument is
    written to.

    All of this is compared to within rounding, for the noise is the same in two calls that are given generators in the
    same state. Only the noise's own law is judged by statistics: of four steps, in 65,536 entries each, its variance
    and its independence between calls, examples and entries (by χ² bounds, Laurent and Massart 2000, lemma 1) and its
    distribution (Massart 1990). A σ that is wrong by the factor `detectable_scale`, 1.032 at 1e-6, in a step that is
    looked at, is missed with a probability below ``false_alarm``; so is, at 1e-6, a distribution off by 0.022 at some
    quantile k/32. In float32 rounding of ᾱ adds to that, up to a quarter of σ.

    Parameters
    ----------
    process : see `DiffusionProcess`
    false_alarm : how often a right process may fail
    rng : draws the arrays, jumps and η, and the generators that the process is given

    Raises
    ------
    DiffusionError : naming t, s and η, both values and the error that is allowed
    Inconclusive : rounding hides the noise of every step that was looked at: use float64 or larger β
    ValueError : ``false_alarm`` is not between 0 and 1
    TypeError : the process lacks something

    Examples
    --------
    >>> import numpy as np
    >>> from tinygen.models.ddpm import NoiseSchedule
    >>> from tinygen.testing import check_diffusion
    >>> class Noisy(NoiseSchedule):
    ...     def step(self, x0, x, t, s, eta, rng):
    ...         return super().step(x0, x, t, s, eta, rng) + eta * 0.1 * rng.standard_normal(x.shape)
    >>> check_diffusion(NoiseSchedule(np.full(9, 0.5)))
    >>> check_diffusion(Noisy(np.full(9, 0.5)))
    Traceback (most recent call last):
        ...
    tinygen.testing.verdicts.DiffusionError: step from t=1 to s=0 with eta=1: noise where there must be none: ...
    """
    if not 0 < false_alarm < 1:
        raise ValueError(f"check_diffusion: false_alarm={false_alarm} must be between 0 and 1")
    needs = ("steps", "beta", "alpha_bar", "posterior_var", "diffuse", "posterior_mean", "step")
    lacks = [name for name in needs if not hasattr(process, name)]
    if lacks:
        raise TypeError(f"check_diffusion: {type(process).__name__} lacks {', '.join(lacks)}; see DiffusionProcess")
    rng = generator(rng)
    verdict: Exception | None = None
    try:
        chain = _Chain.of(process)
        _check_tables(process, chain)
        _check_diffuse(process, chain, rng)
        _check_posterior(process, chain, rng)
        _check_repeats(process, rng)
        _check_means(process, chain, rng)
        if not _check_noises(process, chain, false_alarm, rng):
            verdict = Inconclusive(f"check_diffusion: at eps={chain.eps:.2g} rounding hides the noise of every step")
    except CheckError as error:
        verdict = DiffusionError(str(error))
    conclude(verdict)


def detectable_scale(false_alarm: float) -> float:
    """By what factor σ must be wrong in a step that `check_diffusion` looks at, to be missed as rarely as this.

    Examples
    --------
    >>> round(detectable_scale(1e-6), 4)
    1.0316
    """
    return detectable(math.prod(NOISE), false_alarm / LAWS, missed=false_alarm)


# ------------------------------------------------------------------------------------------------------------ machinery


@dataclass(frozen=True)
class _Chain:
    """The truth: x_t has mean ``signal[t]`` x_0 and variance ``var[t]``; also, how far rounding may lead from it.

    Attributes
    ----------
    relative : error of ᾱ_t as a process has it, relative to it, ``(T + 1,)``: rounding of β and of t products, in the
        process's precision; none at t = 0
    error : of its 1-ᾱ_t, ``(T + 1,)``: that of ᾱ_t, and of the difference
    """

    beta: np.ndarray
    signal: np.ndarray
    var: np.ndarray
    eps: float
    relative: np.ndarray
    error: np.ndarray

    @classmethod
    def of(cls, process: DiffusionProcess) -> "_Chain":
        steps = process.steps
        tables = [np.asarray(t) for t in (process.beta, process.alpha_bar, process.posterior_var)]
        for name, table in zip(("beta", "alpha_bar", "posterior_var"), tables, strict=True):
            if table.shape != (steps + 1,) or table.dtype.kind != "f":
                raise CheckError(
                    f"{name} is {table.dtype} {table.shape}, not floats of shape (T + 1,) = {(steps + 1,)} with index t"
                )
        beta = tables[0].astype(np.float64)
        if beta[0] != 0 or not ((beta[1:] > 0) & (beta[1:] < 1)).all():
            raise CheckError(f"beta must be 0 at t=0 and between 0 and 1 from t=1 on, got {beta!r}")
        moments = [(1.0, 0.0)]
        for b in beta[1:].tolist():
            mean, var = moments[-1]
            moments.append((math.sqrt(1 - b) * mean, (1 - b) * var + b))
        signal, var = np.array(moments).T
        made = as_array(process.diffuse(np.ones((1, 1)), steps, np.ones((1, 1))))
        eps = max(float(np.finfo(a.dtype).eps) for a in (*tables, made))
        times = np.arange(steps + 1)
        relative = 4 * eps * (times + 1) * (times > 0)
        return cls(beta, signal, var, eps, relative, relative * signal**2 + 4 * eps * var)

    def step(self, t: int, s: int, eta: float) -> "_Step":
        """Bayes' rule on the chain whose one step leads from s to t gives σ² for η = 1; a smaller σ keeps more of ε."""
        before, now, power = float(self.var[s]), float(self.var[t]), float(self.signal[t] / self.signal[s]) ** 2
        fresh = now - power * before
        var = eta**2 * fresh * before / now
        # σ² = η² (1-ᾱ_s) (1-ᾱ_t/ᾱ_s) / (1-ᾱ_t), and each of the three has its error; at s = 0 nothing is rounded.
        fresh_error = self.relative[t] * power + 4 * self.eps * fresh
        now_error = float(self.error[t]) / now
        var_error = eta**2 * (fresh * self.error[s] + before * fresh_error) / now + var * now_error
        kept = max(before - var, 0.0)
        slope = math.sqrt(kept / now)
        slope_error = _root_error(kept, self.error[s] + var_error) / math.sqrt(now) + slope * now_error
        return _Step(
            f"step from t={t} to s={s} with eta={eta:.4g}",
            float(self.signal[s] - slope * self.signal[t]),
            slope,
            float(16 * self.eps + slope_error + self.signal[s] * (self.relative[t] + now_error)),
            math.sqrt(var),
            float(_root_error(var, var_error)),
        )


@dataclass(frozen=True)
class _Step:
    """The law of x_s, mean ``of_x0`` x_0 + ``of_x`` x_t and standard deviation ``sd``, and the errors allowed."""

    what: str
    of_x0: float
    of_x: float
    mean_error: float
    sd: float
    sd_error: float


def _root_error(value: float | np.ndarray, error: float | np.ndarray) -> Any:
    """How far √ is off if ``value`` is off by ``error``."""
    return np.minimum(np.sqrt(error), error / np.sqrt(np.maximum(value, np.finfo(np.float64).tiny)))


def _call(process: DiffusionProcess, method: str, *given: Any) -> np.ndarray:
    """What a method returns, in float64, for copies of the arguments, which it must not write to."""
    copies = [g.copy() if isinstance(g, np.ndarray) else g for g in given]
    result = as_array(getattr(process, method)(*copies)).astype(np.float64)
    for name, had, has in zip(ARGUMENTS[method], given, copies, strict=False):
        if isinstance(had, np.ndarray) and had.tobytes() != has.tobytes():
            raise CheckError(f"{method}: its argument {name} was written to, {had!r} became {has!r}")
    return result


def _check_tables(process: DiffusionProcess, chain: _Chain) -> None:
    power, var, error = chain.signal**2, chain.var, chain.error
    ulp = 16 * chain.eps * (np.arange(len(var)) > 0)
    alpha_bar, posterior_var = (
        as_array(table).astype(np.float64) for table in (process.alpha_bar, process.posterior_var)
    )
    assert_close(alpha_bar, power, error=(chain.relative + ulp) * power, rtol=0.0, what="alpha_bar, of index t")
    posterior, allowed = np.zeros_like(var), np.zeros_like(var)
    posterior[1:] = chain.beta[1:] * var[:-1] / var[1:]  # 1 / ((1-β)/β + 1/var), as var_t = β + (1-β) var_{t-1}
    allowed[1:] = (chain.beta[1:] * error[:-1] + posterior[1:] * error[1:]) / var[1:]
    allowed += ulp * chain.beta
    assert_close(posterior_var, posterior, error=allowed, rtol=0.0, what="posterior_var, of index t")


def _check_diffuse(process: DiffusionProcess, chain: _Chain, rng: np.random.Generator) -> None:
    times = np.arange(process.steps + 1)
    x0, eps = rng.standard_normal((2, len(times), 3))
    expected = chain.signal[:, None] * x0 + np.sqrt(chain.var)[:, None] * eps
    allowed = (chain.relative * chain.signal)[:, None] * np.abs(x0)
    allowed += _root_error(chain.var, chain.error)[:, None] * np.abs(eps)
    allowed += 16 * chain.eps * (np.abs(x0) + np.abs(eps))
    for t in times.tolist():
        at = slice(t, t + 1)
        with reporting(x0=x0[at], eps=eps[at]):
            found = _call(process, "diffuse", x0[at], t, eps[at])
            assert_close(found, expected[at], error=allowed[at], rtol=0.0, what=f"diffuse at t={t}")
    with reporting(x0=x0, eps=eps):
        found = _call(process, "diffuse", x0, times, eps)
        assert_close(found, expected, error=allowed, rtol=0.0, what="diffuse at t=0 … T, one for each row")


def _check_posterior(process: DiffusionProcess, chain: _Chain, rng: np.random.Generator) -> None:
    for t in range(1, process.steps + 1):
        x0, x = rng.standard_normal((2, 2, 3))
        beta, before, now = chain.beta[t], chain.var[t - 1], chain.var[t]
        of_x0, of_x = chain.signal[t - 1] * beta / now, math.sqrt(1 - beta) * before / now
        allowed = 2 * (chain.error[t - 1] + chain.error[t]) / now + chain.relative[t] * chain.signal[t - 1]
        allowed = (allowed + 16 * chain.eps) * (np.abs(x0) + np.abs(x))
        with reporting(x0=x0, x=x):
            found = _call(process, "posterior_mean", x0, x, t)
            assert_close(found, of_x0 * x0 + of_x * x, error=allowed, rtol=0.0, what=f"posterior_mean at t={t}")


def _check_repeats(process: DiffusionProcess, rng: np.random.Generator) -> None:
    if process.steps < 2:
        return
    t, s, seed, zero = process.steps, process.steps - 1, int(rng.integers(2**32)), np.zeros((2, 3))
    a, b = (_call(process, "step", zero, zero, t, s, 1.0, np.random.default_rng(seed)) for _ in range(2))
    if a.tobytes() != b.tobytes():
        raise CheckError(f"step from t={t} to s={s} with eta=1: the same rng leads to {a!r} and to {b!r}")


def _check_means(process: DiffusionProcess, chain: _Chain, rng: np.random.Generator) -> None:
    for t, s in _steps(process.steps, rng):
        for eta in (1.0, float(rng.uniform(0.1, 0.9)), 0.0):
            law, seed = chain.step(t, s, eta), int(rng.integers(2**32))
            x0, x = rng.standard_normal((2, 2, 3))
            zero = np.zeros_like(x)
            with reporting(x0=x0, x=x, eta=eta, seed=seed):
                noise = _call(process, "step", zero, zero, t, s, eta, np.random.default_rng(seed))
                if eta == 0 or s == 0:
                    what = f"{law.what}: noise where there must be none"
                    assert_close(noise, zero, error=4 * chain.eps, what=what)
                moved = _call(process, "step", x0, x, t, s, eta, np.random.default_rng(seed)) - noise
                allowed = law.mean_error * (np.abs(x0) + np.abs(x)) + 16 * chain.eps * np.abs(noise)
                what = f"{law.what}: the mean, {law.of_x0:.6g} x_0 + {law.of_x:.6g} x_t"
                assert_close(moved, law.of_x0 * x0 + law.of_x * x, error=allowed, rtol=0.0, what=what)


def _steps(last: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    """Pairs t > s: all of them, or of many times t some, each with t - 1 and with one further s."""
    if last <= ALL_PAIRS:
        return [(t, s) for t in range(1, last + 1) for s in range(t)]
    times = list(range(1, last + 1))
    if last > TIMES:
        times = [1, 2, *rng.choice(times[2:-1], TIMES - 3, replace=False).tolist(), last]
    return [(t, t - 1) for t in times] + [(t, int(rng.integers(t - 1))) for t in times[1:]]


def _check_noises(process: DiffusionProcess, chain: _Chain, false_alarm: float, rng: np.random.Generator) -> bool:
    """Judge the law of the noise where it is known; False if it is in none of the steps."""
    laws = list(_noisy_steps(chain, rng))
    resolved = [found for found in laws if found[0].sd_error < RESOLVED * found[0].sd]
    for law, t, s, eta in resolved:
        zero, seed = np.zeros(NOISE[1:]), int(rng.integers(2**32))
        child = np.random.default_rng(seed)
        with reporting(eta=eta, seed=seed):
            noise = np.stack([_call(process, "step", zero, zero, t, s, eta, child) for _ in range(NOISE[0])])
            check_noise(noise, law.sd, law.sd_error, false_alarm / LAWS, law.what)
    return bool(resolved) or not laws


def _noisy_steps(chain: _Chain, rng: np.random.Generator) -> Iterator[tuple[_Step, int, int, float]]:
    """`LAWS` steps with noise, if T > 1: by one and longer, η = 1 and less, from near the data and not."""
    last = len(chain.beta) - 1
    if last < 2:
        return
    for t in (2, int(rng.integers(2, last + 1))):
        for s, eta in ((t - 1, 1.0), (int(rng.integers(1, t)), float(rng.uniform(0.1, 0.9)))):
            yield chain.step(t, s, eta), t, s, eta
