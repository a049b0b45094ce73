"""The checker of optimizers rejects planted faults, and accepts their neighbours."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.testing.support import rejected
from tinygen.testing import OptimizerError, adam_rule, check_optimizer, rngs, sgd_rule


class Momentum:
    """Gradient descent in plain NumPy, a loop over parameters, with a place for each mistake."""

    def __init__(self, parameters: list, fault: str = "") -> None:
        self.parameters, self.fault, self.velocity = parameters, fault, [np.zeros_like(p.data) for p in parameters]
        self.steps = 0
        if fault == "moves on making":
            parameters[1].data += 1

    def step(self) -> None:
        self.steps += 1
        for i, (p, v) in enumerate(zip(self.parameters, self.velocity, strict=True)):
            lr, momentum = 0.03, 0.7
            if p.grad is None:
                if self.fault == "coasts":
                    p.data[...] -= lr * v
                continue
            g = p.grad.data
            match self.fault:
                case "writes to the gradient":
                    g += 0.1 * p.data
                    g -= 0.1 * p.data
                case "dampens":
                    momentum = 0.7 * (1 - 1e-9)
                case "one history for all":
                    v = self.velocity[0].ravel()[0] if i else v
                case "skips arrays of three axes and more":
                    if g.ndim >= 3:
                        continue
                case "skips gradients of zero":
                    if not g.any():
                        continue
                case "half precision":
                    g = g.astype(np.float16).astype(g.dtype)
                case "reads memory in order":
                    g = np.lib.stride_tricks.as_strided(g, p.shape, p.data.strides)
                case "depends on the hour":
                    lr += next(hours) * 1e-12
                case "a schedule that is not saved":
                    lr /= self.steps
                case "another rate in float32":
                    lr *= 1.01 if g.dtype == np.float32 else 1
            new = momentum * v + g
            if self.fault == "one history for all" and i:
                self.velocity[i] = new
            else:
                v[...] = new
            match self.fault:
                case "new arrays":
                    p.data = p.data - lr * new
                case "promotes":
                    p.data[...] = p.data - lr * new
                    p.data = p.data.astype(np.float64, copy=False)
                case "loses the shape":
                    p.data = (p.data - lr * new).ravel()
                case _:
                    p.data[...] = p.data - lr * new

    def zero_grad(self) -> None:
        for p in self.parameters:
            if self.fault == "keeps gradients":
                pass
            elif self.fault == "fills with zeros" and p.grad is not None:
                p.grad.data[...] = 0
            else:
                p.grad = None

    def state_dict(self) -> dict:
        return {
            "velocity": self.velocity if self.fault == "state is not a snapshot" else [v.copy() for v in self.velocity]
        }

    def load_state_dict(self, state: dict) -> None:
        match self.fault:
            case "forgets the velocity":
                pass
            case "adopts what it loads":
                self.velocity = state["velocity"]
            case "loads into the parameters":
                for p in self.parameters:
                    p.data *= 1 - 1e-3
            case _:
                self.velocity = [v.copy() for v in state["velocity"]]


hours = iter(range(10**9))

MISTAKES = {
    "moves on making": r"parameter 1 of shape \(4,\), step 0, after making the optimizer: .* expected",
    "coasts": r"(?s)parameter \d of shape .*, step \d: without a gradient it moved from .* to",
    "writes to the gradient": "its gradient was written to",
    "dampens": r"float64 parameter 0 of shape \(3, 2\), step 2 against the rule: .* the worst at .* expected .* within",
    "one history for all": "against the rule",
    "skips arrays of three axes and more": r"parameter \d of shape \((\d, ){2,3}\d\), step \d against the rule",
    "skips gradients of zero": r"float64 parameter 0 .* step [2-8] against the rule",
    "half precision": "against the rule",
    "reads memory in order": "against the rule",
    "a schedule that is not saved": "against the rule",
    "new arrays": "it has a new array, and the old one keeps",
    "promotes": r"float32 parameter 0 of shape \(3, 2\), step 1: it became float64",
    "another rate in float32": r"float32 parameter 0 .* against the rule",
    "loses the shape": r"it became float64 \(6,\)",
    "keeps gradients": r"step 1: zero_grad\(\) leaves the gradient",
    "state is not a snapshot": "continued from a saved state",
    "forgets the velocity": r"step 5, continued from a saved state",
    "adopts what it loads": "continued once more from the same saved state",
    "loads into the parameters": "step 4, after loading a state",
}


@pytest.mark.parametrize("fault", MISTAKES)
@settings(max_examples=5)
@given(rng=rngs())
def test_mistakes_are_named(fault: str, rng: np.random.Generator) -> None:
    with rejected(OptimizerError, match=MISTAKES[fault]):
        check_optimizer(partial(Momentum, fault=fault), partial(sgd_rule, lr=0.03, momentum=0.7), rng=rng)


@settings(max_examples=10)
@given(rng=rngs())
def test_a_loop_in_numpy_passes(rng: np.random.Generator) -> None:
    for fault in ("", "fills with zeros"):
        check_optimizer(partial(Momentum, fault=fault), partial(sgd_rule, lr=0.03, momentum=0.7), rng=rng)


def test_without_a_rule_the_rest_is_checked() -> None:
    check_optimizer(partial(Momentum, fault="half precision"))
    with pytest.raises(OptimizerError, match="step 1, run again from the start"):
        check_optimizer(partial(Momentum, fault="depends on the hour"))
    with pytest.raises(OptimizerError, match="continued from a saved state"):
        check_optimizer(partial(Momentum, fault="a schedule that is not saved"))


def test_what_is_missing_is_named() -> None:
    with pytest.raises(TypeError, match="object lacks step, zero_grad, state_dict, load_state_dict"):
        check_optimizer(lambda parameters: object())


@given(st.floats(-3, 3), st.floats(0.01, 1))
def test_rules_take_the_steps_that_are_known(p: float, lr: float) -> None:
    """Adam's first step is lr against the sign of g; SGD's come to lr · (1 + 1 + μ) after two equal gradients."""
    start, g = np.array([p, p]), np.array([2.0, -0.5])
    np.testing.assert_allclose(adam_rule(start, [g], lr, eps=0.0), start - lr * np.sign(g), atol=1e-12)
    np.testing.assert_allclose(sgd_rule(start, [g, g], lr, momentum=0.5), start - lr * 2.5 * g, atol=1e-12)
    for rule in (adam_rule, sgd_rule):
        decayed: Callable[..., Any] = partial(rule, lr=lr, weight_decay=0.1)
        np.testing.assert_allclose(decayed(start, [0 * g, 0 * g]), start * (1 - 0.1 * lr) ** 2, atol=1e-12)
