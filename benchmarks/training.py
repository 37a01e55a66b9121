"""What does a training step cost, and does it wait for data? python benchmarks/training.py [--recipes NAME …]

Every recipe at its full batch and width, on one thread, each of its stages by itself: the seconds of a step, the time
that it waits for its batch, and how long making a batch takes by itself, which bounds the wait of a long run: batches
are made in a thread beside the steps. Without --packs the audio is the speech of samples/, repeated to a full part
(60 MB) at the recipe's rate, in a temporary folder. Medians over the measured steps.

The table is printed; `python docs/tables.py` puts it into benchmarks/README.md. Small recipes come first; one that
would take longer than what is left of --minutes, by what those before it took, is "not measured".
"""

import argparse
import hashlib
import json
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from common import machine, markdown_table, real_speech, versions, write_results

from vqaudio.data.packed import FORMAT, INDEX_NAME, VERSION, Clip, PackIndex, Part
from vqaudio.training import Recipe, load_recipe
from vqaudio.training.rehearsal import rehearse, stages_of

ROOT = Path(__file__).resolve().parent.parent
PART_BYTES = 60_000_000
CLIP_SECONDS = 10
BIG = 5e7  # weighted samples (`samples_per_step`) from which on one recipe tells how long a larger one takes
GOAL = 0.05  # share of a step spent waiting for data


