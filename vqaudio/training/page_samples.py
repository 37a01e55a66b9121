"""The sounds of a run for its page: players and spectrograms, as text that carries everything within itself.

`samples/3-original.wav` is a validation clip, `samples/3-step-002000.wav` what the model made of it at a step. Sounds
are large, so that a page holds as many as fit: the originals, then the newest steps; what is left out is named.
"""

import base64
import html
import io
import re
import struct
import wave
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

SAMPLES_NAME = "samples"
MOST_BYTES = 8_000_000  # of text, for all players and pictures together
COLUMNS, ROWS = 320, 128  # of a picture
WINDOW_SECONDS = 0.032
RANGE_DB = 75.0  # below the loudest point of the clip's original
SHADES = 48  # few enough to compress well, too many to see

# The dark end to the bright one, evenly spaced.
_COLOURS = ("#05040c", "#1d1147", "#51127c", "#832681", "#b63679", "#e65164", "#fb8861", "#fec287", "#fcfdbf")


@dataclass(frozen=True)
class Sound:
    """16-bit audio as it lies in a file: the bytes, and the samples (T,) in [-1, 1], channels averaged."""

    data: bytes
    samples: np.ndarray
    sample_rate: int

    @property
    def seconds(self) -> float:
        return len(self.samples) / self.sample_rate


def samples_html(run_folder: Path, *, most_bytes: int = MOST_BYTES) -> str:
    """One row for each clip, its original first and then its steps, newest first; empty text if there are no sounds."""
    files, notes = _files(run_folder / SAMPLES_NAME)
    if not files:
        return ""
    clips = sorted({clip for clip, _ in files})
    cells: dict[tuple[int, int | None], str] = {}
    loudest: dict[int, float] = {}
    used = 0
    left_out: set[int] = set()
    for step in [None, *sorted({step for _, step in files if step is not None}, reverse=True)]:
        made = {}
        for clip in clips:
            path = files.get((clip, step))
            if path is None:
                continue
            try:
                sound = read_sound(path)
            except (OSError, EOFError, ValueError, wave.Error) as error:
                notes.append(f"{path.name} cannot be read ({error})")
                continue
            power = _power_db(sound)
            loudest.setdefault(clip, float(power.max()))
            made[clip, step] = _cell(sound, power, loudest[clip], "original" if step is None else f"step {step:,}")
        size = sum(len(cell) for cell in made.values())
        if step is None or (used + size <= most_bytes and not left_out):
            for key, cell in made.items():  # originals are taken one by one: without them nothing can be judged
                if used + len(cell) <= most_bytes:
                    cells[key] = cell
                    used += len(cell)
                else:
                    notes.append(f"{files[key].name} is too long for the page")
        else:
            left_out.add(step)
    if left_out:
        steps = ", ".join(f"{step:,}" for step in sorted(left_out))
        notes.append(f"steps {steps} would make the page larger than {most_bytes / 1e6:g} MB of sound")
    rows = []
    for clip in clips:
        row = [cells[key] for key in sorted((k for k in cells if k[0] == clip), key=_newest_first)]
        if row:
            rows.append(f'<div class="clip"><h3>clip {clip + 1}</h3><div class="sounds">{"".join(row)}</div></div>')
    if notes:
        rows.append(f'<p class="left-out">Not shown: {html.escape("; ".join(notes))}. See the folder samples.</p>')
    return "".join(rows)


def read_sound(path: Path) -> Sound:
    """A WAV of 16-bit samples, as `write_sample` writes them."""
    data = path.read_bytes()
    with wave.open(io.BytesIO(data)) as file:
        if file.getsampwidth() != 2:
            raise ValueError(f"{8 * file.getsampwidth()} bits a sample, and 16 are wanted")
        channels, sample_rate = file.getnchannels(), file.getframerate()
        samples = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2").reshape(-1, channels)
    if len(samples) == 0:
        raise ValueError("it holds no samples")
    return Sound(data, samples.mean(axis=1, dtype=np.float32) / np.float32(32768), sample_rate)


