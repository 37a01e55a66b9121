"""vqaudio encode into code files: what is there already and need not be made again, and the index of it all."""

import hashlib
from argparse import Namespace
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from vqaudio.cli.files import Plan, Task, normal, planned
from vqaudio.code_index import IndexEntry, Journal
from vqaudio.codes import Codes
from vqaudio.data.manifest import Item, Manifest, below, candidates
from vqaudio.shipped import model_of_tokens
from vqaudio.tokenizer import AudioTokenizer

CARRIED = ("split", "speaker", "text", "licence")  # from a manifest into the index


def manifest_of(options: Namespace) -> Manifest:
    """The recordings that --manifest and --split mean. ManifestError if there is none."""
    manifest = candidates(options.manifest)
    if options.split is None:
        return manifest
    items = tuple(item for item in manifest.items if item.split == options.split)
    if not items:
        splits = ", ".join(sorted({item.split for item in manifest.items if item.split})) or "no splits"
        raise ValueError(f"{options.manifest}: no recording of split {options.split!r}; it has {splits}")
    return Manifest(manifest.root, items)


def plan_manifest(manifest: Manifest, out: Path, suffix: str) -> tuple[Plan, dict[Path, Item]]:
    """Tasks for the items, and the item of each source. Outputs lie as `below` has it: OUT/anna/1.vqt."""
    items = {manifest.locate(item): item for item in manifest.items}
    found: dict[Path, tuple[Path, Path]] = {}
    failures = []
    for path, item in items.items():
        place = below(item.path)
        if place.name:
            found.setdefault(normal(path), (path, place))
        else:
            failures.append(f"{item.path}: is a folder, and the manifest lists it as a recording")
    return planned(found, failures, out, [suffix]), items


def told_of(item: Item | None) -> dict[str, str]:
    """What goes from a manifest beside the codes or tokens of a recording."""
    return {} if item is None else {key: value for key, value in asdict(item).items() if key in CARRIED and value}


class IndexedWriter:
    """Writes the codes of each task into its file, with an entry of the index; knows which are there."""

    def __init__(self, journal: Journal, items: Mapping[Path, Item], options: Namespace):
        self._journal, self._items, self._options = journal, items, options
        self._made_of: dict[str, dict[str, Any] | None] = {}  # by name, of the sources as they were before reading

    def has(self, task: Task) -> bool:
        """Whether the task's code file is there, whole, of this source and these options; reads no audio."""
        name = self._name(task)
        made_of = self._made_of[name] = self._facts(task.source)
        entry = self._journal.entries.get(name)
        if entry is None:
            return False
        if _sha256(task.outputs[0]) != entry.sha256:
            self._journal.drop(name)
            return False
        if self._options.overwrite or made_of is None or entry.made_of != made_of:
            return False
        told = replace(entry, **self._told(task))
        if told != entry:  # a transcript, say, that has been put right
            self._journal.add(told)
        return True

    def write(self, number: int, task: Task, codes: Codes) -> None:
        path, name = task.outputs[0], self._name(task)
        path.parent.mkdir(parents=True, exist_ok=True)
        codes.save(path)
        digest = _sha256(path)
        assert digest is not None
        self._journal.add(IndexEntry.of(name, codes, digest, made_of=self._made_of[name], **self._told(task)))

    def skip(self, number: int) -> None:
        """A task that failed: what was there of it stays as it is."""

    def _name(self, task: Task) -> str:
        return task.outputs[0].relative_to(self._options.out).with_suffix("").as_posix()

    def _told(self, task: Task) -> dict[str, Any]:
        return told_of(self._items.get(task.source))

    def _facts(self, source: Path) -> dict[str, Any] | None:
        """What codes depend on beside the model; None for a file that is not there."""
        try:
            status = source.stat()
        except OSError:
            return None
        start, end = self._options.start or 0, self._options.end
        return {
            "file": source.name,
            "num_bytes": status.st_size,
            "modified_ns": status.st_mtime_ns,
            "channels": self._options.channels,
            "start": str(start),  # exact: seconds as typed
            "end": None if end is None else str(end),
        }


@contextmanager
def indexed_writer(
    tokenizer: AudioTokenizer, num_codebooks: int | None, items: Mapping[Path, Item], options: Namespace
) -> Iterator[IndexedWriter]:
    """A writer; the index appears when the block ends, in whichever way.

    ValueError for a folder with codes of another tokenizer, or of another number of codebooks: two kinds would lie side
    by side, and those of the same names be lost.
    """
    sizes = tokenizer.codebook_sizes[:num_codebooks]
    with Journal(options.out) as journal:
        for entry in () if options.overwrite else journal.entries.values():
            why = ""
            if entry.token_fingerprint != tokenizer.token_fingerprint:
                why = f"are of {model_of_tokens(entry.token_fingerprint)}, and not of {tokenizer.info.name}"
            elif entry.codebook_sizes != sizes:
                why = f"have {len(entry.codebook_sizes)} codebooks, and {len(sizes)} are asked for"
            if why:
                raise ValueError(
                    f"{options.out}: codes are there that {why}, such as {entry.name}; choose another --out, or say "
                    "--overwrite"
                )
        yield IndexedWriter(journal, items, options)


def _sha256(path: Path) -> str | None:
    """Of a file's bytes; None if they cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None
