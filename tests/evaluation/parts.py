"""Systems and measures for tests: small enough to know every value beforehand."""

import os
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from vqaudio.evaluation.measures import Measure, NotMeasuredError, Value
from vqaudio.evaluation.systems import Decoded, Point, Reconstruction

KINDS: tuple[Literal["speech", "music"], ...] = ("speech", "music")


def value(name: str, better: Literal["higher", "lower"] = "lower", decimals: int = 3) -> Value:
    return Value(name=name, label=name.replace("_", " ").upper(), better=better, decimals=decimals)


def error(estimate: np.ndarray, reference: np.ndarray, sample_rate: int) -> dict[str, float]:
    return {"error": float(np.abs(estimate - reference).max())}


def rate(estimate: np.ndarray, reference: np.ndarray, sample_rate: int) -> dict[str, float]:
    if len(estimate) != len(reference):
        raise NotMeasuredError("the two are of different lengths")
    return {"rate": float(sample_rate), "length": float(len(estimate))}


def refuses(estimate: np.ndarray, reference: np.ndarray, sample_rate: int) -> dict[str, float]:
    raise NotMeasuredError("it does not like the sound of it")


def breaks(estimate: np.ndarray, reference: np.ndarray, sample_rate: int) -> dict[str, float]:
    raise IndexError("somebody else's mistake")


def infinite(estimate: np.ndarray, reference: np.ndarray, sample_rate: int) -> dict[str, float]:
    return {"infinite": float("inf")}


ERROR = Measure(values=(value("error"),), kinds=KINDS, sample_rate=None, compute=error)
MISSING = Measure(
    values=(value("gone"),), kinds=KINDS, sample_rate=None, compute=breaks, missing="gone is not installed"
)


@dataclass(frozen=True)
class Attenuator:
    """Gives back what it got, quieter by each of its gains; counts the recordings it was given in a file."""

    name: str = "attenuator"
    gains: tuple[float, ...] = (0.5, 0.25)
    log: str = ""
    dies_after: int = 1_000_000
    kind: Literal["codec"] = field(default="codec", init=False)

    @property
    def label(self) -> str:
        return self.name

    @property
    def points(self) -> tuple[Point, ...]:
        return tuple(Point(name=f"{self.name}@{gain:g}", label=f"times {gain:g}") for gain in self.gains)

    def missing(self) -> str | None:
        return None

    def about(self) -> dict[str, Any]:
        return {"gains": list(self.gains)}

    def reconstruct(self, audio: Tensor, sample_rate: int) -> Reconstruction:
        if self.log:
            calls = Path(self.log).read_text() if Path(self.log).exists() else ""
            if len(calls) >= self.dies_after:
                raise KeyboardInterrupt
            Path(self.log).write_text(calls + ".")
        points = zip(self.points, self.gains, strict=True)
        return Reconstruction(
            decoded=tuple(
                Decoded(point=point, audio=gain * audio, sample_rate=sample_rate, num_bits=4 * audio.shape[-1])
                for point, gain in points
            )
        )


@dataclass(frozen=True)
class Crasher(Attenuator):
    """Takes its process with it when the sound is loud."""

    def reconstruct(self, audio: Tensor, sample_rate: int) -> Reconstruction:
        if audio.abs().max() > 0.9:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().reconstruct(audio, sample_rate)


@dataclass(frozen=True)
class Fickle(Attenuator):
    """Of loud sounds it makes silence, or fails with torch's error for memory that it cannot have."""

    fails: bool = True

    def reconstruct(self, audio: Tensor, sample_rate: int) -> Reconstruction:
        if audio.abs().max() < 0.55:
            return super().reconstruct(audio, sample_rate)
        if self.fails:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return super().reconstruct(torch.zeros_like(audio), sample_rate)


@dataclass(frozen=True)
class Absent(Attenuator):
    def missing(self) -> str | None:
        return "absent: install the package absent-tools"


def tone(seconds: float, sample_rate: int, level: float = 0.5) -> Tensor:
    """(1, T)."""
    time = torch.arange(round(seconds * sample_rate)) / sample_rate
    return level * torch.sin(2 * torch.pi * 440 * time)[None]


def thin(estimate: np.ndarray, reference: np.ndarray, sample_rate: int) -> dict[str, float]:
    return {"thin": 1.0}


@dataclass(frozen=True)
class Sleeper(Attenuator):
    """Writes down which process it is in, and takes its time."""

    def reconstruct(self, audio: Tensor, sample_rate: int) -> Reconstruction:
        with Path(self.log).open("a") as file:
            file.write(f"{os.getpid()}\n")
        time.sleep(60)
        return super().reconstruct(audio, sample_rate)
