"""Systems that need no program: G.711, and bounds that tell what a score means.

A bound is no competitor: it shows what one part of the task costs when everything else is perfect.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from vqaudio.dsp import mel_filterbank, resample
from vqaudio.evaluation.systems import Decoded, Point, Reconstruction

TELEPHONE_RATE = 8000  # Hz
MU_LAW_BIAS, MU_LAW_CLIP = 33, 8158  # of 14-bit magnitudes, G.711 table 2a; 8158 + 33 is the last of segment 8


def check_recording(audio: Tensor) -> None:
    """ValueError for anything but (1, T) of finite floats with at least one sample."""
    if audio.ndim != 2 or len(audio) != 1 or audio.shape[1] == 0:
        raise ValueError(f"a recording is (1, T) with T of 1 or more, and this has shape {tuple(audio.shape)}")
    if not bool(torch.isfinite(audio).all()):
        raise ValueError("the recording has samples that are not finite numbers")


def to_16_bits(audio: Tensor) -> np.ndarray:
    """(1, T) floats -> (T,) int16: the nearest step of 1/32768, and the nearest there is beyond ±1."""
    return np.clip(np.rint(audio[0].double().numpy() * 32768), -32768, 32767).astype(np.int16)


def from_16_bits(samples: np.ndarray) -> Tensor:
    """(T,) integers -> (1, T) float32 in [-1, 1)."""
    return torch.from_numpy(samples.astype(np.float32) / 32768)[None]


@dataclass(frozen=True, kw_only=True)
class MuLaw:
    """ITU-T G.711 mu-law at 8 kHz, 8 bits per sample: the telephone. By the exact segments, not by the formula."""

    name: str = field(default="mu-law", init=False)
    label: str = field(default="G.711 mu-law", init=False)
    kind: Literal["codec"] = field(default="codec", init=False)

    @property
    def points(self) -> tuple[Point, ...]:
        return (Point(name="mu-law@64", label="64 kbit/s"),)

    def missing(self) -> str | None:
        return None

    def about(self) -> dict[str, Any]:
        return {"standard": "ITU-T G.711 mu-law, exact segments", "sample_rate": TELEPHONE_RATE}

    def reconstruct(self, audio: Tensor, sample_rate: int) -> Reconstruction:
        """Decoded at 8 kHz, (1, ceil(T · 8000 / sample_rate))."""
        check_recording(audio)
        codes = mu_law_encode(to_16_bits(resample(audio, sample_rate, TELEPHONE_RATE)))
        decoded = from_16_bits(mu_law_decode(codes))
        return Reconstruction(
            decoded=(
                Decoded(point=self.points[0], audio=decoded, sample_rate=TELEPHONE_RATE, num_bits=8 * decoded.shape[1]),
            )
        )


def mu_law_encode(samples: np.ndarray) -> np.ndarray:
    """(T,) int16 -> (T,) uint8 by G.711: sign, segment (3 bits) and step (4 bits) of the 14-bit magnitude, inverted."""
    negative = samples < 0
    magnitude = np.minimum(np.abs(samples.astype(np.int32)) >> 2, MU_LAW_CLIP) + MU_LAW_BIAS  # 33 to 8191
    segment = np.frexp(magnitude.astype(np.float64))[1] - 6  # 0 for 33..63, 7 for 4096..8191
    step = magnitude >> (segment + 1) & 15
    return (~(negative * 128 + segment * 16 + step) & 255).astype(np.uint8)


def mu_law_decode(codes: np.ndarray) -> np.ndarray:
    """(T,) uint8 -> (T,) int16, each the middle of its interval."""
    codes = ~codes.astype(np.int32) & 255
    segment, step = codes >> 4 & 7, codes & 15
    magnitude = ((2 * step + MU_LAW_BIAS) << segment) - MU_LAW_BIAS
    return (np.where(codes & 128, -magnitude, magnitude) * 4).astype(np.int16)


@dataclass(frozen=True, kw_only=True)
class Pcm:
    """Rounding to 16 bits and nothing else, at the recording's own rate: the best that any file of samples can be."""

    name: str = field(default="pcm", init=False)
    label: str = field(default="16-bit PCM", init=False)
    kind: Literal["bound"] = field(default="bound", init=False)

    @property
    def points(self) -> tuple[Point, ...]:
        return (Point(name="pcm@16", label="16 bits per sample"),)

    def missing(self) -> str | None:
        return None

    def about(self) -> dict[str, Any]:
        return {"bits_per_sample": 16}

    def reconstruct(self, audio: Tensor, sample_rate: int) -> Reconstruction:
        check_recording(audio)
        decoded = from_16_bits(to_16_bits(audio))
        return Reconstruction(
            decoded=(
                Decoded(point=self.points[0], audio=decoded, sample_rate=sample_rate, num_bits=16 * audio.shape[1]),
            )
        )


