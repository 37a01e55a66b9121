"""From a finished run and its scores to a model folder that ships: config with scores, card, curve, log, golden codes.

    python recipes/ship.py RUN_FOLDER recipes/NAME vqaudio/pretrained/NAME-v1 --evaluation DIR
    python recipes/ship.py --rescore vqaudio/pretrained/NAME-v1 --evaluation DIR [--recipe recipes/NAME]

`recipes/NAME` holds credits.md (written by hand: licences and attributions of the training audio), purpose.md if the
model is for something other than speech, and notes.md if there is something to say beside the scores. DIR is an
evaluation (`vqaudio evaluate`) with the model among its systems, which is found by its fingerprint. The weights, and so
the fingerprints, stay as they are.

The second form refreshes the scores in config.json and the tables of the card; no other file is touched. With --recipe
the whole card is written anew.
"""

import argparse
import json
import shutil
import sys
from math import prod
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "docs"))  # whose tables are those of cards too

from curve import validations, write_curve
from tables import filled

from vqaudio.checkpoint import CARD_NAME, CONFIG_NAME, load_codec, save_codec
from vqaudio.doctor import write_golden
from vqaudio.evaluation.results import read_summary
from vqaudio.io import write_aside

ROOT = Path(__file__).resolve().parent.parent
PRETRAINED = ROOT / "vqaudio" / "pretrained"


def scores_of(folder: Path, model_fingerprint: str) -> dict[str, Any]:
    """What config.json keeps of an evaluation: all that its card says, without the counts of each code."""
    summary = read_summary(folder)
    for entry in summary["systems"]:
        if entry["about"].get("model_fingerprint") == model_fingerprint:
            books = [{key: row[key] for key in row if key != "counts"} for row in entry["codebooks"]]
            kept = ("created", "data", "rules", "machine", "versions", "measures", "not_measured")
            return {**{key: summary[key] for key in kept}, "system": {**entry, "codebooks": books}}
    names = ", ".join(entry["name"] for entry in summary["systems"])
    raise ValueError(f"{folder} holds no scores of the model {model_fingerprint[:12]}…; it has {names}")


SPEECH = (
    "For speech, which stays intelligible, and sounds rougher than from codecs trained for days on GPUs. Not meant for "
    "music, or for speakers far from the training data."
)


def codes_of(points: list[dict[str, Any]]) -> str:
    """Codebooks and bitrates, in words."""
    if len(points) == 1:
        return f"one codebook, {points[0]['kbps']:.3g} kbps"
    lowest, highest = points[0]["kbps"], points[-1]["kbps"]
    return f"{points[-1]['codebooks']} codebooks, {lowest:g} to {highest:g} kbps; any prefix of the codebooks decodes"


def card(about: dict[str, Any], *, name: str, credits: str, purpose: str, notes: str) -> str:
    """With empty blocks, which `filled` fills from the files beside the card."""
    codec, data = about["recipe"]["codec"], about["data"]
    minutes = about["training_seconds"] / 60
    frame_ms = 1000 * prod(codec["encoder"]["strides"]) / codec["sample_rate"]
    ahead = [frame_ms * codec[side]["look_ahead_frames"] for side in ("encoder", "decoder")]
    parts = [
        f"# {name}",
        f"An audio tokenizer at {codec['sample_rate']} Hz: {codes_of(about['scores']['system']['points'])}. "
        f"Trained on {where(about['hardware'])}, {manner(about['recipe'])}. {purpose.strip() or SPEECH}",
        f"A frame lasts {frame_ms:g} ms; the encoder looks {ahead[0]:g} ms ahead of it, the decoder {ahead[1]:g} ms: "
        f"sound pushed into sessions with blocks of one frame comes out after {frame_ms + sum(ahead):g} ms.",
        "## Licences and credits",
        credits.strip(),
        "## Training",
        *descent(about.get("parent")),
        f"{about['steps']:,} steps of the recipe in `config.json` in {minutes:.0f} minutes on {about['hardware']}, "
        f"on {data['seconds'] / 3600:.2f} hours of audio; {about['skipped_batches']} batches skipped; "
        f"torch {about['torch']}. Every line of the run is in `log.jsonl`. On validation audio:",
        block("curve ./curve.csv"),
        "## Scores",
        block("recordings ."),
        block("scores ."),
        *([notes.strip()] if notes else []),
        block("codebooks ."),
        block("edges ."),
    ]
    return "\n\n".join(parts) + "\n"


