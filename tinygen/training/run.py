"""The folder of one training run: its configuration, metrics, checkpoint, pictures and summary."""

import csv
import io
import json
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tinygen.errors import DataError, OutputError
from tinygen.files import write_atomically


class Run:
    """A run folder.

    Attributes
    ----------
    folder : the path; made if it is not there
    config, metrics, checkpoint, summary : paths of its files
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.config = self.folder / "config.json"
        self.metrics = self.folder / "metrics.csv"
        self.checkpoint = self.folder / "checkpoint.safetensors"
        self.summary = self.folder / "summary.json"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"cannot make the folder {self.folder}: {error.strerror}; choose another with --out"
            ) from None

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
        except (OSError, ValueError) as error:
            raise DataError(f"cannot read {self.metrics}: {error}") from None


class MetricsFile:
    """Appends rows to a run's ``metrics.csv``; resuming drops the rows that are later than the checkpoint."""

    def __init__(self, run: Run, last_step: int) -> None:
        self.path = run.metrics
        self.names: list[str] = []
        kept: list[dict[str, str]] = []
        if last_step:
            try:
                with open(self.path, newline="") as file:
                    kept = [row for row in csv.DictReader(file) if int(row["step"]) <= last_step]
            except (OSError, KeyError, ValueError) as error:
                raise DataError(f"cannot read {self.path}, which a resumed run adds to: {error!r}") from None
            self.names = list(kept[0]) if kept else []
        write_atomically(self.path, self._text(kept, header=bool(kept)).encode())

    def append(self, row: Mapping[str, float]) -> None:
        """Add a row; the first one decides the columns."""
        header = not self.names
        self.names = self.names or list(row)
        try:
            with open(self.path, "a", newline="") as file:
                file.write(self._text([row], header))
        except OSError as error:
            raise OutputError(f"cannot write {self.path}: {error.strerror}") from error

    def _text(self, rows: list, header: bool) -> str:
        text = io.StringIO()
        writer = csv.DictWriter(text, self.names, lineterminator="\n")
        if header:
            writer.writeheader()
        writer.writerows(rows)
        return text.getvalue()


def versions() -> dict[str, str]:
    """What the results depend on."""
    packages = {name: version(name) for name in ("numpy", "numba", "tinygen")}
    return {"python": platform.python_version(), "machine": platform.machine()} | packages
