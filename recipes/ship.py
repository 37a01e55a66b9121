"""From a finished run and its scores to a model folder that ships: config with scores, card, curve, log, golden codes.

    python recipes/ship.py RUN_FOLDER recipes/NAME vqaudio/pretrained/NAME-v1

`recipes/NAME` holds credits.md (written by hand: licences and attributions of the training audio), notes.md if there is
something to say beside the scores, and results.json (from benchmarks/quality.py on RUN_FOLDER/model). The weights, and
so the fingerprints, stay as they are.
"""

import json
import shutil
import sys
from math import prod
from pathlib import Path
from typing import Any

from curve import curve_table, validations, write_curve

from vqaudio.checkpoint import load_codec, save_codec
from vqaudio.doctor import write_golden

PRETRAINED = Path(__file__).resolve().parent.parent / "vqaudio" / "pretrained"

METRICS = {
    "pesq": ("PESQ-WB", 2),
    "stoi": ("STOI", 3),
    "si_sdr": ("SI-SDR, dB", 1),
    "mel_distance": ("mel distance", 2),
}


def score_table(results: dict[str, Any]) -> list[str]:
    lines = ["| codebooks | kbps | " + " | ".join(label for label, _ in METRICS.values()) + " |"]
    lines.append("|" + "--:|" * (2 + len(METRICS)))
    for rate in results["rates"]:
        cells = [str(rate["codebooks"]), f"{rate['kbps']:g}"]
        for name, (_, places) in METRICS.items():
            value = rate[name]
            cells.append(f"{value['mean']:.{places}f} [{value['low']:.{places}f}, {value['high']:.{places}f}]")
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def codebook_table(results: dict[str, Any]) -> list[str]:
    rows = results["codebooks"]
    lines = ["| codebook | entries used | perplexity | of V | entropy, bits |", "|--:|--:|--:|--:|--:|"]
    for row in rows:
        size = row["size"]
        share, bits = row["perplexity"] / size, row["entropy_bits"]
        lines.append(
            f"| {row['codebook']} | {row['used']} of {size} | {row['perplexity']:.0f} | {share:.2f} | {bits:.2f} |"
        )
    return lines


def card(
    about: dict[str, Any], results: dict[str, Any], credits: str, curve: list[str], name: str, *, notes: str = ""
) -> str:
    codec, data, settings, rates = about["recipe"]["codec"], about["data"], results["settings"], results["rates"]
    minutes = about["training_seconds"] / 60
    frame_ms = 1000 * prod(codec["encoder"]["strides"]) / codec["sample_rate"]
    ahead = [frame_ms * codec[side]["look_ahead_frames"] for side in ("encoder", "decoder")]
    edge = results["cut"]["edge_ratio"]["mean"]
    parts = [
        f"# {name}",
        f"An audio tokenizer for speech at {codec['sample_rate']} Hz: {rates[-1]['codebooks']} codebooks, "
        f"{rates[0]['kbps']:g} to {rates[-1]['kbps']:g} kbps; any prefix of the codebooks decodes. Trained on a CPU, "
        f"{manner(about['recipe'])}: speech stays intelligible, and sounds rougher than from codecs trained for "
        "days on GPUs. Not meant for music, or for speakers far from the training data.",
        f"A frame lasts {frame_ms:g} ms; the encoder looks {ahead[0]:g} ms ahead of it, the decoder {ahead[1]:g} ms: "
        f"sound pushed into sessions with blocks of one frame comes out after {frame_ms + sum(ahead):g} ms.",
        "## Licences and credits",
        credits.strip(),
        "## Training",
        *descent(about.get("parent")),
        f"{about['steps']:,} steps of the recipe in `config.json` in {minutes:.0f} minutes on {about['hardware']}, "
        f"on {data['seconds'] / 3600:.2f} hours of speech; {about['skipped_batches']} batches skipped; "
        f"torch {about['torch']}. Every line of the run is in `log.jsonl`. On validation audio:",
        "\n".join(curve),
        "## Scores",
        f"`{settings['split']}` split, {settings['files']} files, {results['seconds'] / 60:.1f} minutes; means with "
        "95 % bootstrap intervals over files (`benchmarks/quality.py`; PESQ-WB, STOI: pesq, pystoi; mel distance "
        "as in descript-audio-codec, at 16 kHz):",
        "\n".join(score_table(results)),
        *([notes.strip()] if notes else []),
        "\n".join(codebook_table(results)),
        f"Digital silence comes back with a peak of {results['silence_peak_dbfs']} dBFS. Error power in the first and "
        f"last 50 ms of clips cut in mid-speech: {edge:.2f} times that inside them.",
    ]
    return "\n\n".join(parts) + "\n"


def manner(settings: dict[str, Any]) -> str:
    stages = settings.get("stages") or {}
    if not stages.get("adversarial") and not stages.get("decoder"):
        return "on reconstruction losses alone"
    return "on reconstruction losses first and against small discriminators later"


def descent(parent: dict[str, Any] | None) -> list[str]:
    """A paragraph on what the model was begun from, if anything."""
    if parent is None:
        return []
    names = {load_info(folder)["model_fingerprint"]: folder.name for folder in PRETRAINED.glob("*-v*")}
    name = names.get(parent["model_fingerprint"], parent["name"])
    minutes = parent["training_seconds"] / 60
    return [
        f"Begun from `{name}` ({parent['steps']:,} steps in {minutes:.0f} minutes on {parent['hardware']}), of which "
        f"it took over: {', '.join(parent['parts'])}. The two do not read each other's codes, unless their token "
        "fingerprints are equal. Then:"
    ]


def load_info(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return found


def main() -> None:
    run, recipe, out = (Path(argument) for argument in sys.argv[1:4])
    results = json.loads((recipe / "results.json").read_text(encoding="utf-8"))
    codec, info = load_codec(run / "model")
    if info.model_fingerprint != results["model_fingerprint"]:
        sys.exit(f"{recipe / 'results.json'} holds the scores of another model than {run / 'model'}")
    rates = [{key: value for key, value in rate.items() if key != "change"} for rate in results["rates"]]
    about = {**info.about, "scores": {"settings": results["settings"], "rates": rates}}
    rows = validations(run / "log.jsonl")
    credits = (recipe / "credits.md").read_text(encoding="utf-8")
    notes = (recipe / "notes.md").read_text(encoding="utf-8") if (recipe / "notes.md").is_file() else ""
    text = card(about, results, credits, curve_table(rows), info.name, notes=notes)
    saved = save_codec(codec, out, name=info.name, about=about, card=text, storage="float16")
    if saved.model_fingerprint != info.model_fingerprint:
        sys.exit(f"{run / 'model'} is not stored in float16: its fingerprint would change")
    write_curve(rows, out / "curve.csv")
    shutil.copyfile(run / "log.jsonl", out / "log.jsonl")
    write_golden(out)
    print("\n".join(score_table(results)))


if __name__ == "__main__":
    main()
