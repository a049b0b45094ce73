"""The findings of docs/testing.md in other libraries, made again: ``python docs/survey.py``.

Needs jax, torch and scipy. One line per finding: what the checker raises here; another version may have mended it. This
repeats the findings, not the search that led to them; the spline, which would have to be written out, is left out.
"""

from collections.abc import Callable
from copy import deepcopy
from functools import partial
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import scipy
import torch
from scipy import stats
from torch import distributions as td

from tinygen.testing import check_kl, check_optimizer, check_sampler, check_subgradient, check_taylor, check_vjp

jax.config.update("jax_enable_x64", True)
jsp, jnp, special = jax.scipy.special, jax.numpy, torch.special


def lift(x: Any) -> torch.Tensor:
    """A torch tensor of a tensor or an array."""
    return x if isinstance(x, torch.Tensor) else torch.from_numpy(np.array(x, order="C"))


def torch_vjp(f: Callable, *xs: Any) -> tuple[torch.Tensor, Callable]:
    """PyTorch as an engine."""
    y, pullback = torch.func.vjp(f, *map(lift, xs))
    return y, lambda u: pullback(lift(u))


def in_jax(f: Callable, *xs: Any, order: int = 1) -> Callable[[], None]:
    """`check_vjp` of JAX at a point."""
    return lambda: check_vjp(f, *map(np.float64, xs), order=order, vjp=jax.vjp)


def in_torch(f: Callable, *xs: Any, order: int = 1) -> Callable[[], None]:
    """`check_vjp` of PyTorch at a point; of order 2, that of the pullback."""
    return lambda: check_vjp(lambda *a: f(*map(lift, a)), *map(np.array, xs), order=order, vjp=torch_vjp)


def kink(f: Callable, x: Any, vjp: Callable) -> Callable[[], None]:
    """`check_subgradient` at a kink."""
    return lambda: check_subgradient(f, np.array(x), vjp=vjp)


def line(f: Callable, x: float) -> Callable[[], None]:
    """`check_taylor` of JAX, where differences have no verdict."""
    return lambda: check_taylor(f, np.array(x), vjp=jax.vjp)


def slope(f: Callable) -> Callable:
    """The gradient of the sum of f by all arguments, whose derivatives are f's of second order."""

    def gradient(*xs: torch.Tensor) -> torch.Tensor:
        return torch.stack(torch.func.grad(lambda *a: f(*a).sum(), tuple(range(len(xs))))(*xs))

    return gradient


def divergence(p: td.Distribution, q: td.Distribution, inside: Callable) -> Callable[[], None]:
    """`check_kl` of two scalar distributions of PyTorch whose densities are masked to where they hold."""

    def wrapped(d: td.Distribution) -> Any:
        def log_prob(x: np.ndarray) -> np.ndarray:
            return np.where(inside(x), d.log_prob(lift(np.clip(x, 1e-9, 1 - 1e-9))).numpy(), -np.inf)

        return SimpleNamespace(of=d, log_prob=log_prob, sample=lambda n, rng: draw(d, n, rng))

    return lambda: check_kl(wrapped(p), wrapped(q), kl=lambda a, b: td.kl_divergence(a.of, b.of).numpy())


def draw(d: td.Distribution, n: int, rng: np.random.Generator) -> np.ndarray:
    """Draws of a distribution of PyTorch, as its generator is a global one."""
    torch.manual_seed(int(rng.integers(2**32)))
    return d.sample((n,)).numpy()


class Wrapped:
    """An optimizer of PyTorch, of arrays whose memory it shares."""

    def __init__(self, kind: type, copy: bool, parameters: list) -> None:
        self.arrays, self.copy = parameters, copy
        self.tensors = [torch.nn.Parameter(torch.from_numpy(p.data)) for p in parameters]
        self.optimizer = kind(self.tensors, lr=0.01)

    def step(self) -> None:
        """One step by the gradients of the arrays."""
        for p, t in zip(self.arrays, self.tensors, strict=True):
            t.grad = None if p.grad is None else lift(p.grad.data)
        self.optimizer.step()

    def zero_grad(self) -> None:
        """Forget them."""
        for p in self.arrays:
            p.grad = None

    def state_dict(self) -> dict:
        """A snapshot."""
        return deepcopy(self.optimizer.state_dict())

    def load_state_dict(self, state: dict) -> None:
        """Continue from one."""
        self.optimizer.load_state_dict(deepcopy(state) if self.copy else state)


