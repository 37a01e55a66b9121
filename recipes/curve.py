"""The validation curve of a run: log.jsonl -> curve.csv, and a Markdown table on standard output.

python recipes/curve.py RUN_FOLDER recipes/NAME/curve.csv
"""

import csv
import json
import sys
from pathlib import Path
from typing import Any


def validations(log: Path) -> list[dict[str, Any]]:
    """The validation entries of a log, each with the minutes of training before it; lists become name_0, name_1, …"""
    rows, seconds = [], 0.0
    for line in log.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        if entry["kind"] == "train":
            seconds = entry["seconds"]
        elif entry["kind"] == "validation":
            row: dict[str, Any] = {"step": entry["step"], "minutes": round(seconds / 60, 1)}
            for name, value in entry.items():
                if isinstance(value, list):
                    row.update({f"{name}_{index}": item for index, item in enumerate(value)})
                elif name not in ("kind", "step"):
                    row[name] = value
            rows.append(row)
    if not rows:
        sys.exit(f"{log}: no validation in this log")
    return rows


def write_curve(rows: list[dict[str, Any]], path: Path) -> None:
    names = list(dict.fromkeys(name for row in rows for name in row))
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def curve_table(rows: list[dict[str, Any]]) -> list[str]:
    """Markdown lines: the losses that the run had, and the perplexity of its first and last codebook."""
    present = {name for row in rows for name in row}
    books = sorted(
        (name for name in present if name.startswith("perplexity_")), key=lambda name: int(name.split("_")[1])
    )
    shown = [name for name in ("step", "minutes", "loss", "mel", "waveform_mse", "si_sdr") if name in present]
    shown += [books[0], books[-1]] if len(books) > 1 else books
    lines = ["| " + " | ".join(name.replace("_", " ") for name in shown) + " |", "|" + "--:|" * len(shown)]
    return lines + ["| " + " | ".join(str(row.get(name, "–")) for name in shown) + " |" for row in rows]


def main() -> None:
    run, out = Path(sys.argv[1]), Path(sys.argv[2])
    rows = validations(run / "log.jsonl")
    write_curve(rows, out)
    print("\n".join(curve_table(rows)))


if __name__ == "__main__":
    main()
