"""An evaluation folder with everything in it that a report has to cope with: small, and with real sounds and codes."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vqaudio import AudioTokenizer
from vqaudio.codes import Codes
from vqaudio.dsp import resample
from vqaudio.io import read_audio, write_audio

SAMPLES = Path(__file__).resolve().parent.parent.parent / "samples"
EVIL = "<script>alert('x')</script>.flac"
FOREIGN = "französisch/Élodie – 音声 ₂.flac"
NUM_FILES = 14
CLIP_SECONDS = 2.0

MEASURES = [
    ("pesq_wb", "PESQ-WB", "higher", 2, "", ""),
    ("mel_distance", "Mel distance", "lower", 3, "dB", "Mean over bands & frames."),
    ("si_sdr", "SI-SDR", "higher", 1, "dB", ""),
    ("f0_correlation", "F0 correlation", "higher", 2, "", "Over frames voiced in both."),
    ("dnsmos_ovrl", "DNSMOS overall", "higher", 2, "", ""),
]
# name, kind, label, and for each point: setting, label, codebooks, kbit/s
SYSTEMS: list[tuple[str, str, str, list[tuple[str, str, int | None, float | None]]]] = [
    ("resampled", "bound", "Resampled to 16 kHz", [("", "", None, None)]),
    ("speech-16k", "model", "speech-16k", [(f"@{k}", f"{k} codebooks", k, 0.5 * k) for k in (2, 4, 8)]),
    ("young", "model", "Young <model> & co", [(f"@{k}", f"{k} codebooks", k, 0.4 * k) for k in (1, 3)]),
    ("opus", "codec", "Opus", [(f"@{r}", f"{r} kbit/s", None, r * 1.04) for r in (6, 12, 24)]),
    ("codec2", "codec", "Codec2", []),
]
CODEC2_MISSING = "c2enc is not on the path; apt-get install codec2"
DNSMOS_MISSING = "speechmos is not installed: pip install 'vqaudio[eval]'"
NO_VOICE = "no voiced frame in common"


def write_evaluation(folder: Path, *, num_files: int = NUM_FILES) -> Path:
    """The folder, as `vqaudio.evaluation.results` describes it; the same bytes each time."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = _lines(num_files)
    (folder / "files.jsonl").write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), "utf-8")
    codes = _write_clips(folder / "clips")
    facts = _facts(lines, codes)
    (folder / "evaluation.json").write_text(json.dumps(facts, ensure_ascii=False), "utf-8")
    return folder


def path_of(index: int) -> str:
    return {3: EVIL, 5: FOREIGN}.get(index, f"speech/{100 + index}.flac")


def _lines(num_files: int) -> list[dict[str, Any]]:
    generator = np.random.default_rng(0)
    difficulty = generator.normal(size=num_files)
    lines = []
    for name, _, _, points in SYSTEMS:
        for setting, _, _, kbps in points:
            quality = 4.4 if kbps is None else 1.1 + 0.75 * math.log2(1 + kbps * (1.0 if name != "opus" else 0.3))
            for index in range(num_files):
                pesq = min(4.6, quality + 0.2 * float(difficulty[index]) + 0.05 * float(generator.normal()))
                values = {
                    "pesq_wb": round(pesq, 4),
                    "mel_distance": round(0.9 / pesq, 4),
                    "si_sdr": round(6 * pesq - 9 + (70 if kbps is None else 0), 4),
                }
                if kbps is not None:
                    values["f0_correlation"] = round(1 - 0.1 / pesq, 4)
                unscored = {} if kbps is not None else {"f0_correlation": NO_VOICE}
                if index == 2:
                    values.pop("f0_correlation", None)
                    unscored["f0_correlation"] = NO_VOICE
                lines.append(
                    {
                        "path": path_of(index),
                        "sha256": f"{index:064x}",
                        "speaker": f"speaker {index % 4}",
                        "kind": "speech",
                        "seconds": 3.0 + index,
                        "system": name,
                        "point": name + setting,
                        "kbps": kbps,
                        "values": values,
                        "unscored": unscored,
                        "problems": ["clipped: 12 samples"] if index == 3 and name == "opus" else [],
                    }
                )
    return lines


