"""Manifests: which recordings a corpus holds, and the scan that finds out.

A manifest is JSONL, one recording per line with the fields of `Item`:

    {"path": "anna/001.flac", "sample_rate": 16000, "num_samples": 52160, "channels": 1, "split": "train",
     "speaker": "anna", "text": "", "licence": "CC BY 4.0", "kind": "speech", "hash": "<sha256 of the file's bytes>"}

Paths are relative to the folder the manifest lies in. There is no header line and no version: every line says what it
holds by name, so that `wc -l`, `jq` and any JSONL reader see recordings and nothing else; keys that are not ours are
ignored, and only `path` is required. Tab separated files with a header line of column names are read too.
"""

import hashlib
import json
import math
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import torch

from vqaudio.dsp import mix_down
from vqaudio.io import AUDIO_EXTENSIONS, AudioError, inspect_audio, read_blocks, write_aside

Cause = Literal[
    "kind",
    "licence",
    "missing",
    "unreadable",
    "narrow band",
    "too short",
    "silent",
    "duplicate",
    # of a corpus with a layout of its own (`vqaudio.data.sources`):
    "name",  # not a name, or not a place, that the corpus gives
    "empty",  # no bytes
    "malformed",  # a line of a list
    "no transcript",
    "not taken",  # a stem, a second microphone, a clip that no list names
    "speaker",  # of a held-out split
]
Progress = Callable[[int, int, str], None]  # (done, total, what is being done now)

_NUMBERS = ("sample_rate", "num_samples", "channels")
_SPLIT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")  # a split names files
_MANIFEST_NAMES = ("manifest.jsonl", "manifest.tsv")


class ManifestError(ValueError):
    """A manifest that cannot be read, or a folder without anything to list."""


@dataclass(frozen=True, kw_only=True)
class Item:
    """One recording. `None` in a measured field: nobody has measured it yet; `scan` does."""

    path: str  # relative to the manifest's root, or absolute
    sample_rate: int | None = None  # Hz
    num_samples: int | None = None  # per channel, counted by decoding
    channels: int | None = None
    split: str = ""  # "": to be assigned
    speaker: str = ""  # "": unknown
    text: str = ""
    licence: str = ""
    kind: str = ""  # "speech", "speech-read", "music", …
    hash: str | None = None  # SHA-256 of the file's bytes, hexadecimal

    @property
    def seconds(self) -> float:
        """Length in seconds; ValueError if it was never measured."""
        if self.num_samples is None or self.sample_rate is None:
            raise ManifestError(f"{self.path}: its length is not in the manifest; `scan` the manifest first")
        return self.num_samples / self.sample_rate


@dataclass(frozen=True)
class Manifest:
    root: Path  # what the paths of the items are relative to
    items: tuple[Item, ...]

    def locate(self, item: Item) -> Path:
        """The file of `item`."""
        return self.root / item.path


def below(path: str) -> Path:
    """Where results of the recording listed as `path` lie in a folder of their own: without root or what leads upwards.

    anna/1.flac, ../anna/1.flac and /anna/1.flac are all anna/1.flac, whichever other recordings there are.
    """
    parts = Path(os.path.normpath(path)).parts
    return Path(*(part for part in parts if part not in ("..", os.sep)))


@dataclass(frozen=True)
class Dropped:
    """A recording that is left out: the reason in words, and its cause for counting."""

    path: str
    reason: str
    cause: Cause


@dataclass(frozen=True)
class ScanResult:
    root: Path
    items: tuple[Item, ...]  # measured, every one with a split
    dropped: tuple[Dropped, ...]

    @property
    def manifest(self) -> Manifest:
        return Manifest(self.root, self.items)


def read_manifest(path: str | Path) -> Manifest:
    """Read a `.jsonl` manifest or a tab separated one with a header line; its root is the folder it lies in.

    The items come unchecked: `scan` opens the files. ManifestError (a ValueError) names the file and the line.
    """
    path = Path(path)
    if not path.is_file():
        raise ManifestError(f"{path}: there is no such manifest")
    if path.suffix.lower() not in (".jsonl", ".tsv"):
        raise ManifestError(f"{path}: a manifest ends in .jsonl or .tsv, got {path.suffix!r}")
    rows = _jsonl_rows(path) if path.suffix.lower() == ".jsonl" else _tsv_rows(path)
    try:
        items = tuple(_item(row, f"{path}, line {line}") for line, row in rows)
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from error
    return Manifest(path.parent, items)


def write_manifest(manifest: Manifest, path: str | Path) -> None:
    """Write JSONL; relative paths are rewritten to be relative to the folder of `path`, so any place will do."""
    path = Path(path)
    here = path.resolve().parent
    lines = []
    for item in manifest.items:
        if not os.path.isabs(item.path):
            relative = os.path.relpath(manifest.root.resolve() / item.path, here)
            item = replace(item, path=Path(relative).as_posix())
        lines.append(json_line({key: value for key, value in asdict(item).items() if value is not None}))
    write_text(path, "".join(lines))