def spectrogram_png(sound: Sound, *, loudest_db: float | None = None) -> bytes:
    """A picture of at most COLUMNS × ROWS: time to the right, 0 Hz at the bottom to half the rate at the top."""
    power = _power_db(sound)
    return _picture(power, float(power.max()) if loudest_db is None else loudest_db)


def png(shades: np.ndarray, palette: np.ndarray) -> bytes:
    """shades (H, W) uint8, palette (up to 256, 3) uint8 -> an indexed PNG."""
    H, W = shades.shape

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    lines = np.zeros((H, W + 1), dtype=np.uint8)  # each line begins with its filter: 0, none
    lines[:, 1:] = shades
    header = struct.pack(">IIBBBBB", W, H, 8, 3, 0, 0, 0)
    body = chunk(b"PLTE", palette.tobytes()) + chunk(b"IDAT", zlib.compress(lines.tobytes(), 9))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body + chunk(b"IEND", b"")


def _files(folder: Path) -> tuple[dict[tuple[int, int | None], Path], list[str]]:
    """(clip, step or None for the original) -> file, and notes on files that are neither."""
    files: dict[tuple[int, int | None], Path] = {}
    unknown = 0
    for path in sorted(folder.glob("*.wav")):
        match = re.fullmatch(r"(\d+)-(?:original|step-(\d+))\.wav", path.name)
        if match:
            files[int(match[1]), int(match[2]) if match[2] else None] = path
        else:
            unknown += 1
    return files, [f"{unknown} files with other names"] if unknown else []


def _newest_first(key: tuple[int, int | None]) -> float:
    return -float("inf") if key[1] is None else -key[1]


def _cell(sound: Sound, power: np.ndarray, loudest_db: float, label: str) -> str:
    picture = base64.b64encode(_picture(power, loudest_db)).decode("ascii")
    audio = base64.b64encode(sound.data).decode("ascii")
    extent = f"{sound.seconds:.1f} s, 0 to {sound.sample_rate / 2000:g} kHz"
    return (
        f'<figure class="sound"><figcaption><b>{label}</b><span>{extent}</span></figcaption>'
        f'<div class="picture"><img alt="spectrogram of {label}" src="data:image/png;base64,{picture}"><i></i></div>'
        f'<audio controls preload="metadata" src="data:audio/wav;base64,{audio}"></audio></figure>'
    )


def _power_db(sound: Sound) -> np.ndarray:
    """(rows, columns) in dB, the lowest frequency first."""
    window = 2 ** round(np.log2(WINDOW_SECONDS * sound.sample_rate))
    hop = max(window // 4, -(-len(sound.samples) // COLUMNS))
    spectrum = torch.stft(
        torch.from_numpy(sound.samples),
        window,
        hop_length=hop,
        window=torch.hann_window(window),
        pad_mode="constant",
        return_complex=True,
    )
    power = spectrum.abs().square().numpy()[:-1]  # (window / 2, columns)
    height = max(1, len(power) // ROWS)
    power = np.stack([rows.max(axis=0) for rows in _groups(power, height)])
    decibels: np.ndarray = 10.0 * np.log10(power + 1e-10)
    return decibels


def _groups(rows: np.ndarray, height: int) -> Iterator[np.ndarray]:
    for first in range(0, len(rows), height):
        yield rows[first : first + height]


def _picture(power: np.ndarray, loudest_db: float) -> bytes:
    shades = np.clip((power - loudest_db) / RANGE_DB + 1.0, 0.0, 1.0) * (SHADES - 1)
    return png(np.flipud(shades.round().astype(np.uint8)), _palette())


def _palette() -> np.ndarray:
    """(SHADES, 3) between the colours above."""
    anchors = np.array([[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in _COLOURS], dtype=np.float64)
    places = np.linspace(0, len(anchors) - 1, SHADES)
    channels = [np.interp(places, np.arange(len(anchors)), anchors[:, channel]) for channel in range(3)]
    return np.stack(channels, axis=1).round().astype(np.uint8)
