"""How well a tokenizer keeps speech: python benchmarks/quality.py --model speech-16k --data MANIFEST --out results.json

Every file goes whole through the tokenizer, as `encode` and `decode` have it; 1, 2, 4, … codebooks are prefixes of the
same codes. The estimate passes through 16-bit PCM, and both sides are scored mixed down and at 16 kHz:

    PESQ-WB (ITU-T P.862.2)  STOI  SI-SDR in dB  mel distance      means over files, 95 % bootstrap intervals

A file that a metric cannot score (PESQ refuses silence) is left out of that metric's mean and listed with the reason;
it never counts as a zero. Besides: use and entropy of each codebook, the level that silence comes back with, and the
error at the ends of clips cut in mid-speech against the error inside them. Needs the `[eval]` extra.
"""

import argparse
import multiprocessing
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import machine, markdown_table, usable_cores, versions, write_results
from scoring import METRICS, RATE, Scored, loaded, numbers_of_codebooks, score_file, silence_peak_dbfs
from tqdm import tqdm

from vqaudio import AudioTokenizer
from vqaudio.data.manifest import Item, Manifest, read_manifest
from vqaudio.io import AUDIO_EXTENSIONS
from vqaudio.quantize.usage import CodeUsage

LABELS = {"pesq": "PESQ-WB", "stoi": "STOI", "si_sdr": "SI-SDR, dB", "mel_distance": "mel distance"}
DECIMALS = {"pesq": 2, "stoi": 3, "si_sdr": 1, "mel_distance": 2}
RESAMPLES = 2000  # of the bootstrap


def mean_with_interval(values: list[float], *, seed: int = 0) -> dict[str, float]:
    """The mean and the 95 % percentile bootstrap over files."""
    array = np.array(values)
    picks = np.random.default_rng(seed).integers(0, len(array), size=(RESAMPLES, len(array)))
    low, high = np.percentile(array[picks].mean(axis=1), [2.5, 97.5])
    return {"mean": round(array.mean(), 4), "low": round(low, 4), "high": round(high, 4), "files": len(array)}


def summarise(rows: list[dict[str, Any]], tokenizer: AudioTokenizer, usage: CodeUsage) -> list[dict[str, Any]]:
    """One entry per number of codebooks: rates, means, and the mean change from the number before, file by file."""
    entries = []
    previous = ""
    for number in numbers_of_codebooks(tokenizer.num_codebooks):
        key = str(number)
        entry: dict[str, Any] = {
            "codebooks": number,
            "kbps": round(tokenizer.bitrates()[number] / 1000, 4),
            "kbps_by_entropy": round(float(tokenizer.frame_rate) * sum(usage.entropy_bits[:number]) / 1000, 4),
            "change": {},
        }
        for metric in METRICS:
            values = [row["scores"][key][metric] for row in rows if metric in row["scores"][key]]
            if values:
                entry[metric] = mean_with_interval(values)
            changes = [
                row["scores"][key][metric] - row["scores"][previous][metric]
                for row in rows
                if previous and metric in row["scores"][key] and metric in row["scores"][previous]
            ]
            if changes:
                entry["change"][metric] = mean_with_interval(changes)
        entries.append(entry)
        previous = key
    return entries


def codebook_rows(usage: CodeUsage) -> list[dict[str, Any]]:
    facts = zip(usage.counts, usage.used, usage.perplexity, usage.entropy_bits, strict=True)
    return [
        {
            "codebook": number,
            "size": len(counts),
            "used": used,
            "perplexity": round(perplexity, 1),
            "perplexity_of_size": round(perplexity / len(counts), 4),
            "entropy_bits": round(bits, 4),
        }
        for number, (counts, used, perplexity, bits) in enumerate(facts, start=1)
    ]


def select(data: Path, split: str | None, kind: str | None) -> Manifest:
    """The recordings asked for; in a folder without a manifest, its audio files."""
    named = [data / name for name in ("manifest.jsonl", "manifest.tsv") if (data / name).is_file()]
    if data.is_dir() and not named:
        paths = sorted(path for path in data.rglob("*") if path.suffix.lower() in AUDIO_EXTENSIONS)
        manifest = Manifest(data, tuple(Item(path=path.relative_to(data).as_posix()) for path in paths))
    else:
        manifest = read_manifest(named[0] if named else data)
    items = tuple(
        item
        for item in manifest.items
        if (split is None or item.split == split)
        and (kind is None or item.kind == kind or item.kind.startswith(f"{kind}-"))
    )
    if not items:
        raise ValueError(f"{data}: no recording of split {split!r} and kind {kind!r}")
    return Manifest(manifest.root, items)