@dataclass(frozen=True, kw_only=True)
class Resampled:
    """Down to a rate and back, nothing coded: what any codec that works at that rate can reach at best.

    A recording whose own rate is not above the point's comes back as it is.
    """

    rates: tuple[int, ...] = (8000, 16000)  # Hz
    name: str = field(default="resampled", init=False)
    label: str = field(default="resampling only", init=False)
    kind: Literal["bound"] = field(default="bound", init=False)

    def __post_init__(self) -> None:
        for rate in self.rates:
            if rate < 1:
                raise ValueError(f"resampled: {rate} was asked for, and a positive number of Hz is wanted")

    @property
    def points(self) -> tuple[Point, ...]:
        return tuple(Point(name=f"resampled@{rate}", label=f"{rate / 1000:g} kHz") for rate in self.rates)

    def missing(self) -> str | None:
        return None

    def about(self) -> dict[str, Any]:
        return {"rates": list(self.rates), "resampler": "vqaudio.dsp.resample, down and back"}

    def reconstruct(self, audio: Tensor, sample_rate: int) -> Reconstruction:
        check_recording(audio)
        decoded = []
        for point, rate in zip(self.points, self.rates, strict=True):
            there_and_back = audio
            if rate < sample_rate:
                there_and_back = resample(resample(audio, sample_rate, rate), rate, sample_rate)[:, : audio.shape[1]]
            decoded.append(Decoded(point=point, audio=there_and_back, sample_rate=sample_rate, num_bits=None))
        return Reconstruction(decoded=tuple(decoded))


@dataclass(frozen=True, kw_only=True)
class GriffinLim:
    """Magnitudes in mel bands, not quantised, and a phase found by Griffin and Lim (1984) from them alone.

    The fast form with momentum 0.99 (Perraudin et al. 2013) from random phases of a fixed seed. Windows (Hann) are the
    power of two nearest to 50 ms, 1,024 samples at 16 to 24 kHz; a hop is a quarter. Shorter ones keep far more: of
    80 mels and 8 ms hops PESQ-WB is above 4, of 16 ms hops between 2.5 and 3.
    """

    num_mels: tuple[int, ...] = (80,)
    iterations: int = 32
    momentum: float = 0.99
    seed: int = 0
    name: str = field(default="griffin-lim", init=False)
    label: str = field(default="Griffin-Lim", init=False)
    kind: Literal["bound"] = field(default="bound", init=False)

    def __post_init__(self) -> None:
        for number in self.num_mels:
            if number < 1:
                raise ValueError(f"griffin-lim: {number} mels were asked for, and at least 1 is needed")

    @property
    def points(self) -> tuple[Point, ...]:
        return tuple(Point(name=f"griffin-lim@{number}", label=f"{number} mels") for number in self.num_mels)

    def missing(self) -> str | None:
        return None

    def about(self) -> dict[str, Any]:
        return {
            "window": "Hann, the power of two nearest to 50 ms; hop a quarter",
            "mels": "magnitudes, Slaney's, 0 Hz to half the rate; inverted by the pseudoinverse, negatives to 0",
            "iterations": self.iterations,
            "momentum": self.momentum,
            "seed": self.seed,
            "note": "knows no phase and quantises nothing; it does well in mel distance and STOI, so neither decides"
            " alone",
        }

    @torch.inference_mode()
    def reconstruct(self, audio: Tensor, sample_rate: int) -> Reconstruction:
        check_recording(audio)
        decoded = tuple(
            Decoded(point=point, audio=self._inverted(audio, sample_rate, mels), sample_rate=sample_rate, num_bits=None)
            for point, mels in zip(self.points, self.num_mels, strict=True)
        )
        return Reconstruction(decoded=decoded)

    def _inverted(self, audio: Tensor, sample_rate: int, num_mels: int) -> Tensor:
        fft_size = 2 ** max(2, round(math.log2(0.05 * sample_rate)))
        hop, window, T = fft_size // 4, torch.hann_window(fft_size), audio.shape[1]

        def spectrum(signal: Tensor) -> Tensor:  # (1, T) -> (1, bins, frames)
            return torch.stft(signal, fft_size, hop, window=window, pad_mode="constant", return_complex=True)

        forward, backward = _mel_matrices(sample_rate, fft_size, num_mels)
        magnitudes = (backward @ (forward @ spectrum(audio).abs())).clamp(min=0)
        turns = torch.rand(magnitudes.shape, generator=torch.Generator().manual_seed(self.seed))
        phases = torch.polar(torch.ones_like(turns), 2 * math.pi * turns)
        previous = torch.zeros_like(phases)
        for _ in range(self.iterations):
            consistent = spectrum(torch.istft(magnitudes * phases, fft_size, hop, window=window, length=T))
            moved = consistent - self.momentum / (1 + self.momentum) * previous
            phases = moved / moved.abs().clamp(min=1e-16)
            previous = consistent
        return torch.istft(magnitudes * phases, fft_size, hop, window=window, length=T)


@lru_cache(maxsize=8)
def _mel_matrices(sample_rate: int, fft_size: int, num_mels: int) -> Sequence[Tensor]:
    """(num_mels, bins) and its pseudoinverse (bins, num_mels)."""
    forward = mel_filterbank(sample_rate=sample_rate, fft_size=fft_size, num_mels=num_mels)
    return forward, torch.linalg.pinv(forward)
