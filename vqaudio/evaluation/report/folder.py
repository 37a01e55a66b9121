"""What an evaluation left behind, read back for its report; `vqaudio.evaluation.results` describes the files."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RESULTS_NAME, FILES_NAME, CLIPS_NAME = "evaluation.json", "files.jsonl", "clips"
FORMAT, VERSION = "vqaudio-evaluation", 1

Facts = dict[str, Any]


@dataclass(frozen=True)
class Evaluation:
    """evaluation.json as `facts`, the lines of files.jsonl, and how many lines could not be read."""

    folder: Path
    facts: Facts
    lines: tuple[Facts, ...]
    num_unreadable: int

    @property
    def measures(self) -> list[Facts]:
        """Those that any point has a value of, or should have had; in the order of the results."""
        return list(self.facts.get("measures") or [])

    @property
    def systems(self) -> list[Facts]:
        return list(self.facts.get("systems") or [])

    @property
    def not_measured(self) -> dict[str, str]:
        """Why a value is missing everywhere, by its name."""
        return dict(self.facts.get("not_measured") or {})

    @property
    def thinned(self) -> dict[str, str]:
        """What is to be said of values that were computed for some of the recordings only, by name."""
        found = self.facts.get("one_in") or {}
        return {name: f"of one recording in {number}, chosen by its hash" for name, number in found.items()}

    def points(self) -> Iterator[tuple[Facts, Facts]]:
        """(system, point) in the order of the results."""
        for system in self.systems:
            for point in system.get("points") or []:
                yield system, point


def is_evaluation(folder: str | Path) -> bool:
    return (Path(folder) / RESULTS_NAME).is_file()


def read_evaluation(folder: str | Path) -> Evaluation:
    """A folder without results, or with those of another format or a newer version, is refused."""
    path = Path(folder) / RESULTS_NAME
    if not path.is_file():
        raise ValueError(f"{folder}: there is no {RESULTS_NAME} in it; name the folder that an evaluation wrote")
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: cannot be read as JSON ({error})") from error
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        raise ValueError(f"{path}: is no result of an evaluation; its format would be {FORMAT!r}")
    if not isinstance(facts.get("version"), int) or facts["version"] > VERSION:
        raise ValueError(f"{path}: has version {facts.get('version')!r}, and this vqaudio reads up to {VERSION}")
    lines, num_unreadable = _read_lines(path.parent / FILES_NAME)
    return Evaluation(path.parent, facts, lines, num_unreadable)


def _read_lines(path: Path) -> tuple[tuple[Facts, ...], int]:
    """An evaluation that was killed leaves a last line cut short, which is no reason not to show the others."""
    if not path.is_file():
        return (), 0
    lines, num_unreadable = [], 0
    with open(path, encoding="utf-8", errors="replace") as file:
        for text in file:
            try:
                line = json.loads(text)
            except ValueError:
                line = None
            if isinstance(line, dict) and isinstance(line.get("path"), str) and isinstance(line.get("point"), str):
                lines.append(line)
            elif text.strip():
                num_unreadable += 1
    return tuple(lines), num_unreadable
