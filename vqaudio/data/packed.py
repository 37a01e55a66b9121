"""Packs: decoded training audio in a few large files, so that an accelerator never waits for a decoder.

A pack folder holds, for each split, parts `train-00000.bin`, `train-00001.bin`, … of raw little-endian int16 samples,
one channel at one rate, clip after clip without gaps (value / 32768 is the sample), and one `packs.json`:

    {"format": "vqaudio-packs", "version": 1, "inputs": <SHA-256 of the manifest's items and the options>,
     "sample_rate": 16000,
     "parts": [{"file": "train-00000.bin", "split": "train", "num_bytes": 59998214, "sha256": …}, …],
     "clips": [{"part": 0, "offset": 0, "num_samples": 52160, "start": 0, "file_samples": 52160, "gain": 1.0,
                "item": 17, "path": "anna/001.flac", "speaker": "anna", "licence": "CC BY 4.0"}, …]}

`offset` counts samples from the start of the part; `item` is the index in the manifest. A part has at most
`max_part_bytes` bytes, and num_bytes = 2 * sum of its clips' num_samples. A recording longer than a part is cut at part
borders into several clips: `start` is where a clip begins in its recording of `file_samples` samples. A recording whose
peak would not fit int16 is scaled down as a whole by `gain`; nothing is ever clipped.
Parts are renamed into place when they are whole, and `packs.json` last: where it is, the pack is complete.

This module reads them, with nothing but numpy; `vqaudio.data.packing` writes them.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FORMAT = "vqaudio-packs"
VERSION = 1
INDEX_NAME = "packs.json"
FULL_SCALE = 32768.0  # int16 value per unit of amplitude; a 16-bit source at the same rate goes through bit for bit


class PackError(ValueError):
    """A pack folder that is absent, incomplete, damaged, or holds something else than what is to be written."""


@dataclass(frozen=True, kw_only=True)
class Part:
    file: str
    split: str
    num_bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A recording, or the piece of a long one that lies in one part. All counts in samples at the pack's rate."""

    part: int  # index into the parts
    offset: int  # in the part
    num_samples: int
    start: int  # in the recording
    file_samples: int  # of the recording
    gain: float  # what the recording was multiplied by to fit int16; 1.0 for nearly all
    item: int  # index in the manifest
    path: str
    speaker: str
    licence: str

    @property
    def has_file_start(self) -> bool:
        return self.start == 0

    @property
    def has_file_end(self) -> bool:
        return self.start + self.num_samples == self.file_samples

    @property
    def name(self) -> str:
        """The path; a piece of a longer recording adds where it starts."""
        return self.path if self.num_samples == self.file_samples else f"{self.path}@{self.start}"


@dataclass(frozen=True)
class PackIndex:
    """What packs.json says."""

    inputs: str
    sample_rate: int
    parts: tuple[Part, ...]
    clips: tuple[Clip, ...]


def existing_packs(folder: Path, inputs: str) -> PackIndex | None:
    """The index of packs that were made of exactly these inputs, None where there are none, PackError for others."""
    if not (folder / INDEX_NAME).exists():
        return None
    index = read_index(folder)
    if index.inputs != inputs:
        raise PackError(f"{folder}: already holds packs of other files or options; choose another folder")
    check_sizes(folder, index.parts)
    return index


