"""The tables of README, docs and cards, rebuilt from result files: python docs/tables.py [--check]

    <!-- table: NAME ARGUMENT… -->
    | whatever | stands here |
    <!-- /table -->

NAME is a function of `docs/figures.py`, and the arguments are its words; a path among them is relative to the
repository, or to the page if it begins with a dot. What stands between the two lines is replaced. With --check nothing
is written: the exit status is 1, and each block that differs from its files is named with its page. A block that cannot
be made keeps what it has, and is named too.
Markers inside fenced code are text.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from figures import TABLES

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END, FENCE = "<!-- table: ", "<!-- /table -->", "```"
PAGES = ("*.md", "docs/*.md", "benchmarks/*.md", "recipes/*/*.md", "samples/*.md", "vqaudio/pretrained/*/card.md")
Key = tuple[tuple[str, ...], Path]  # a block's words, and what its paths are relative to


@dataclass(frozen=True)
class Block:
    """Lines `first` to `last` of a page, without the markers around them, counted from 0."""

    words: tuple[str, ...]
    first: int
    last: int


def pages(root: Path) -> list[Path]:
    return sorted(page for pattern in PAGES for page in root.glob(pattern))


def blocks(lines: list[str]) -> Iterator[Block]:
    """The blocks of a page. ValueError for a marker without its other half."""
    fenced, opened, words = False, -1, ""
    for number, line in enumerate(lines):
        if line.startswith(FENCE):
            fenced = not fenced
        elif fenced:
            continue
        elif line.startswith(BEGIN):
            if opened >= 0:
                raise ValueError(f"line {number + 1}: a table begins inside the one of line {opened + 1}")
            opened, words = number, line.removeprefix(BEGIN).strip().removesuffix("-->")
        elif line.startswith(END):
            if opened < 0:
                raise ValueError(f"line {number + 1}: {END} ends no table")
            yield Block(tuple(words.split()), opened + 1, number)
            opened = -1
    if opened >= 0:
        raise ValueError(f"line {opened + 1}: the table never ends; {END} is wanted")


def filled(
    text: str, folder: Path, complain: Callable[[str], None], *, root: Path = ROOT, known: dict[Key, str] | None = None
) -> str:
    """The text of a page in `folder` with every block made anew; `complain` is told of those that cannot be.

    `known` remembers tables from page to page, as the same comparison stands in several.
    """
    known = {} if known is None else known
    lines, new, done = text.split("\n"), list[str](), 0
    for block in blocks(lines):
        new += lines[done : block.first]
        try:
            key = (block.words, folder if any(word.startswith(".") for word in block.words) else root)
            known[key] = known.get(key) or made(block, folder, root)
            new += known[key].split("\n")
        except (ValueError, OSError, LookupError, TypeError) as error:
            new += lines[block.first : block.last]
            complain(f"line {block.first}: table {' '.join(block.words)}: cannot be made: {reason(error)}")
        done = block.last
    return "\n".join(new + lines[done:])


def made(block: Block, folder: Path, root: Path) -> str:
    name, *words = block.words
    arguments = [str((folder / word).resolve()) if word.startswith(".") else word for word in words]
    if name not in TABLES:
        raise ValueError(f"there is no {name!r} in docs/figures.py; it has {', '.join(TABLES)}")
    return TABLES[name](root, *arguments)


def reason(error: Exception) -> str:
    return f"there is no {error}" if isinstance(error, KeyError) else str(error)


def differing(old: str, new: str) -> Iterator[str]:
    """The blocks whose lines are not the same; of two texts with the same blocks."""
    before, after = old.split("\n"), new.split("\n")
    for one, other in zip(blocks(before), blocks(after), strict=True):
        if before[one.first : one.last] != after[other.first : other.last]:
            yield f"line {one.first}: table {' '.join(one.words)}: differs from its files; run python docs/tables.py"


def main(arguments: list[str] | None = None, *, root: Path = ROOT) -> int:
    parser = argparse.ArgumentParser(description="Rebuild the tables of README, docs and cards from result files.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit status 1 if a table would change")
    options = parser.parse_args(arguments)
    problems: list[str] = []
    known: dict[Key, str] = {}
    for page in pages(root):
        name = page.relative_to(root).as_posix()
        old, found = page.read_text(encoding="utf-8"), list[str]()
        try:
            new = filled(old, page.parent, found.append, root=root, known=known)
            if options.check:
                found += differing(old, new)
            elif new != old:
                aside = page.with_suffix(".partial")
                aside.write_text(new, encoding="utf-8")
                os.replace(aside, page)
                print(name)
        except ValueError as error:
            found.append(str(error))
        problems += [f"{name}, {problem}" for problem in found]
    for problem in problems:
        print(problem, file=sys.stderr)
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