def scan(
    source: str | Path | Manifest,
    *,
    min_seconds: float = 0.5,
    min_sample_rate: int = 0,
    silence_db: float = -70.0,
    kinds: Sequence[str] = (),
    exclude_licences: Sequence[str] = (),
    progress: Progress | None = None,
) -> ScanResult:
    """Decode every candidate of a folder or manifest once, by blocks, and say which to keep and why not the others.

    A folder that holds a `manifest.jsonl` or `manifest.tsv` is that manifest; in any other, every audio file below it
    is a candidate, its speaker is its parent folder relative to the root ("" in the root itself). Left out, in this
    order: a kind that is not in `kinds` ("speech" takes "speech-read" too; () takes all); a licence that contains one
    of `exclude_licences`, whatever the case ("SA" means share-alike); missing files; those with the bytes of one that
    is kept already; those that cannot be decoded to the end or hold NaN or infinity; those whose own sample rate is
    below `min_sample_rate` in Hz, as what a file does not hold is not learnt from it; shorter than `min_seconds`;
    silent, that is an RMS below `silence_db` dB re full scale after mixing to one channel.
    A bad file never raises. The splits of a manifest are kept; where there are none, `assign_splits` gives them.
    """
    listed = source if isinstance(source, Manifest) else candidates(Path(source))
    items: list[Item] = []
    dropped: list[Dropped] = []
    seen: dict[str, str] = {}  # hash -> path of the kept file
    for number, item in enumerate(listed.items):
        if progress is not None:
            progress(number, len(listed.items), f"checking {item.path}")
        verdict: Item | Dropped | None = _unwanted(item, kinds, exclude_licences)
        if verdict is None:
            verdict = _measure(
                listed.locate(item),
                item,
                seen,
                min_seconds=min_seconds,
                min_sample_rate=min_sample_rate,
                silence_db=silence_db,
            )
        if isinstance(verdict, Dropped):
            dropped.append(verdict)
        else:
            assert verdict.hash is not None
            seen[verdict.hash] = verdict.path
            items.append(verdict)
    if progress is not None:
        progress(len(listed.items), len(listed.items), "checked")
    return ScanResult(listed.root, assign_splits(items), tuple(dropped))


def assign_splits(items: Sequence[Item]) -> tuple[Item, ...]:
    """Give about 90 / 5 / 5 % of the speakers to train / valid / test, by a hash of their names; kept if given.

    No speaker is in two splits, and a corpus that grows keeps the splits it had. From two speakers up, train and valid
    are never empty (test may be); a single speaker, or none named, is split by file instead.
    ManifestError if some items have a split and others have none, since a guess could put a speaker on both sides.
    """
    without = [item for item in items if not item.split]
    if not without:
        return tuple(items)
    if len(without) < len(items):
        raise ManifestError(f"{without[0].path}: has no split though others have; give every item one, or none")
    by_speaker = len({item.speaker for item in items}) > 1
    units = [item.speaker if by_speaker else item.path for item in items]
    splits = _split_units(Counter(units))
    return tuple(replace(item, split=splits[unit]) for item, unit in zip(items, units, strict=True))


def json_line(value: Mapping[str, Any]) -> str:
    """One line of JSONL. ASCII, so that no reader splits it at U+2028 and undecodable file names survive."""
    return json.dumps(value, ensure_ascii=True, allow_nan=False) + "\n"


