"""From a run to a model folder: what it says of its own making, and its card."""

import platform
from pathlib import Path
from typing import Any

import torch

from vqaudio.checkpoint import save_codec
from vqaudio.data.packed import PackedAudio
from vqaudio.models import Codec
from vqaudio.training.card import write_card
from vqaudio.training.parent import storage_of
from vqaudio.training.state import RunState


def export(
    codec: Codec,
    folder: Path,
    *,
    state: RunState,
    settings: dict[str, Any],
    parent: dict[str, Any] | None,
    training: PackedAudio,
    device: torch.device,
    scores: dict[str, Any],
) -> None:
    """Write `codec` as a model, in the storage of its parent (float16 without one)."""
    about = {
        "recipe": settings,
        "steps": state.step,
        "training_seconds": round(state.seconds),
        "skipped_batches": state.skipped,
        "hardware": hardware(device),
        "data": {"seconds": round(training.seconds), "licences": training.licences},
        "torch": torch.__version__,
        "validation": scores,
        **({"parent": parent} if parent else {}),
    }
    name = settings["name"]
    save_codec(codec, folder, name=name, about=about, card=write_card(name, about), storage=storage_of(parent))


def hardware(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{_processor()}, {threads} thread{'s' * (threads != 1)}"


def _processor() -> str:
    """The processor's name where the system tells it, else its kind."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return f"CPU ({platform.machine()})"
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else f"CPU ({platform.machine()})"