def synthetic_packs(folder: Path, sample_rate: int) -> Path:
    """A pack folder with one full part to train on and a short one to validate on."""
    folder.mkdir()
    speech = (real_speech(60.0, sample_rate) * 32767).round().short().numpy()
    parts: list[Part] = []
    clips: list[Clip] = []
    for split, length in (("train", PART_BYTES // 2), ("valid", 4 * CLIP_SECONDS * sample_rate)):
        data = b"".join([speech.tobytes()] * (-(-length // len(speech))))[: 2 * length]
        file = f"{split}-00000.bin"
        (folder / file).write_bytes(data)
        size = CLIP_SECONDS * sample_rate
        for number in range(length // size):
            clips.append(
                Clip(
                    part=len(parts),
                    offset=number * size,
                    num_samples=size,
                    start=0,
                    file_samples=size,
                    gain=1.0,
                    item=len(clips),
                    path=f"{split}-{number}",
                    speaker=split,
                    licence="",
                )
            )
        parts.append(Part(file=file, split=split, num_bytes=len(data), sha256=hashlib.sha256(data).hexdigest()))
    index = PackIndex("synthetic", sample_rate, tuple(parts), tuple(clips))
    text = json.dumps({"format": FORMAT, "version": VERSION, **asdict(index)})
    (folder / INDEX_NAME).write_text(text, encoding="utf-8")
    return folder


def samples_per_step(recipe: Recipe) -> float:
    """Audio samples, weighted by the encoder's width: roughly what a step costs."""
    channels = recipe.codec.encoder.channels
    width = channels if isinstance(channels, int) else channels[0]
    return float(recipe.data.batch_size * recipe.crop_samples * width**2)


def measure(recipe: Recipe, packs: Path, *, steps: int, device: str) -> list[dict[str, Any]]:
    rows = []
    for stage in stages_of(recipe):
        alone = replace(recipe, freeze=())  # what a fine-tune keeps frozen is learnt here: no model to begin from
        pace = rehearse(alone, packs, stage=stage, steps=steps, unmeasured=max(1, steps // 3), device=device)
        row = {name: round(value, 5) if isinstance(value, float) else value for name, value in asdict(pace).items()}
        rows.append({**row, "data_share": round(pace.data_share, 5)})
    return rows


def described(name: str, recipe: Recipe) -> dict[str, Any]:
    return {
        "recipe": name,
        "sample_rate": recipe.codec.sample_rate,
        "batch_size": recipe.data.batch_size,
        "crop_seconds": recipe.data.crop_seconds,
        "recipe_steps": recipe.steps,
        "parameters": sum(parameter.numel() for parameter in recipe.codec.build().parameters()),
    }


def report(results: dict[str, Any]) -> str:
    columns = ["recipe", "stage", "Hz", "batch", "parameters, M", "step, s", "audio, s per s"]
    columns += ["making a batch, ms", "waiting for data, ms", "share of the step"]
    table = []
    for entry in results["recipes"]:
        batch = f"{entry['batch_size']} × {entry['crop_seconds']:g} s"
        first = [f"{entry['sample_rate']:,}", batch, f"{entry['parameters'] / 1e6:.2f}"]
        for row in entry.get("stages", []):
            audio = entry["batch_size"] * entry["crop_seconds"]
            seconds = row["step_seconds"] + row["data_wait_seconds"]
            cells = [f"{row['step_seconds']:.3g}", f"{audio / seconds:.3g}", f"{1000 * row['batch_seconds']:.1f}"]
            cells += [f"{1000 * row['data_wait_seconds']:.2f}", f"{100 * row['data_share']:.2f} %"]
            table.append([entry["recipe"], row["stage"], *first, *cells])
        if "not_measured" in entry:
            table.append([entry["recipe"], "–", *first, f"not measured: {entry['not_measured']}", "–", "–", "–", "–"])
    text = markdown_table(columns, table)
    shares = [row["data_share"] for entry in results["recipes"] for row in entry.get("stages", [])]
    if shares:
        verdict = "reached" if max(shares) < GOAL else "not reached"
        note = f" ({results['settings']['note']})" if results["settings"]["note"] else ""
        text += (
            f"\n\n{results['machine']}{note}, one thread; {results['minutes']:.0f} minutes. The longest wait for data "
        )
        text += f"is {100 * max(shares):.2f} % of a step; the goal, under {100 * GOAL:.0f} %, is {verdict}."
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description="What training steps cost, and whether they wait for data.")
    codecs = (path.parent.name for path in ROOT.glob("recipes/*/recipe.toml"))
    names = sorted(name for name in codecs if not name.startswith("lm_"))  # language models have other steps
    parser.add_argument("--recipes", nargs="+", choices=names, default=names, metavar="NAME", help="default: all")
    parser.add_argument("--packs", type=Path, help="at the rate of the recipes chosen; default: made for the purpose")
    parser.add_argument("--steps", type=int, default=6, help="of each stage, of which a third does not count")
    parser.add_argument("--minutes", type=float, default=12.0, help="for all; default: 12")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--note", default="", help="about the machine, such as what else it was doing")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    recipes = {name: load_recipe(ROOT / "recipes" / name) for name in arguments.recipes}
    started = time.monotonic()
    measured: dict[str, dict[str, Any]] = {}
    per_sample = 0.0  # seconds that a whole recipe took for each weighted sample and stage, at most so far
    with tempfile.TemporaryDirectory(prefix="vqaudio-benchmark-") as folder:
        for name, recipe in sorted(recipes.items(), key=lambda item: samples_per_step(item[1])):
            measured[name] = described(name, recipe)
            left = 60 * arguments.minutes - (time.monotonic() - started)
            expected = per_sample * samples_per_step(recipe) * len(stages_of(recipe))
            if expected > max(left, 0.0):  # the first has no forecast and is measured
                measured[name]["not_measured"] = f"would take {max(1, round(expected / 60))} minutes"
                continue
            began = time.monotonic()
            rate = recipe.codec.sample_rate
            packs = arguments.packs or Path(folder) / str(rate)
            if not packs.exists():
                synthetic_packs(packs, rate)
            measured[name]["stages"] = measure(recipe, packs, steps=arguments.steps, device=arguments.device)
            taken = (time.monotonic() - began) / (samples_per_step(recipe) * len(stages_of(recipe)))
            per_sample = max(per_sample, taken) if samples_per_step(recipe) > BIG else per_sample
            print(f"{name}: {(time.monotonic() - started) / 60:.1f} minutes so far", flush=True)
    results = {
        "machine": torch.cuda.get_device_name(arguments.device) if arguments.device.startswith("cuda") else machine(),
        "versions": versions(),
        "settings": {"steps": arguments.steps, "threads": 1, "device": arguments.device, "note": arguments.note},
        "minutes": round((time.monotonic() - started) / 60, 1),
        "recipes": [measured[name] for name in arguments.recipes],
    }
    write_results(arguments.out, results)
    print(report(results))


if __name__ == "__main__":
    main()