def write_text(path: Path, text: str) -> None:
    """Write aside and rename: a reader finds the old file or the new one, whole."""
    with write_aside(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")


def _jsonl_rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    with path.open(encoding="utf-8-sig", newline="\n") as file:
        for line, text in enumerate(file, start=1):
            if not text.strip():
                continue
            try:
                row = json.loads(text)
            except json.JSONDecodeError as error:
                raise ManifestError(f"{path}, line {line}: not JSON ({error.msg} at column {error.colno})") from error
            if not isinstance(row, dict):
                raise ManifestError(f"{path}, line {line}: expected a JSON object, got {type(row).__name__}")
            yield line, row


def _tsv_rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    # Split by hand: quotes in a transcript are quotes, not syntax.
    with path.open(encoding="utf-8-sig") as file:
        header = file.readline().rstrip("\n").split("\t")
        if "path" not in header or len(set(header)) < len(header):
            raise ManifestError(f"{path}: the first line must name the columns, each once, 'path' among them: {header}")
        for line, text in enumerate(file, start=2):
            if not text.strip():
                continue
            cells = text.rstrip("\n").split("\t")
            if len(cells) > len(header):
                raise ManifestError(f"{path}, line {line}: {len(cells)} cells under {len(header)} column names")
            row: dict[str, Any] = {key: cell for key, cell in zip(header, cells, strict=False) if cell}
            for key in _NUMBERS:
                if key in row and row[key].isascii() and row[key].isdigit():
                    row[key] = int(row[key])
            yield line, row


def _item(row: Mapping[str, Any], where: str) -> Item:
    values = {field.name: row[field.name] for field in fields(Item) if row.get(field.name) is not None}
    for key, value in values.items():
        if key in _NUMBERS:
            if not isinstance(value, int) or isinstance(value, bool) or value < (key != "num_samples"):
                raise ManifestError(f"{where}: {key} must be a whole number above zero, got {value!r}")
        elif not isinstance(value, str):
            raise ManifestError(f"{where}: {key} must be a string, got {value!r}")
    if not values.get("path") or "\0" in values["path"]:
        raise ManifestError(f"{where}: path must name a file, got {values.get('path', '')!r}")
    if values.get("split") and not _SPLIT_NAME.fullmatch(values["split"]):
        raise ManifestError(f"{where}: split must be letters, digits, '_', '.' or '-', got {values['split']!r}")
    return Item(**values)


def candidates(source: Path) -> Manifest:
    """What a manifest lists, or that in a folder, or else every audio file below the folder; nothing is opened."""
    if not source.exists():
        raise ManifestError(f"{source}: there is no such folder or manifest")
    if not source.is_dir():
        return read_manifest(source)
    for name in _MANIFEST_NAMES:
        if (source / name).is_file():
            return read_manifest(source / name)
    # `not is_dir` and not `is_file`: a dangling link is then reported as missing instead of passed over.
    found = (path for path in source.rglob("*") if path.suffix.lower() in AUDIO_EXTENSIONS and not path.is_dir())
    paths = sorted(path.relative_to(source) for path in found)
    if not paths:
        endings = " ".join(sorted(AUDIO_EXTENSIONS))
        raise ManifestError(f"{source}: no manifest and no audio file below this folder (looked for {endings})")
    speakers = ("" if path.parent == Path() else path.parent.as_posix() for path in paths)
    items = tuple(Item(path=path.as_posix(), speaker=speaker) for path, speaker in zip(paths, speakers, strict=True))
    return Manifest(source, items)


def is_of_kind(item: Item, wanted: str) -> bool:
    """speech takes speech-read too."""
    kind = item.kind.lower()
    return kind == wanted.lower() or kind.startswith(wanted.lower() + "-")


def _unwanted(item: Item, kinds: Sequence[str], exclude_licences: Sequence[str]) -> Dropped | None:
    licence = item.licence.lower()
    if kinds and not any(is_of_kind(item, wanted) for wanted in kinds):
        return Dropped(item.path, f"its kind {item.kind!r} is not asked for ({', '.join(kinds)})", "kind")
    for excluded in exclude_licences:
        if excluded.lower() in licence:
            return Dropped(item.path, f"its licence {item.licence!r} is excluded by {excluded!r}", "licence")
    return None


def _measure(
    path: Path, item: Item, seen: Mapping[str, str], *, min_seconds: float, min_sample_rate: int, silence_db: float
) -> Item | Dropped:
    """The item with its measured fields filled in from the file, or why it is dropped."""
    if not path.is_file():
        return Dropped(item.path, "there is no such file", "missing")
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest in seen:
            return Dropped(item.path, f"the same bytes as {seen[digest]}", "duplicate")
        info = inspect_audio(path)
        if info.sample_rate < min_sample_rate:
            return Dropped(item.path, f"at {info.sample_rate} Hz, below {min_sample_rate}", "narrow band")
        num_samples, energy = 0, 0.0
        for block in read_blocks(path):  # (C, T)
            mono = mix_down(block)[0]
            num_samples += mono.shape[-1]
            energy += float(torch.dot(mono, mono))
    except (AudioError, OSError) as error:
        return Dropped(item.path, str(error), "unreadable")
    seconds = num_samples / info.sample_rate
    if seconds < min_seconds or num_samples == 0:
        return Dropped(item.path, f"{seconds:.3f} s long, shorter than {min_seconds:g} s", "too short")
    level_db = 10 * math.log10(energy / num_samples) if energy > 0 else -math.inf
    if level_db < silence_db:
        return Dropped(item.path, f"silent: RMS {level_db:.1f} dBFS, below {silence_db:g}", "silent")
    return replace(item, sample_rate=info.sample_rate, num_samples=num_samples, channels=info.channels, hash=digest)


def _split_units(counts: Mapping[str, int]) -> dict[str, str]:
    """Speakers (or files) with their number of files -> split of each."""
    if len(counts) == 1:
        return dict.fromkeys(counts, "train")
    shares = {unit: _share(unit) for unit in counts}
    splits = {unit: "train" if u < 0.90 else "valid" if u < 0.95 else "test" for unit, u in shares.items()}
    for wanted in ("train", "valid"):
        taken = list(splits.values())
        if wanted in taken:
            continue
        donors = [unit for unit, split in splits.items() if split == "test" or taken.count(split) > 1]
        # The speaker with most to say trains, the one with least validates: a small corpus loses least that way.
        sign = -1 if wanted == "train" else 1
        ranks = {unit: (sign * counts[unit], shares[unit]) for unit in donors}
        splits[min(ranks, key=ranks.__getitem__)] = wanted
    return splits


def _share(name: str) -> float:
    """A number in [0, 1) that depends on the name alone (Python's own hash changes with every start)."""
    digest = hashlib.sha256(name.encode("utf-8", errors="surrogateescape")).digest()
    return int.from_bytes(digest[:6], "big") / 2**48
