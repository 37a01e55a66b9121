"""Is one system better than another? Paired differences, recording by recording, between two evaluations.

A difference is *settled* when its 95 % intervals over files and over speakers both exclude zero. B may replace A if the
decisive values are all settled in its favour at the point with the most codebooks that both have, on every recording
that A has them of: a system that fails on, or is silent for, what it cannot do is not better. They are three, since
each alone can be gamed: Griffin-Lim, which knows no phase, beats real codecs in mel distance and STOI.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vqaudio.evaluation.measures import Kind
from vqaudio.evaluation.results import ResultsError, Row, Summary, read_rows, read_summary
from vqaudio.evaluation.statistics import mean_with_intervals

DECISIVE: dict[Kind, tuple[str, ...]] = {
    "speech": ("pesq_wb", "stoi", "mel_distance"),
    "music": ("visqol_audio", "mel_distance"),
}
MUST_AGREE = ("rules",)  # of the summaries; versions may differ, and are then said


@dataclass(frozen=True)
class Contender:
    """One system of one evaluation."""

    folder: Path
    system: dict[str, Any]  # its entry in the summary
    summary: Summary
    rows: dict[str, dict[str, Row]]  # by point and path

    @property
    def name(self) -> str:
        return str(self.system["name"])


def contender(text: str) -> Contender:
    """FOLDER, or FOLDER:SYSTEM where an evaluation has several; of several the only model is meant if there is one."""
    folder, system = Path(text), None
    if not folder.exists() and ":" in text:
        head, _, system = text.rpartition(":")
        folder = Path(head)
    summary = read_summary(folder)
    entries = {entry["name"]: entry for entry in summary["systems"] if entry["points"]}
    if system is None:
        models = [name for name, entry in entries.items() if entry["kind"] == "model"]
        names = models if len(models) == 1 else list(entries)
        if len(names) != 1:
            raise ResultsError(f"{folder}: has {', '.join(entries)}; say which is meant, {folder}:{names[0]}")
        system = names[0]
    if system not in entries:
        raise ResultsError(f"{folder}: has no system {system!r}; it has {', '.join(entries)}")
    rows: dict[str, dict[str, Row]] = {}
    for row in read_rows(folder):
        if row["system"] == system:
            rows.setdefault(row["point"], {})[row["path"]] = row
    return Contender(folder, entries[system], summary, rows)


def compare(a: Contender, b: Contender) -> dict[str, Any]:
    """The differences b - a at every point that both have: numbers of codebooks, or the same rate for other codecs.

    ResultsError for other rules, other recordings, or nothing in common.
    """
    for key in MUST_AGREE:
        if a.summary[key] != b.summary[key]:
            different = [name for name in a.summary[key] if a.summary[key].get(name) != b.summary[key].get(name)]
            raise ResultsError(f"{a.folder} and {b.folder} were made by other {key} ({', '.join(different)})")
    pairs = _points_in_common(a, b)
    if not pairs:
        raise ResultsError(f"{a.name} and {b.name} have no point in common: {_labels(a)}; {_labels(b)}")
    measures = {measure["name"]: measure for measure in b.summary["measures"]}
    points = []
    for one, other in pairs:
        rows_a, rows_b = a.rows.get(one["name"], {}), b.rows.get(other["name"], {})
        _check_recordings(a, b, rows_a, rows_b)
        values = {name: found for name in measures if (found := _difference(rows_a, rows_b, name)) is not None}
        for name, found in values.items():
            found["settled"] = verdict(found, measures[name]["better"])
        entry = {"a": one["name"], "b": other["name"], "label": other["label"], "codebooks": other["codebooks"]}
        points.append({**entry, "values": values})
    decisive = DECISIVE[b.summary["data"]["kind"]]
    last = points[-1]["values"]
    return {
        "a": _described(a),
        "b": _described(b),
        "data": b.summary["data"],
        "measures": list(measures.values()),
        "versions_differ": sorted(
            name
            for name in set(a.summary["versions"]) | set(b.summary["versions"])
            if a.summary["versions"].get(name) != b.summary["versions"].get(name)
        ),
        "points": points,
        "decisive": list(decisive),
        "may_replace": all(
            name in last and last[name]["settled"] == "better" and not last[name]["lost"] for name in decisive
        ),
    }


def verdict(difference: Mapping[str, Any], better: str) -> str:
    """`better`, `worse` or `open`, of a mean difference with its intervals."""
    bounds = [difference.get(key) for key in ("low", "high", "speakers_low", "speakers_high")]
    if bounds[0] is None:  # one file says nothing about others
        return "open"
    known = [bound for bound in bounds if bound is not None]
    if min(known) > 0:
        return "better" if better == "higher" else "worse"
    if max(known) < 0:
        return "better" if better == "lower" else "worse"
    return "open"


def _difference(a: Mapping[str, Row], b: Mapping[str, Row], name: str) -> dict[str, Any] | None:
    both = [path for path in a if path in b and name in a[path]["values"] and name in b[path]["values"]]
    if not both:
        return None
    differences = [b[path]["values"][name] - a[path]["values"][name] for path in both]
    # failed, or without a value; what was not asked for, by `--thin`, is in neither
    lost = sum(name in a[path]["values"] and (path not in b or name in b[path]["unscored"]) for path in a)
    return {**mean_with_intervals(differences, [b[path]["speaker"] for path in both]), "lost": lost}


def _points_in_common(a: Contender, b: Contender) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    def setting(point: Mapping[str, Any]) -> object:
        return point["codebooks"] or point["name"].partition("@")[2]

    others = {setting(point): point for point in b.system["points"]}
    return [(point, others[setting(point)]) for point in a.system["points"] if setting(point) in others]


def _check_recordings(a: Contender, b: Contender, rows_a: Mapping[str, Row], rows_b: Mapping[str, Row]) -> None:
    if a.summary["data"]["list_sha256"] == b.summary["data"]["list_sha256"]:
        return
    differing = [path for path in sorted(set(rows_a) | set(rows_b)) if _hash(rows_a, path) != _hash(rows_b, path)]
    if differing:
        raise ResultsError(
            f"{a.folder} and {b.folder} are of different recordings: {len(differing)} of them, such as {differing[0]}"
        )


def _hash(rows: Mapping[str, Row], path: str) -> str | None:
    return rows[path]["sha256"] if path in rows else None


def _labels(contender: Contender) -> str:
    return f"{contender.name} has {', '.join(point['label'] for point in contender.system['points'])}"


def _described(contender: Contender) -> dict[str, Any]:
    about = contender.system["about"]
    named = {key: about[key] for key in ("model_fingerprint", "token_fingerprint") if key in about}
    return {"name": contender.name, **named}


def comparison_rows(
    comparison: Mapping[str, Any], names: Sequence[str] | None = None
) -> tuple[list[str], list[list[str]]]:
    """Column names and cells of a table; a settled difference is marked better or worse, and where recordings that the
    first system was scored on have no value of the second, their number is told."""
    measures = [m for m in comparison["measures"] if names is None or m["name"] in names]
    measures = [m for m in measures if any(m["name"] in point["values"] for point in comparison["points"])]
    columns = ["point", *(m["label"] + (f", {m['unit']}" if m["unit"] else "") for m in measures)]
    rows = []
    for point in comparison["points"]:
        cells = [point["label"]]
        for measure in measures:
            found = point["values"].get(measure["name"])
            if found is None:
                cells.append("not measured")
                continue
            places = measure["decimals"] + 1
            text = f"{found['mean']:+.{places}f}"
            if "low" in found:
                text += f" [{found['low']:+.{places}f}, {found['high']:+.{places}f}]"
            text += "" if found["settled"] == "open" else f" {found['settled']}"
            cells.append(text + (f" ({found['lost']} lost)" if found["lost"] else ""))
        rows.append(cells)
    return columns, rows