def block(words: str) -> str:
    return f"<!-- table: {words} -->\n<!-- /table -->"


def where(hardware: str) -> str:
    """A CPU's name comes with its threads."""
    return "a CPU" if "thread" in hardware else f"a GPU ({hardware})"


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
    found: dict[str, Any] = json.loads((folder / CONFIG_NAME).read_text(encoding="utf-8"))
    return found


def words_of(recipe: Path) -> dict[str, str]:
    """What people wrote for the card."""
    words = {"credits": (recipe / "credits.md").read_text(encoding="utf-8")}
    for name in ("purpose", "notes"):
        path = recipe / f"{name}.md"
        words[name] = path.read_text(encoding="utf-8") if path.is_file() else ""
    return words


def write_card(folder: Path, text: str) -> None:
    """With its tables filled. ValueError, with nothing written, if one cannot be."""
    problems: list[str] = []
    text = filled(text, folder, problems.append)
    if problems:
        raise ValueError(f"{folder / CARD_NAME}: {'; '.join(problems)}")
    with write_aside(folder / CARD_NAME) as partial:
        partial.write_text(text, encoding="utf-8")


def ship(run: Path, recipe: Path, out: Path, evaluation: Path) -> None:
    codec, info = load_codec(run / "model")
    about = {**info.about, "scores": scores_of(evaluation, info.model_fingerprint)}
    rows = validations(run / "log.jsonl")
    text = card(about, name=info.name, **words_of(recipe))
    saved = save_codec(codec, out, name=info.name, about=about, card=text, storage="float16")
    if saved.model_fingerprint != info.model_fingerprint:
        raise ValueError(f"{run / 'model'} is not stored in float16: its fingerprint would change")
    write_curve(rows, out / "curve.csv")
    shutil.copyfile(run / "log.jsonl", out / "log.jsonl")
    write_golden(out)
    write_card(out, text)


def rescore(folder: Path, evaluation: Path, recipe: Path | None = None) -> None:
    """Scores of a shipped model anew. Card and config.json change together or not at all."""
    before = (folder / CONFIG_NAME).read_bytes()
    document = load_info(folder)
    document["about"]["scores"] = scores_of(evaluation, document["model_fingerprint"])
    if recipe is None:
        text = (folder / CARD_NAME).read_text(encoding="utf-8")
    else:
        text = card(document["about"], name=document["name"], **words_of(recipe))
    replace_config(folder, (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode())
    try:
        write_card(folder, text)  # whose tables are made from the new config.json
    except BaseException:
        replace_config(folder, before)
        raise


def replace_config(folder: Path, content: bytes) -> None:
    with write_aside(folder / CONFIG_NAME) as partial:
        partial.write_bytes(content)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Ship a model, or refresh the scores of one that is shipped.")
    parser.add_argument("places", nargs="*", type=Path, metavar="RUN RECIPE OUT", help="to ship the model of a run")
    parser.add_argument("--rescore", type=Path, metavar="MODEL", help="a model folder whose scores are refreshed")
    parser.add_argument("--recipe", type=Path, help="with --rescore: write the whole card anew")
    parser.add_argument("--evaluation", type=Path, required=True, metavar="DIR", help="what vqaudio evaluate wrote")
    options = parser.parse_args(arguments)
    if len(options.places) != (0 if options.rescore else 3):
        parser.error("RUN RECIPE OUT are wanted, or --rescore MODEL")
    try:
        if options.rescore:
            rescore(options.rescore, options.evaluation, options.recipe)
        else:
            ship(*options.places, options.evaluation)
    except (ValueError, OSError) as error:
        sys.exit(f"ship.py: {error}")


if __name__ == "__main__":
    main()
