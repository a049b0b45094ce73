"""The folder of one training run: its configuration, metrics, checkpoint, pictures and summary."""

import csv
import io
import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numba
import numpy as np

import tinygen
from tinygen.errors import DataError
from tinygen.files import write_atomically


class Run:
    """A run folder.

    Attributes
    ----------
    folder : the path
    config, metrics, checkpoint, summary : paths of its files
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.config = self.folder / "config.json"
        self.metrics = self.folder / "metrics.csv"
        self.checkpoint = self.folder / "checkpoint.safetensors"
        self.summary = self.folder / "summary.json"

    def write_json(self, path: Path, content: Mapping[str, Any]) -> None:
        """Write one of the JSON files."""
        write_atomically(path, (json.dumps(content, indent=2) + "\n").encode())

    def read_json(self, path: Path) -> dict[str, Any]:
        """Read one of the JSON files; `DataError` if that cannot be done."""
        try:
            return json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise DataError(f"cannot read {path}: {error}; is {self.folder} the folder of a run?") from None

    def read_metrics(self) -> list[dict[str, float]]:
        """The rows of the metrics file."""
        try:
            with open(self.metrics, newline="") as file:
                return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]
        except (OSError, ValueError, TypeError, csv.Error) as error:
            raise DataError(f"cannot read {self.metrics}: {error}") from None


class MetricsFile:
    """The rows of a run's ``metrics.csv``; resuming drops those that are later than the checkpoint."""

    def __init__(self, run: Run, last_step: int) -> None:
        self.path = run.metrics
        self.rows: list[Mapping[str, Any]] = []
        if last_step:
            try:
                with open(self.path, newline="") as file:
                    self.rows = [row for row in csv.DictReader(file) if int(row["step"]) <= last_step]
            except (OSError, KeyError, ValueError, TypeError, csv.Error) as error:
                raise DataError(f"cannot read {self.path}, which a resumed run adds to: {error!r}") from None

    def append(self, row: Mapping[str, float]) -> None:
        """Add a row, and a column for each metric that is new."""
        self.rows.append(row)
        text = io.StringIO()
        names = dict.fromkeys(name for row in self.rows for name in row)
        writer = csv.DictWriter(text, list(names), restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        write_atomically(self.path, text.getvalue().encode())


def versions() -> dict[str, str]:
    """What the results depend on."""
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "numpy": np.__version__,
        "numba": numba.__version__,
        "tinygen": tinygen.__version__,
    }
