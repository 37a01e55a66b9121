"""Common Voice (Ardila et al., arXiv 1912.06670): sentences read by volunteers, MP3, one folder for each language.

    cv-corpus-17.0-2024-03-15/en/clips/common_voice_en_1.mp3
                                /train.tsv, dev.tsv, test.tsv, validated.tsv
                                            tab separated; a header with client_id, path, sentence, …

`dev` validates and `test` tests, exactly as published, all languages together. `train` and everything else that
listeners validated trains, unless its speaker (`client_id`) is held out, in whatever language. Clips that none of the
four lists names (not validated, or refused) are left out.
"""

from dataclasses import dataclass
from pathlib import Path

from vqaudio.data.manifest import Dropped, Item, Manifest
from vqaudio.data.sources.tree import (
    Listing,
    audio_files,
    empty_file,
    find_corpus,
    no_audio,
    no_transcript,
    speakers_apart,
    subfolders,
    text_lines,
    walk,
    wrong_name,
)

COMMON_VOICE_LICENCE = "CC0 1.0"

# A clip belongs to the first of these lists that names it. The last one names the clips of the others again.
_LISTS = {"test.tsv": "test", "dev.tsv": "valid", "train.tsv": "train", "validated.tsv": "train"}
_COLUMNS = ("client_id", "path", "sentence")


@dataclass(frozen=True)
class _Row:
    split: str
    speaker: str
    text: str


def list_common_voice(folder: Path) -> Listing:
    root = find_corpus(
        folder,
        title="Common Voice",
        wanted=f"a language: a folder clips beside {', '.join(_LISTS)}; or a release: languages side by side",
        is_corpus=_is_corpus,
    )
    items: list[Item] = []
    dropped: list[Dropped] = []
    for language in _languages(root):
        prefix = "" if language == root else f"{language.name}/"
        rows = _rows(root, prefix, dropped)
        for place, files in walk(root, f"{prefix}clips", dropped):
            for file in audio_files(files):
                path = f"{place}/{file}"
                if place != f"{prefix}clips":
                    dropped.append(wrong_name(path, "clips/NAME.mp3"))
                    continue
                row = rows.pop(file, None)
                fault = empty_file(root, path)
                if row is None:
                    dropped.append(fault or Dropped(path, f"none of {', '.join(_LISTS)} names it", "not taken"))
                elif fault is not None or not row.text:
                    dropped.append(fault or no_transcript(path))
                else:
                    items.append(
                        Item(
                            path=path,
                            split=row.split,
                            speaker=row.speaker,
                            text=row.text,
                            licence=COMMON_VOICE_LICENCE,
                            kind="speech",
                        )
                    )
        dropped += [no_audio(f"{prefix}clips/{name}") for name in rows]
    kept, of_others = speakers_apart(items)
    return Listing(Manifest(root, kept), (*dropped, *of_others))


def _is_corpus(place: Path) -> bool:
    return any((language / name).is_file() for language in _languages(place) for name in _LISTS)


def _languages(place: Path) -> list[Path]:
    """`place` if it is a language, else the languages in it."""
    return [place] if (place / "clips").is_dir() else [each for each in subfolders(place) if (each / "clips").is_dir()]


def _rows(root: Path, prefix: str, dropped: list[Dropped]) -> dict[str, _Row]:
    """Name of a clip -> what the lists of one language say of it."""
    rows: dict[str, _Row] = {}
    for name, split in _LISTS.items():
        if not (root / f"{prefix}{name}").is_file():
            continue
        header: list[str] = []
        named: set[str] = set()  # by this list
        for where, line in text_lines(root, f"{prefix}{name}", dropped):
            cells = line.split("\t")
            if not header:
                header = cells
                if not set(_COLUMNS) <= set(header):
                    dropped.append(
                        Dropped(where, f"the columns {', '.join(_COLUMNS)} are wanted: {line!r}", "malformed")
                    )
                    break
                continue
            row = dict(zip(header, cells, strict=False))
            if len(cells) != len(header) or not row["client_id"] or not row["path"]:
                reason = f"{len(cells)} cells under {len(header)} column names, or no client_id or path: {line!r}"
                dropped.append(Dropped(where, reason, "malformed"))
                continue
            clip = row["path"]
            if clip in named or (clip in rows and name != "validated.tsv"):
                dropped.append(Dropped(where, f"{clip} is listed already", "duplicate"))
            elif clip not in rows:
                rows[clip] = _Row(split, row["client_id"], row["sentence"].strip())
            named.add(clip)
    return rows
