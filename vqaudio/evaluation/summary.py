"""From units of work to `evaluation.json`: what each system is, and the means of each of its points."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from vqaudio.evaluation.measures import Measure
from vqaudio.evaluation.model import ModelSystem
from vqaudio.evaluation.results import Row
from vqaudio.evaluation.statistics import mean_with_intervals
from vqaudio.evaluation.systems import Point, System
from vqaudio.evaluation.unit import Unit
from vqaudio.quantize.usage import CodeUsage


def system_entry(system: System, units: Sequence[Unit], measures: Sequence[Measure]) -> dict[str, Any]:
    """A system with its points, in the order of its points; `units` in the order of the recordings."""
    names = [value.name for measure in measures for value in measure.values]
    entry: dict[str, Any] = {
        "name": system.name,
        "label": system.label,
        "kind": system.kind,
        "about": system.about(),
        "points": [],
        "codebooks": None,
        "not_measured": system.missing(),
    }
    if entry["not_measured"] is not None:
        return entry
    rates: Mapping[int, float] = {}
    usage: CodeUsage | None = None
    if isinstance(system, ModelSystem):
        tokenizer = system.tokenizer
        rates, usage = tokenizer.bitrates(), CodeUsage(tokenizer.codebook_sizes)
        for unit in units:
            if unit.codes is not None:
                usage.add(torch.tensor(unit.codes, dtype=torch.int64).reshape(len(tokenizer.codebook_sizes), -1))
        entry["codebooks"] = codebook_rows(usage)
        entry |= _edges([unit.edges for unit in units if unit.edges is not None])
    for point in system.points:
        rows = [row for unit in units for row in unit.rows if row["point"] == point.name]
        number = point.codebooks
        told = {
            "kbps": rates[number] / 1000 if number else _kbps(rows),
            "kbps_by_entropy": _entropy_kbps(system, usage, number),
            "tokens_per_second": float(system.tokenizer.frame_rate) * number
            if number and isinstance(system, ModelSystem)
            else None,
        }
        entry["points"].append(_point_entry(point, rows, names, told))
    return entry


def _point_entry(point: Point, rows: Sequence[Row], names: Sequence[str], told: Mapping[str, Any]) -> dict[str, Any]:
    values, unscored = {}, {}
    for name in names:
        scored = [row for row in rows if name in row["values"]]
        if scored:
            speakers = [row["speaker"] for row in scored]
            values[name] = mean_with_intervals([row["values"][name] for row in scored], speakers)
        reasons = Counter(row["unscored"][name] for row in rows if name in row["unscored"])
        if reasons:
            unscored[name] = dict(reasons)
    return {
        "name": point.name,
        "label": point.label,
        "codebooks": point.codebooks,
        **{key: None if value is None else round(value, 4) for key, value in told.items()},
        "encode_times_real_time": _times_real_time(rows, "encode_seconds"),
        "decode_times_real_time": _times_real_time(rows, "decode_seconds"),
        "files": len(rows),
        "values": values,
        "unscored": unscored,
    }


def codebook_rows(usage: CodeUsage) -> list[dict[str, Any]]:
    """Use of every codebook over all recordings."""
    facts = zip(usage.counts, usage.used, usage.perplexity, usage.entropy_bits, strict=True)
    return [
        {
            "codebook": number,
            "size": len(counts),
            "used": used,
            "perplexity": round(perplexity, 1),
            "perplexity_of_size": round(perplexity / len(counts), 4),
            "entropy_bits": round(bits, 4),
            "counts": counts.tolist(),
        }
        for number, (counts, used, perplexity, bits) in enumerate(facts, start=1)
    ]


def _entropy_kbps(system: System, usage: CodeUsage | None, number: int | None) -> float | None:
    """What an ideal entropy coder that knows each codebook's frequencies, and no context, would need."""
    if usage is None or number is None or not isinstance(system, ModelSystem):
        return None
    return float(system.tokenizer.frame_rate) * sum(usage.entropy_bits[:number]) / 1000


def _kbps(rows: Sequence[Row]) -> float | None:
    """All bits over all seconds."""
    if not rows or any(row["bits"] is None for row in rows):
        return None
    return float(sum(row["bits"] for row in rows)) / sum(row["seconds"] for row in rows) / 1000


def _times_real_time(rows: Sequence[Row], key: str) -> float | None:
    timed = [row for row in rows if row[key] is not None]
    seconds = sum(row[key] for row in timed)
    return round(sum(row["seconds"] for row in timed) / seconds, 2) if seconds else None


def _edges(found: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Means over recordings of what `evaluation.edges` measures."""
    if not found:
        return {"edges": None}
    names = ("edge_ratio", "cut_ratio")
    return {"edges": {name: mean_with_intervals([row[name] for row in found], [""] * len(found)) for name in names}}
