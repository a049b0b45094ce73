"""What a person sees while a model trains: a bar on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Mapping

from tqdm import tqdm


class Progress:
    """A tqdm bar with loss parts, rate and time left; without a terminal, a line about every ten seconds."""

    def __init__(self, name: str, total: int | None, quiet: bool) -> None:
        self.name, self.total, self.quiet = name, total, quiet
        self.bar = None
        if not quiet and sys.stderr.isatty():
            self.bar = tqdm(desc=name, total=total, unit="step", dynamic_ncols=True)
        self._last_line = time.monotonic()

    def advance(self, step: int, fraction: float, metrics: Mapping[str, float]) -> None:
        """Show that ``step`` steps are done, which is ``fraction`` of the whole."""
        parts = {name: f"{value:.4g}" for name, value in metrics.items()}
        if self.bar is not None:
            self.bar.set_postfix(parts if self.total else {"done": f"{fraction:.0%}"} | parts, refresh=False)
            if not self.bar.n:
                self.bar.initial = self.bar.n = step - 1  # a resumed run: the rate counts from here
            self.bar.update(step - self.bar.n)
        elif not self.quiet and (time.monotonic() - self._last_line > 10 or fraction >= 1):
            self._last_line = time.monotonic()
            self.say(f"{self.name}: step {step}, {fraction:.0%}, " + ", ".join(f"{k} {v}" for k, v in parts.items()))

    def say(self, text: str) -> None:
        """Print a line without disturbing the bar."""
        if not self.quiet:
            tqdm.write(text, file=sys.stderr)

    def close(self) -> None:
        """Leave the bar as it is."""
        if self.bar is not None:
            self.bar.close()
