"""VCTK 0.92 (Yamagishi, Veaux, MacDonald, 2019): 110 speakers of English with various accents, 48 kHz.

    VCTK-Corpus-0.92/wav48_silence_trimmed/p225/p225_001_mic1.flac    an omni-directional microphone
                                               /p225_001_mic2.flac    another, not for p280 and p315
                    /txt/p225/p225_001.txt                            not for p315

The first microphone is taken, for every speaker has it. Speaker p315 is kept without text. There are no splits in the
corpus; ours go by speaker, by a hash of the name as for any folder (`vqaudio.data.manifest.assign_splits`).
"""

import re
from pathlib import Path

from vqaudio.data.manifest import Dropped, Item, Manifest, assign_splits
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

VCTK_LICENCE = "CC BY 4.0"  # the README of 0.92; up to 0.80 it was ODC-By 1.0

_AUDIO = "wav48_silence_trimmed"
_AUDIO_NAME = re.compile(r"(([ps]\d+)_\d+)_mic([12])\.flac")  # utterance, speaker, microphone; one speaker is s5
_TEXT_NAME = re.compile(r"(([ps]\d+)_\d+)\.txt")
_WITHOUT_TEXT = "p315"


def list_vctk(folder: Path) -> Listing:
    root = find_corpus(
        folder,
        title="VCTK 0.92",
        wanted=f"folders {_AUDIO} and txt (earlier releases have wav48, and are not read)",
        is_corpus=lambda place: (place / _AUDIO).is_dir() and (place / "txt").is_dir(),
    )
    dropped: list[Dropped] = []
    texts = _transcripts(root, dropped)
    items: list[Item] = []
    for place, files in walk(root, _AUDIO, dropped):
        for file in audio_files(files):
            path, match = f"{place}/{file}", _AUDIO_NAME.fullmatch(file)
            if match is None or place != f"{_AUDIO}/{match[2]}":
                dropped.append(wrong_name(path, f"{_AUDIO}/SPEAKER/SPEAKER_NNN_mic1.flac"))
                continue
            utterance, speaker, microphone = match.groups()
            if microphone == "2":
                dropped.append(Dropped(path, "the second microphone; the first is taken", "not taken"))
                continue
            text = texts.pop(utterance, "")
            fault = empty_file(root, path)
            if fault is not None or not (text or speaker == _WITHOUT_TEXT):
                dropped.append(fault or no_transcript(path))
                continue
            items.append(Item(path=path, speaker=speaker, text=text, licence=VCTK_LICENCE, kind="speech"))
    dropped += [no_audio(f"{_AUDIO}/{name.partition('_')[0]}/{name}_mic1.flac") for name in texts]
    return Listing(Manifest(root, assign_splits(items)), tuple(dropped))


def _transcripts(root: Path, dropped: list[Dropped]) -> dict[str, str]:
    """Name of an utterance -> its text."""
    texts: dict[str, str] = {}
    for place, files in walk(root, "txt", dropped):
        for file in (name for name in files if name.endswith(".txt")):
            path, match = f"{place}/{file}", _TEXT_NAME.fullmatch(file)
            if match is None or place != f"txt/{match[2]}":
                dropped.append(wrong_name(path, "txt/SPEAKER/SPEAKER_NNN.txt"))
                continue
            text = " ".join(line.strip() for _, line in text_lines(root, path, dropped))
            if text:
                texts[match[1]] = text
            else:
                dropped.append(Dropped(path, "holds no text", "malformed"))
    return texts
