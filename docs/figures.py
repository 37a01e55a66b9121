"""What `docs/tables.py` puts into the pages: each function makes the Markdown of one block from result files.

A *source* of scores is the folder of an evaluation (`vqaudio evaluate --out`), or that of a shipped model, whose
config.json keeps its own. A system is meant by its name in the evaluation, or by that of a shipped model, which is then
found by its fingerprint.
"""

import importlib.util
import json
import sys
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))  # whose scripts make their own tables

import blocks as blocks_script
import flips as flips_script
import layouts as layouts_script
import speed_report
import training as training_script

from vqaudio import AudioTokenizer
from vqaudio.data.sources.archives import LIBRISPEECH, LIBRITTS
from vqaudio.evaluation.compare import compare, comparison_rows, contender
from vqaudio.evaluation.results import Summary, is_evaluation, read_summary
from vqaudio.evaluation.tables import cell, codebooks_table, markdown_table, points_table
from vqaudio.lm.evaluate import interval
from vqaudio.training.curve import curve_table, read_curve, validations

PRETRAINED = "vqaudio/pretrained"
HEADLINE = ("pesq_wb", "stoi", "visqol_audio", "si_sdr", "mel_distance")  # of the short tables, in this order


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


@cache
def tokenizer_of(model: str) -> AudioTokenizer:
    """A model that ships, which does not change while pages are made."""
    return AudioTokenizer.from_pretrained(model)


# ---- benchmarks


def rates(root: Path, file: str, only: str = "") -> str:
    """Times real time and memory; with `measured`, without the rows that say why they are empty."""
    return speed_report.in_memory_table(read(root / file), only_measured=only == "measured")


def files(root: Path, file: str) -> str:
    return speed_report.files_table(read(root / file))


def live(root: Path, file: str) -> str:
    return speed_report.streaming_table(read(root / file))


def cold(root: Path, file: str) -> str:
    return speed_report.cold_start_line(read(root / file))


def blocks(root: Path, file: str) -> str:
    results = read(root / file)
    return blocks_script.report(results["rows"], tokenizer_of(results["model"]))


def flips(root: Path, file: str) -> str:
    return flips_script.report(read(root / file)["ways"])


def layouts(root: Path, file: str) -> str:
    return layouts_script.report(read(root / file)["layouts"])


def training(root: Path, file: str) -> str:
    return training_script.report(read(root / file))


# ---- training runs


def curve(root: Path, file: str) -> str:
    """The validation curve in a `curve.csv`."""
    return "\n".join(curve_table(read_curve(root / file)))


def course(root: Path, log: str, *steps: str) -> str:
    """Some steps of a run's log: losses, and of the first and the last codebook perplexity and residual energy."""
    rows = {row["step"]: row for row in validations(root / log)}
    last = max(int(name.removeprefix("perplexity_")) for row in rows.values() for name in row if "perplexity_" in name)
    columns = ["step", "mel", "SI-SDR, dB"]
    columns += [f"{what} {number}" for what in ("perplexity", "residual energy") for number in (1, last + 1)]
    table = []
    for row in (rows[int(step)] for step in steps):
        cells = [f"{row['step']}", f"{row['mel']:.3f}", f"{row['si_sdr']:.2f}"]
        cells += [f"{row[f'perplexity_{index}']:.0f}" for index in (0, last)]
        table.append([*cells, *(f"{row[f'residual_energy_{index}']:.2f}" for index in (0, last))])
    return markdown_table(columns, table)


def archives(root: Path) -> str:
    """Sizes of the parts that `vqaudio prepare --download` knows of the two corpora that come in parts."""
    sizes = [{each.part: each.num_bytes / 1e9 for each in corpus} for corpus in (LIBRISPEECH, LIBRITTS)]
    splits = {"train": "train", "dev": "valid", "test": "test"}
    rows = [
        [part, *(f"{corpus[part]:.1f}" for corpus in sizes), splits[part.partition("-")[0]]]
        for part in sorted(sizes[0], key=lambda part: (list(splits).index(part.partition("-")[0]), part))
    ]
    return markdown_table(["part", "`librispeech`, GB", "`libritts`, GB", "split"], rows)


