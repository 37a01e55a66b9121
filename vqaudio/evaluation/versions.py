"""What computed the values: packages, and the machine."""

import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from vqaudio.evaluation.measures import Measure

PACKAGES = ("vqaudio", "torch", "torchaudio", "numpy", "soundfile", "librosa")


def versions(measures: Sequence[Measure] = ()) -> dict[str, str]:
    """Of Python, of what every value goes through, and of what is behind `measures`."""
    found = {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}
    for measure in measures:
        if measure.missing is None:
            found |= measure.versions or {}
    return found


def machine() -> str:
    """The processor, its cores, and how many of them this process may use if not all."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [line.partition(":")[2] for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        name = names[0].strip() if names else name
    total = os.cpu_count() or 1
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else total
    return f"{name}, {total} cores" + (f", {usable} usable" if usable != total else "")
