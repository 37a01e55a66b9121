"""What training minutes buy: what the models of an evaluation cost, for the table of `benchmarks/quality/minutes`.

    vqaudio evaluate MODEL MODEL … DATA --out benchmarks/quality/minutes
    python benchmarks/minutes.py MODEL MODEL …

MODEL is a shipped name or a model folder. Writes runs.json into that folder: by the name that the evaluation has for
each, steps and minutes, with those of the models that it was begun from, and the hardware.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common import write_results

from vqaudio.checkpoint import load_codec
from vqaudio.evaluation.model import ModelSystem
from vqaudio.shipped import find_model

RESULTS = Path(__file__).resolve().parent / "quality" / "minutes" / "runs.json"


def cost(about: Mapping[str, Any]) -> dict[str, Any]:
    """Of a model's training and of all that came before it."""
    own = {"steps": about["steps"], "minutes": about["training_seconds"] / 60, "hardware": about["hardware"]}
    if parent := about.get("parent"):
        before = cost(parent)
        own |= {key: own[key] + before[key] for key in ("steps", "minutes")}
    return own


def main() -> None:
    parser = argparse.ArgumentParser(description="Steps, minutes and hardware of models.")
    parser.add_argument("models", nargs="+")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    found = {}
    for model in options.models:
        _, info = load_codec(find_model(model))
        found[ModelSystem(model).name] = cost(info.about)
    write_results(options.out, found)


if __name__ == "__main__":
    main()
