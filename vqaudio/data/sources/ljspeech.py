"""LJSpeech 1.1 (Keith Ito and Linda Johnson, 2017): one reader, 22.05 kHz, public domain.

    LJSpeech-1.1/metadata.csv               LJ001-0001|raw text|normalised text, no header, quotes are quotes
                /wavs/LJ001-0001.wav

It has no splits of its own. Ours go by chapter, so that no passage is on two sides: chapter LJ049 validates, LJ050
tests, all others train. Others take the last 500 recordings (ESPnet) or random ones (HiFi-GAN); compare with care.
"""

import re
from pathlib import Path

from vqaudio.data.manifest import Dropped, Item, Manifest
from vqaudio.data.sources.tree import (
    Listing,
    audio_files,
    empty_file,
    find_corpus,
    no_audio,
    no_transcript,
    text_lines,
    walk,
    wrong_name,
)

LJSPEECH_LICENCE = "public domain"

_NAME = re.compile(r"(LJ\d{3})-\d{4}")  # chapter, recording
_SPLITS = {"LJ049": "valid", "LJ050": "test"}


def list_ljspeech(folder: Path) -> Listing:
    root = find_corpus(
        folder,
        title="LJSpeech 1.1",
        wanted="metadata.csv beside a folder wavs",
        is_corpus=lambda place: (place / "metadata.csv").is_file() and (place / "wavs").is_dir(),
    )
    dropped: list[Dropped] = []
    texts = _transcripts(root, dropped)
    items: list[Item] = []
    for place, files in walk(root, "wavs", dropped):
        for file in audio_files(files):
            path, stem = f"{place}/{file}", file.removesuffix(".wav")
            match = _NAME.fullmatch(stem)
            if match is None or not file.endswith(".wav") or place != "wavs":
                dropped.append(wrong_name(path, "wavs/LJNNN-NNNN.wav"))
                continue
            text = texts.pop(stem, "")
            fault = empty_file(root, path)
            if fault is not None or not text:
                dropped.append(fault or no_transcript(path))
                continue
            split = _SPLITS.get(match[1], "train")
            items.append(Item(path=path, split=split, speaker="LJ", text=text, licence=LJSPEECH_LICENCE, kind="speech"))
    dropped += [no_audio(f"wavs/{stem}.wav") for stem in texts]
    return Listing(Manifest(root, tuple(items)), tuple(dropped))


def _transcripts(root: Path, dropped: list[Dropped]) -> dict[str, str]:
    """Name of a recording -> its normalised text."""
    texts: dict[str, str] = {}
    for where, line in text_lines(root, "metadata.csv", dropped):
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) != 3 or not _NAME.fullmatch(cells[0]) or not (cells[2] or cells[1]):
            dropped.append(Dropped(where, f"not name|text|normalised text: {line!r}", "malformed"))
        elif cells[0] in texts:
            dropped.append(Dropped(where, f"{cells[0]} has a transcript already", "duplicate"))
        else:
            texts[cells[0]] = cells[2] or cells[1]
    return texts
