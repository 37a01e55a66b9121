"""Models as folders: `config.json`, `model.safetensors`, `card.md`.

    config.json        {"format": "vqaudio-model", "version": 1, "name": …, "token_fingerprint": …,
                        "model_fingerprint": …, "codec": {…}, "about": {recipe, data, steps, hardware, scores, …}}
    model.safetensors  every tensor that inference needs, float32 or float16 (rounded before it is fingerprinted)

`token_fingerprint` is a SHA-256 over what decides what a code means: the stored tensors of encoder and quantiser,
their config, the sample rate and the hop. A decoder-only fine-tune keeps it and reads its parent's codes.
`model_fingerprint` covers the whole codec config and every tensor, but not `about`. Both are recomputed on loading.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from vqaudio.config import from_dict, to_dict
from vqaudio.models import Codec, CodecConfig
from vqaudio.quantize import Codebook

FORMAT = "vqaudio-model"
VERSION = 1
CONFIG_NAME, WEIGHTS_NAME, CARD_NAME = "config.json", "model.safetensors", "card.md"
# Running statistics serve training alone; they are rebuilt from the codes when a model is loaded.
_TRAINING_ONLY = ("ema_counts", "ema_sums")


class CheckpointError(ValueError):
    """A model folder that cannot be read or written; the message names the file."""


@dataclass(frozen=True)
class ModelInfo:
    name: str
    token_fingerprint: str  # hex SHA-256
    model_fingerprint: str
    about: dict[str, Any]
    storage: Literal["float16", "float32"]  # of the weights, which fingerprints are about


def save_codec(
    codec: Codec,
    folder: str | Path,
    *,
    name: str,
    about: Mapping[str, Any],
    card: str,
    storage: Literal["float16", "float32"] = "float32",
) -> ModelInfo:
    """Write `codec` as a model folder, aside and renamed. An existing folder is replaced only if it is a model.

    With float16 storage the weights lose bits: load the folder to get the codec that its fingerprints describe.
    """
    folder = Path(folder)
    if folder.exists() and not _is_model(folder):
        raise CheckpointError(f"{folder} exists and is not a model folder; give another name")
    if not folder.parent.is_dir():
        raise CheckpointError(f"{folder}: there is no folder {folder.parent} to write the model to")
    tensors = stored_tensors(codec, storage)
    for key, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise CheckpointError(f"{folder}: tensor {key!r} holds values that are not finite in {storage}")
    config = to_dict(codec.config)
    info = ModelInfo(name, *fingerprints(config, tensors, codec.hop_length), dict(about), storage)
    document = {
        "format": FORMAT,
        "version": VERSION,
        "name": name,
        "token_fingerprint": info.token_fingerprint,
        "model_fingerprint": info.model_fingerprint,
        "codec": config,
        "about": info.about,
    }
    folder = Path(os.path.realpath(folder))  # of a link, what it leads to
    aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        aside.chmod(0o755)  # mkdtemp makes it private; a model is not
        (aside / WEIGHTS_NAME).write_bytes(save(tensors))
        (aside / CONFIG_NAME).write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        (aside / CARD_NAME).write_text(card, encoding="utf-8")
        _put_in_place(aside, folder)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    return info


@contextmanager
def _float32_by_default() -> Iterator[None]:
    """What is computed while building, windows and filters, is what it was in training, whatever the caller has set."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def stored_tensors(codec: Codec, storage: Literal["float16", "float32"]) -> dict[str, Tensor]:
    """What a file of this codec holds, by name, on the CPU: all that inference needs."""
    dtype = torch.float16 if storage == "float16" else torch.float32
    return {key: tensor.detach().cpu().to(dtype).contiguous() for key, tensor in _inference_state(codec).items()}


def fingerprints(config: Mapping[str, Any], tensors: Mapping[str, Tensor], hop_length: int) -> tuple[str, str]:
    """Token fingerprint and model fingerprint of a codec's config, as its file has it, and its stored tensors."""
    return _token_fingerprint(config, tensors, hop_length), _model_fingerprint(config, tensors)


def _put_in_place(aside: Path, folder: Path) -> None:
    """Rename `aside` to `folder`. What was there is deleted last, so that at no time is there no whole model."""
    if not folder.exists():
        aside.rename(folder)
        return
    before = aside.with_name(f"{aside.name}.before")
    folder.rename(before)
    try:
        aside.rename(folder)
    except BaseException:
        before.rename(folder)
        raise
    shutil.rmtree(before)


