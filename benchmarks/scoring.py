"""One recording through a tokenizer, and what can be said about it; `quality.py` does it for many."""

import warnings
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pesq import pesq
from pystoi import stoi
from torch import Tensor

from vqaudio import AudioTokenizer
from vqaudio.data.manifest import Item
from vqaudio.dsp import mix_down, resample
from vqaudio.io import read_audio
from vqaudio.metrics import edge_error_ratio, mel_distance, si_sdr

RATE = 16_000  # Hz, that of PESQ-WB
METRICS = ("pesq", "stoi", "si_sdr", "mel_distance")
CUT_SECONDS, EDGE_SECONDS = 2.0, 0.05


@dataclass
class Scored:
    """One file: `row` goes into the results, `codes` (K, N) into the statistics of the codebooks."""

    row: dict[str, Any]
    codes: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.int32))


@lru_cache(maxsize=1)
def loaded(model: str) -> AudioTokenizer:
    return AudioTokenizer.from_pretrained(model)


def through_pcm16(audio: Tensor) -> Tensor:
    """What a 16-bit WAV file gives back."""
    return (audio * 32768).round().clamp(-32768, 32767) / 32768


def numbers_of_codebooks(total: int) -> list[int]:
    """1, 2, 4, … and the total."""
    return sorted({2**power for power in range(total.bit_length()) if 2**power <= total} | {total})


def score_file(model: str, path: Path, item: Item) -> Scored:
    """Everything that is known about one file; what goes wrong with it is in the row."""
    row: dict[str, Any] = {"path": item.path, "kind": item.kind}
    reasons: dict[tuple[str, str], list[int]] = {}
    try:
        tokenizer = loaded(model)
        audio, source_rate = read_audio(path)
        reference = resample(mix_down(audio), source_rate, RATE)  # (1, T)
        codes = tokenizer.encode(path)
        row |= {"seconds": round(float(codes.seconds), 3), "scores": {}}
        for number in numbers_of_codebooks(tokenizer.num_codebooks):
            estimate = through_pcm16(tokenizer.decode(codes.prefix(number), sample_rate=RATE))
            row["scores"][str(number)], unscored = compare(estimate, reference)
            for metric, reason in unscored.items():
                reasons.setdefault((metric, reason), []).append(number)
        row["unscored"] = [
            {"metric": metric, "codebooks": numbers, "reason": reason} for (metric, reason), numbers in reasons.items()
        ]
        row["cut"] = cut_in_mid_speech(tokenizer, estimate, reference)
        return Scored(row, codes.values[0].to(torch.int32).numpy())
    except (ValueError, OSError) as error:
        return Scored(row | {"failed": str(error).replace(str(path), item.path)})


def compare(estimate: Tensor, reference: Tensor) -> tuple[dict[str, float], dict[str, str]]:
    """(1, T) both, at 16 kHz -> the metrics that could be computed, and for the others the reason."""
    assert estimate.shape == reference.shape
    one, other = estimate[0].numpy(), reference[0].numpy()
    scores: dict[str, float] = {}
    unscored: dict[str, str] = {}
    if not through_pcm16(reference).any():
        return {}, dict.fromkeys(METRICS, "the file is silent")
    if not estimate.any():
        unscored = dict.fromkeys(("pesq", "si_sdr"), "the reconstruction is silent")
    computations = {
        "pesq": lambda: pesq(RATE, other, one, "wb"),
        "stoi": lambda: stoi(other, one, RATE),
        "si_sdr": lambda: si_sdr(estimate[None], reference[None]).item(),
        "mel_distance": lambda: mel_distance(estimate[None], reference[None], sample_rate=RATE).item(),
    }
    for metric, compute in computations.items():
        if metric in unscored:
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", RuntimeWarning)  # how pystoi says that there is too little speech
                scores[metric] = round(float(compute()), 5)
        except (RuntimeError, ValueError, RuntimeWarning) as error:
            reason = error.args[0] if error.args else type(error).__name__
            unscored[metric] = reason.decode() if isinstance(reason, bytes) else str(reason)  # pesq raises bytes
    return scores, unscored


def cut_in_mid_speech(tokenizer: AudioTokenizer, whole: Tensor, reference: Tensor) -> dict[str, float] | None:
    """A clip of two seconds is cut where its ends are as loud as its inside, and coded by itself.

    `edge_ratio`: the error power in its first and last 50 ms over that in between. `cut_ratio`: over the error power
    that the same samples have in `whole`, the reconstruction of the whole file: only the cut makes the difference.
    None for files that are too short or silent. All (1, T).
    """
    start = loud_to_the_ends(reference[0])
    if start is None:
        return None
    here = slice(start, start + round(CUT_SECONDS * RATE))
    clip = reference[:, here]
    estimate = through_pcm16(tokenizer.decode(tokenizer.encode(clip, RATE), sample_rate=RATE))
    edge = round(EDGE_SECONDS * RATE)
    cut, uncut = ((other - clip).square() for other in (estimate, whole[:, here]))
    powers = [float(error[:, :edge].mean() + error[:, -edge:].mean()) for error in (cut, uncut)]
    ratio = edge_error_ratio(estimate[None], clip[None], sample_rate=RATE, edge_seconds=EDGE_SECONDS).item()
    return {"edge_ratio": round(ratio, 4), "cut_ratio": round(powers[0] / max(powers[1], 1e-12), 4)}


def loud_to_the_ends(reference: Tensor) -> int | None:
    """Where to cut (T,): the start, on a grid of 0.1 s and away from the file's own ends, of the clip whose first and
    last 50 ms are nearest to its inside in power."""
    length, edge, step = round(CUT_SECONDS * RATE), round(EDGE_SECONDS * RATE), RATE // 10
    total = torch.cat([torch.zeros(1, dtype=torch.float64), reference.double().square().cumsum(0)])
    if len(reference) <= length + 4 * step:
        return None
    starts = torch.arange(2 * step, len(reference) - length - 2 * step, step)

    def power(first: Tensor, last: Tensor) -> Tensor:
        return (total[last] - total[first]) / (last - first) + 1e-12

    ends = starts + length
    inside = power(starts + edge, ends - edge)
    first, last = power(starts, starts + edge), power(ends - edge, ends)
    uneven = (first / inside).log().abs() + (last / inside).log().abs()
    uneven[inside < 1e-6] = float("inf")  # -60 dBFS: a pause
    best = int(uneven.argmin())
    return int(starts[best]) if uneven[best].isfinite() else None


def silence_peak_dbfs(tokenizer: AudioTokenizer, seconds: float = 5.0) -> float:
    """The peak that digital silence comes back with, before rounding to 16 bits; -200 stands for nothing at all."""
    silence = torch.zeros(1, round(seconds * tokenizer.sample_rate))
    peak = float(tokenizer.decode(tokenizer.encode(silence)).abs().max())
    return round(20 * float(np.log10(max(peak, 1e-10))), 1)
