"""What can be evaluated: anything that takes a recording and gives back what it makes of it, at one or more points."""

from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Point:
    """One setting of a system."""

    name: str  # in results and file names: SYSTEM@SETTING, such as opus@12 or speech-16k-v2@8
    label: str  # in tables, such as "12 kbit/s" or "8 codebooks"
    codebooks: int | None = None  # of a model


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """What a system made of one recording at one point."""

    point: Point
    audio: Tensor  # (1, T) at `sample_rate`, in time with what went in
    sample_rate: int  # Hz
    num_bits: int | None  # of the coded form, headers of the container not counted where that can be told; None: none
    encode_seconds: float | None = None
    decode_seconds: float | None = None
    problems: tuple[str, ...] = ()  # what a reader of the scores must know about this one, in words


@dataclass(frozen=True, kw_only=True)
class Reconstruction:
    """All points of one recording; `codes` (K, N) of a model, for the statistics of its codebooks."""

    decoded: tuple[Decoded, ...]
    codes: np.ndarray | None = field(default=None, repr=False)


class System(Protocol):
    """Evaluated in worker processes: it is pickled, so it keeps what is large or cannot travel out of its fields."""

    @property
    def name(self) -> str: ...

    @property
    def label(self) -> str: ...

    @property
    def kind(self) -> Literal["model", "codec", "bound"]: ...

    @property
    def points(self) -> tuple[Point, ...]: ...

    def missing(self) -> str | None:
        """Why it cannot run here, and what to install; None: it can."""

    def about(self) -> dict[str, Any]:
        """What identifies it in results: fingerprints of a model, versions and commands of a program."""

    def reconstruct(self, audio: Tensor, sample_rate: int) -> Reconstruction:
        """(1, T) float32, a whole recording mixed down, at its own rate. ValueError or OSError if it cannot."""
