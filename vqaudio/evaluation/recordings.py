"""Which recordings an evaluation is about: their order, their bytes, who speaks."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from vqaudio.data.manifest import Item, Manifest, candidates, is_of_kind
from vqaudio.evaluation.measures import Kind


@dataclass(frozen=True, kw_only=True)
class Recording:
    path: str  # as listed, relative to the manifest or the folder
    file: Path
    speaker: str  # "": unknown, and then counted as a speaker of its own
    kind: str  # as listed, such as speech-read


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The recordings asked for, in the order of the manifest or of their paths."""

    source: Path
    split: str | None
    kind: Kind
    recordings: tuple[Recording, ...]


def select(
    source: str | Path, *, split: str | None = None, kind: Kind | None = None, limit: int | None = None
) -> Selection:
    """Take from a manifest, a folder of one, a folder of audio files or a single file.

    `kind` may be left out where the manifest tells, and is speech where nothing does. `limit` takes so many, evenly
    picked. ValueError for a mixture of kinds, or if nothing is left.
    """
    source = Path(source)
    if kind is not None and kind not in get_args(Kind):
        raise ValueError(f"kind {kind!r} is unknown; known: {', '.join(get_args(Kind))}")
    if source.is_file() and source.suffix.lower() not in (".jsonl", ".tsv"):
        manifest = Manifest(source.parent, (Item(path=source.name),))
    else:
        manifest = candidates(source)
    root, items = manifest.root, manifest.items
    splits = sorted({item.split for item in items if item.split})
    if split is not None:
        items = tuple(item for item in items if item.split == split)
        if not items:
            raise ValueError(f"{source}: no recording of split {split!r}; it has {', '.join(splits) or 'no splits'}")
    kind = kind or _kind_of(items, source)
    chosen = [item for item in items if not item.kind or is_of_kind(item, kind)]
    if not chosen:
        raise ValueError(f"{source}: no recording of kind {kind!r}" + (f" in split {split!r}" if split else ""))
    if limit is not None and limit < len(chosen):
        chosen = [chosen[i * len(chosen) // limit] for i in range(limit)]
    recordings = tuple(
        Recording(path=item.path, file=root / item.path, speaker=item.speaker, kind=item.kind or kind)
        for item in chosen
    )
    return Selection(source=source, split=split, kind=kind, recordings=recordings)


def _kind_of(items: Sequence[Item], source: Path) -> Kind:
    listed = {item.kind for item in items if item.kind}
    found = [kind for kind in get_args(Kind) if any(is_of_kind(item, kind) for item in items if item.kind)]
    if len(found) > 1 or (listed and not found):
        choice = " or ".join(f"--kind {kind}" for kind in get_args(Kind))
        raise ValueError(f"{source}: holds {', '.join(sorted(listed))}; say which is meant, {choice}")
    return found[0] if found else "speech"


def file_sha256(path: Path) -> str:
    """Of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def list_sha256(hashes: Sequence[tuple[str, str]]) -> str:
    """Of (path, hash) pairs in their order: two evaluations with the same one are of the same bytes."""
    text = "".join(f"{digest}  {path}\n" for path, digest in hashes)
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()  # names may be of any bytes
