"""recipes/study/run.py: rows that are recipes, budgets that are computing time, results that are not made twice."""

import argparse
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.training.scripts import script
from vqaudio.training.recipe import Recipe, load_recipe

study = script("study/run")
ROWS = study.read_rows()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_row_is_a_recipe_of_its_own(row: Any) -> None:
    recipe = load_recipe(study.BASE, row.settings)
    others = [load_recipe(study.BASE, other.settings) for other in ROWS if other.name != row.name]
    assert recipe not in others
    recipe.codec.build()


def test_a_row_on_a_gpu_is_the_same_row_with_more_audio_in_a_step() -> None:
    here, there = load_recipe(study.BASE), load_recipe(study.BASE_GPU)
    assert there.data.batch_size * there.data.crop_seconds == 2.5 * here.data.batch_size * here.data.crop_seconds
    assert replace(there, name=here.name, data=here.data, report=here.report) == here


def test_a_row_takes_what_it_comes_from_and_changes_it(tmp_path: Path) -> None:
    path = tmp_path / "rows.toml"
    text = '[[rows]]\nname = "a"\nquestion = "q"\nabout = "x"\n[rows.set]\n"losses.mel" = 2.0\n'
    text += '"codec.decoder.kind" = "istft"\n'
    child = (
        '[[rows]]\nname = "b"\nfrom = "a"\nquestion = "q"\nabout = "x"\nseeds = [0, 3]\n[rows.set]\n"losses.mel" = 3\n'
    )
    path.write_text(text + child)
    (_, row) = study.read_rows(path)
    assert row.settings == {"losses.mel": "3", "codec.decoder.kind": "istft"}
    assert list(row.runs()) == [("b-s0", 0), ("b-s3", 3)]
    dropping = child.replace("[rows.set]", 'drop = ["codec.decoder.kind"]\n[rows.set]')
    path.write_text(text + dropping)
    assert study.read_rows(path)[1].settings == {"losses.mel": "3"}
    path.write_text(text + dropping.replace("decoder.kind", "decoder.phase"))
    with pytest.raises(ValueError, match=r"row 'b' drops .*phase.*, but 'a' sets"):
        study.read_rows(path)
    path.write_text(child + text)
    with pytest.raises(ValueError, match=r"row 'b' .* comes from 'a', which is not above it"):
        study.read_rows(path)


def test_minutes_are_the_bases_and_a_dearer_step_gets_fewer(tmp_path: Path) -> None:
    assert study.steps_within(12.0, base_seconds=0.5, cost=1.0) == 1440
    assert study.steps_within(12.0, base_seconds=0.5, cost=1.5) == 960
    assert study.base_pace(tmp_path, 0.5) == 0.5
    assert study.base_pace(tmp_path, 3.0) == 0.5, "other work on the machine is not the next row's fortune"


def test_a_stepper_holds_still_what_its_stage_does(recipe: Recipe, packs: Path) -> None:
    stepper = study.Stepper(recipe, packs, stage="decoder")
    codec = stepper.learners.trained
    assert stepper.seconds() > 0
    assert all(parameter.grad is None for part in (codec.encoder, codec.quantizer) for parameter in part.parameters())
    assert any(parameter.grad is not None for parameter in codec.decoder.parameters())


