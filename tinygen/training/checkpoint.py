"""Checkpoints: safetensors files of a model's weights by name, its optimizers, its averaged weights, and notes.

No pickle: opening one runs no code, and the weights open in every framework with the plain safetensors library. The
notes are JSON text in the file's metadata, as is a SHA-256 digest for each tensor, because the format itself would not
notice a flipped byte.
"""

import hashlib
import json
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_bytes

from tinygen.errors import CheckpointError
from tinygen.files import write_atomically
from tinygen.nn import Module
from tinygen.optim import EMA, Optimizer

FORMAT = "tinygen-1"
_AVERAGE, _OPTIMIZER = "ema/", "optimizer/"
_NOTES = "the notes"  # among the digests


def optimizers(model: Module) -> dict[str, Optimizer]:
    """The optimizers that a model owns, by the dotted names of the attributes."""
    return dict(model.named_members(Optimizer))


def save(
    path: str | PathLike[str], model: Module, *, ema: EMA | None = None, notes: Mapping[str, Any] | None = None
) -> None:
    """Write a checkpoint, atomically.

    Parameters
    ----------
    path : the file, by custom ``*.safetensors``
    model : its state is stored under its names, its optimizers' under ``optimizer/<name>/``
    ema : its averages are stored under ``ema/``
    notes : anything that JSON can say

    Raises
    ------
    OutputError : the file cannot be written
    """
    tensors = {name: np.asarray(array, order="C") for name, array in _state(model, ema).items()}
    digests = {name: _digest(array) for name, array in tensors.items()}
    text = json.dumps(dict(notes or {}))
    digests[_NOTES] = hashlib.sha256(text.encode()).hexdigest()
    metadata = {"format": FORMAT, "sha256": json.dumps(digests), "notes": text}
    write_atomically(path, to_bytes(tensors, metadata))


def load(path: str | PathLike[str], model: Module, *, ema: EMA | None = None, averaged: bool = False) -> dict[str, Any]:
    """Read a checkpoint into a model and its optimizers, and return its notes.

    Parameters
    ----------
    path : a file that `save` wrote
    model : of the same structure as the saved one
    ema : receives the averages
    averaged : the model gets the average of its weights, if the checkpoint has one, in place of the last weights

    Raises
    ------
    CheckpointError : the file is missing, damaged, foreign, or does not fit; nothing in memory has changed then
    """
    state, notes = read(path)
    if averaged:
        state |= {name: state[_AVERAGE + name] for name in model.state_dict() if _AVERAGE + name in state}
    before = _state(model, ema)
    try:
        _set_state(model, ema, state)
    except CheckpointError as error:
        _set_state(model, ema, before)
        raise CheckpointError(f"{path}: {error}") from None
    return notes


def read(path: str | PathLike[str]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """All tensors of a checkpoint by name, verified, and its notes.

    Raises
    ------
    CheckpointError : the file is missing, damaged or foreign
    """
    if not Path(path).is_file():
        raise CheckpointError(f"{path}: there is no such file")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise CheckpointError(
                    f"{path}: not a checkpoint of tinygen (format {metadata.get('format')!r}, not {FORMAT!r})"
                )
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a mapping)
        digests, notes = json.loads(metadata["sha256"]), json.loads(metadata["notes"])
        found = {name: _digest(array) for name, array in tensors.items()}
        found[_NOTES] = hashlib.sha256(metadata["notes"].encode()).hexdigest()
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(
            f"{path}: damaged, or not a safetensors file ({error}); use an earlier checkpoint"
        ) from None
    if digests.keys() != found.keys():
        raise CheckpointError(f"{path}: damaged: the names of its tensors are not those that were written")
    for name, digest in found.items():
        if digests[name] != digest:
            raise CheckpointError(f"{path}: damaged: the content of {name!r} does not match its checksum")
    return tensors, notes


def _state(model: Module, ema: EMA | None) -> dict[str, np.ndarray]:
    """Everything that training changes, under the names it has in a checkpoint."""
    state = model.state_dict()
    for owner, optimizer in optimizers(model).items():
        state |= {f"{_OPTIMIZER}{owner}/{name}": array for name, array in optimizer.state_dict().items()}
    if ema:
        state |= {_AVERAGE + name: array for name, array in ema.state_dict().items()}
    return state


def _set_state(model: Module, ema: EMA | None, state: Mapping[str, np.ndarray]) -> None:
    model.load_state_dict({k: v for k, v in state.items() if not k.startswith((_AVERAGE, _OPTIMIZER))})
    for owner, optimizer in optimizers(model).items():
        optimizer.load_state_dict(_under(f"{_OPTIMIZER}{owner}/", state))
    if ema:
        ema.load_state_dict(_under(_AVERAGE, state))


def _under(prefix: str, state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): array for name, array in state.items() if name.startswith(prefix)}


def _digest(array: np.ndarray) -> str:
    return hashlib.sha256(array.tobytes()).hexdigest()
