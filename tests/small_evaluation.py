"""An evaluation of the shipped models as `vqaudio evaluate` leaves it behind, small, for pages and cards to use."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vqaudio.evaluation.results import write_results
from vqaudio.evaluation.statistics import mean_with_intervals

ROOT = Path(__file__).resolve().parent.parent
MODELS = ("speech-16k-v1", "speech-16k-v2", "speech-16k-live-v1")


def point(system: str, codebooks: int | None, quality: float, rows: list[dict[str, Any]]) -> dict[str, Any]:
    setting = f"{system}@{codebooks or 12}"
    kbps = 0.5 * (codebooks or 24)
    values: dict[str, list[float]] = {"pesq_wb": [], "stoi": [], "si_sdr": [], "mel_distance": []}
    for number in range(12):
        own = quality + 0.05 * number + 0.002 * (number % 3)
        found = {"pesq_wb": 1 + own, "stoi": 0.5 + own / 10, "si_sdr": 4 * own, "mel_distance": 3 - own}
        for key, value in found.items():
            values[key].append(value)
        speaker = f"speaker {number % 4}"
        head = {"path": f"{number}.flac", "sha256": f"{number:064x}", "speaker": speaker, "kind": "speech"}
        rows.append(
            {**head, "seconds": 5.0, "system": system, "point": setting, "kbps": kbps, "values": found, "unscored": {}}
        )
    speakers = [f"speaker {number % 4}" for number in range(12)]
    return {
        "name": setting,
        "label": f"{codebooks} codebooks" if codebooks else "12 kbit/s",
        "codebooks": codebooks,
        "kbps": kbps,
        "kbps_by_entropy": 0.9 * kbps if codebooks else None,
        "tokens_per_second": 50.0 * codebooks if codebooks else None,
        "values": {key: mean_with_intervals(found, speakers) for key, found in values.items()},
        "unscored": {},
    }


def system(model: str | None, fingerprint: str, quality: float, rows: list[dict[str, Any]]) -> dict[str, Any]:
    label = model or "opus"
    numbers = (1, 8) if model else (None,)
    interval = {"mean": 1.12, "low": 0.96, "high": 1.29, "files": 10}
    entry: dict[str, Any] = {
        "name": label,
        "label": label,
        "kind": "model" if model else "codec",
        "about": {"model_fingerprint": fingerprint} if model else {},
        "points": [point(label, number, quality + 0.05 * (number or 4), rows) for number in numbers],
        "codebooks": None,
        "not_measured": None,
    }
    if model:
        book = {"size": 1024, "used": 1000, "perplexity": 700.0, "perplexity_of_size": 0.68, "entropy_bits": 9.4}
        entry["codebooks"] = [{"codebook": number, **book, "counts": [1] * 1024} for number in range(1, 9)]
        entry |= {"silence_peak_dbfs": -90.0, "edges": {"edge_ratio": interval, "cut_ratio": interval}}
    return entry


def write_evaluation(folder: Path, *, names: Sequence[str] = MODELS) -> None:
    """All shipped models, called as `names` has it, a codec, and one that was not there."""
    rows: list[dict[str, Any]] = []
    entries = []
    for number, (model, called) in enumerate(zip(MODELS, names, strict=True)):
        config = json.loads((ROOT / "vqaudio/pretrained" / model / "config.json").read_text(encoding="utf-8"))
        entries.append(system(called, config["model_fingerprint"], 0.1 * number, rows))
    entries.append(system(None, "", 0.5, rows))
    absent = {"name": "codec2", "label": "Codec2", "kind": "codec", "about": {}, "points": [], "codebooks": None}
    entries.append({**absent, "not_measured": "c2enc is not on the path"})
    facts = ("name", "label", "better", "decimals", "unit", "note")
    measures = [
        ("pesq_wb", "PESQ-WB", "higher", 2, "", ""),
        ("stoi", "STOI", "higher", 3, "", ""),
        ("si_sdr", "SI-SDR", "higher", 1, "dB", ""),
        ("mel_distance", "Mel distance", "lower", 2, "", ""),
    ]
    data = {"name": "corpus", "split": "test", "kind": "speech", "files": 12, "seconds": 60.0, "speakers": 4}
    summary = {
        "format": "vqaudio-evaluation",
        "version": 1,
        "created": "2026-11-26T01:00:00Z",
        "data": {**data, "list_sha256": "ab" * 32},
        "rules": {"version": 1, "sample_rate": 16_000},
        "machine": "a machine",
        "versions": {"vqaudio": "0.1.0", "pesq": "0.0.4"},
        "seconds": 1.0,
        "measures": [dict(zip(facts, measure, strict=True)) for measure in measures],
        "not_measured": {},
        "systems": entries,
        "clips": [],
        "problems": [],
    }
    folder.mkdir(parents=True)
    write_results(folder, summary, rows)
