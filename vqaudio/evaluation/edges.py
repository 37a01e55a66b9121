"""What a codec does at the ends of a clip, and what silence comes back as.

A clip of two seconds is cut where its ends are as loud as its inside, and coded by itself.
"""

import math

import torch
from torch import Tensor

from vqaudio.evaluation.rules import as_heard
from vqaudio.metrics import edge_error_ratio
from vqaudio.tokenizer import AudioTokenizer

CUT_SECONDS, EDGE_SECONDS = 2.0, 0.05
SILENCE_SECONDS = 5.0
STEP_SECONDS = 0.1  # of the grid that clips are cut on
PAUSE = 1e-6  # power: -60 dBFS


def cut_in_mid_sound(
    tokenizer: AudioTokenizer, whole: Tensor, reference: Tensor, sample_rate: int, *, num_codebooks: int | None = None
) -> dict[str, float] | None:
    """`edge_ratio`: the error power in the first and last 50 ms of the clip over that in between. `cut_ratio`: over the
    error power of the same samples in `whole`, the estimate of the whole recording: only the cut makes the difference.

    `whole` and `reference` are (1, T) at the scoring rate; `whole` was decoded from `num_codebooks`, None: all. The
    result is None for recordings that are too short, or pauses.
    """
    start = _loud_to_the_ends(reference[0], sample_rate)
    if start is None:
        return None
    here = slice(start, start + round(CUT_SECONDS * sample_rate))
    clip = reference[:, here]
    coded = tokenizer.decode(tokenizer.encode(clip, sample_rate, num_codebooks=num_codebooks))
    estimate = as_heard(coded, tokenizer.sample_rate, sample_rate, length=clip.shape[-1])
    edge = round(EDGE_SECONDS * sample_rate)
    cut, uncut = ((other - clip).square() for other in (estimate, whole[:, here]))
    powers = [float(error[:, :edge].mean() + error[:, -edge:].mean()) for error in (cut, uncut)]
    ratio = edge_error_ratio(estimate[None], clip[None], sample_rate=sample_rate, edge_seconds=EDGE_SECONDS).item()
    return {"edge_ratio": round(ratio, 4), "cut_ratio": round(powers[0] / max(powers[1], 1e-12), 4)}


def _loud_to_the_ends(reference: Tensor, sample_rate: int) -> int | None:
    """Where to cut (T,): the start, on a grid and away from the recording's own ends, of the clip whose first and last
    50 ms are nearest to its inside in power."""
    length, edge, step = (round(seconds * sample_rate) for seconds in (CUT_SECONDS, EDGE_SECONDS, STEP_SECONDS))
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
    uneven[inside < PAUSE] = math.inf
    best = int(uneven.argmin())
    return int(starts[best]) if uneven[best].isfinite() else None


def silence_peak_dbfs(tokenizer: AudioTokenizer) -> float:
    """The peak that digital silence comes back with, before rounding to 16 bits; -200 stands for nothing at all."""
    silence = torch.zeros(1, round(SILENCE_SECONDS * tokenizer.sample_rate))
    peak = float(tokenizer.decode(tokenizer.encode(silence)).abs().max())
    return round(20 * math.log10(max(peak, 1e-10)), 1)
