"""One file as a figure: waveform, spectrogram and pitch of a recording, codes of a code file, what they decode to."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from vqaudio.codes import Codes
from vqaudio.dsp import mix_down
from vqaudio.evaluation.drawing import SETTINGS, new_figure, plain, save_figure
from vqaudio.evaluation.report.pictures import RANGE_DB, mel_places, mel_spectrum, ranks_by_use
from vqaudio.evaluation.report.pitch import HIGH_HZ, LOW_HZ, pitch_of
from vqaudio.tokenizer import AudioTokenizer

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.axes import Axes

WIDTH = 9.0  # inches
BANDS, COLUMNS = 160, 1400  # of a spectrogram, at most
MARKED_HZ = (250, 500, 1000, 2000, 4000, 8000, 16000)
LINE_POINTS = 4000  # of a waveform; more than the figure has dots across


@dataclass(frozen=True)
class Sound:
    """(T,) and its rate."""

    audio: Tensor
    sample_rate: int

    @property
    def seconds(self) -> float:
        return len(self.audio) / self.sample_rate


def plot_audio(
    audio: Tensor, sample_rate: int, path: Path, *, title: str, tokenizer: AudioTokenizer | None = None
) -> Path:
    """Audio (C, T) -> a figure in `path`; with a tokenizer also its codes, and the spectrogram of what they decode to.

    Pitch is drawn where there is a voice.
    """
    codes = decoded = None
    if tokenizer is not None:
        codes = tokenizer.encode(audio, sample_rate=sample_rate)
        decoded = Sound(mix_down(tokenizer.decode(codes))[0], tokenizer.sample_rate)
    return _plot(Sound(mix_down(audio)[0], sample_rate), codes, decoded, path, title)


def plot_codes(codes: Codes, path: Path, *, title: str, tokenizer: AudioTokenizer | None = None) -> Path:
    """Codes -> a figure in `path`; with the tokenizer they are of also what they decode to."""
    sound = None if tokenizer is None else Sound(mix_down(tokenizer.decode(codes))[0], tokenizer.sample_rate)
    return _plot(sound, codes, None, path, title)


def _plot(sound: Sound | None, codes: Codes | None, decoded: Sound | None, path: Path, title: str) -> Path:
    """Panels below each other on one axis of time."""
    panels: list[tuple[float, Callable[[Axes], None]]] = []
    seconds = 0.0
    if sound is not None:
        if len(sound.audio) == 0:
            raise ValueError(f"{title}: it holds no samples, and there is nothing to plot")
        shown, seconds = sound, sound.seconds
        loudest_db = float(mel_spectrum(sound.audio, sound.sample_rate, bands=BANDS, columns=COLUMNS).max())
        panels.append((1.0, lambda axes: _waveform(axes, shown)))
        panels.append((2.2, lambda axes: _spectrogram(axes, shown, loudest_db, "")))
        pitch = pitch_of(sound.audio, sound.sample_rate)
        if pitch is not None:
            times, f0_hz = pitch.places * sound.seconds, pitch.f0_hz
            panels.append((1.0, lambda axes: _pitch(axes, times, f0_hz)))
    if codes is not None:
        drawn, seconds = codes, max(seconds, codes.seconds)
        panels.append((0.5 + 0.13 * codes.num_codebooks, lambda axes: _codes(axes, drawn)))
    if decoded is not None:
        again = decoded
        panels.append((2.2, lambda axes: _spectrogram(axes, again, loudest_db, "decoded: ")))
    heights = [height for height, _ in panels]
    figure = new_figure(WIDTH, 0.5 + 1.15 * sum(heights))
    import matplotlib

    with matplotlib.rc_context(SETTINGS):
        figure.suptitle(plain(title), fontweight="bold")
        grid = figure.add_gridspec(len(panels), 1, height_ratios=heights)
        for place, (_, draw) in enumerate(panels):
            axes = figure.add_subplot(grid[place])
            draw(axes)
            axes.set_xlim(0, max(seconds, 1e-3))
            if place == len(panels) - 1:
                axes.set_xlabel("seconds")
            else:
                axes.tick_params(labelbottom=False)
    return save_figure(figure, path)


def _waveform(axes: "Axes", sound: Sound) -> None:
    """The smallest and the largest sample of every stretch: peaks survive the thinning."""
    samples = sound.audio.numpy()
    parts = np.array_split(samples, min(len(samples), LINE_POINTS))
    times = (np.arange(len(parts)) + 0.5) * sound.seconds / len(parts)
    low, high = np.array([part.min() for part in parts]), np.array([part.max() for part in parts])
    axes.fill_between(times, low, high, color="#0072b2", linewidth=0.6, edgecolor="#0072b2")
    reach = max(float(np.abs(samples).max()), 1e-3) * 1.05
    axes.set_ylim(-reach, reach)
    axes.set_ylabel("amplitude")


def _spectrogram(axes: "Axes", sound: Sound, loudest_db: float, said: str) -> None:
    power = mel_spectrum(sound.audio, sound.sample_rate, bands=BANDS, columns=COLUMNS)
    axes.imshow(
        power,
        origin="lower",
        aspect="auto",
        cmap="inferno",
        vmin=loudest_db - RANGE_DB,
        vmax=loudest_db,
        extent=(0, sound.seconds, 0, 1),
        interpolation="nearest",
    )
    places = mel_places(sound.sample_rate, MARKED_HZ)
    axes.set_yticks([height for _, height in places], [f"{frequency / 1000:g}" for frequency, _ in places])
    axes.set_ylabel(f"{said}kHz, mel scale")
    axes.grid(False)


def _pitch(axes: "Axes", times: np.ndarray, f0_hz: np.ndarray) -> None:
    axes.plot(times, f0_hz, color="#d55e00", linewidth=1.6)
    axes.set_yscale("log")
    axes.set_ylim(LOW_HZ, HIGH_HZ)
    axes.set_yticks([100, 200, 400], ["100", "200", "400"])
    axes.set_yticks([], minor=True)
    axes.set_ylabel("F0, Hz")


def _codes(axes: "Axes", codes: Codes) -> None:
    """Rows are codebooks; the colour is the place of a code when ordered by its use in this file, common ones dark."""
    values = codes.to_numpy()[0]  # (K, N)
    K, N = values.shape
    shades = np.zeros((K, N))
    for level, (row, size) in enumerate(zip(values, codes.codebook_sizes, strict=True)):
        counts = np.bincount(row, minlength=size)
        shades[level] = ranks_by_use(counts.tolist())[row] / max(int((counts > 0).sum()) - 1, 1)
    seconds = N / float(codes.frame_rate)
    axes.imshow(
        shades,
        aspect="auto",
        cmap="viridis",
        vmin=0,
        vmax=1,
        extent=(0, seconds, K + 0.5, 0.5),
        interpolation="nearest",
    )
    axes.set_yticks(range(1, K + 1) if K <= 16 else range(1, K + 1, K // 8))
    axes.set_ylabel("codebook")
    axes.grid(False)
