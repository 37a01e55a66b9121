"""What is a code worth on this machine? Golden codes, near-ties, and all that belongs in a bug report.

    golden.flac              a few seconds of speech, in the package
    MODEL/golden.vqt         the codes that it had on the machine where the model was shipped
    MODEL/golden.json        which machine that was, and how well they decoded

On the same kind of processor with the same build of torch the codes must be those, to the bit. Elsewhere sums may be
rounded otherwise: then, in every frame that differs, the first level that differs must be a near-tie.
"""

import copy
import json
import os
import platform
import sys
import time
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vqaudio import pretrained
from vqaudio.codes import Codes
from vqaudio.dsp import resample
from vqaudio.io import read_audio, write_aside
from vqaudio.metrics import si_sdr
from vqaudio.models import Codec
from vqaudio.quantize import NEAR_TIE, first_gaps
from vqaudio.tokenizer import AudioTokenizer

CLIP = Path(pretrained.__file__).parent / "golden.flac"
CLIP_RATE = 16_000  # Hz
CODES_NAME, FACTS_NAME = "golden.vqt", "golden.json"
PACKAGES = ("torch", "torchaudio", "numpy", "soundfile", "safetensors", "einops", "librosa", "tqdm")
SI_SDR_TOLERANCE = 0.05  # dB


@dataclass(frozen=True)
class Difference:
    """Two lists of codes of the same audio, compared by the near-tie rule."""

    frames: int
    differing: int
    largest_gap: float  # in float64, over the first differing level of each differing frame; 0 for none

    @property
    def explained(self) -> bool:
        """Whether nothing but rounding can be seen."""
        return self.largest_gap < NEAR_TIE

    def __str__(self) -> str:
        if not self.differing:
            return f"all {self.frames} frames equal"
        rate = f"{self.differing} of {self.frames} frames differ ({100 * self.differing / self.frames:.3g} %)"
        kind = "near-ties" if self.explained else "NOT ALL NEAR-TIES"
        return f"{rate}, {kind}: the largest gap is {self.largest_gap:.2g}, and {NEAR_TIE:g} is allowed"


def compare(codec: Codec, audio: Tensor, a: Tensor, b: Tensor) -> Difference:
    """Codes a and b (C, K, N) of audio (C, T) at the model's rate."""
    frames, differing = a.shape[0] * a.shape[2], int((a != b).any(dim=1).sum())
    if not differing:
        return Difference(frames, 0, 0.0)
    exact = copy.deepcopy(codec).cpu().double()
    with torch.no_grad():
        latents = exact.encode_latents(audio.double()[:, None])  # (C, D, N)
        gaps = [first_gaps(exact.quantizer, *channel) for channel in zip(latents, a, b, strict=True)]
    return Difference(frames, differing, float(torch.cat(gaps).max()))


def machine() -> dict[str, str]:
    """What rounding depends on: the kind of processor, the instructions torch uses on it, and torch's build."""
    return {
        "processor": _processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
    }


def write_golden(folder: Path) -> None:
    """Make the golden codes of a model folder on this machine, in the folder."""
    tokenizer = AudioTokenizer.from_pretrained(folder)
    codes = tokenizer.encode(CLIP)
    codes.save(folder / CODES_NAME)
    facts = {**machine(), "si_sdr_db": round(_quality(tokenizer, codes), 3)}
    with write_aside(folder / FACTS_NAME) as partial:
        partial.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def _quality(tokenizer: AudioTokenizer, codes: Codes) -> float:
    """SI-SDR in dB of what the golden codes decode to."""
    audio, _ = read_audio(CLIP)
    decoded = tokenizer.decode(codes, sample_rate=CLIP_RATE)
    return float(si_sdr(decoded[None], audio[None]))


@dataclass(frozen=True)
class Finding:
    """One line of a report."""

    label: str
    text: str
    good: bool = True