def load_codec(folder: str | Path) -> tuple[Codec, ModelInfo]:
    """The codec of a model folder, in evaluation mode and float32, and what the folder says of itself.

    Refused by name: missing files, unknown or missing settings, missing, extra or misshapen tensors, altered weights.
    """
    folder = Path(folder)
    document = _read_document(folder)
    try:
        config = from_dict(CodecConfig, document["codec"], path="codec")
        # the weights that building draws are replaced; leave no trace of them
        with torch.random.fork_rng(devices=[]), _float32_by_default():
            codec = config.build()
    except ValueError as error:
        raise CheckpointError(f"{folder / CONFIG_NAME}: {error}") from error
    tensors = _read_tensors(folder / WEIGHTS_NAME, codec)
    # from the file's own words, not from defaults that may change
    if _token_fingerprint(document["codec"], tensors, codec.hop_length) != document["token_fingerprint"]:
        raise CheckpointError(
            f"{folder}: encoder or quantiser do not match the token fingerprint; the model was altered"
        )
    if _model_fingerprint(document["codec"], tensors) != document["model_fingerprint"]:
        raise CheckpointError(f"{folder}: weights or config do not match the model fingerprint; the model was altered")
    codec.load_state_dict({key: tensor.float() for key, tensor in tensors.items()}, strict=False)
    for module in codec.modules():
        if isinstance(module, Codebook):
            module.reset_statistics()
    codec.eval().requires_grad_(False)
    fingerprints = document["token_fingerprint"], document["model_fingerprint"]
    half = any(tensor.dtype == torch.float16 for tensor in tensors.values())
    return codec, ModelInfo(document["name"], *fingerprints, document["about"], "float16" if half else "float32")


def _inference_state(codec: Codec) -> dict[str, Tensor]:
    return {key: value for key, value in codec.state_dict().items() if not key.endswith(_TRAINING_ONLY)}


def _is_model(folder: Path) -> bool:
    """Whether `folder` is a model of any version: many programs' models have a config.json."""
    try:
        document = json.loads((folder / CONFIG_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(document, dict) and document.get("format") == FORMAT


def _read_document(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG_NAME
    if not path.is_file():
        raise CheckpointError(f"{folder} is not a model folder: it has no {CONFIG_NAME}")
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path}: not valid JSON ({error})") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise CheckpointError(f"{path}: not the config of a vqaudio model")
    if document.get("version") != VERSION:
        raise CheckpointError(f"{path}: format version {document.get('version')!r}; this vqaudio reads {VERSION}")
    wanted = {"format", "version", "name", "token_fingerprint", "model_fingerprint", "codec", "about"}
    if set(document) != wanted:
        odd = sorted(wanted ^ set(document))
        raise CheckpointError(f"{path}: missing or unknown config keys: {', '.join(odd)}")
    return document


def _read_tensors(path: Path, codec: Codec) -> dict[str, Tensor]:
    if not path.is_file():
        raise CheckpointError(f"{path} is missing")
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: not a readable safetensors file ({error})") from error
    wanted = _inference_state(codec)
    for key in wanted:
        if key not in tensors:
            raise CheckpointError(f"{path}: tensor {key!r} is missing")
    for key, tensor in tensors.items():
        if key not in wanted:
            raise CheckpointError(f"{path}: tensor {key!r} does not belong to this model")
        if tensor.shape != wanted[key].shape:
            shapes = f"{tuple(tensor.shape)}; the config asks for {tuple(wanted[key].shape)}"
            raise CheckpointError(f"{path}: tensor {key!r} has shape {shapes}")
        if tensor.dtype not in (torch.float32, torch.float16):
            raise CheckpointError(f"{path}: tensor {key!r} is {tensor.dtype}; models hold float32 or float16")
        if not tensor.isfinite().all():
            raise CheckpointError(f"{path}: tensor {key!r} holds NaN or infinity")
    return tensors


def _token_fingerprint(config: Mapping[str, Any], tensors: Mapping[str, Tensor], hop_length: int) -> str:
    said = {"hop_length": hop_length, **{key: config.get(key) for key in ("sample_rate", "encoder", "quantizer")}}
    return _fingerprint(said, {k: v for k, v in tensors.items() if k.startswith(("encoder.", "quantizer."))})


def _model_fingerprint(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    return _fingerprint(config, tensors)


def _fingerprint(said: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(json.dumps(said, sort_keys=True, separators=(",", ":")).encode())
    for key in sorted(tensors):
        tensor = tensors[key]
        digest.update(f"{key}:{tensor.dtype}:{tuple(tensor.shape)};".encode())
        digest.update(tensor.contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
