"""An exponential moving average of a model's state."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np

from tinygen.nn import Module
from tinygen.nn.module import check_state

_STEPS = "#steps"  # in the state; no attribute of a model can have this name


class EMA:
    """Averages of all parameters and floating buffers of a model, for sampling and evaluation.

    ``average ← d · average + (1 - d) · value`` after each step t, with ``d = min(decay, (1 + t) / (10 + t))`` so that a
    short run does not remember its initial weights.

    Examples
    --------
    >>> import numpy as np
    >>> from tinygen import nn, optim
    >>> layer = nn.Linear(2, 1, np.random.default_rng(0))
    >>> ema = optim.EMA(layer, decay=0.999)
    >>> ema.update()
    >>> with ema.applied():
    ...     averaged = layer.weight.data.copy()
    """

    def __init__(self, model: Module, decay: float) -> None:
        self._model = model
        self.decay = decay
        self.steps = 0
        self.averages = {name: value.copy() for name, value in self._values().items()}

    def _values(self) -> dict[str, np.ndarray]:
        values = {name: p.data for name, p in self._model.named_parameters()} | dict(self._model.named_buffers())
        return {name: value for name, value in values.items() if value.dtype.kind == "f"}

    def update(self) -> None:
        """Move the averages towards the present values."""
        self.steps += 1
        rate = 1 - min(self.decay, (1 + self.steps) / (10 + self.steps))
        for name, value in self._values().items():
            average = self.averages[name]
            average += (rate * (value - average)).astype(average.dtype, copy=False)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside, the model has the averages for its state."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def _exchange(self) -> None:
        for name, value in self._values().items():
            held = value.copy()
            value[...] = self.averages[name]
            self.averages[name][...] = held

    def state_dict(self) -> dict[str, np.ndarray]:
        """Copies of the averages, and the number of updates."""
        return {name: a.copy() for name, a in self.averages.items()} | {_STEPS: np.array(self.steps)}

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Copy a state into this object; `CheckpointError` if it does not fit, and nothing is changed then."""
        targets = self.averages | {_STEPS: np.array(self.steps)}
        arrays = check_state("EMA", targets, state)
        self.steps = int(arrays[_STEPS])
        for name, average in self.averages.items():
            average[...] = arrays[name]
