"""The procedure, pinned: from a recording to the two signals that are compared.

    recording ── mix down ──┬────────────────────────────► resample ── 16 bit ──► reference
                            └─► system: code, decode ──► resample, cut ── 16 bit ──► estimate

Published figures of one codec differ by half a point of PESQ for want of this. Whoever changes a step changes
`RULES_VERSION`; results of different rules are refused by `compare`.
"""

from typing import Any

import torch
from torch import Tensor

from vqaudio.dsp import resample
from vqaudio.evaluation.measures import Kind

RULES_VERSION = 1
SCORING_RATES: dict[Kind, int] = {"speech": 16_000, "music": 44_100}  # Hz; PESQ-WB is defined at 16,000
RESAMPLES = 2_000  # of a bootstrap


def rules(kind: Kind, sample_rate: int) -> dict[str, Any]:
    """As they stand in the results, in words."""
    return {
        "version": RULES_VERSION,
        "kind": kind,
        "sample_rate": sample_rate,
        "channels": "the mean of all channels is coded and scored",
        "input": "systems get the whole recording at its own sample rate",
        "resampler": "vqaudio.dsp.resample, to the scoring rate, and from there to a measure's own rate",
        "length": "an estimate is cut, or padded with zeros, at its end to the reference's length",
        "alignment": "none beyond what a system does by itself; nothing is shifted or rescaled to score better",
        "pcm": "both signals are clipped to [-1, 1) and rounded to 16 bits at the scoring rate",
        "silence": "a digitally silent reference or estimate is not scored; it is listed with the reason",
        "mean": "over the files that a value could be computed for, each file counting once",
        "bootstrap": f"95 % percentile intervals of {RESAMPLES} resamples, over files and over whole speakers, seed 0",
    }


def through_pcm16(audio: Tensor) -> Tensor:
    """What a 16-bit WAV file gives back."""
    return (audio * 32768).round().clamp(-32768, 32767) / 32768


def as_heard(audio: Tensor, sample_rate: int, scoring_rate: int, *, length: int | None = None) -> Tensor:
    """(1, T) at `sample_rate` -> (1, `length`) at the scoring rate, after 16 bits; by default as long as it is."""
    scored = resample(audio, sample_rate, scoring_rate)
    if length is not None:
        scored = torch.nn.functional.pad(scored[:, :length], (0, max(0, length - scored.shape[-1])))
    return through_pcm16(scored)
