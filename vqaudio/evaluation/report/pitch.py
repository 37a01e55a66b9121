"""The pitch of a clip as a curve: that of a system over that of the original."""

import math
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from vqaudio import metrics
from vqaudio.evaluation.report.looks import Look

LOW_HZ, HIGH_HZ = 60.0, 500.0  # of the strip, logarithmic
WIDTH, HEIGHT = 1000, 100
LEAST_VOICED = 0.05  # of the frames; below, there is no melody to be seen


@dataclass(frozen=True)
class Pitch:
    """Where the middle of each frame lies, 0 … 1 of the clip, and its pitch in Hz; NaN where nothing is voiced."""

    places: np.ndarray
    f0_hz: np.ndarray


def pitch_of(audio: Tensor, sample_rate: int) -> Pitch | None:
    """(T,) -> its pitch; None where there is next to none."""
    if not hasattr(metrics, "pitch_track"):
        return None
    track = metrics.pitch_track(audio, sample_rate)
    voiced = np.asarray(track.voiced, dtype=bool)
    if len(voiced) == 0 or voiced.mean() < LEAST_VOICED:
        return None
    f0_hz = np.where(voiced, np.asarray(track.f0_hz, dtype=np.float64), math.nan)
    return Pitch(np.asarray(track.times, dtype=np.float64) * sample_rate / len(audio), f0_hz)


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