def score_all(model: str, manifest: Manifest, *, workers: int) -> Iterator[Scored]:
    """In the order of the manifest. The largest files start first, so that no worker is left with one at the end."""
    paths = [manifest.locate(item) for item in manifest.items]
    order = sorted(range(len(paths)), key=lambda i: -paths[i].stat().st_size if paths[i].is_file() else 0)
    context = multiprocessing.get_context("spawn")  # a fork would inherit torch's threads, but not run them
    with ProcessPoolExecutor(workers, mp_context=context, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        futures = {i: pool.submit(score_file, model, paths[i], manifest.items[i]) for i in order}
        for i in range(len(paths)):
            yield futures[i].result()


def report(results: dict[str, Any]) -> Iterator[str]:
    """Markdown."""

    def cell(entry: dict[str, Any], metric: str) -> str:
        if metric not in entry:
            return "–"
        mean, low, high = (f"{entry[metric][name]:.{DECIMALS[metric]}f}" for name in ("mean", "low", "high"))
        return f"{mean} [{low}, {high}]"

    yield markdown_table(
        ["codebooks", "kbps", "kbps by entropy", *LABELS.values()],
        (
            [
                entry["codebooks"],
                f"{entry['kbps']:.2f}",
                f"{entry['kbps_by_entropy']:.2f}",
                *(cell(entry, m) for m in METRICS),
            ]
            for entry in results["rates"]
        ),
    )
    yield ""
    yield markdown_table(
        ["codebook", "codes used", "perplexity", "of its size", "entropy, bits"],
        (
            [
                row["codebook"],
                f"{row['used']} / {row['size']}",
                f"{row['perplexity']:.0f}",
                f"{row['perplexity_of_size']:.2f}",
                f"{row['entropy_bits']:.2f}",
            ]
            for row in results["codebooks"]
        ),
    )
    yield f"\nsilence comes back with a peak of {results['silence_peak_dbfs']} dBFS"
    for name, meaning in (
        ("edge_ratio", "error power in the first and last 50 ms of clips cut in mid-speech over that inside them"),
        ("cut_ratio", "error power there over that of the same samples in the uncut file"),
    ):
        if name in results["cut"]:
            entry = results["cut"][name]
            yield f"{meaning}: {entry['mean']:.2f} [{entry['low']:.2f}, {entry['high']:.2f}], {entry['files']} clips"
    for row in results["files"]:
        if "failed" in row:
            yield f"failed: {row['path']}: {row['failed']}"
        for unscored in row.get("unscored", ()):
            numbers = ", ".join(map(str, unscored["codebooks"]))
            yield f"not scored: {row['path']}: {unscored['metric']} ({numbers} codebooks): {unscored['reason']}"


def collect(scored: Iterable[Scored], tokenizer: AudioTokenizer) -> dict[str, Any]:
    usage = CodeUsage(tokenizer.codebook_sizes)
    rows = []
    for each in scored:
        rows.append(each.row)
        if "failed" not in each.row:
            usage.add(torch.from_numpy(each.codes).long())
    good = [row for row in rows if "failed" not in row]
    cuts = [row["cut"] for row in good if row["cut"] is not None]
    return {
        "seconds": round(sum(row["seconds"] for row in good), 1),
        "rates": summarise(good, tokenizer, usage),
        "codebooks": codebook_rows(usage),
        "silence_peak_dbfs": silence_peak_dbfs(tokenizer),
        "cut": {name: mean_with_interval([cut[name] for cut in cuts]) for name in ("edge_ratio", "cut_ratio") if cuts},
        "files": rows,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="Score a tokenizer on recordings of speech.")
    parser.add_argument("--model", default="speech-16k", help="a model that ships with vqaudio, or a model folder")
    parser.add_argument("--data", type=Path, required=True, help="a manifest, or a folder of one or of audio files")
    parser.add_argument("--split", help="of the manifest, e.g. test")
    parser.add_argument("--kind", help="of the manifest; speech takes speech-read too")
    parser.add_argument("--limit", type=int, help="no more than so many files, evenly picked")
    parser.add_argument("--workers", type=int, default=usable_cores())
    parser.add_argument("--out", type=Path, required=True, help="a JSON file")
    arguments = parser.parse_args()

    tokenizer = loaded(arguments.model)
    manifest = select(arguments.data, arguments.split, arguments.kind)
    if arguments.limit is not None and arguments.limit < len(manifest.items):
        step = len(manifest.items) / arguments.limit
        manifest = Manifest(manifest.root, tuple(manifest.items[int(i * step)] for i in range(arguments.limit)))
    scored = score_all(arguments.model, manifest, workers=arguments.workers)
    results = {
        "model": tokenizer.info.name,
        "token_fingerprint": tokenizer.info.token_fingerprint,
        "model_fingerprint": tokenizer.info.model_fingerprint,
        "settings": {
            "data": arguments.data.name,
            "split": arguments.split,
            "kind": arguments.kind,
            "files": len(manifest.items),
            "sample_rate": RATE,
            "bootstrap_resamples": RESAMPLES,
        },
        "machine": machine(),
        "versions": versions("numpy", "pesq", "pystoi"),
        **collect(tqdm(scored, total=len(manifest.items), unit="file", disable=None), tokenizer),
    }
    write_results(arguments.out, results)
    print(f"{results['model']} on {results['settings']['files']} files, {results['seconds'] / 60:.1f} minutes\n")
    print("\n".join(report(results)))
    return int(any("failed" in row for row in results["files"]))


if __name__ == "__main__":
    sys.exit(main())
