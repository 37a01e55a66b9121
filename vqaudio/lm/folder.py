"""CodeFolder: the recordings of a folder of code files, as `vqaudio encode RECORDINGS --out DIR` leaves it.

Nothing is read but the index until the codes of a recording are asked for; then its file is checked, by its own hash
and against the index.
"""

from collections.abc import Callable, Collection, Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path

from vqaudio.code_index import IndexEntry, code_file, read_index
from vqaudio.codes import Codes, CodesError

MOST_NAMED = 3  # in an error, of those that it is about


@dataclass(frozen=True, kw_only=True)
class CodeItem:
    """One recording. `None`: not known."""

    name: str  # path relative to the folder, without suffix
    num_frames: int
    seconds: float  # of the source
    channels: int = 1  # each is a sequence of its own
    split: str | None = None
    speaker: str | None = None
    text: str | None = None
    licence: str | None = None


class CodeFolder:
    """The recordings of one folder, all of one tokenizer, sorted by name; or some of them.

    It tells what `TokenSpace.of` asks of a tokenizer, so `TokenSpace.of(folder, layout)` is the space of its codes.
    Recordings may have been coded with different numbers of codebooks: `codebook_sizes` are those that all have.
    """

    def __init__(self, path: str | Path, items: Sequence[CodeItem] | None = None) -> None:
        """CodesError if the folder has no index, nothing in it, codes of two tokenizers, or not one of the `items`."""
        self.path = Path(path)
        entries = read_index(path)
        known = {name: _item(entry) for name, entry in entries.items()}
        if items is not None:
            for item in items:
                if item.name not in known:
                    raise CodesError(f"{path}: {item.name} is not in its index")
            known = {name: known[name] for name in sorted({item.name for item in items})}
        if not known:
            raise CodesError(f"{path}: holds no recordings")
        self.items = tuple(known.values())
        chosen = [entries[item.name] for item in self.items]
        first = chosen[0]
        for fact in ("token_fingerprint", "sample_rate", "hop_length"):
            _check_same(self.path, fact, chosen)
        self.token_fingerprint = first.token_fingerprint
        self.sample_rate = first.sample_rate  # Hz
        self.hop_length = first.hop_length
        self.codebook_sizes = min((entry.codebook_sizes for entry in chosen), key=len)
        for entry in chosen:
            if entry.codebook_sizes[: len(self.codebook_sizes)] != self.codebook_sizes:
                raise CodesError(f"{path}: {entry.name} has codebooks of {entry.codebook_sizes} codes, and others "
                                 f"{self.codebook_sizes}")  # fmt: skip
        # Of each recording what `codes` compares: for all of the folder, so that a selection can share it.
        self._sizes = {entry.name: entry.codebook_sizes for entry in chosen}

    def __len__(self) -> int:
        return len(self.items)

    @property
    def seconds(self) -> float:
        """Of all recordings together, each of its channels counted."""
        return sum(item.seconds * item.channels for item in self.items)

    @property
    def num_frames(self) -> int:
        """Likewise."""
        return sum(item.num_frames * item.channels for item in self.items)

    def codes(self, index: int) -> Codes:
        """The codes of recording `index`. CodesError names the file if it is missing, damaged or another."""
        item = self.items[index]
        path = code_file(self.path, item.name)
        codes = Codes.load(path)
        facts = {
            "token_fingerprint": (codes.token_fingerprint, self.token_fingerprint),
            "num_frames": (codes.num_frames, item.num_frames),
            "channels": (codes.channels, item.channels),
            "codebook_sizes": (codes.codebook_sizes, self._sizes[item.name]),
        }
        for name, (found, listed) in facts.items():
            if found != listed:
                raise CodesError(f"{path}: is not the file that the index of its folder tells of: {name} is {found} in "
                                 f"the file and {listed} in the index")  # fmt: skip
        return codes

    def select(
        self,
        *,
        split: str | None = None,
        speakers: Collection[str] | None = None,
        where: Callable[[CodeItem], bool] | None = None,
    ) -> "CodeFolder":
        """Those recordings for which all that is given holds. CodesError, with what there is, if none is left."""
        if isinstance(speakers, str):
            raise CodesError(f"speakers is {speakers!r}; wanted is a collection of names, such as [{speakers!r}]")
        items = self.items
        if split is not None:
            items = _some(self.path, "split", items, [split])
        if speakers is not None:
            items = _some(self.path, "speaker", items, speakers)
        if where is not None:
            items = tuple(item for item in items if where(item))
            if not items:
                raise CodesError(f"{self.path}: `where` leaves none of {len(self)} recordings")
        selected = copy(self)
        selected.items = items
        return selected

    def __repr__(self) -> str:
        return f"<CodeFolder {self.path}: {len(self)} recordings, {self.seconds / 3600:.3g} hours>"


def _item(entry: IndexEntry) -> CodeItem:
    return CodeItem(
        name=entry.name,
        num_frames=entry.num_frames,
        seconds=entry.seconds,
        channels=entry.channels,
        split=entry.split,
        speaker=entry.speaker,
        text=entry.text,
        licence=entry.licence,
    )


def _some(path: Path, field: str, items: tuple[CodeItem, ...], wanted: Collection[str]) -> tuple[CodeItem, ...]:
    """The items whose field is one of those wanted."""
    there = sorted({getattr(item, field) for item in items} - {None})
    for name in wanted:
        if name not in there:
            has = ", ".join(there[: 4 * MOST_NAMED]) + (", …" if len(there) > 4 * MOST_NAMED else "")
            raise CodesError(f"{path}: no recording has {field} {name!r}; there are {has or 'none given'}")
    return tuple(item for item in items if getattr(item, field) in wanted)


def _check_same(path: Path, fact: str, entries: Sequence[IndexEntry]) -> None:
    """CodesError, with the names of the fewer, if the entries do not share a fact."""
    groups: dict[object, list[str]] = {}
    for entry in entries:
        groups.setdefault(getattr(entry, fact), []).append(entry.name)
    if len(groups) == 1:
        return
    (most, _), (other, names), *_ = sorted(groups.items(), key=lambda group: -len(group[1]))
    named = ", ".join(names[:MOST_NAMED]) + (f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else "")
    raise CodesError(
        f"{path}: holds codes of different tokenizers: {fact} is {other} of {named}, and {most} of others; code all "
        "again with one model, or keep a folder for each"
    )
