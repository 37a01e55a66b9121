"""The index of a folder of code files: `index.jsonl`, one line for each recording, sorted by name.

    {"name": "anna/001", "num_frames": 163, "seconds": 3.26, "num_samples": 52160, "source_sample_rate": 16000,
     "source_num_samples": 52160, "channels": 1, "codebook_sizes": [1024, 1024], "sample_rate": 16000,
     "hop_length": 320, "token_fingerprint": "<SHA-256>", "sha256": "<of the bytes of anna/001.vqt>",
     "made_of": {"file": "001.flac", "num_bytes": 60312, "modified_ns": 1700000000000000000, "channels": "mix",
     "start": "0", "end": null}, "split": "train", "speaker": "anna", "text": "…", "licence": "CC BY 4.0"}

The code file of a name is NAME.vqt below the folder. The last four are there where they are known; keys that are not
ours are ignored. As in a manifest there is no header line: every line says what it holds. `made_of` tells of which
bytes and by which options, so that whoever makes the folder again knows what need not be made again.

While recordings are coded, each finished one is a line of `.index.journal.jsonl`, which becomes part of the index in
the end: a process that is killed leaves a folder that can be gone on with.
"""

import json
import threading
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePath
from types import TracebackType
from typing import Any, Self

from vqaudio.codes import Codes, CodesError
from vqaudio.io import write_aside

INDEX_NAME = "index.jsonl"
JOURNAL_NAME = ".index.journal.jsonl"
CODES_EXTENSION = ".vqt"

_LEAST = {  # of each whole number
    "num_frames": 0,
    "num_samples": 0,
    "source_sample_rate": 1,
    "source_num_samples": 0,
    "channels": 1,
    "sample_rate": 1,
    "hop_length": 1,
}
_HASHES = ("token_fingerprint", "sha256")
_OPTIONAL = ("split", "speaker", "text", "licence")


@dataclass(frozen=True, kw_only=True)
class IndexEntry:
    """One recording of a folder of code files."""

    name: str  # path relative to the folder, without .vqt
    num_frames: int
    num_samples: int  # at the model's rate, per channel
    source_sample_rate: int  # Hz
    source_num_samples: int
    channels: int
    codebook_sizes: tuple[int, ...]
    sample_rate: int  # Hz, of the model
    hop_length: int
    token_fingerprint: str
    sha256: str  # of the bytes of the code file
    made_of: Mapping[str, Any] | None = None  # the source's facts and the options; None: nobody knows
    split: str | None = None
    speaker: str | None = None
    text: str | None = None
    licence: str | None = None

    @classmethod
    def of(cls, name: str, codes: Codes, sha256: str, **more: Any) -> "IndexEntry":
        """The entry of codes; `more` are the fields that codes do not know."""
        facts = {key: getattr(codes, key) for key in (*_LEAST, "codebook_sizes", "token_fingerprint")}
        return cls(name=name, sha256=sha256, **facts, **more)

    @property
    def seconds(self) -> float:
        """The duration of the source."""
        return self.source_num_samples / self.source_sample_rate

    @property
    def line(self) -> str:
        """With its line feed. ASCII, so that no reader splits it at U+2028, and file names of any bytes survive."""
        values = {key: value for key, value in asdict(self).items() if value is not None}
        head = {key: values.pop(key) for key in ("name", "num_frames")}
        return json.dumps({**head, "seconds": self.seconds, **values}) + "\n"


def stays_below(name: str) -> bool:
    """Whether a name is a relative path that leads to no place above its folder."""
    path = PurePath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts and "\0" not in name


def read_index(folder: str | Path) -> dict[str, IndexEntry]:
    """Name -> entry, sorted by name; CodesError if there is no index, or it makes no sense, with its line."""
    path = Path(folder) / INDEX_NAME
    if not path.is_file():
        raise CodesError(
            f"{folder}: has no {INDEX_NAME}, which tells what is in it; `vqaudio encode RECORDINGS --out {folder}` "
            "writes it when it ends, and codes only what is not there yet"
        )
    entries = _read(path, cut_off=False)
    return dict(sorted(entries.items()))


def read_unfinished(folder: str | Path) -> dict[str, IndexEntry]:
    """Name -> entry of what is in a folder that is being made: its index, and over it the journal of a killed run."""
    entries: dict[str, IndexEntry] = {}
    for path, cut_off in ((Path(folder) / INDEX_NAME, False), (Path(folder) / JOURNAL_NAME, True)):
        if path.is_file():
            entries |= _read(path, cut_off=cut_off)
    return entries