def models(root: Path) -> str:
    """The models that ship, by what their config.json says."""
    rows = []
    for path in sorted((root / PRETRAINED).glob("*-v*/config.json")):
        document = read(path)
        tokenizer = tokenizer_of(path.parent.name)
        sessions = tokenizer.session(block_frames=1), tokenizer.decoding_session(block_frames=1)
        delay = sum(session.latency_seconds for session in sessions) - 1 / float(tokenizer.frame_rate)
        kbps = [rate / 1000 for rate in tokenizer.bitrates().values()]
        rows.append(
            [
                f"`{path.parent.name}`",
                f"{tokenizer.sample_rate:,}",
                f"{float(tokenizer.frame_rate):g}",
                f"{tokenizer.num_codebooks} × {tokenizer.codebook_sizes[0]}",
                " to ".join(dict.fromkeys(f"{rate:g}" for rate in (kbps[0], kbps[-1]))),
                f"{1000 * delay:.0f}",
                f"{sum(p.numel() for p in tokenizer.codec.parameters()) / 1e6:.1f}",
                f"{training_seconds(document['about']) / 60:.0f}",
                document["about"]["hardware"],
            ]
        )
    columns = ["model", "Hz", "frames per second", "codebooks", "kbps", "delay, ms", "parameters, M"]
    return markdown_table([*columns, "training, minutes", "on"], rows)


def training_seconds(about: Mapping[str, Any] | None) -> float:
    """Of a model and of all that it was begun from."""
    return about["training_seconds"] + training_seconds(about.get("parent")) if about else 0.0


# ---- scores


def scores_of(source: Path) -> Summary:
    """The summary of an evaluation, or what a model's config.json keeps of one, with that model as its only system."""
    if not (source / "config.json").is_file():
        return read_summary(source)
    found = read(source / "config.json")["about"].get("scores", {})
    if "system" not in found:
        command = f"python recipes/ship.py --rescore {source.name} --evaluation DIR"
        raise ValueError(f"{source.name} keeps no scores of vqaudio evaluate in its config.json; {command}")
    return {**found, "systems": [found["system"]]}


def system_of(summary: Summary, root: Path, name: str | None) -> dict[str, Any]:
    """A system by its name or as the shipped model of that name; without a name the only one."""
    entries: list[dict[str, Any]] = summary["systems"]
    if name is None and len(entries) == 1:
        return entries[0]
    config = root / PRETRAINED / str(name) / "config.json"
    fingerprint = read(config)["model_fingerprint"] if config.is_file() else None
    for entry in entries:
        if fingerprint is not None and entry["about"].get("model_fingerprint") == fingerprint:
            return entry
    for entry in entries:
        if entry["name"] == name and fingerprint is None:
            return entry
    raise ValueError(f"there is no {name} among {', '.join(entry['name'] for entry in entries)}")


def headline(summary: Summary) -> list[Mapping[str, Any]]:
    measures = {measure["name"]: measure for measure in summary["measures"]}
    return [measures[name] for name in HEADLINE if name in measures]


def label(measure: Mapping[str, Any]) -> str:
    return measure["label"] + (f", {measure['unit']}" if measure["unit"] else "")


def recordings(root: Path, source: str) -> str:
    """Of what, and by which rules, the scores are."""
    summary = scores_of(root / source)
    data, versions = summary["data"], summary["versions"]
    who = f" of {data['speakers']} speakers" if data["speakers"] else ""
    split = f"Split `{data['split']}`: " if data["split"] else ""
    tools = ", ".join(f"{name} {versions[name]}" for name in ("vqaudio", "pesq", "pystoi") if name in versions)
    return (
        f"{split}{data['files']} recordings{who}, {data['seconds'] / 60:.1f} minutes, scored at "
        f"{summary['rules']['sample_rate']:,} Hz. Means with 95 % bootstrap intervals over files, by `vqaudio "
        f"evaluate`, rules of version {summary['rules']['version']} ({tools})."
    )


