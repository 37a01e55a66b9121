"""LibriSpeech (Panayotov et al., ICASSP 2015) and LibriTTS (arXiv 1904.02882), read speech from LibriVox.

    LibriSpeech/train-clean-100/19/198/19-198-0000.flac        16 kHz, one file per utterance
                                      /19-198.trans.txt        one line each: 19-198-0000 NORTHANGER ABBEY
    LibriTTS/train-clean-100/19/198/19_198_000000_000002.wav   24 kHz
                                   /19_198_000000_000002.normalized.txt

LibriTTS-R (arXiv 2305.18802), the same recordings restored, has the layout of LibriTTS in a folder LibriTTS_R.
"""

import re
from collections.abc import Callable
from pathlib import Path

from vqaudio.data.manifest import Dropped, Item, Manifest
from vqaudio.data.sources.tree import (
    Listing,
    audio_files,
    empty_file,
    find_corpus,
    holds_audio,
    no_audio,
    no_transcript,
    speakers_apart,
    text_lines,
    walk,
    wrong_name,
)

LIBRI_LICENCE = "CC BY 4.0"

# Part -> our split. The publishers' parts share no speaker.
LIBRI_PARTS = {
    "train-clean-100": "train",
    "train-clean-360": "train",
    "train-other-500": "train",
    "dev-clean": "valid",
    "dev-other": "valid",
    "test-clean": "test",
    "test-other": "test",
}

_SPEECH_NAME = re.compile(r"(\d+)-(\d+)-\d{4}")  # speaker, chapter, utterance
_TTS_NAME = re.compile(r"(\d+)_(\d+)_\d+_\d+")  # speaker, chapter, paragraph, sentence
_TTS_TEXT = ".normalized.txt"

# (root, folder of a chapter, its file names, what is dropped) -> transcripts by the name of their utterance
_Transcripts = Callable[[Path, str, list[str], list[Dropped]], dict[str, str]]


def list_librispeech(folder: Path) -> Listing:
    return _listing(
        folder,
        title="LibriSpeech",
        suffix=".flac",
        name=_SPEECH_NAME,
        wanted="SPEAKER/CHAPTER/SPEAKER-CHAPTER-NNNN.flac",
        transcripts=_speech_transcripts,
    )


def list_libritts(folder: Path) -> Listing:
    return _listing(
        folder,
        title="LibriTTS",
        suffix=".wav",
        name=_TTS_NAME,
        wanted="SPEAKER/CHAPTER/SPEAKER_CHAPTER_NNNNNN_NNNNNN.wav",
        transcripts=_tts_transcripts,
    )


def _listing(
    folder: Path, *, title: str, suffix: str, name: re.Pattern[str], wanted: str, transcripts: _Transcripts
) -> Listing:
    file_name = re.compile(name.pattern + re.escape(suffix))  # the parts of both corpora have the same names

    def is_corpus(place: Path) -> bool:
        parts = [part for part in LIBRI_PARTS if (place / part).is_dir()]
        return bool(parts) and any(holds_audio(place / part, file_name) for part in parts)

    looked_for = f"folders {', '.join(LIBRI_PARTS)} with {wanted}"
    root = find_corpus(folder, title=title, wanted=looked_for, is_corpus=is_corpus)
    items: list[Item] = []
    dropped: list[Dropped] = []
    for part, split in LIBRI_PARTS.items():
        if not (root / part).is_dir():
            continue
        for place, files in walk(root, part, dropped):
            texts = transcripts(root, place, files, dropped)
            for file in audio_files(files):
                path, stem = f"{place}/{file}", file.removesuffix(suffix)
                if not file.endswith(suffix) or not _fits(name, stem, place):
                    dropped.append(wrong_name(path, wanted))
                    continue
                text = texts.pop(stem, "")
                fault = empty_file(root, path)
                if fault is not None or not text:
                    dropped.append(fault or no_transcript(path))
                    continue
                speaker = place.split("/")[1]
                items.append(
                    Item(path=path, split=split, speaker=speaker, text=text, licence=LIBRI_LICENCE, kind="speech")
                )
            dropped += [no_audio(f"{place}/{stem}{suffix}") for stem in texts]
    kept, of_others = speakers_apart(items)
    return Listing(Manifest(root, kept), (*dropped, *of_others))


def _fits(name: re.Pattern[str], stem: str, place: str) -> bool:
    """Whether a name is built as it should be, and of the speaker and the chapter whose folder `place` is."""
    match = name.fullmatch(stem)
    return match is not None and place.split("/")[1:] == list(match.groups())


def _speech_transcripts(root: Path, place: str, files: list[str], dropped: list[Dropped]) -> dict[str, str]:
    texts: dict[str, str] = {}
    for file in files:
        if not file.endswith(".trans.txt"):
            continue
        path = f"{place}/{file}"
        if file != "-".join(place.split("/")[1:]) + ".trans.txt":
            dropped.append(wrong_name(path, "SPEAKER/CHAPTER/SPEAKER-CHAPTER.trans.txt"))
            continue
        for where, line in text_lines(root, path, dropped):
            stem, _, text = line.partition(" ")
            if not _fits(_SPEECH_NAME, stem, place) or not text.strip():
                dropped.append(Dropped(where, f"not an utterance of this chapter and its text: {line!r}", "malformed"))
            elif stem in texts:
                dropped.append(Dropped(where, f"{stem} has a transcript already", "duplicate"))
            else:
                texts[stem] = text.strip()
    return texts


def _tts_transcripts(root: Path, place: str, files: list[str], dropped: list[Dropped]) -> dict[str, str]:
    texts: dict[str, str] = {}
    for file in files:
        stem = file.removesuffix(_TTS_TEXT)
        if stem == file:
            continue
        path = f"{place}/{file}"
        if not _fits(_TTS_NAME, stem, place):
            dropped.append(wrong_name(path, f"SPEAKER/CHAPTER/SPEAKER_CHAPTER_NNNNNN_NNNNNN{_TTS_TEXT}"))
            continue
        text = " ".join(line.strip() for _, line in text_lines(root, path, dropped))
        if text:
            texts[stem] = text
        else:
            dropped.append(Dropped(path, "holds no text", "malformed"))
    return texts
