"""A run's log read back: the lines that `RunLog` wrote, as entries and as series of numbers.

A run that is going on or was killed leaves a log whose last line may be cut off; lines that are no entry are left out
and counted, so that half a log is as readable as a whole one.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from vqaudio.training.log import LOG_NAME

Entry = dict[str, Any]


@dataclass(frozen=True)
class Series:
    """One number over the steps, of the lines that held it; NaN and infinity are among the values where they were."""

    steps: list[int]
    values: list[float]


@dataclass(frozen=True)
class History:
    """What `read_log` found in a log: at least one entry, each with a `kind` and a `step`."""

    path: Path
    entries: tuple[Entry, ...]
    num_unreadable: int  # lines

    def of_kind(self, kind: str) -> list[Entry]:
        return [entry for entry in self.entries if entry["kind"] == kind]

    @property
    def settings(self) -> dict[str, Any]:
        """The recipe as its start line holds it; empty where that is missing."""
        starts = self.of_kind("start")
        recipe = starts[-1].get("recipe") if starts else None
        return recipe if isinstance(recipe, dict) else {}

    @property
    def finished(self) -> bool:
        return bool(self.of_kind("end"))

    @property
    def last_step(self) -> int:
        return max(entry["step"] for entry in self.entries)

    @cached_property
    def total_steps(self) -> int | None:
        """The budget in steps; None where neither the log nor a checkpoint beside it tells.

        The number in the recipe is only what holds when the command gave no other, so it is the last to be believed.
        """
        if self.finished:
            return self.last_step
        stated = [entry["total_steps"] for entry in self.entries if isinstance(entry.get("total_steps"), int)]
        found = stated[-1] if stated else _budget_in_checkpoints(self.path.parent) or self.settings.get("steps")
        # a budget in minutes is 0 steps until its pace is measured
        return max(found, self.last_step) if isinstance(found, int) and found > 0 else None

    def scalars(self, kind: str) -> dict[str, Series]:
        """The numbers in lines of a kind, by name, in the order in which they first appear."""
        found: dict[str, Series] = {}
        for entry in self.of_kind(kind):
            for name, value in entry.items():
                if name not in ("kind", "step") and _is_number(value):
                    series = found.setdefault(name, Series([], []))
                    series.steps.append(entry["step"])
                    series.values.append(float(value))
        return found

    def lists(self, kind: str) -> dict[str, list[Series]]:
        """The lists of numbers in lines of a kind: for each name one series an index, such as one a codebook."""
        found: dict[str, list[Series]] = {}
        for entry in self.of_kind(kind):
            for name, values in entry.items():
                if not isinstance(values, list) or not values or not all(_is_number(value) for value in values):
                    continue
                rows = found.setdefault(name, [])
                rows.extend(Series([], []) for _ in range(len(values) - len(rows)))
                for series, value in zip(rows, values, strict=False):
                    series.steps.append(entry["step"])
                    series.values.append(float(value))
        return found


def read_log(folder: str | Path) -> History:
    """The log in a run's folder. A folder without one, or a log without a single entry, is refused."""
    path = Path(folder) / LOG_NAME
    if not path.is_file():
        raise ValueError(f"{folder}: there is no {LOG_NAME} in it; name the folder that vqaudio train had as --out")
    entries, num_unreadable = [], 0
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            entry = parse_line(line)
            if entry is not None:
                entries.append(entry)
            elif line.strip():
                num_unreadable += 1
    if not entries:
        raise ValueError(f"{path}: there is no entry in it yet; a run writes the first one as soon as it starts")
    return History(path, tuple(entries), num_unreadable)


def parse_line(line: str) -> Entry | None:
    """The entry in a line; None for one that is cut off or something else."""
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    whole = isinstance(entry, dict) and isinstance(entry.get("kind"), str) and isinstance(entry.get("step"), int)
    return entry if whole else None


def flat(tree: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted name, value) for every setting in a tree such as `History.settings`."""
    for key, value in tree.items():
        name = f"{path}.{key}" if path else key
        if isinstance(value, Mapping):
            yield from flat(value, name)
        else:
            yield name, value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _budget_in_checkpoints(folder: Path) -> int | None:
    for path in sorted(folder.glob("checkpoint-*/state.json"), reverse=True):
        try:
            total = json.loads(path.read_text(encoding="utf-8"))["state"]["total_steps"]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if isinstance(total, int) and total > 0:
            return total
    return None
