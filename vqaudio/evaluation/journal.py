"""What an evaluation has done so far, line by line, so that one that was killed, or is extended, repeats nothing.

The first line says under which conditions; each further line is a unit. A last line that was cut off is dropped.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from vqaudio.evaluation.results import JOURNAL_NAME, ResultsError
from vqaudio.evaluation.unit import Unit

Key = tuple[str, str, str]  # identity of the system, path, SHA-256 of the recording


class Journal:
    """Open it as a context; `conditions` must be those it was begun under: ResultsError if they are not."""

    def __init__(self, folder: Path, conditions: Mapping[str, Any]) -> None:
        self.path = folder / JOURNAL_NAME
        self.units: dict[Key, Unit] = {}
        whole = 0
        text = self.path.read_bytes() if self.path.is_file() else b""
        for number, line in enumerate(text.splitlines(keepends=True)):
            try:
                entry = json.loads(line)
            except ValueError:
                break
            if not line.endswith(b"\n"):
                break
            if number == 0:
                self._check(entry, conditions)
            else:
                unit = Unit(**entry["unit"])
                self.units[entry["system"], unit.path, unit.sha256] = unit
            whole += len(line)
        with self.path.open("ab") as file:
            file.truncate(whole)
        self._file = self.path.open("a", encoding="utf-8", errors="backslashreplace", newline="\n")
        if not whole:
            self._write({"conditions": dict(conditions)})

    def add(self, system: str, unit: Unit) -> None:
        """`system` identifies it: the same string, the same results."""
        self.units[system, unit.path, unit.sha256] = unit
        self._write({"system": system, "unit": unit.as_dict()})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def _write(self, entry: dict[str, Any]) -> None:
        self._file.write(json.dumps(entry, ensure_ascii=False, allow_nan=False) + "\n")
        self._file.flush()

    def _check(self, entry: dict[str, Any], conditions: Mapping[str, Any]) -> None:
        before = entry.get("conditions", {})
        for name in sorted(set(before) | set(conditions)):
            if before.get(name) != conditions.get(name):
                raise ResultsError(
                    f"{self.path.parent}: holds an evaluation with another {name} "
                    f"({_short(before.get(name))}, now {_short(conditions.get(name))}); give another folder"
                )


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 200 else text[:200] + "…"
