"""What do quantisers, decoders, look-ahead and widths buy for the same computing time?

    python recipes/study/run.py --packs packs/ --out study/ --minutes 12                # all rows of rows.toml
    python recipes/study/run.py --packs packs/ --out study/ --steps 600 --rows fsq simvq
    python recipes/study/run.py --base recipes/study/base_gpu.toml --device cuda …     # with --steps: rows share it
    python recipes/study/run.py --table                                                # from results.json, nothing run

Every row is `base.toml` with some settings changed (`rows.toml`), trained from random weights with the same seeds on
the same batches, and scored on the same recordings by `vqaudio evaluate`. The budget is computing time: a row gets as
many steps as fit into the minutes at its own cost of a step. That cost is not read off a clock alone, since other work
on the machine would then be a row's fortune: steps of the row and of the base alternate, the ratio of their medians is
the row's cost, and minutes are those of the base when it was first measured (`pace.json`). With --steps all rows get
the same number of steps instead, and their costs are only noted: so on a GPU that rows share, where no row's clock is
its own.

A row that is done is not done again; one that was stopped goes on. With --until plan or train it ends before, and goes
on from there another time, or on another machine where its folder has been brought. Results go to `results.json` in
the output folder: settings, steps, seconds, the last validation, and the means of the test split. `--publish` puts them
among those beside this file, which may be of other budgets and then stand in lines of their own, and draws their plot.
"""

import argparse
import itertools
import json
import math
import statistics
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vqaudio.data.crops import CropSampler
from vqaudio.data.packed import PackedAudio
from vqaudio.training.log import LOG_NAME
from vqaudio.training.players import build_learners, freeze, frozen_parts
from vqaudio.training.recipe import Recipe, Stage, load_recipe
from vqaudio.training.step import Objective, Plan, train_step

HERE = Path(__file__).resolve().parent
BASE, BASE_GPU, ROWS = (HERE / name for name in ("base.toml", "base_gpu.toml", "rows.toml"))
RESULTS, PLOT = HERE / "results.json", HERE / "plot.png"
ROUNDS = 20  # of alternating steps, the first of which does not count
MARKS = (("x", "#888a85"), ("o", "#3465a4"), ("D", "#cc0000"), ("s", "#73d216"))  # of budgets in the plot
MEASURES = {
    "pesq_wb": ("PESQ-WB", 2),
    "stoi": ("STOI", 3),
    "mel_distance": ("mel distance", 2),
    "si_sdr": ("SI-SDR", 1),
}


@dataclass(frozen=True)
class Row:
    """`settings` are dotted overrides of the base recipe, as text for the command line."""

    name: str
    question: str
    about: str
    seeds: tuple[int, ...]
    settings: dict[str, str]

    def runs(self) -> Iterator[tuple[str, int]]:
        """Names of the folders, one for each seed."""
        return ((f"{self.name}-s{seed}", seed) for seed in self.seeds)


def read_rows(path: Path = ROWS) -> list[Row]:
    """The rows of a file, each with the settings of those it comes from."""
    rows: dict[str, Row] = {}
    for entry in tomllib.loads(path.read_text(encoding="utf-8"))["rows"]:
        parent = entry.get("from")
        if entry["name"] in rows or (parent and parent not in rows):
            raise ValueError(f"row {entry['name']!r} is there twice, or comes from {parent!r}, which is not above it")
        changes = entry.get("set", {}).items()
        own = {key: value if isinstance(value, str) else json.dumps(value) for key, value in changes}
        taken = rows[parent].settings if parent else {}
        dropped = entry.get("drop", [])
        if not set(dropped) <= set(taken):
            raise ValueError(f"row {entry['name']!r} drops {dropped}, but {parent!r} sets {list(taken)}")
        settings = {key: value for key, value in taken.items() if key not in dropped} | own
        seeds = tuple(entry.get("seeds", [0]))
        rows[entry["name"]] = Row(entry["name"], entry["question"], entry["about"], seeds, settings)
    return list(rows.values())


# ---- the budget