def read_index(folder: str | Path) -> PackIndex:
    """Read `packs.json`; PackError names the folder and what is wrong with it."""
    path = Path(folder) / INDEX_NAME
    if not path.is_file():
        raise PackError(f"{folder}: not a complete pack folder, it has no {INDEX_NAME}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise PackError(f"{path}: damaged, not JSON ({error})") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise PackError(f"{path}: not the index of a pack folder (its format should be {FORMAT!r})")
    if content.get("version") != VERSION:
        raise PackError(f"{path}: written in version {content.get('version')!r}; this program reads {VERSION}")
    try:
        parts = tuple(Part(**part) for part in content["parts"])
        clips = tuple(Clip(**clip) for clip in content["clips"])
        index = PackIndex(content["inputs"], content["sample_rate"], parts, clips)
        outside = [clip.name for clip in clips if not _lies_within(clip, parts)]
    except (KeyError, TypeError) as error:
        raise PackError(f"{path}: damaged, a field is missing, unknown or of another type ({error})") from error
    if outside:
        raise PackError(f"{path}: damaged, clip {outside[0]} lies outside its part")
    return index


class PackedAudio:
    """The clips of one split of a pack folder, mapped into memory and read where they are needed.

    Opening checks that every part is there with its exact size; `verify` reads and hashes it all. Copies in other
    processes (fork or pickle) map the same files.
    """

    def __init__(self, folder: str | Path, split: str) -> None:
        self.folder = Path(folder)
        self.split = split
        index = read_index(folder)
        splits = sorted({part.split for part in index.parts})
        if split not in splits:
            raise PackError(f"{folder}: no split {split!r} in these packs; they have {', '.join(splits) or 'none'}")
        self.sample_rate, self.inputs = index.sample_rate, index.inputs
        self.clips = tuple(clip for clip in index.clips if index.parts[clip.part].split == split)
        self._parts = {number: part for number, part in enumerate(index.parts) if part.split == split}
        check_sizes(self.folder, tuple(self._parts.values()))
        self._samples = {
            number: np.memmap(self.folder / part.file, dtype="<i2", mode="r") for number, part in self._parts.items()
        }

    def __reduce__(self) -> tuple[type, tuple[Path, str]]:
        return PackedAudio, (self.folder, self.split)  # pickling a memmap would copy its bytes

    def __len__(self) -> int:
        return len(self.clips)

    def clip(self, index: int) -> NDArray[np.int16]:
        """The whole clip, (T,) int16, a copy."""
        return self.read(index, 0, self.clips[index].num_samples)

    def read(self, index: int, start: int, stop: int) -> NDArray[np.int16]:
        """Samples `start` to `stop` of a clip, (stop - start,) int16, a copy; ValueError outside the clip."""
        clip = self.clips[index]
        if not 0 <= start <= stop <= clip.num_samples:
            raise PackError(f"{clip.name}: samples {start} to {stop} of {clip.num_samples} were asked for")
        return np.array(self._samples[clip.part][clip.offset + start : clip.offset + stop], dtype=np.int16)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(clip.name for clip in self.clips)

    @property
    def seconds(self) -> float:
        """Length of all clips together."""
        return sum(clip.num_samples for clip in self.clips) / self.sample_rate

    @property
    def licences(self) -> dict[str, float]:
        """Licence -> seconds under it, in alphabetical order."""
        totals: dict[str, int] = {}
        for clip in self.clips:
            totals[clip.licence] = totals.get(clip.licence, 0) + clip.num_samples
        return {licence: totals[licence] / self.sample_rate for licence in sorted(totals)}

    def verify(self) -> None:
        """Hash every part of this split; PackError names the first that is not what was written."""
        for part in self._parts.values():
            if sha256_of(self.folder / part.file) != part.sha256:
                raise PackError(f"{self.folder / part.file}: damaged, its bytes are not those that were packed")


def _lies_within(clip: Clip, parts: Sequence[Part]) -> bool:
    if not 0 <= clip.part < len(parts) or clip.offset < 0 or clip.num_samples < 1:
        return False
    return 2 * (clip.offset + clip.num_samples) <= parts[clip.part].num_bytes


def check_sizes(folder: Path, parts: Sequence[Part]) -> None:
    for part in parts:
        path = folder / part.file
        size = path.stat().st_size if path.is_file() else None
        if size != part.num_bytes:
            found = "it is missing" if size is None else f"it has {size}"
            raise PackError(f"{path}: should have {part.num_bytes} bytes, {found}")


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
