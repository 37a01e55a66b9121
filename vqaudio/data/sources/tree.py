"""What the readers of public corpora share: finding the corpus below a folder, walking it, reading its lists.

A reader takes a folder and gives a `Listing`. It reads folders and text files and decodes no audio; measuring is for
`vqaudio.data.manifest.scan`. What is wrong with a corpus never raises: each audio file in the folders where the corpus
keeps audio is either an item or among the dropped, once, and so is each line of a list that leads to no audio file:

    line of a list    ── malformed ─────────────────► dropped, as "metadata.csv:17"
         │            ── without an audio file ─────► dropped ("missing"), by the name the file should have
         ▼
    audio file        ── wrong name, empty, without a transcript, not wanted, a speaker of a held-out split ► dropped
         ▼
       item
"""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from vqaudio.data.manifest import Dropped, Item, Manifest
from vqaudio.io import AUDIO_EXTENSIONS

_HELD_OUT = ("test", "valid")  # a speaker of several splits belongs to the first of these, else to train
_NAMES_SHOWN = 8


class SourceError(ValueError):
    """A folder that does not hold the corpus it is said to hold."""


@dataclass(frozen=True)
class Listing:
    """What a corpus holds, not measured yet: items with a split each, and what was left out of them, and why."""

    manifest: Manifest
    dropped: tuple[Dropped, ...]

    def of_parts(self, parts: Sequence[str]) -> "Listing":
        """Only what lies in these folders of the corpus."""

        def wanted(entry: Item | Dropped) -> bool:
            return entry.path.split("/")[0] in parts

        items = tuple(filter(wanted, self.manifest.items))
        return Listing(Manifest(self.manifest.root, items), tuple(filter(wanted, self.dropped)))


def find_corpus(folder: Path, *, title: str, wanted: str, is_corpus: Callable[[Path], bool]) -> Path:
    """`folder`, or the one folder in it, for which `is_corpus` holds; SourceError says what was wanted and found."""
    if not folder.is_dir():
        raise SourceError(f"{folder}: there is no such folder, and {title} is looked for in it")
    if is_corpus(folder):
        return folder
    found = []
    for child in subfolders(folder):
        with suppress(PermissionError):  # such as lost+found
            found += [child] if is_corpus(child) else []
    if len(found) > 1:
        names = ", ".join(child.name for child in found)
        raise SourceError(f"{folder}: holds {title} more than once ({names}); give the folder of one of them")
    if not found:
        names_there = sorted(child.name for child in folder.iterdir())
        there = ", ".join(names_there[:_NAMES_SHOWN]) + (", …" if len(names_there) > _NAMES_SHOWN else "")
        raise SourceError(
            f"{folder}: neither is nor holds {title}. Looked here and one folder down for {wanted}; "
            f"found here: {there or 'nothing'}"
        )
    return found[0]


def subfolders(folder: Path) -> list[Path]:
    return sorted(child for child in folder.iterdir() if child.is_dir())


def walk(root: Path, folder: str, dropped: list[Dropped]) -> Iterator[tuple[str, list[str]]]:
    """(a folder relative to `root`, its file names) for `folder` and all below it, in order of their names.

    Links to folders are followed, for a corpus that is spread over disks, but not to a folder that was seen already.
    """
    seen: set[tuple[int, int]] = set()

    def unreadable(error: OSError) -> None:
        name = _relative(root, error.filename or folder)
        dropped.append(Dropped(name, f"a folder that cannot be read ({error.strerror})", "unreadable"))

    for place, folders, files in os.walk(root / folder, onerror=unreadable, followlinks=True):
        status = os.stat(place)
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders.sort()
        yield _relative(root, place), sorted(files)


def audio_files(files: Sequence[str]) -> list[str]:
    return [name for name in files if os.path.splitext(name)[1].lower() in AUDIO_EXTENSIONS]


def holds_audio(folder: Path, name: re.Pattern[str]) -> bool:
    """Whether an audio file below `folder` has such a name, or there is no audio file at all."""
    any_audio = False
    for _, files in walk(folder, ".", []):
        names = audio_files(files)
        if any(name.fullmatch(each) for each in names):
            return True
        any_audio = any_audio or bool(names)
    return not any_audio


def empty_file(root: Path, path: str) -> Dropped | None:
    """Why a file has nothing to decode, if so."""
    try:
        if os.stat(os.path.join(root, path)).st_size > 0:
            return None
    except OSError as error:
        return Dropped(path, f"cannot be opened ({error.strerror})", "missing")
    return Dropped(path, "the file is empty (0 bytes)", "empty")


def text_lines(root: Path, path: str, dropped: list[Dropped]) -> Iterator[tuple[str, str]]:
    """("path:number", line) of each line with text in a UTF-8 file; what cannot be read joins `dropped`."""
    try:
        with (root / path).open("rb") as file:
            for number, line in enumerate(file, start=1):
                try:
                    text = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
                except UnicodeDecodeError as error:
                    reason = f"not UTF-8 text ({error.reason} at byte {error.start} of the line)"
                    dropped.append(Dropped(f"{path}:{number}", reason, "malformed"))
                    continue
                if text.strip():
                    yield f"{path}:{number}", text
    except OSError as error:
        dropped.append(Dropped(path, f"cannot be read ({error.strerror})", "malformed"))


def no_audio(path: str) -> Dropped:
    return Dropped(path, "has a transcript, but there is no such file", "missing")


def no_transcript(path: str) -> Dropped:
    return Dropped(path, "has no transcript, as all recordings of this corpus have", "no transcript")


def wrong_name(path: str, wanted: str) -> Dropped:
    return Dropped(path, f"is not called, or not placed, as the corpus does it: {wanted}", "name")


def speakers_apart(items: Sequence[Item]) -> tuple[tuple[Item, ...], tuple[Dropped, ...]]:
    """Keep each speaker in one split: one who is tested on (else validated on) is dropped from all others."""
    split_of: dict[str, str] = {}
    for held_out in (*_HELD_OUT, "train"):
        for item in items:
            if item.split == held_out:
                split_of.setdefault(item.speaker, held_out)
    kept = tuple(item for item in items if split_of[item.speaker] == item.split)
    dropped = tuple(
        Dropped(item.path, f"its speaker {item.speaker} belongs to the {split_of[item.speaker]} split", "speaker")
        for item in items
        if split_of[item.speaker] != item.split
    )
    return kept, dropped


def _relative(root: Path, path: str) -> str:
    return Path(os.path.relpath(path, root)).as_posix()
