"""The pitch of a clip as a curve: that of a system over that of the original."""

import math
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from vqaudio.dsp import resample
from vqaudio.evaluation.report.looks import Look
from vqaudio.metrics import pitch_track
from vqaudio.metrics.pitch import FMAX_HZ, FMIN_HZ, HOP_SECONDS

LOW_HZ, HIGH_HZ = FMIN_HZ, FMAX_HZ  # of the strip, logarithmic
TRACKING_RATE = 16_000  # Hz; higher rates take longer and give the same
WIDTH, HEIGHT = 1000, 100
LEAST_VOICED = 0.05  # of the frames; below, there is no melody to be seen


@dataclass(frozen=True)
class Pitch:
    """Where the middle of each frame lies, 0 … 1 of the clip, and its pitch in Hz; NaN where nothing is voiced."""

    places: np.ndarray
    f0_hz: np.ndarray


def pitch_of(audio: Tensor, sample_rate: int) -> Pitch | None:
    """(T,) -> its pitch; None where there is next to none, and for what is too short or too coarse to have one."""
    seconds = len(audio) / sample_rate
    if sample_rate > TRACKING_RATE:
        audio, sample_rate = resample(audio[None], sample_rate, TRACKING_RATE)[0], TRACKING_RATE
    try:
        track = pitch_track(audio, sample_rate)
    except ValueError:
        return None
    if track.voiced.mean() < LEAST_VOICED:
        return None
    places = np.arange(len(track.voiced)) * HOP_SECONDS / seconds
    return Pitch(places, np.where(track.voiced, track.f0_hz, math.nan))


def pitch_html(pitch: Pitch | None, original: Pitch, look: Look | None) -> str:
    """A strip below a spectrogram. Without a look it is the original's own, in the colour of text."""
    lines = f'<path class="was" d="{_path(original)}"/>' if look is not None else ""
    colour = look.colour if look is not None else "var(--ink)"
    if pitch is not None:
        lines += f'<path stroke="{colour}" d="{_path(pitch)}"/>'
    marked = "".join(f"M0 {_height(hz):.1f}H{WIDTH}" for hz in (100.0, 200.0, 400.0))
    ticks = "".join(f'<span style="top:{_height(hz):.1f}%">{hz:g}</span>' for hz in (100.0, 200.0, 400.0))
    return (
        f'<div class="pitch"><svg viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none" role="img" '
        f'aria-label="pitch over time, Hz"><path class="grid" d="{marked}"/>{lines}</svg>'
        f'<div class="hz" aria-hidden="true">{ticks}</div></div>'
    )


def _height(hz: float) -> float:
    """From the top."""
    share = math.log(min(max(hz, LOW_HZ), HIGH_HZ) / LOW_HZ) / math.log(HIGH_HZ / LOW_HZ)
    return HEIGHT * (1 - share)


def _path(pitch: Pitch) -> str:
    pieces, pen_down = [], False
    for place, hz in zip(pitch.places.tolist(), pitch.f0_hz.tolist(), strict=True):
        if math.isnan(hz):
            pen_down = False
            continue
        pieces.append(f"{'L' if pen_down else 'M'}{WIDTH * place:.0f} {_height(hz):.1f}")
        pen_down = True
    return "".join(pieces)
