"""What the benchmarks share: real audio, the machine's name, a model of random weights, tables and result files."""

import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import vqaudio
from vqaudio.dsp import mix_down, resample
from vqaudio.io import read_audio, write_aside
from vqaudio.models import Codec, CodecConfig

SAMPLES = Path(__file__).resolve().parent.parent / "samples"
SPEECH = ("english-1.flac", "english-2.flac", "english-mandarin-accent.flac")


def real_speech(seconds: float, sample_rate: int) -> Tensor:
    """The speech of samples/, one clip after the other and again from the start: (T,) float32 of exactly `seconds`."""
    clips = []
    for name in SPEECH:
        audio, source_rate = read_audio(SAMPLES / name)
        clips.append(resample(mix_down(audio), source_rate, sample_rate)[0])
    once = torch.cat(clips)
    wanted = round(seconds * sample_rate)
    return once.repeat(-(-wanted // len(once)))[:wanted].contiguous()


def random_codec(config: CodecConfig, *, seed: int = 0) -> Codec:
    """A codec that was never trained. What it costs does not depend on its weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return config.build().eval().requires_grad_(False)


def machine() -> str:
    """The processor, its cores, and how many of them this process may use if not all."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [line.partition(":")[2] for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        name = names[0].strip() if names else name
    total = os.cpu_count()
    return f"{name}, {total} cores" + (f", {usable_cores()} usable" if usable_cores() != total else "")


def usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def versions(*packages: str) -> dict[str, str]:
    """Of Python, vqaudio, torch and the packages named."""
    found = {"python": platform.python_version(), "vqaudio": vqaudio.__version__, "torch": torch.__version__}
    return found | {name: version(name) for name in packages}


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """The first column is text, the others are numbers."""
    lines = [columns, ["---"] + ["--:"] * (len(columns) - 1), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def write_results(path: str | Path, results: Mapping[str, Any]) -> None:
    """JSON, written aside and renamed."""
    with write_aside(path) as partial:
        partial.write_text(json.dumps(results, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def taken(function: Callable[[Any], Any], argument: Any) -> tuple[float, Any]:
    """Wall seconds, and the result."""
    start = time.perf_counter()
    result = function(argument)
    return time.perf_counter() - start, result


def times(seconds: float, elapsed: float) -> float:
    return round(seconds / elapsed, 2)


def note(part: str) -> None:
    """To whoever waits."""
    print(f"done: {part}", file=sys.stderr)