class Stepper:
    """Takes steps of a recipe's stage that are thrown away, and times them."""

    def __init__(self, recipe: Recipe, packs: Path, device: str = "cpu", *, stage: Stage = "reconstruction") -> None:
        self.recipe = recipe
        self.device = torch.device(device)
        self.learners = build_learners(recipe, None, self.device)
        freeze(self.learners.trained, frozen_parts(recipe, stage))
        self.objective = Objective(recipe.losses, recipe.codec.sample_rate).to(self.device)
        data = recipe.data
        sampler = CropSampler(
            PackedAudio(packs, "train"), crop_samples=recipe.crop_samples, batch_size=data.batch_size, seed=0
        )
        self.audio = sampler.batch(0).audio.to(self.device)

    def seconds(self, *, play: bool = False) -> float:
        begin = time.monotonic()
        train_step(
            self.learners.codec,
            self.objective,
            self.audio,
            Plan(play=play),
            discriminators=self.learners.discriminators,
            generator=torch.Generator().manual_seed(0),
        )
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.monotonic() - begin


def relative_cost(
    recipe: Recipe, base: Recipe, packs: Path, device: str = "cpu", *, rounds: int = ROUNDS
) -> tuple[float, float]:
    """A step of `recipe` in steps of `base`, on average over its stages, and the seconds of one of `base`."""
    theirs, kinds = Stepper(base, packs, device), []
    for stage, share in recipe.stages.shares().items():
        if share > 0:
            ours = Stepper(recipe, packs, device, stage=stage)
            games = share / recipe.adversarial.every if stage != "reconstruction" else 0.0
            kinds += [(ours, play, part) for play, part in ((False, share - games), (True, games)) if part > 0]
    seconds: list[list[float]] = [[] for _ in kinds]
    other = []
    for _ in range(rounds):
        other.append(theirs.seconds())
        for times, (ours, play, _) in zip(seconds, kinds, strict=True):
            times.append(ours.seconds(play=play))
    unit = statistics.median(other[1:])
    cost = sum(part * statistics.median(times[1:]) for times, (_, _, part) in zip(seconds, kinds, strict=True))
    return cost / unit, unit


def steps_within(minutes: float, *, base_seconds: float, cost: float) -> int:
    """Steps of a row of relative cost `cost` in so many minutes."""
    return max(1, round(minutes * 60.0 / (base_seconds * cost)))


def base_pace(out: Path, measured: float) -> float:
    """Seconds of a step of the base: what `pace.json` says, or what was measured now, for all rows to come."""
    path = out / "pace.json"
    if not path.exists():
        path.write_text(json.dumps({"base_step_seconds": measured}) + "\n", encoding="utf-8")
    return float(json.loads(path.read_text(encoding="utf-8"))["base_step_seconds"])


# ---- a row


def train(row: Row, seed: int, steps: int, folder: Path, options: argparse.Namespace) -> None:
    command = [sys.executable, "-m", "vqaudio.cli", "train", str(options.base), "--packs", str(options.packs)]
    command += ["--out", str(folder), "--steps", str(steps), "--resume", "auto", "--seed", str(seed)]
    command += ["--device", options.device]
    for key, value in row.settings.items():
        command += [f"--{key}", value]
    subprocess.run(command, check=True)


def score(model: Path, data: Path, out: Path, *, limit: int | None, workers: int) -> list[dict[str, Any]]:
    """Means at every number of codebooks, by the project's evaluator."""
    command = [sys.executable, "-m", "vqaudio.cli", "evaluate", str(model), str(data), "--split", "test"]
    command += ["--kind", "speech", "--codec", "none", "--clips", "0", "--workers", str(workers), "--out", str(out)]
    command += ["--metrics", *MEASURES]
    if limit is not None:
        command += ["--limit", str(limit)]
    subprocess.run(command, check=True)
    (system,) = json.loads((out / "evaluation.json").read_text(encoding="utf-8"))["systems"]
    return [
        {
            "codebooks": point["codebooks"],
            "kbps": point["kbps"],
            **{name: round(value["mean"], 4) for name, value in point["values"].items() if name in MEASURES},
        }
        for point in system["points"]
    ]


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's log; none if it has not begun."""
    path = folder / LOG_NAME
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def of_log(lines: list[dict[str, Any]]) -> dict[str, Any]:
    """What a run's log says of it: parameters, steps, seconds, the last validation."""
    start = next(line for line in lines if line["kind"] == "start")
    end = next(line for line in reversed(lines) if line["kind"] == "end")
    last = next(line for line in reversed(lines) if line["kind"] == "validation")
    names = ("mel", "log_magnitude", "complex", "si_sdr", "perplexity")
    validation = {name: last[name] for name in names if name in last}
    return {
        "parameters": start["parameters"],
        "steps": end["step"],
        "seconds": end["seconds"],
        "validation": validation,
    }