def optimizer(kind: type, copy: bool) -> Callable[[], None]:
    """`check_optimizer`, the loaded state copied or not."""
    return lambda: check_optimizer(partial(Wrapped, kind, copy))


def scipy_check(d: Any) -> Callable[[], None]:
    """`check_sampler` of a frozen distribution of SciPy."""
    return lambda: check_sampler(lambda n, rng: d.rvs(n, random_state=rng), d.logpdf)


UNIFORM, CONTINUOUS = td.Uniform(lift(0.0), lift(1.0)), td.ContinuousBernoulli(lift(0.3))
FACTOR = np.array([[2.0, 0.5], [0.3, 1.5]])
FINDINGS: dict[str, Callable[[], None]] = {
    "jax betaln, order 2 at a = b": in_jax(jsp.betaln, 1.0, 1.0, order=2),
    "jax spence at 1.5": in_jax(jsp.spence, 1.5),
    "jax spence at 1": in_jax(jsp.spence, 1.0),
    "jax i0 at 0": line(jsp.i0, 0.0),
    "jax i1, order 2 at 0": line(jax.grad(jsp.i1), 0.0),
    "jax hypot at 1e200": in_jax(jnp.hypot, 1e200, 1e200),
    "jax hypot at 1e-200": in_jax(jnp.hypot, 1e-200, 1e-200),
    "jax boxcox at λ = 0": in_jax(jsp.boxcox, 2.0, 0.0),
    "jax sinc, order 2 at 1e-9": in_jax(jnp.sinc, 1e-9, order=2),
    "jax exp1, order 2": in_jax(jsp.exp1, 1.0, order=2),
    "jax expn, order 2": in_jax(lambda x: jsp.expn(2, x), 1.0, order=2),
    "torch cholesky_solve": in_torch(torch.cholesky_solve, [[1.0], [2.0]], FACTOR),
    "torch sinc, order 2 at 0": in_torch(slope(torch.sinc), 0.0),
    "torch logaddexp, order 2": kink(lambda x: slope(torch.logaddexp)(*lift(x)), [-800.0, 800.0], torch_vjp),
    "torch bessel_j0": in_torch(special.bessel_j0, 1.3),
    "torch airy_ai": in_torch(special.airy_ai, 1.3),
    "torch modified_bessel_k0": in_torch(special.modified_bessel_k0, 1.3),
    "torch spherical_bessel_j0": in_torch(special.spherical_bessel_j0, 1.3),
    "torch KL of Uniform and ContinuousBernoulli": divergence(UNIFORM, CONTINUOUS, lambda x: (x >= 0) & (x <= 1)),
    "torch Adam, state not copied": optimizer(torch.optim.Adam, copy=False),
    "torch Adam, state copied": optimizer(torch.optim.Adam, copy=True),
    "torch NAdam, state copied": optimizer(torch.optim.NAdam, copy=True),
    "jax norm at 0": kink(jnp.linalg.norm, [0.0, 0.0], jax.vjp),
    "jax std at 0": kink(jnp.std, [0.0, 0.0], jax.vjp),
    "jax sqrt(x * x) at 0": kink(lambda x: jnp.sqrt(x * x), 0.0, jax.vjp),
    "jax where around sqrt at 0": kink(lambda x: jnp.where(x > 0, jnp.sqrt(x), 0 * x), 0.0, jax.vjp),
    "torch where around sqrt at 0": kink(
        lambda x: torch.where(lift(x) > 0, torch.sqrt(lift(x)), 0 * lift(x)), 0.0, torch_vjp
    ),
    "torch hypot at 0": kink(lambda x: torch.hypot(lift(x)[0], lift(x)[1]), [0.0, 0.0], torch_vjp),
    "scipy t": scipy_check(stats.t(3.5)),
    "scipy levy": scipy_check(stats.levy()),
}


def main() -> None:
    """Print what became of each finding."""
    print(f"jax {jax.__version__}, torch {torch.__version__}, scipy {scipy.__version__}, numpy {np.__version__}")
    for name, check in FINDINGS.items():
        try:
            check()
            verdict = "passes"
        except Exception as error:  # whatever an engine raises is a finding
            verdict = f"{type(error).__name__}: {error}".splitlines()[0]
        print(f"{name:<45}{verdict}", flush=True)


if __name__ == "__main__":
    main()
