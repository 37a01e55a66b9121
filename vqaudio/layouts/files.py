"""Token files: sequences for a trainer, as `vqaudio encode --layout` writes them, with their `space.json` beside.

    .jsonl    a line for each recording: {"name", "tokens", "num_frames", "num_samples", "source_sample_rate",
              "source_num_samples"}; tokens are a list, or K lists if stacked. All lengths come back. What a
              manifest says stands there as well: "split", "speaker", "text", "licence".
    .npy      one recording: int32 (int64 past 2^31 ids), (L,) or (K, L)
    .txt      one recording: ids with spaces between, on one line, or on K lines if stacked

.npy and .txt have no place for a length: what they hold decodes to whole frames, up to a frame longer than the source.
"""

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from vqaudio.code_index import stays_below
from vqaudio.codes import Codes, CodesError
from vqaudio.io import write_aside
from vqaudio.layouts.index_map import TokenError
from vqaudio.layouts.reading import Policy
from vqaudio.layouts.space import SPACE_NAME, TokenSpace

TOKEN_EXTENSIONS = (".jsonl", ".npy", ".txt")
LENGTHS = ("num_samples", "source_sample_rate", "source_num_samples")


@dataclass(frozen=True)
class Sequence:
    """One recording of a token file."""

    name: str  # in .jsonl its own, a relative path without extension; else that of the file
    place: str  # for messages: the file, and in .jsonl the line
    tokens: Any
    lengths: dict[str, Any]  # those of LENGTHS; empty where the format has no place for them
    error: TokenError | None = None  # why this line is no recording

    def to_codes(self, space: TokenSpace, *, invalid: Policy = "refuse") -> Codes:
        """The codes, of one channel; what is wrong with them is said with the place."""
        if self.error is not None:
            raise self.error
        tokens = self.tokens
        if space.layout.stacked and isinstance(tokens, list) and not (tokens and isinstance(tokens[0], list)):
            tokens = [tokens]  # a text file of one line does not say that it is a stack of one
        try:
            return space.to_codes(tokens, invalid=invalid, **self.lengths)
        except (TokenError, CodesError) as error:
            raise TokenError(f"{self.place}: {error}") from error


def find_space(path: Path) -> Path:
    """The space.json that belongs to a token file: in its folder, or in the nearest above that has one."""
    for folder in path.resolve().parents:
        if (folder / SPACE_NAME).is_file():
            return folder / SPACE_NAME
    raise TokenError(f"{path}: there is no {SPACE_NAME} beside it or above; without it nobody knows what its ids mean")


def json_line(name: str, codes: Codes, tokens: Tensor, *, about: Mapping[str, str]) -> str:
    """The line of one recording, with its line feed. ASCII, so that file names of any bytes survive."""
    lengths = {key: getattr(codes, key) for key in LENGTHS}
    entry = {"name": name, **about, "tokens": tokens.tolist(), "num_frames": codes.num_frames, **lengths}
    return json.dumps(entry, separators=(",", ":")) + "\n"


def other_lines(path: Path, names: Collection[str]) -> Iterator[str]:
    """The lines of a .jsonl, if there is one, of recordings called otherwise, and lines that are no recordings."""
    if not path.exists():
        return
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            try:
                name = json.loads(line)["name"]
            except (ValueError, KeyError, TypeError, RecursionError):
                name = None
            if name not in names:
                yield line if line.endswith("\n") else line + "\n"


def write_sequence(path: Path, tokens: Tensor) -> None:
    """One recording as .npy or .txt, complete or not at all."""
    array = tokens.numpy()
    with write_aside(path) as partial:
        if path.suffix == ".npy":
            wide = array.size and array.max() >= 2**31
            with open(partial, "wb") as file:  # by a name, NumPy would append .npy to it
                np.save(file, array.astype(np.int64 if wide else np.int32), allow_pickle=False)
        else:
            rows = np.atleast_2d(array).tolist()
            partial.write_text("".join(" ".join(map(str, row)) + "\n" for row in rows), encoding="ascii")


def read_sequences(path: Path) -> Iterator[Sequence]:
    """The recordings of a token file; TokenError, with the file and line, for what is none: in a .jsonl from its
    `to_codes`, so that one line does not cost the others their turn."""
    if path.suffix == ".jsonl":
        yield from _read_lines(path)
        return
    try:
        if path.suffix == ".npy":
            tokens: Any = np.load(path, allow_pickle=False)
        else:
            rows = [[int(word) for word in line.split()] for line in path.read_text(encoding="ascii").splitlines()]
            tokens = rows[0] if len(rows) == 1 else rows
    except OSError as error:
        raise TokenError(f"{path}: cannot be opened ({error.strerror})") from error
    except ValueError as error:
        raise TokenError(f"{path}: is no file of token ids ({' '.join(str(error).split())})") from error
    yield Sequence(path.stem, str(path), tokens, {})


def _read_lines(path: Path) -> Iterator[Sequence]:
    names: set[str] = set()
    try:
        with open(path, encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                place = f"{path}, line {number}"
                try:
                    sequence = _from_line(line, place)
                    if sequence.name in names:
                        raise TokenError(f"{place}: name {sequence.name!r} was there before")
                except TokenError as error:
                    yield Sequence("", place, None, {}, error)
                    continue
                names.add(sequence.name)
                yield sequence
    except OSError as error:
        raise TokenError(f"{path}: cannot be opened ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise TokenError(f"{path}: is no text in UTF-8") from error


def _from_line(line: str, place: str) -> Sequence:
    try:
        entry = json.loads(line)
        name, tokens = entry["name"], entry["tokens"]
        lengths = {key: entry[key] for key in LENGTHS if key in entry}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise TokenError(f"{place}: is no recording; wanted is JSON with name and tokens") from error
    if not isinstance(name, str) or not stays_below(name):
        raise TokenError(f"{place}: name is {name!r}; it is a relative path, and stays below the folder of results")
    return Sequence(name, place, tokens, lengths)
