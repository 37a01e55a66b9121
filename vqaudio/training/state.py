"""Checkpoints of a run: folders `checkpoint-00001000/` of safetensors and JSON, written aside and renamed.

A run's state is its step, its budget, and of each player (codec, discriminators) the weights, codebook statistics and
the optimiser's moments; and the average of the codec's weights. Nothing random is stored: crops, dropout and revival
are keyed by (seed, step), so a resumed run draws what it would have drawn. `state.json` carries the SHA-256 of the
tensor files; a damaged checkpoint is passed over for the one before.
"""

import hashlib
import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from vqaudio.models import Codec
from vqaudio.training.average import Average
from vqaudio.training.step import Player


@dataclass
class RunState:
    """Where a run is. `total_steps` is its budget in steps, stored so that resuming keeps the schedule."""

    step: int
    total_steps: int
    seconds: float  # spent training so far
    skipped: int  # batches left out for losses that were not finite
    best: float | None = None  # lowest reconstruction loss on validation audio in the stage so far
    minutes: float | None = None  # the budget as it was given, if in minutes
    logged: int | None = None  # bytes of the log when this was saved


class Stored(Protocol):
    """Whatever a run changes, as the files of a checkpoint."""

    def files(self) -> dict[str, bytes]: ...


@dataclass
class Learners:
    """All that a run of a codec changes."""

    codec: Player
    average: Average
    discriminators: Player | None

    @property
    def trained(self) -> Codec:
        """The codec as the last step left it."""
        assert isinstance(self.codec.network, Codec)
        return self.codec.network

    def modules(self) -> dict[str, nn.Module]:
        return {"average": self.average.codec, **{name: player.network for name, player in self.players().items()}}

    def players(self) -> dict[str, Player]:
        found = {"codec": self.codec, "discriminators": self.discriminators}
        return {name: player for name, player in found.items() if player is not None}

    def files(self) -> dict[str, bytes]:
        weights = {f"{name}.safetensors": module_bytes(module) for name, module in self.modules().items()}
        moments = {
            f"{name}.optimizer.safetensors": moments_bytes(player.optimizer) for name, player in self.players().items()
        }
        return {**weights, **moments}

    def restore(self, files: dict[str, bytes]) -> None:
        for name, module in self.modules().items():
            module.load_state_dict(load(files[f"{name}.safetensors"]))
        for name, player in self.players().items():
            restore_moments(player.optimizer, load(files[f"{name}.optimizer.safetensors"]))


def save_checkpoint(
    folder: Path,
    state: RunState,
    learners: Stored,
    *,
    settings: dict[str, Any],
    parent: dict[str, Any] | None,
    packs: str,
    keep: int,
) -> Path:
    """Write the state as `folder/checkpoint-STEP`, whole or not at all, and keep only the newest `keep` up to it.

    Later ones are deleted: the run went on from an earlier one because they were damaged.
    """
    final = folder / f"checkpoint-{state.step:08d}"
    aside = folder / f".checkpoint-{state.step:08d}.partial"
    for left in folder.glob(".checkpoint-*.partial"):  # by a run that was killed, or found the disk full
        shutil.rmtree(left, ignore_errors=True)
    aside.mkdir()
    hashes = {}
    for name, data in learners.files().items():
        (aside / name).write_bytes(data)
        hashes[name] = hashlib.sha256(data).hexdigest()
    document = {"state": vars(state), "sha256": hashes, "recipe": settings, "parent": parent, "packs": packs}
    (aside / "state.json").write_text(json.dumps(document, indent=1), encoding="utf-8")
    if final.exists():
        shutil.rmtree(final)
    os.replace(aside, final)
    found = checkpoints(folder)
    here = found.index(final)
    for other in found[:here] + found[here + keep :]:
        shutil.rmtree(other)
    return final


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in a run's folder, newest first."""
    named = (path for path in folder.glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d{8,}", path.name))
    return sorted((path for path in named if path.is_dir()), key=lambda path: int(path.name[11:]), reverse=True)


@dataclass(frozen=True)
class Checkpoint:
    """One read from disk, whole: its files match their hashes."""

    path: Path
    state: RunState
    files: dict[str, bytes]
    settings: dict[str, Any]
    parent: dict[str, Any] | None
    packs: str  # what they were made of, by hash


def newest_checkpoint(folder: Path) -> tuple[Checkpoint | None, list[str]]:
    """The newest whole checkpoint, None without one; and which newer ones are damaged, with the reason."""
    damaged: list[str] = []
    for path in checkpoints(folder):
        try:
            document = json.loads((path / "state.json").read_text(encoding="utf-8"))
            files = {name: (path / name).read_bytes() for name in document["sha256"]}
            for name, data in files.items():
                if hashlib.sha256(data).hexdigest() != document["sha256"][name]:
                    raise OSError(f"{name} does not match its hash")
            state = RunState(**document["state"])
            return Checkpoint(path, state, files, document["recipe"], document["parent"], document["packs"]), damaged
        except KeyError as error:
            damaged.append(f"{path}: state.json does not say {error}")
        except (OSError, ValueError, TypeError) as error:
            damaged.append(f"{path}: {error}")
    return None, damaged


def module_bytes(module: nn.Module) -> bytes:
    """Weights and buffers as safetensors."""
    return save({name: value.detach().cpu().contiguous() for name, value in module.state_dict().items()})


def _parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def moments_bytes(optimizer: torch.optim.Optimizer) -> bytes:
    """What an optimiser remembers of each parameter, as safetensors."""
    tensors = {}
    for index, parameter in enumerate(_parameters(optimizer)):
        for name, value in optimizer.state.get(parameter, {}).items():
            tensors[f"{index}.{name}"] = torch.as_tensor(value).detach().cpu().contiguous()
    return save(tensors)


def restore_moments(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """The inverse of `moments_bytes`, for an optimiser of the same parameters."""
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
