"""vqaudio encode --layout, and vqaudio decode of what it wrote."""

import threading
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from io import TextIOWrapper
from pathlib import Path

from vqaudio.cli.files import Task
from vqaudio.cli.indexing import told_of
from vqaudio.codes import Codes
from vqaudio.data.manifest import Item
from vqaudio.io import write_aside
from vqaudio.layouts import CoarseFirst, Delay, Flat, Parallel, TokenSpace
from vqaudio.layouts.files import find_space, json_line, other_lines, read_sequences, write_sequence
from vqaudio.layouts.space import SPACE_NAME, AnyLayout
from vqaudio.tokenizer import AudioTokenizer

FORMATS = ("jsonl", "npy", "txt")
LAYOUTS = ("flat", "delay", "parallel", "coarse-first")
ALL_NAME = "tokens.jsonl"  # one for all recordings


def space_for(options: Namespace, tokenizer: AudioTokenizer, num_codebooks: int | None) -> TokenSpace:
    """What --layout, --no-offsets and --first-id mean with this tokenizer."""
    sizes = tokenizer.codebook_sizes[:num_codebooks]
    layout: AnyLayout
    if options.layout == "flat":
        layout = Flat(codebook_sizes=sizes, offsets=not options.no_offsets, first_id=options.first_id)
    elif options.layout == "coarse-first":
        layout = CoarseFirst(codebook_sizes=sizes, first_id=options.first_id)
    else:
        layout = (Delay if options.layout == "delay" else Parallel)(codebook_sizes=sizes)
    return TokenSpace.of(tokenizer, layout)


def unusable(options: Namespace) -> str | None:
    """Why the options of encode cannot go together, or None."""
    if options.manifest is None and options.split is not None:
        return "--split goes with --manifest"
    if options.manifest is not None and options.files:
        return "--manifest says which files: leave out FILES"
    if options.layout is None:
        given = {"--format": options.format, "--first-id": options.first_id, "--no-offsets": options.no_offsets}
        given["--begin-end"] = options.begin_end
        return next((f"{name} goes with --layout, which writes tokens" for name, value in given.items() if value), None)
    if options.overwrite:
        return "--overwrite goes with code files; those of --layout are made anew each time"
    if options.channels != "mix":
        return "--layout writes one sequence for each file, so its channels are mixed: leave out --channels"
    if options.no_offsets and options.layout != "flat":
        return f"--no-offsets goes with --layout flat; {options.layout} has no choice"
    if options.first_id and options.layout in ("delay", "parallel"):
        return f"--first-id goes with sequences of one row; {options.layout} has one for each codebook"
    return None


def prepare_folder(space: TokenSpace, out: Path) -> None:
    """Write space.json; TokenError if another is there, for tokens of two kinds must not lie in one folder."""
    out.mkdir(parents=True, exist_ok=True)
    if (out / SPACE_NAME).exists():
        TokenSpace.load(out / SPACE_NAME, expected=space)
    else:
        space.save(out / SPACE_NAME)


class TokenWriter:
    """Writes the tokens of each task: in a file of its own, or as a line, in the order of the tasks, of one for all."""

    def __init__(
        self, space: TokenSpace, out: Path, items: Mapping[Path, Item], *, begin_end: bool, lines: TextIOWrapper | None
    ) -> None:
        self._space, self._out, self._items, self._begin_end, self._file = space, out, items, begin_end, lines
        self._waiting: dict[int, str] = {}  # number of a task -> its line; empty if it failed
        self._next = 0
        self.names: set[str] = set()  # of the recordings that have become lines
        self._lock = threading.Lock()

    def has(self, task: Task) -> bool:
        """Tokens are made anew each time."""
        return False

    def write(self, number: int, task: Task, codes: Codes) -> None:
        tokens = self._space.to_tokens(codes, begin=self._begin_end, end=self._begin_end)[0]
        path = task.outputs[0]
        if self._file is None:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_sequence(path, tokens)
        else:
            name = path.relative_to(self._out).with_suffix("").as_posix()
            line = json_line(name, codes, tokens, about=told_of(self._items.get(task.source)))
            self.names.add(name)
            self._put(number, line)

    def skip(self, number: int) -> None:
        """A task that failed: the others need not wait for its line."""
        if self._file is not None:
            self._put(number, "")

    def _put(self, number: int, line: str) -> None:
        assert self._file is not None
        with self._lock:
            self._waiting[number] = line
            while self._next in self._waiting:
                self._next += 1  # before writing: what cannot be written must not stop those behind it
                if text := self._waiting.pop(self._next - 1):
                    self._file.write(text)


class _NothingWrittenError(Exception):
    """So that what was written aside is not put in place."""


@contextmanager
def token_writer(space: TokenSpace, out: Path, items: Mapping[Path, Item], options: Namespace) -> Iterator[TokenWriter]:
    """A writer; the file for all appears when the block ends, complete or not at all, unless nothing became a line.
    Recordings that were in it before, and are not made now, stay in it: they follow."""
    prepare_folder(space, out)
    if options.format in ("npy", "txt"):
        yield TokenWriter(space, out, items, begin_end=options.begin_end, lines=None)
        return
    with suppress(_NothingWrittenError), write_aside(out / ALL_NAME) as aside:
        with open(aside, "w", encoding="utf-8", errors="surrogateescape") as file:
            writer = TokenWriter(space, out, items, begin_end=options.begin_end, lines=file)
            yield writer
            file.writelines(other_lines(out / ALL_NAME, writer.names))
        if not writer.names:
            raise _NothingWrittenError


def recordings(path: Path, output: Path, tokenizer: AudioTokenizer) -> Iterator[tuple[Callable[[], Codes], Path]]:
    """How to read each recording of a token file, and where its audio goes: those of a .jsonl by their names."""
    space = TokenSpace.load(find_space(path))
    space.check_codes_of(tokenizer)
    for sequence in read_sequences(path):
        place = output
        if path.suffix == ".jsonl" and sequence.error is None:
            place = output.parent / f"{sequence.name}{output.suffix}"
        yield partial(sequence.to_codes, space), place