def write_index(folder: str | Path, entries: Iterable[IndexEntry]) -> None:
    """Write the index, whole or not at all, of those entries whose code files are there."""
    folder = Path(folder)
    kept = (entry for entry in entries if code_file(folder, entry.name).is_file())
    with write_aside(folder / INDEX_NAME) as partial, open(partial, "w", encoding="ascii", newline="\n") as file:
        file.writelines(entry.line for entry in sorted(kept, key=lambda entry: entry.name))


def code_file(folder: str | Path, name: str) -> Path:
    return Path(folder) / f"{name}{CODES_EXTENSION}"


class Journal:
    """Entries as they are done, from any thread; within `with`. At its end `finish` makes them an index."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._path = folder, folder / JOURNAL_NAME
        self.entries = read_unfinished(folder)
        self._added: dict[str, IndexEntry] = {}
        self._dropped: set[str] = set()
        self._lock = threading.Lock()
        self._ended = False

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        if self._path.exists():  # of a killed run: its last line may be cut off, and would spoil the first of this run
            with write_aside(self._path) as partial:
                partial.write_text("".join(entry.line for entry in self.entries.values()), encoding="ascii")
        return self

    def add(self, entry: IndexEntry) -> None:
        """A recording whose code file is there now."""
        with self._lock:
            if self._ended:  # after an interruption nobody waits for the threads at work
                return
            self.entries[entry.name] = self._added[entry.name] = entry
            self._dropped.discard(entry.name)
            with open(self._path, "a", encoding="ascii", newline="\n") as file:
                file.write(entry.line)

    def drop(self, name: str) -> None:
        """A recording whose code file is not what its entry says."""
        with self._lock:
            self.entries.pop(name, None)
            self._dropped.add(name)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Also after an error or an interruption: what is done is done."""
        with self._lock:
            self._ended = True
        # What is there now, and not what was there at the beginning: others may have coded into the folder meanwhile.
        entries = self.entries | read_unfinished(self._folder) | self._added
        kept = [entry for name, entry in entries.items() if name not in self._dropped]
        if kept or (self._folder / INDEX_NAME).exists():
            write_index(self._folder, kept)
        self._path.unlink(missing_ok=True)


def _read(path: Path, *, cut_off: bool) -> dict[str, IndexEntry]:
    """The entries of a file; of two with one name the later. `cut_off`: its last line may be incomplete."""
    entries = {}
    try:
        with open(path, encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                if cut_off and not line.endswith("\n"):
                    break
                entry = _entry(line, f"{path}, line {number}")
                if entry.name in entries and not cut_off:
                    raise CodesError(f"{path}, line {number}: name {entry.name!r} was there before")
                entries[entry.name] = entry
    except OSError as error:
        raise CodesError(f"{path}: cannot be opened ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise CodesError(f"{path}: is no text in UTF-8") from error
    return entries


def _entry(line: str, place: str) -> IndexEntry:
    try:
        row = json.loads(line)
        wanted = ("name", *_LEAST, "codebook_sizes", *_HASHES)
        values = {key: row[key] for key in wanted} | {key: row[key] for key in ("made_of", *_OPTIONAL) if key in row}
    except KeyError as error:
        raise CodesError(f"{place}: is no recording of an index: {error.args[0]} is missing") from error
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise CodesError(f"{place}: is no recording of an index, which are JSON objects") from error
    if not isinstance(values["name"], str) or not stays_below(values["name"]):
        raise CodesError(f"{place}: name is {values['name']!r}; it is a relative path, and stays below the folder")
    for key, least in _LEAST.items():
        if type(values[key]) is not int or values[key] < least:
            raise CodesError(f"{place}: {key} is {values[key]!r}; it is a whole number of at least {least}")
    sizes = values["codebook_sizes"]
    if not isinstance(sizes, list) or not sizes or not all(type(size) is int and size >= 1 for size in sizes):
        raise CodesError(f"{place}: codebook_sizes is {sizes!r}; it is a list of whole numbers of at least 1")
    for key in (*_HASHES, *_OPTIONAL):
        if not isinstance(values.get(key, ""), str):
            raise CodesError(f"{place}: {key} is {values[key]!r}; it is text")
    if not isinstance(values.get("made_of", {}), dict):
        raise CodesError(f"{place}: made_of is {values['made_of']!r}; it is an object")
    return IndexEntry(**{**values, "codebook_sizes": tuple(sizes)})
