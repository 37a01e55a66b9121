"""What a run says while it goes: JSON lines, one progress line on a terminal, and audio samples."""

import json
import math
import os
import sys
import time
import wave
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

LOG_NAME = "log.jsonl"


class RunLog:
    """`log.jsonl`: one object a line, with its step and its `kind` (start, train, validation, skipped, …)."""

    def __init__(self, folder: Path, *, enabled: bool = True) -> None:
        self.path, self.enabled = folder / LOG_NAME, enabled

    def write(self, kind: str, step: int, **values: Any) -> None:
        if not self.enabled:
            return
        line = json.dumps({"kind": kind, "step": step, **values}, ensure_ascii=False)
        # names of files need not be UTF-8: their odd bytes become JSON's own escapes, such as \udcff
        with open(self.path, "a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(line + "\n")

    @property
    def size(self) -> int:
        """In bytes."""
        return self.path.stat().st_size if self.path.exists() else 0

    def truncate_after(self, step: int, size: int | None = None) -> None:
        """Forget what was logged past `step`, and a last line cut off by a crash: resume writes it again.

        `size` is what the log had when `step` was saved. Some lines of the same step came after that, such as that of a
        stage which begins there.
        """
        if not self.enabled or not self.path.exists():
            return
        kept = []
        for line in self.path.read_bytes()[:size].split(b"\n"):
            try:
                if json.loads(line)["step"] <= step:
                    kept.append(line + b"\n")
            except (ValueError, KeyError, TypeError):
                continue
        aside = self.path.with_suffix(".partial")
        aside.write_bytes(b"".join(kept))
        os.replace(aside, self.path)


class Meter:
    """Means over a stretch of steps: the parts of the loss, and the seconds spent waiting for data and working."""

    def __init__(self) -> None:
        self.sums: dict[str, float] = {}
        self.counts: dict[str, int] = {}  # a stretch may cross into a stage that has more parts
        self.steps = 0
        self.waited = self.worked = 0.0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        started = time.monotonic()
        yield
        self.waited += time.monotonic() - started

    @contextmanager
    def working(self) -> Iterator[None]:
        started = time.monotonic()
        yield
        self.worked += time.monotonic() - started
        self.steps += 1

    def add(self, parts: Mapping[str, Tensor]) -> None:
        for name, value in parts.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(value)
            self.counts[name] = self.counts.get(name, 0) + 1

    def mean(self, name: str) -> float:
        """Over the steps that had the part; not a number if none had."""
        return self.sums[name] / self.counts[name] if name in self.counts else math.nan


class ProgressLine:
    """One line on standard error, rewritten in place; nothing when that is not a terminal."""

    def __init__(self, total: int, *, enabled: bool = True) -> None:
        self.total, self.started, self.first = total, time.monotonic(), -1
        self.enabled = enabled and sys.stderr.isatty()

    def update(self, step: int, text: str) -> None:
        if not self.enabled:
            return
        if self.first < 0:
            self.first, self.started = step - 1, time.monotonic()
        elapsed = time.monotonic() - self.started
        left = elapsed / max(step - self.first, 1) * (self.total - step)
        filled = 24 * step // max(self.total, 1)
        bar = "█" * filled + "·" * (24 - filled)
        sys.stderr.write(f"\r{bar} {step}/{self.total}  {left / 60:.0f} min left  {text}\x1b[K")
        sys.stderr.flush()

    def close(self) -> None:
        if self.enabled:
            sys.stderr.write("\n")


def write_sample(path: Path, audio: Tensor, sample_rate: int) -> None:
    """Audio (1, T) as 16-bit WAV, through the standard library: a training machine may have no soundfile."""
    samples = (audio[0].detach().cpu().clamp(-1.0, 1.0) * 32767.0).round().short().numpy().astype("<i2")
    aside = path.with_suffix(".partial")
    with wave.open(str(aside), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sample_rate)
        file.writeframes(samples.tobytes())
    os.replace(aside, path)
