"""Checkpoints of a run: folders `checkpoint-00001000/` of safetensors and JSON, written aside and renamed.

A run's state is its step, its budget, the codec with codebook statistics, and the optimiser's moments. Nothing random
is stored: crops, dropout and revival are keyed by (seed, step), so a resumed run draws what it would have drawn.
`state.json` carries the SHA-256 of the tensor files; a damaged checkpoint is passed over for the one before.
"""

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from vqaudio.models import Codec

_FILES = ("codec.safetensors", "optimizer.safetensors")


@dataclass
class RunState:
    """Where a run is. `total_steps` is its budget in steps, stored so that resuming keeps the schedule."""

    step: int
    total_steps: int
    seconds: float  # spent training so far
    skipped: int  # batches left out for losses that were not finite


def save_checkpoint(
    folder: Path, state: RunState, codec: Codec, optimizer: torch.optim.Optimizer, *, recipe: dict[str, Any], keep: int
) -> None:
    final = folder / f"checkpoint-{state.step:08d}"
    aside = folder / f".checkpoint-{state.step:08d}.partial"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    contents = [save({k: v.detach().cpu().contiguous() for k, v in codec.state_dict().items()}), _moments(optimizer)]
    hashes = {}
    for name, data in zip(_FILES, contents, strict=True):
        (aside / name).write_bytes(data)
        hashes[name] = hashlib.sha256(data).hexdigest()
    document = {"state": vars(state), "sha256": hashes, "recipe": recipe}
    (aside / "state.json").write_text(json.dumps(document, indent=1), encoding="utf-8")
    if final.exists():
        shutil.rmtree(final)
    os.replace(aside, final)
    for old in checkpoints(folder)[keep:]:
        shutil.rmtree(old)


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in a run's folder, newest first."""
    return sorted((path for path in folder.glob("checkpoint-*") if path.is_dir()), reverse=True)


def load_checkpoint(
    folder: Path, codec: Codec, optimizer: torch.optim.Optimizer, *, recipe: dict[str, Any]
) -> tuple[RunState, list[str]] | None:
    """Put the newest whole checkpoint into codec and optimiser; None if there is none. Also says which were damaged.

    A checkpoint of another recipe is refused: it would silently train something else.
    """
    damaged = []
    for path in checkpoints(folder):
        try:
            document = json.loads((path / "state.json").read_text(encoding="utf-8"))
            for name in _FILES:
                if hashlib.sha256((path / name).read_bytes()).hexdigest() != document["sha256"][name]:
                    raise OSError(f"{name} does not match its hash")
            state = RunState(**document["state"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            damaged.append(f"{path}: {error}")
            continue
        if document["recipe"] != recipe:
            raise ValueError(
                f"{path} was made with other settings; resume with the same recipe or choose another --out"
            )
        codec.load_state_dict(load_file(path / _FILES[0]))
        _set_moments(optimizer, load_file(path / _FILES[1]))
        return state, damaged
    return None


def _parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _moments(optimizer: torch.optim.Optimizer) -> bytes:
    tensors = {}
    for index, parameter in enumerate(_parameters(optimizer)):
        for name, value in optimizer.state.get(parameter, {}).items():
            tensors[f"{index}.{name}"] = torch.as_tensor(value).detach().cpu().contiguous()
    return save(tensors)


def _set_moments(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    parameters = _parameters(optimizer)
    optimizer.state.clear()
    for key, value in tensors.items():
        index, name = key.split(".")
        parameter = parameters[int(index)]
        if (
            value.shape == parameter.shape
        ):  # in memory as the parameter lies: a fused step pairs them by their place there
            value = torch.empty_like(parameter).copy_(value)
        optimizer.state[parameter][name] = value.to(parameter.device)