def _facts(lines: list[dict[str, Any]], codes: dict[str, Codes]) -> dict[str, Any]:
    seconds = sum({line["path"]: line["seconds"] for line in lines}.values())
    return {
        "format": "vqaudio-evaluation",
        "version": 1,
        "created": "2026-11-26T01:00:00Z",
        "data": {
            "name": "Café corpus",
            "split": "test",
            "kind": "speech",
            "files": len({line["path"] for line in lines}),
            "seconds": seconds,
            "speakers": 4,
            "list_sha256": "ab" * 32,
        },
        "rules": {"version": 1, "sample_rate": 16_000, "bootstrap": "95 % intervals of 2000 resamples, seed 0"},
        "machine": "2 cores of something",
        "versions": {"vqaudio": "0.1.0", "torch": "2.11.0"},
        "seconds": 1234.5,
        "measures": [
            dict(zip(("name", "label", "better", "decimals", "unit", "note"), measure, strict=True))
            for measure in MEASURES
        ],
        "not_measured": {"dnsmos_ovrl": DNSMOS_MISSING},
        "systems": [
            {
                "name": name,
                "kind": kind,
                "label": label,
                "about": {"model_fingerprint": "12" * 32} if kind == "model" else {},
                "points": [
                    _point(name + setting, setting_label, books, kbps, lines)
                    for setting, setting_label, books, kbps in points
                ],
                "codebooks": _use(codes[name]) if name in codes else None,
                "not_measured": None if points else CODEC2_MISSING,
            }
            for name, kind, label, points in SYSTEMS
        ],
        "clips": [
            {"name": f"clip-{number}", "path": path, "speaker": "speaker 1", "seconds": CLIP_SECONDS, "kind": "speech"}
            for number, path in ((1, path_of(1)), (2, FOREIGN))
        ],
        "problems": [{"path": EVIL, "what": "cannot be read (<b>No such file</b>)"}],
    }


def _point(name: str, label: str, books: int | None, kbps: float | None, lines: list[dict[str, Any]]) -> dict[str, Any]:
    own = [line for line in lines if line["point"] == name]
    values: dict[str, Any] = {}
    unscored: dict[str, dict[str, int]] = {}
    for line in own:
        for measure, why in line["unscored"].items():
            unscored.setdefault(measure, {}).setdefault(why, 0)
            unscored[measure][why] += 1
    for measure, *_ in MEASURES:
        found = [line["values"][measure] for line in own if measure in line["values"]]
        if found:
            mean, error = float(np.mean(found)), 1.96 * float(np.std(found)) / math.sqrt(len(found))
            values[measure] = {
                "mean": mean,
                "low": mean - error,
                "high": mean + error,
                "speakers_low": mean - 1.5 * error,
                "speakers_high": mean + 1.6 * error,
                "files": len(found),
            }
    return {
        "name": name,
        "label": label,
        "codebooks": books,
        "kbps": kbps,
        "kbps_by_entropy": None if books is None or kbps is None else 0.92 * kbps,
        "tokens_per_second": None if books is None else 50.0 * books,
        "encode_times_real_time": None if kbps is None else 93.1,
        "decode_times_real_time": None if kbps is None else 8.04,
        "values": values,
        "unscored": unscored,
    }


def _use(codes: Codes) -> list[dict[str, Any]]:
    generator = np.random.default_rng(1)
    books = []
    for level, size in enumerate(codes.codebook_sizes):
        counts = np.bincount(codes.values[0, level].numpy(), minlength=size)
        counts = counts + generator.poisson(40 * np.exp(generator.normal(scale=0.7, size=size))) * (size > 100)
        shares = counts[counts > 0] / counts.sum()
        bits = float(-(shares * np.log2(shares)).sum())
        books.append(
            {
                "codebook": level + 1,
                "size": size,
                "used": int((counts > 0).sum()),
                "perplexity": 2.0**bits,
                "entropy_bits": bits,
                "counts": counts.tolist(),
            }
        )
    return books


def _write_clips(folder: Path) -> dict[str, Codes]:
    """What one model and a noisy line make of two clips, of the second at one point only; codes of the first."""
    tokenizer = AudioTokenizer.from_pretrained("speech-16k")
    kept: dict[str, Codes] = {}
    for number, name in ((1, "english-2.flac"), (2, "french-1.mp3")):
        audio, sample_rate = read_audio(SAMPLES / name, stop=int(CLIP_SECONDS * 16_000))
        audio = resample(audio.mean(dim=0, keepdim=True), sample_rate, 16_000)
        clip = folder / f"clip-{number}"
        clip.mkdir(parents=True)
        write_audio(clip / "reference.flac", audio, 16_000)
        write_audio(clip / "resampled.flac", audio, 16_000)
        codes = tokenizer.encode(audio, sample_rate=16_000)
        codes.save(clip / "speech-16k.vqt")
        kept.setdefault("speech-16k", codes)
        kept.setdefault("young", codes.prefix(3))
        for books in (2, 4, 8)[2 * (number - 1) :]:
            decoded = tokenizer.decode(codes.prefix(books))
            write_audio(clip / f"speech-16k@{books}.flac", decoded[..., : audio.shape[1]], 16_000)
        for rate in (6, 12, 24) if number == 1 else ():
            noise = 0.05 / rate * torch.randn(audio.shape, generator=torch.Generator().manual_seed(rate))
            write_audio(clip / f"opus@{rate}.flac", audio + noise, 16_000)
    return kept