def scores(root: Path, source: str, system: str | None = None) -> str:
    """A model at each number of codebooks."""
    summary = scores_of(root / source)
    measures = headline(summary)
    rows = [
        [
            point["codebooks"] or point["label"],
            *("–" if point[key] is None else f"{point[key]:.3g}" for key in ("kbps", "kbps_by_entropy")),
            *(cell(point, measure) for measure in measures),
        ]
        for point in system_of(summary, root, system)["points"]
    ]
    return markdown_table(["codebooks", "kbps", "kbps by entropy", *map(label, measures)], rows)


def systems(root: Path, source: str, *words: str) -> str:
    """Every point of every system; words are the names of values, `intervals`, or as `only=NAME` those of systems."""
    summary = scores_of(root / source)
    only = [system_of(summary, root, word.removeprefix("only="))["name"] for word in words if "=" in word]
    values = [word for word in words if "=" not in word and word != "intervals"]
    known = {measure["name"] for measure in summary["measures"]}
    if set(values) - known:
        raise ValueError(f"{', '.join(sorted(set(values) - known))} not among the measures of {source}")
    table = points_table(summary, systems=only or None, values=values or HEADLINE, intervals="intervals" in words)
    absent = [entry for entry in summary["systems"] if entry["not_measured"] and (not only or entry["name"] in only)]
    return "\n".join([table, *([""] if absent else []), *(f"- {e['label']}: {e['not_measured']}" for e in absent)])


def codebooks(root: Path, source: str, system: str | None = None) -> str:
    return codebooks_table(system_of(scores_of(root / source), root, system))


def edges(root: Path, source: str, system: str | None = None) -> str:
    """The level of coded silence, and the error at the ends of clips that were cut in mid-speech."""
    entry = system_of(scores_of(root / source), root, system)
    lines = [f"- silence comes back with a peak of {entry['silence_peak_dbfs']} dBFS"]
    for name, meaning in (
        ("edge_ratio", "error power in the first and last 50 ms of clips cut in mid-speech over that inside them"),
        ("cut_ratio", "error power there over that of the same samples in the uncut file"),
    ):
        found = (entry["edges"] or {}).get(name)
        if found is not None:
            interval = f" [{found['low']:.2f}, {found['high']:.2f}]" if "low" in found else ""
            lines.append(f"- {meaning}: {found['mean']:.2f}{interval}, {found['files']} clips")
    return "\n".join(lines)


def budgets(root: Path, source: str) -> str:
    """What training minutes buy: systems of an evaluation, all codebooks, with what benchmarks/minutes.py found."""
    summary = scores_of(root / source)
    runs = read(root / source / "runs.json")
    measures = headline(summary)
    rows = []
    for entry in sorted(summary["systems"], key=lambda entry: runs[entry["name"]]["steps"]):
        run = runs[entry["name"]]
        cells = [cell(entry["points"][-1], measure) for measure in measures]
        rows.append([entry["name"], run["hardware"], f"{run['minutes']:.0f}", f"{run['steps']:,}", *cells])
    return markdown_table(["model", "on", "minutes", "steps", *map(label, measures)], rows)


def comparison(root: Path, source: str, one: str, other: str, *others: str) -> str:
    """Paired differences, `other` minus `one`, of two systems of an evaluation, or of two evaluations if a fourth word
    names the folder of the other."""
    folders = [root / source, root / (others[0] if others else source)]
    for folder in folders:
        if not is_evaluation(folder):
            read_summary(folder)  # which says what is missing
    entries = [system_of(read_summary(folder), root, name) for folder, name in zip(folders, (one, other), strict=True)]
    a, b = (contender(f"{folder}:{entry['name']}") for folder, entry in zip(folders, entries, strict=True))
    columns, rows = comparison_rows(compare(a, b))
    return markdown_table(columns, rows)