def examine(folder: Path, device: str = "cpu") -> list[Finding]:
    """Check a shipped model on this machine; takes a second or two."""
    tokenizer = AudioTokenizer.from_pretrained(folder, device=device)
    golden, facts = Codes.load(folder / CODES_NAME), json.loads((folder / FACTS_NAME).read_text(encoding="utf-8"))
    heard, _ = read_audio(CLIP)
    heard = resample(heard, CLIP_RATE, tokenizer.sample_rate)
    codes = tokenizer.encode(CLIP)
    there = {name: facts[name] for name in machine()}
    same_machine = machine() == there and device == "cpu"
    against_golden = compare(tokenizer.codec, heard, codes.values, golden.values)
    exact = "must be equal here" if same_machine else f"made on {', '.join(there.values())}"
    good = against_golden.differing == 0 if same_machine else against_golden.explained
    live = _pushed(tokenizer, heard)
    against_live = compare(tokenizer.codec, heard, live.values, codes.values)
    quality, wanted = _quality(tokenizer, golden), facts["si_sdr_db"]
    return [
        Finding("golden codes", f"{against_golden} ({exact})", good),
        Finding(
            "golden audio",
            f"SI-SDR {quality:.2f} dB, and {wanted:.2f} where they were made",
            abs(quality - wanted) < SI_SDR_TOLERANCE,
        ),
        Finding("live, 1 frame", f"{against_live} from those of files", against_live.explained),
        Finding("speed", _speed(tokenizer)),
    ]


def _pushed(tokenizer: AudioTokenizer, audio: Tensor) -> Codes:
    """Through a session, frame by frame."""
    session = tokenizer.session(block_frames=1)
    parts = [session.push(chunk) for chunk in audio.split(tokenizer.hop_length, dim=-1)]
    return Codes.concatenate([*parts, session.finish()])


def _speed(tokenizer: AudioTokenizer) -> str:
    audio, _ = read_audio(CLIP)
    times = []
    for _ in range(2):  # the first warms up
        started = time.perf_counter()
        codes = tokenizer.encode(audio, CLIP_RATE)
        encoded = time.perf_counter()
        tokenizer.decode(codes)
        times = [encoded - started, time.perf_counter() - encoded]
    rates = [f"{codes.seconds / taken:.0f}" for taken in times]
    threads = torch.get_num_threads()
    return (
        f"{rates[0]} and {rates[1]} times real time, encoding and decoding, with {threads} worker{'s' * (threads > 1)}"
    )


def surroundings(device: str = "cpu") -> list[Finding]:
    """Versions and settings, for a bug report."""
    findings = [
        Finding("vqaudio", f"{_version('vqaudio')}, Python {sys.version.split()[0]}, {platform.platform()}"),
        Finding("packages", ", ".join(f"{name} {_version(name)}" for name in PACKAGES)),
        Finding("processor", f"{_processor()}, {os.cpu_count()} cores, {machine()['instructions']} instructions"),
        Finding("threads", f"torch {torch.get_num_threads()}" + _set_by("OMP_NUM_THREADS", "MKL_NUM_THREADS")),
        Finding("matrix products", _precision()),
    ]
    if torch.cuda.is_available():
        findings.append(Finding("GPU", f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}"))
    elif device != "cpu":
        findings.append(Finding("GPU", "none that torch can use", good=False))
    return findings


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"


def _set_by(*names: str) -> str:
    found = [f"{name}={os.environ[name]}" for name in names if name in os.environ]
    return f" ({', '.join(found)})" if found else ""


def _precision() -> str:
    backends: Any = torch.backends  # its modules are replaced by objects that mypy does not see
    set_to = {backends.mkldnn.matmul.fp32_precision, backends.mkldnn.conv.fp32_precision} - {"none", "ieee"}
    said = f"set to {', '.join(sorted(set_to))} by this process" if set_to else "float32"
    return f"{said}; always float32 within the engine"


def _processor() -> str:
    """Vendor, family and model, which say more of the arithmetic than the name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    if "cpu family" not in facts:
        return platform.machine()
    return f"{facts.get('model name', '')} (family {facts['cpu family']}, model {facts.get('model')})"