def test_a_step_costs_what_its_stage_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frozen parts need no backward pass, and games come in one step of `every`: by a clock that knows both."""

    class Timed:
        def __init__(self, recipe: Any, packs: Path, device: str = "cpu", *, stage: str = "reconstruction") -> None:
            self.frozen = len(study.frozen_parts(recipe, stage))

        def seconds(self, *, play: bool = False) -> float:
            return 4.0 - self.frozen + 8.0 * play

    monkeypatch.setattr(study, "Stepper", Timed)
    base = load_recipe(study.BASE)
    settings = {"stages.reconstruction": "0.5", "stages.adversarial": "0.3", "stages.decoder": "0.2"}
    recipe = load_recipe(study.BASE, {**settings, "adversarial.every": "4"})
    cost, unit = study.relative_cost(recipe, base, Path(), rounds=3)
    assert unit == 4.0
    assert cost == pytest.approx((0.5 * 4 + 0.3 * (4 + 8 / 4) + 0.2 * (2 + 8 / 4)) / 4)
    assert study.relative_cost(base, base, Path(), rounds=3) == (1.0, 4.0)


def test_a_row_that_is_done_is_not_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    log = [
        {"kind": "start", "step": 0, "parameters": 7},
        {"kind": "validation", "step": 5, "mel": 0.5, "si_sdr": 1.0},
        {"kind": "validation", "step": 9, "mel": 0.25, "si_sdr": 2.0, "loss": 3.0},
        {"kind": "end", "step": 9, "seconds": 4},
    ]

    def train(row: Any, seed: int, steps: int, folder: Path, options: argparse.Namespace) -> None:
        calls.append((row.name, seed, steps))
        folder.mkdir(parents=True)
        (folder / "log.jsonl").write_text("\n".join(map(json.dumps, log)))

    point = {"codebooks": 8, "kbps": 4.0, "pesq_wb": 1.5, "stoi": 0.8, "mel_distance": 2.0, "si_sdr": 1.0}
    monkeypatch.setattr(study, "train", train)
    monkeypatch.setattr(study, "score", lambda *arguments, **options: [point])
    monkeypatch.setattr(study, "relative_cost", lambda *arguments: (2.0, 0.5))
    settings = {"out": tmp_path, "packs": tmp_path, "data": None, "steps": None, "minutes": 1.0, "limit": None}
    settings |= {"workers": 1, "machine": "quiet", "base": study.BASE, "device": "cpu", "until": "score"}
    options = argparse.Namespace(**settings)
    row = next(row for row in ROWS if row.name == "simvq")
    first = study.run(row, 1, "simvq-s1", options)
    assert calls == [("simvq", 1, 60)]  # 60 s of steps of 0.5 s that cost twice the base's
    assert first["steps"] == 9 and first["validation"] == {"mel": 0.25, "si_sdr": 2.0} and first["relative_cost"] == 2.0
    assert study.run(row, 1, "simvq-s1", options) == first
    assert len(calls) == 1
    # stopped, and gone on with while the machine does other work: it has the steps that it was begun with
    monkeypatch.setattr(study, "relative_cost", lambda *arguments: (9.0, 9.0))
    shutil.rmtree(tmp_path / "simvq-s1")
    assert study.run(row, 1, "simvq-s1", options) == first
    assert calls == [("simvq", 1, 60)] * 2
    # what another machine has trained is only scored
    (tmp_path / "simvq-s1" / "row.json").unlink()
    assert study.run(row, 1, "simvq-s1", options) == first
    assert calls == [("simvq", 1, 60)] * 2
    # and nothing passes for what it is not
    for other in ({"minutes": 2.0}, {"steps": 9}, {"base": study.BASE_GPU}, {"limit": 5}):
        with pytest.raises(SystemExit, match=r"simvq-s1/row\.json is of .*; choose another --out"):
            study.run(row, 1, "simvq-s1", argparse.Namespace(**{**settings, **other}))
    (tmp_path / "simvq-s1" / "row.json").unlink()
    with pytest.raises(SystemExit, match=r"simvq-s1\.plan\.json is of minutes 1\.0, and minutes 2\.0 is asked for"):
        study.run(row, 1, "simvq-s1", argparse.Namespace(**{**settings, "minutes": 2.0}))
    for until in ("plan", "train"):
        assert study.run(row, 1, "other-s1", argparse.Namespace(**{**settings, "until": until})) is None
    assert len(calls) == 3 and not (tmp_path / "other-s1" / "row.json").exists()
    lines = study.table(ROWS, [first])
    line = "| `simvq` | frozen vectors under a learned map | 1 min | 9 | 2.00 | 4.00 | 1.50 | 0.800 | 2.00 | 1.0 |"
    assert line in lines
    assert sum("not run yet" in line for line in lines) == len(ROWS) - 1
    study.plot(ROWS, [first, {**first, "minutes": None}], tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 1000


def test_what_is_published_replaces_its_like_and_nothing_else() -> None:
    point = {"kbps": 4.0, "pesq_wb": 1.5, "stoi": 0.8, "mel_distance": 2.0, "si_sdr": 1.0}
    like = {"relative_cost": 1.0, "points": [point], "base": "base.toml"}
    before = [
        {"name": "fsq", "seed": 0, "minutes": 4.0, "steps": 1, **like},
        {"name": "spectral", "seed": 1, "minutes": 4.0, "steps": 2, **like},
        {"name": "spectral", "seed": 0, "minutes": 4.0, "steps": 3, **like},
    ]
    now = [{"name": "spectral", "seed": seed, "minutes": 10.0, "steps": 4 + seed, **like} for seed in (0, 1)]
    now += [{"name": "spectral", "seed": 1, "minutes": 4.0, "steps": 6, **like}]
    gpu = {"name": "spectral", "seed": 0, "minutes": None, "steps": 8, **like, "base": "base_gpu.toml"}
    results = study.published(before, [*now, gpu])
    assert [result["steps"] for result in results] == [3, 6, 4, 5, 8, 1], "in the order of rows.toml"
    of_row = [line for line in study.table(ROWS, results) if line.startswith("| `spectral` |")]
    assert [line.split(" | ")[2:4] for line in of_row] == [["4 min", "3 6"], ["10 min", "4 5"], ["GPU", "8"]]


def test_the_pages_tables_are_those_of_the_results() -> None:
    page = (study.HERE / "README.md").read_text(encoding="utf-8")
    shown = page.partition("<!-- table: study -->\n")[2].partition("<!-- /table -->")[0]
    results = json.loads(study.RESULTS.read_text(encoding="utf-8"))["rows"]
    assert shown.strip() == "\n".join(study.table(ROWS, results)).strip()