def study(root: Path) -> str:
    """The rows of the study of equal budgets, those that were run and those that were not."""
    folder = root / "recipes/study"
    spec = importlib.util.spec_from_file_location("study_script", folder / "run.py")
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = script  # where dataclasses look for their module
    spec.loader.exec_module(script)
    lines: list[str] = script.table(script.read_rows(), read(folder / "results.json")["rows"])
    return "\n".join(lines).rstrip()


# ---- language models


def lm_curve(root: Path, file: str) -> str:
    """The validation curve of a language model: bits per second of audio, and bits of a code of each codebook."""
    rows = read_curve(root / file)
    names = list(rows[0])
    return markdown_table(
        [name.replace("_", " ") for name in names], [[f"{row[name]:g}" for name in names] for row in rows]
    )


def lm_bits(root: Path, file: str) -> str:
    """A language model beside an n-gram, codebook by codebook."""
    bits = read(root / file)["bits"]
    rows = [
        [f"{k + 1}", f"{bits['model']['codebooks'][k]:.1f}", f"{bits['ngram']['codebooks'][k]:.1f}", interval(fewer)]
        for k, fewer in enumerate(bits["fewer_percent_of_codebooks"])
    ]
    totals = [f"{bits[name]['total']:.1f}" for name in ("model", "ngram")]
    rows.append(["all", *totals, interval(bits["fewer_percent"])])
    return markdown_table(["codebook", "bits per second, model", "n-gram", "fewer, %"], rows)


def lm_data(root: Path, file: str) -> str:
    """Of what the figures of a language model are."""
    result = read(root / file)
    data, model = result["data"], result["model"]
    step, minutes = model["about"]["step"], data["seconds"] / 60
    return (
        f"Split `{data['split']}`: {data['recordings']} recordings of {data['speakers']} speakers, "
        f"{minutes:.1f} minutes; {model['parameters'] / 1e6:.1f} M parameters, step {step:,}. "
        f"Stored without a model these codes take {result['bits']['uncoded']:.0f} bits per second."
    )


def lm_samples(root: Path, file: str) -> str:
    """How samples of a language model measure beside reconstructions: means, and deviations from sample to sample."""
    groups = read(root / file)["samples"]["groups"]
    named = {
        "dnsmos_ovrl": "DNSMOS OVRL",
        "dnsmos_sig": "DNSMOS SIG",
        "dnsmos_bak": "DNSMOS BAK",
        "dnsmos_p808": "DNSMOS P.808",
        "voiced_share": "voiced share",
        "f0_median_hz": "median F0, Hz",
        "f0_deviation_semitones": "spread of F0, semitones",
        "level_db": "level, dBFS",
    }
    rows = []
    for group, found in groups.items():
        values = [found["values"].get(name) for name in named]
        cells = ["–" if value is None else f"{value['mean']:.2f} ± {value['deviation']:.2f}" for value in values]
        rows.append([group, str(found["files"]), *cells])
    return markdown_table(["", "files", *named.values()], rows)


def lm_speed(root: Path, file: str) -> str:
    """By the clock, and by the time that the processor worked at it."""
    rows = [
        [
            name,
            f"{speed['tokens_per_second']:.0f}",
            f"{speed['times_real_time']:.2f}",
            f"{speed['tokens_per_processor_second']:.0f}",
            f"{speed['times_real_time_of_processor']:.2f}",
        ]
        for name, speed in read(root / file)["samples"]["speed"].items()
    ]
    columns = ["samples at once", "tokens per second", "times real time", "tokens per second of CPU time"]
    return markdown_table([*columns, "times real time, by CPU time"], rows)


TABLES: dict[str, Callable[..., str]] = {
    function.__name__: function
    for function in (
        *(rates, files, live, cold, blocks, flips, layouts, training),
        *(curve, course, archives, models),
        *(recordings, scores, systems, codebooks, edges, budgets, comparison, study),
        *(lm_curve, lm_bits, lm_data, lm_samples, lm_speed),
    )
}
