"""Results as Markdown tables, for the terminal, README and docs alike."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from vqaudio.evaluation.results import Summary


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """The first column is text, the others are numbers."""
    lines = [columns, ["---"] + ["--:"] * (len(columns) - 1), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def points_table(
    summary: Summary,
    *,
    systems: Sequence[str] | None = None,
    values: Sequence[str] | None = None,
    intervals: bool = True,
) -> str:
    """One line for each point of each system; by default of all, with every value that any of them has."""
    entries = [entry for entry in summary["systems"] if systems is None or entry["name"] in systems]
    points = [(entry, point) for entry in entries for point in entry["points"]]
    measures = [
        measure
        for measure in summary["measures"]
        if (values is None and any(measure["name"] in point["values"] for _, point in points))
        or (values is not None and measure["name"] in values)
    ]
    columns = ["system", "kbps", *(m["label"] + (f", {m['unit']}" if m["unit"] else "") for m in measures)]
    rows = []
    for entry, point in points:
        kbps = "–" if point["kbps"] is None else f"{point['kbps']:.3g}"
        cells = [cell(point, measure, intervals=intervals) for measure in measures]
        rows.append([f"{entry['label']}, {point['label']}" if point["label"] else entry["label"], kbps, *cells])
    return markdown_table(columns, rows)


def cell(point: Mapping[str, Any], measure: Mapping[str, Any], *, intervals: bool = True) -> str:
    """A mean with its interval over files, such as 1.75 [1.72, 1.78]; "not measured" where there is none."""
    found = point["values"].get(measure["name"])
    if found is None:
        return "not measured"
    mean, *ends = (f"{found[key]:.{measure['decimals']}f}" for key in ("mean", "low", "high") if key in found)
    return f"{mean} [{', '.join(ends)}]" if intervals and ends else mean


def codebooks_table(entry: Mapping[str, Any]) -> str:
    """Use of every codebook of a model."""
    return markdown_table(
        ["codebook", "codes used", "perplexity", "of its size", "entropy, bits"],
        (
            [
                row["codebook"],
                f"{row['used']} / {row['size']}",
                f"{row['perplexity']:.0f}",
                f"{row['perplexity_of_size']:.2f}",
                f"{row['entropy_bits']:.2f}",
            ]
            for row in entry["codebooks"]
        ),
    )


def remarks(summary: Summary, *, most: int = 20) -> list[str]:
    """What a reader of the table must know: what is missing, what was not scored, what is wrong with which file."""
    lines = [f"not measured: {name}: {reason}" for name, reason in summary["not_measured"].items()]
    lines += [
        f"not measured: {entry['name']}: {entry['not_measured']}"
        for entry in summary["systems"]
        if entry["not_measured"] is not None
    ]
    lines += [f"{name}: of one recording in {number}, chosen by its hash" for name, number in summary["one_in"].items()]
    lines += [f"{measure['label']}: {measure['note']}" for measure in summary["measures"] if measure["note"]]
    lines += [f"{problem['path']}: {problem['what']}" for problem in summary["problems"][:most]]
    if len(summary["problems"]) > most:
        lines.append(f"… and {len(summary['problems']) - most} more, in evaluation.json")
    return lines
