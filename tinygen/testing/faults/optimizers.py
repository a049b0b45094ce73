"""Faults of optimizers: in the update, and in the state that a checkpoint holds."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from hypothesis import strategies as st

from tinygen.nn import Parameter
from tinygen.optim import Adam
from tinygen.testing.contracts import check_state_roundtrip
from tinygen.testing.faults.base import Checker, Fault
from tinygen.testing.optimizers import adam_rule, check_optimizer

Options = dict[str, Any]


def _check_rule(adam: Callable[..., Adam], options: Options, rng: np.random.Generator) -> None:
    check_optimizer(partial(adam, **options), partial(adam_rule, **options), rng=rng)


def _check_state(adam: Callable[..., Adam], options: Options, rng: np.random.Generator) -> None:
    used = Parameter(rng.standard_normal(3))
    optimizer = adam([used, Parameter(rng.standard_normal(2))], **options)
    for _ in range(3):
        optimizer.minimize((used * rng.standard_normal(3)).sum())
    check_state_roundtrip(optimizer)


CHECKERS: dict[str, Checker] = {"check_optimizer": _check_rule, "check_state_roundtrip": _check_state}


def _uncorrected(faulty: bool) -> Callable[..., Adam]:
    class Uncorrected(Adam):
        """Divides the averages by the sum of their weights, which comes near 1 as steps go by."""

        def _update(self, steps: np.ndarray) -> None:
            super()._update(steps * 10**9 if faulty else steps)

    return Uncorrected


def _forgetful(faulty: bool) -> Callable[..., Adam]:
    class Forgetful(Adam):
        """Goes on counting steps where the saved run stopped."""

        def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
            super().load_state_dict(state)
            self.steps[...] = 0 if faulty else state["steps"]

    return Forgetful


_OPTIONS = st.fixed_dictionaries(
    {
        "lr": st.sampled_from([1e-1, 1e-2, 1e-3]),
        "betas": st.tuples(st.sampled_from([0.5, 0.9]), st.sampled_from([0.9, 0.99, 0.999])),
        "eps": st.sampled_from([1e-3, 1e-8]),
    }
)

FAULTS = (
    Fault(39, "Adam without bias correction", _uncorrected, _OPTIONS, CHECKERS, ("check_optimizer",)),
    Fault(40, "checkpoint loses Adam's step count", _forgetful, _OPTIONS, CHECKERS, tuple(CHECKERS)),
)
