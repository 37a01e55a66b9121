"""The clips: each recording as it was and as every system gave it back, to hear, to see, and to compare.

Sounds are embedded as the evaluation wrote them, lossless FLAC, which Chromium, Firefox and Safari play: what is judged
here must not be coded once more. They are large, so a page takes in turns one point of every system, its highest rate
first, then its lowest, then those between, until the room is used up; what is left out is named.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from torch import Tensor

from vqaudio.codes import Codes
from vqaudio.dsp import mix_down, resample
from vqaudio.evaluation.report.folder import CLIPS_NAME, Evaluation, Facts
from vqaudio.evaluation.report.looks import Look, swatch
from vqaudio.evaluation.report.pictures import (
    codes_png,
    data_uri,
    mel_places,
    mel_spectrum,
    ranks_by_use,
    spectrogram_png,
)
from vqaudio.evaluation.report.pitch import Pitch, pitch_html, pitch_of
from vqaudio.evaluation.report.words import is_number, number, plural, rate
from vqaudio.io import read_audio
from vqaudio.training.page_tables import escaped

MOST_BYTES = 11_000_000  # of text, for all players and pictures together
MARKED_HZ = (500, 1000, 2000, 4000, 8000, 16000)  # beside a spectrogram
MOST_VALUES = 4  # on a card


@dataclass
class Clip:
    """One recording of the report, and what has been made for it so far."""

    facts: Facts
    folder: Path
    lines: dict[str, Facts]  # of files.jsonl, by point
    audio: Tensor  # (T,)
    sample_rate: int
    loudest_db: float
    pitch: Pitch | None
    cards: dict[str, str] = field(default_factory=dict)  # by name of the point; "" for the original
    codes: dict[str, str] = field(default_factory=dict)  # by name of the system
    left_out: list[str] = field(default_factory=list)

    @property
    def size(self) -> int:
        return sum(len(text) for text in (*self.cards.values(), *self.codes.values()))


def clips_html(evaluation: Evaluation, looks: dict[str, Look], *, most_bytes: int = MOST_BYTES) -> str:
    """One part for each clip, the first one open; empty text if there are none."""
    listed = evaluation.facts.get("clips") or []
    clips, notes = [], []
    for facts in listed:
        try:
            clips.append(_opened(evaluation, facts))
        except (ValueError, OSError) as error:
            notes.append(f"{facts.get('name')}: {error}")
    _fill(evaluation, clips, looks, most_bytes)
    parts = [_clip_html(evaluation, clip, looks, is_first=index == 0) for index, clip in enumerate(clips) if clip.cards]
    for clip in clips:
        if clip.left_out:
            notes.append(f"{clip.facts['name']}: {', '.join(clip.left_out)}")
    if not parts and not notes:
        return ""
    said = "; ".join(escaped(note) for note in notes)
    left_out = f'<p class="left-out">Not shown, see the folder {CLIPS_NAME}: {said}.</p>' if notes else ""
    intro = (
        "A click into a spectrogram plays from there. Whatever is started while another version of the same clip plays "
        "takes over where that is, and the left and right arrow keys step through the versions. Spectrograms of a clip "
        "share one scale, in mels, and one level; below them, the pitch in colour over that of the original in grey."
    )
    return f"<p>{intro}</p>{''.join(parts)}{left_out}"


def turns(points: list[Facts]) -> list[Facts]:
    """The points of a system in the order in which they are worth hearing: the highest rate, the lowest, the rest."""
    by_rate = sorted(points, key=lambda point: point["kbps"] if is_number(point.get("kbps")) else 0.0)
    return [by_rate[-1], *by_rate[:-1]] if by_rate else []


# ---- pieces


def _opened(evaluation: Evaluation, facts: Facts) -> Clip:
    folder = evaluation.folder / CLIPS_NAME / str(facts["name"])
    audio, sample_rate = _read(folder / "reference.flac")
    lines = {line["point"]: line for line in evaluation.lines if line["path"] == facts.get("path")}
    loudest_db = float(mel_spectrum(audio, sample_rate).max())
    pitch = pitch_of(audio, sample_rate) if facts.get("kind") == "speech" else None
    return Clip(facts, folder, lines, audio, sample_rate, loudest_db, pitch)


def _read(path: Path) -> tuple[Tensor, int]:
    """(T,) and its rate, channels averaged."""
    audio, sample_rate = read_audio(path)
    if audio.shape[1] == 0:
        raise ValueError(f"{path}: it holds no samples")
    return mix_down(audio)[0], sample_rate


def _fill(evaluation: Evaluation, clips: list[Clip], looks: dict[str, Look], most_bytes: int) -> None:
    """Make cards in turns until the room is used up."""
    room = most_bytes
    for clip in clips:  # without its original nothing can be judged
        card = _card(clip, clip.folder / "reference.flac", None, None, "original", "", [])
        if len(card) > room:
            clip.left_out.append("all of it, for its length")
            continue
        clip.cards[""] = card
        for system in evaluation.systems:
            picture = _codes_html(clip, system, looks[system["name"]])
            if picture and len(picture) <= room - len(card):
                clip.codes[system["name"]] = picture
        room -= clip.size
    wanted = [clip for clip in clips if clip.cards]
    for clip, system, point in _in_turns(evaluation, wanted):
        path = clip.folder / f"{point['name']}.flac"
        name = f"{system.get('label') or system['name']} {point.get('label') or ''}".strip()
        if not path.is_file():
            if point["name"] in clip.lines and clip.lines[point["name"]].get("values"):
                clip.left_out.append(f"{name} (no file)")
            continue
        if path.stat().st_size * 4 / 3 > room:  # base64; no need to draw what will not fit
            clip.left_out.append(name)
            continue
        values = _values(evaluation, clip.lines.get(point["name"], {}))
        label = system.get("label") or system["name"]
        try:
            card = _card(clip, path, point, looks[system["name"]], label, str(point.get("label") or ""), values)
        except (ValueError, OSError) as error:
            clip.left_out.append(f"{name} ({error})")
            continue
        if len(card) > room:
            clip.left_out.append(name)
            continue
        clip.cards[point["name"]] = card
        room -= len(card)


def _in_turns(evaluation: Evaluation, clips: list[Clip]) -> Iterator[tuple[Clip, Facts, Facts]]:
    orders = [(system, turns(system.get("points") or [])) for system in evaluation.systems]
    for turn in range(max((len(points) for _, points in orders), default=0)):
        for clip in clips:
            for system, points in orders:
                if turn < len(points):
                    yield clip, system, points[turn]


def _values(evaluation: Evaluation, line: Facts) -> list[str]:
    """The first few values of this very recording."""
    values = line.get("values") or {}
    there = [measure for measure in evaluation.measures if is_number(values.get(measure["name"]))]
    told = [
        (measure["label"], number(values[measure["name"]], int(measure.get("decimals", 2))))
        for measure in there[:MOST_VALUES]
    ]
    return [f"<span>{escaped(label)} <b>{value}</b></span>" for label, value in told]


def _card(
    clip: Clip, path: Path, point: Facts | None, look: Look | None, label: str, setting: str, values: list[str]
) -> str:
    """A player under its spectrogram and pitch; `point` and `look` None: the original."""
    audio, sample_rate = _read(path)
    shown = resample(audio[None], sample_rate, clip.sample_rate)[0]  # one scale of frequencies for all of a clip
    picture = data_uri("image/png", spectrogram_png(mel_spectrum(shown, clip.sample_rate), clip.loudest_db))
    ticks = "".join(
        f'<span style="bottom:{100 * height:.1f}%">{frequency / 1000:g}</span>'
        for frequency, height in mel_places(clip.sample_rate, MARKED_HZ)
        if height < 0.97
    )
    pitch = "" if clip.pitch is None else pitch_html(pitch_of(shown, clip.sample_rate), clip.pitch, look)
    marker = swatch(look) if look is not None else ""
    line = clip.lines.get(point["name"], {}) if point is not None else {}
    kbps = line.get("kbps")
    details = [setting] if setting and setting != label else []
    details += [f"{rate(kbps)} kbit/s"] if is_number(kbps) else []
    details = details if point is not None else [f"0 to {clip.sample_rate / 2000:g} kHz"]
    name = " ".join([label, setting]).strip()
    return (
        f'<figure class="sound" tabindex="0" data-seconds="{len(audio) / sample_rate:.6f}">'
        f"<figcaption><b>{marker}{escaped(label)}</b><span>{escaped(', '.join(details))}</span></figcaption>"
        f'<div class="picture"><div class="seen"><img alt="spectrogram of {escaped(name)}" src="{picture}">'
        f'<div class="hz" aria-hidden="true">{ticks}</div></div>{pitch}<i></i></div>'
        f'<audio controls preload="metadata" src="{data_uri("audio/flac", path.read_bytes())}"></audio>'
        f'<p class="scores">{" ".join(values)}</p></figure>'
    )


def _codes_html(clip: Clip, system: Facts, look: Look) -> str:
    """The codes over time, and their values under the pointer; empty text for a system that left none."""
    path = clip.folder / f"{system['name']}.vqt"
    if not path.is_file():
        return ""
    try:
        codes = Codes.load(path)
    except ValueError as error:
        clip.left_out.append(f"codes of {system['name']} ({error})")
        return ""
    values = codes.to_numpy()[0]  # (K, N)
    K, N = values.shape
    counts = [book.get("counts") for book in system.get("codebooks") or []]
    ranks = [
        ranks_by_use(counts[level]) if level < len(counts) and len(counts[level] or ()) == size else np.arange(size)
        for level, size in enumerate(codes.codebook_sizes)
    ]
    picture = data_uri("image/png", codes_png(values, ranks))
    packed = data_uri(
        "application/octet-stream", values.astype("<u4" if values.max(initial=0) > 65535 else "<u2").tobytes()
    )
    said = f"{plural(K, 'codebook')} × {plural(N, 'frame')}, {float(codes.frame_rate):g} frames/s"
    return (
        f'<figure class="codes" data-codes="{packed}" data-k="{K}" data-n="{N}" '
        f'data-rate="{float(codes.frame_rate)!r}">'
        f"<figcaption><b>{swatch(look)}codes of {escaped(system.get('label') or system['name'])}</b><span>{said}</span>"
        f'</figcaption><div class="grid" style="--k:{K}"><img alt="codes over time" src="{picture}"></div></figure>'
    )


def _clip_html(evaluation: Evaluation, clip: Clip, looks: dict[str, Look], *, is_first: bool) -> str:
    names = [""] + [point["name"] for _, point in evaluation.points()]
    cards = "".join(clip.cards[name] for name in names if name in clip.cards)
    codes = "".join(clip.codes.values())
    facts = clip.facts
    details = [str(facts["speaker"])] if facts.get("speaker") else []
    details += [f"{facts['seconds']:.1f} s"] if is_number(facts.get("seconds")) else []
    details += [str(facts.get("path", ""))]
    below = (
        f'<p class="soft">Codes over time, the first codebook on top; dark codes are the most used ones of the whole '
        f"evaluation, bright ones the least.</p>{codes}"
        if codes
        else ""
    )
    return (
        f'<details class="panel clip"{" open" if is_first else ""}><summary><b>{escaped(facts["name"])}</b>'
        f'<span class="unit">{escaped(", ".join(details))}</span></summary>'
        f'<div class="sounds">{cards}</div>{below}</details>'
    )
