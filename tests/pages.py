"""The pages of the repository for tests: their fenced blocks, tables and links, and the scripts beside them."""

import importlib.util
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parent.parent
PATTERNS = ("*.md", "docs/*.md", "benchmarks/*.md", "recipes/*/*.md", "samples/*.md", "vqaudio/pretrained/*/card.md")
FENCE = re.compile(r"^```(\w*)$\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Fenced:
    language: str
    line: int  # of its first line in the page, counted from 1
    text: str


def pages(*patterns: str) -> list[Path]:
    return sorted(page for pattern in patterns or PATTERNS for page in ROOT.glob(pattern))


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def fenced(page: Path, language: str) -> list[Fenced]:
    """The fenced blocks of one language, in order."""
    text = page.read_text(encoding="utf-8")
    found = (Fenced(match[1], text.count("\n", 0, match.start(2)) + 1, match[2]) for match in FENCE.finditer(text))
    return [block for block in found if block.language == language]


def without_fenced(text: str) -> str:
    """With every fenced block as empty lines, so that lines keep their numbers."""
    return FENCE.sub(lambda match: "\n" * match[0].count("\n"), text)


def tables(text: str) -> list[tuple[int, list[str]]]:
    """Tables of a page: the number of the line before it, counted from 1, and its lines."""
    found: list[tuple[int, list[str]]] = []
    lines = without_fenced(text).split("\n")
    for number, line in enumerate(lines):
        if line.startswith("|"):
            if number == 0 or not lines[number - 1].startswith("|"):
                found.append((number, []))
            found[-1][1].append(line)
    return found


def script(folder: str, module: str) -> ModuleType:
    """FOLDER/MODULE.py as its neighbours import it: under its own name, with its folder on the path."""
    if module not in sys.modules:
        place = str(ROOT / folder)
        if place not in sys.path:
            sys.path.append(place)
        spec = importlib.util.spec_from_file_location(module, ROOT / folder / f"{module}.py")
        assert spec is not None and spec.loader is not None
        loaded = importlib.util.module_from_spec(spec)
        sys.modules[module] = loaded
        spec.loader.exec_module(loaded)
    return sys.modules[module]