def _asked(options: argparse.Namespace) -> dict[str, Any]:
    """The budget of a row, in the words of its plan and its result."""
    given = {"minutes": None, "steps": options.steps} if options.steps else {"minutes": options.minutes}
    return {"base": options.base.name, **given}


def _check_same(path: Path, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Refuse to go on with, or to pass for what is asked, something that was begun otherwise."""
    different = [name for name, value in wanted.items() if found.get(name, value) != value]
    if different:
        has, asks = (", ".join(f"{name} {each[name]}" for name in different) for each in (found, wanted))
        raise SystemExit(f"{path} is of {has}, and {asks} is asked for; choose another --out")


def planned(row: Row, path: Path, options: argparse.Namespace) -> tuple[float, int]:
    """The cost of a step and the number of steps: what was found when the row was begun, also if it goes on later."""
    if not path.exists():
        base, recipe = load_recipe(options.base), load_recipe(options.base, row.settings)
        cost, seconds = relative_cost(recipe, base, options.packs, options.device)
        steps = options.steps or steps_within(options.minutes, base_seconds=base_pace(options.out, seconds), cost=cost)
        path.write_text(json.dumps({**_asked(options), "relative_cost": cost, "steps": steps}) + "\n", encoding="utf-8")
    plan = json.loads(path.read_text(encoding="utf-8"))
    _check_same(path, plan, _asked(options))
    return plan["relative_cost"], plan["steps"]


def run(row: Row, seed: int, name: str, options: argparse.Namespace) -> dict[str, Any] | None:
    """Train and score one row, or read what is there. None if that is not to be done to its end."""
    folder = options.out / name
    done = folder / "row.json"
    if done.exists():
        found: dict[str, Any] = json.loads(done.read_text(encoding="utf-8"))
        _check_same(done, found, {**_asked(options), "limit": options.limit})
        return found
    cost, steps = planned(row, options.out / f"{name}.plan.json", options)
    if options.until == "plan":
        return None
    if not any(line["kind"] == "end" for line in read_log(folder)):
        train(row, seed, steps, folder, options)
    if options.until == "train":
        return None
    points = score(
        folder / "model",
        options.data or options.packs / "manifest.jsonl",
        folder / "evaluation",
        limit=options.limit,
        workers=options.workers,
    )
    result = {
        "name": row.name,
        "seed": seed,
        "base": options.base.name,
        "minutes": None if options.steps else options.minutes,
        "limit": options.limit,
        "settings": row.settings,
        "relative_cost": round(cost, 3),
        **of_log(read_log(folder)),
        "points": points,
        "machine": options.machine,
    }
    done.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return result


# ---- what comes of it


Result = dict[str, Any]


def budget(result: Result) -> str:
    """What a row was given, in a word: results are compared within one."""
    if result["base"] == BASE_GPU.name:
        return "GPU"
    return "steps" if result["minutes"] is None else f"{result['minutes']:g} min"


def published(before: list[Result], now: list[Result]) -> list[Result]:
    """All of them in the order of rows.toml; of two with the same row, budget and seed, the one of now."""
    found = {(each["name"], budget(each), each["seed"]): each for each in [*before, *now]}
    names = [row.name for row in read_rows()]
    order = sorted(found, key=lambda key: (names.index(key[0]), found[key]["minutes"] or math.inf, key[2]))
    return [found[key] for key in order]


def table(rows: list[Row], results: list[Result]) -> list[str]:
    """Markdown: for each question a table, all codebooks of each row; a line for each budget, the seeds of which stand
    one after another."""
    lines = []
    for question in dict.fromkeys(row.question for row in rows):
        lines += [f"**{question[0].upper()}{question[1:]}**", ""]
        heads = [
            "row",
            "what",
            "budget",
            "steps",
            "cost of a step",
            "kbps",
            *(label for label, _ in MEASURES.values()),
        ]
        lines += ["| " + " | ".join(heads) + " |", "|---|---|" + "--:|" * (len(heads) - 2)]
        for row in rows:
            if row.question != question:
                continue
            of_row = [result for result in results if result["name"] == row.name]
            if not of_row:
                lines.append(f"| `{row.name}` | {row.about} | not run yet |" + " |" * (len(heads) - 3))
            for given in dict.fromkeys(map(budget, of_row)):
                lines.append(_line(row, [result for result in of_row if budget(result) == given]))
        lines.append("")
    return lines


def _line(row: Row, results: list[Result]) -> str:
    """One budget of a row."""
    last = [result["points"][-1] for result in results]
    cells = [f"`{row.name}`", row.about, budget(results[0])]
    cells += [" ".join(str(result["steps"]) for result in results), f"{results[0]['relative_cost']:.2f}"]
    cells += [f"{last[0]['kbps']:.2f}"]
    for name, (_, decimals) in MEASURES.items():
        cells.append(" ".join(f"{point[name]:.{decimals}f}" for point in last if name in point))
    return "| " + " | ".join(cells) + " |"


def plot(rows: list[Row], results: list[Result], path: Path) -> None:
    """PESQ-WB and STOI of every run, a line for each row, a mark for each budget."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    names = [row.name for row in rows if any(result["name"] == row.name for result in results)]
    budgets = sorted({budget(result) for result in results}, key=lambda text: (text == "GPU", len(text), text))
    figure, axes = plt.subplots(1, 2, figsize=(9, 1.2 + 0.3 * len(names)), sharey=True, layout="constrained")
    for axis, measure in zip(axes, ("pesq_wb", "stoi"), strict=True):
        for given, (mark, colour) in zip(budgets, itertools.cycle(MARKS)):
            of_budget = [result for result in results if budget(result) == given]
            values = [result["points"][-1][measure] for result in of_budget]
            places = [names.index(result["name"]) for result in of_budget]
            axis.plot(values, places, mark, color=colour, linestyle="none", alpha=0.8, label=given)
        axis.set_xlabel(MEASURES[measure][0])
        axis.grid(alpha=0.3)
    axes[0].set_yticks(range(len(names)), names)
    axes[0].invert_yaxis()
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=len(budgets))
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Train and score the rows of a study for the same computing time.")
    parser.add_argument("--packs", type=Path, help="from vqaudio prepare")
    parser.add_argument("--data", type=Path, help="manifest to score on; default: that of the packs")
    parser.add_argument("--out", type=Path, help="folder for runs and results")
    parser.add_argument("--base", type=Path, default=BASE, help="recipe that the rows change; default: base.toml")
    parser.add_argument("--device", default="cpu", help="that trains; default: %(default)s")
    parser.add_argument("--until", choices=("plan", "train", "score"), default="score", help="default: %(default)s")
    parser.add_argument("--rows", nargs="+", help="by name; default: all")
    parser.add_argument("--seeds", type=int, help="at most so many of each row; default: those of rows.toml")
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument(
        "--minutes", type=float, default=12.0, help="for each row, on a core like the one first measured"
    )
    budget.add_argument("--steps", type=int, help="for each row, whatever they cost")
    parser.add_argument("--limit", type=int, default=64, help="recordings to score; 0: all")
    parser.add_argument("--workers", type=int, default=1, help="processes that score")
    parser.add_argument("--machine", default="", help="what it is and what else it was doing, for the results")
    parser.add_argument("--publish", action="store_true", help="write results.json and plot.png beside this script")
    parser.add_argument("--table", action="store_true", help="print the table of results.json and end")
    options = parser.parse_args(words)
    rows = read_rows()
    if options.table:
        print("\n".join(table(rows, json.loads(RESULTS.read_text(encoding="utf-8"))["rows"])))
        return
    if options.packs is None or options.out is None:
        parser.error("--packs and --out are needed to run rows")
    unknown = sorted(set(options.rows or ()) - {row.name for row in rows})
    if unknown:
        parser.error(f"rows.toml has no row {', '.join(unknown)}; it has {', '.join(row.name for row in rows)}")
    options.limit = options.limit or None
    options.out.mkdir(parents=True, exist_ok=True)
    results = []
    for row in rows:
        if options.rows is None or row.name in options.rows:
            for name, seed in list(row.runs())[: options.seeds]:
                result = run(row, seed, name, options)
                if result is None:
                    continue
                results.append(result)
                document = {"rows": results}
                (options.out / "results.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    if options.publish:
        results = published(json.loads(RESULTS.read_text(encoding="utf-8"))["rows"], results)
        RESULTS.write_text(json.dumps({"rows": results}, indent=1) + "\n", encoding="utf-8")
        plot(rows, results, PLOT)
    print("\n".join(table(rows, results)))


if __name__ == "__main__":
    main()
