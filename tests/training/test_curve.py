"""Validation curves: their files, and the band that a run keeps inside of."""

import json
import math
import runpy
import sys
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from vqaudio.training.curve import (
    SENSES,
    compare,
    compare_run,
    curve_of,
    curve_table,
    excess,
    read_curve,
    validations,
    write_curve,
)
from vqaudio.training.history import read_log

ROOT = Path(__file__).resolve().parent.parent.parent
PRETRAINED, RECIPES = ROOT / "vqaudio/pretrained", ROOT / "recipes"
SHIPPED = {"speech-16k-v1": "speech_16k", "speech-16k-live-v1": "speech_16k_live"}

Rows = list[dict[str, float]]
METRICS = ("mel", "waveform_mse", "si_sdr", "perplexity_0", "perplexity_1", "used_0")
values = {
    "mel": st.floats(1e-3, 10.0),
    "waveform_mse": st.floats(1e-6, 1.0),
    "si_sdr": st.floats(-20.0, 20.0),
    "perplexity_0": st.floats(1.0, 1024.0),
    "perplexity_1": st.floats(1.0, 1024.0),
    "used_0": st.integers(1, 1024),
}
rows_of_a_run = st.lists(st.fixed_dictionaries(values), min_size=1, max_size=8).flatmap(
    lambda rows: st.lists(st.integers(1, 500), min_size=len(rows), max_size=len(rows)).map(
        lambda gaps: [{"step": sum(gaps[: index + 1]), **row} for index, row in enumerate(rows)]
    )
)
tolerances = st.floats(0.0, 3.0)


def worsened(row: dict[str, float], name: str, factor: float) -> dict[str, float]:
    """A row in which one metric is `factor` times worse, in the sense in which it is judged."""
    value, sense = row[name], SENSES[name.rsplit("_", 1)[0] if name[-1].isdigit() else name]
    if sense == "decibel":  # the error's share, which can at most be 1
        share = 1 / (1 + 10 ** (value / 10)) * factor
        return {**row, name: 10 * math.log10(1 / share - 1) if share < 1 else -300.0}
    return {**row, name: value * factor if sense == "lower" else value / factor}


# ---- the band


@given(rows_of_a_run, tolerances)
def test_a_curve_is_inside_its_own_band(rows: Rows, tolerance: float) -> None:
    found = compare(rows, rows, tolerance=tolerance)
    assert found.verdict == "inside"
    assert found.inside
    assert found.left_at is None
    assert {metric.name for metric in found.metrics} == set(METRICS)
    assert all(point.excess == 0.0 for metric in found.metrics for point in metric.points)


@given(rows_of_a_run, st.floats(0.01, 0.5), st.sampled_from([name for name in METRICS if name != "si_sdr"]), st.data())
def test_a_worsened_curve_is_outside_from_the_step_on_where_it_worsens(
    rows: Rows, tolerance: float, name: str, data: st.DataObject
) -> None:
    index = data.draw(st.integers(0, len(rows) - 1))
    worse = [*rows[:index], *(worsened(row, name, 1.01 * (1 + tolerance)) for row in rows[index:])]
    found = compare(worse, rows, tolerance=tolerance)
    assert found.verdict == "outside"
    assert found.left_at == rows[index]["step"]
    assert [metric.name for metric in found.metrics if metric.left_at is not None] == [name]
    slightly = [worsened(row, name, 0.99 * (1 + tolerance)) for row in rows]
    assert compare(slightly, rows, tolerance=tolerance).inside


@given(rows_of_a_run, st.sampled_from(METRICS), st.floats(0.01, 0.99))
def test_better_is_never_outside(rows: Rows, name: str, factor: float) -> None:
    better = [worsened(row, name, factor) for row in rows]
    assert compare(better, rows, tolerance=0.0).inside


@given(rows_of_a_run, rows_of_a_run, tolerances, tolerances)
def test_a_wider_band_is_left_no_earlier(rows: Rows, reference: Rows, one: float, other: float) -> None:
    narrow, wide = (compare(rows, reference, tolerance=tolerance) for tolerance in sorted((one, other)))
    assert narrow.left_at is not None or wide.left_at is None
    assert (wide.left_at or math.inf) >= (narrow.left_at or math.inf)
    order = ("outside", "came back", "inside")
    if narrow.verdict != "nothing compared":
        assert order.index(wide.verdict) >= order.index(narrow.verdict)


def test_si_sdr_is_judged_by_the_share_of_the_error() -> None:
    reference = [{"step": 100, "si_sdr": 6.0}]
    assert compare([{"step": 100, "si_sdr": 5.5}], reference).inside
    assert not compare([{"step": 100, "si_sdr": 5.4}], reference).inside
    assert compare([{"step": 100, "si_sdr": -30.0}], [{"step": 100, "si_sdr": -20.0}]).inside  # noise is noise


def test_values_that_are_not_finite_are_outside() -> None:
    assert excess(math.nan, 1.0, "lower") == math.inf
    assert excess(math.inf, 1.0, "lower") == math.inf
    assert compare([{"step": 1, "mel": math.nan}], [{"step": 1, "mel": 1.0}]).verdict == "outside"
    assert excess(0.1, 0.0, "lower") == math.inf
    assert excess(0.0, 0.0, "lower") == 0.0
    assert excess(0.0, 0.1, "lower") == -1.0


# ---- which steps are compared


def test_the_reference_is_read_between_its_rows() -> None:
    reference = [{"step": 100, "mel": 2.0}, {"step": 200, "mel": 1.0}]
    (metric,) = compare([{"step": step, "mel": 1.5} for step in (50, 100, 150, 175, 200, 250)], reference).metrics
    assert [(point.step, point.reference) for point in metric.points] == [
        (100, 2.0),
        (150, 1.5),
        (175, 1.25),
        (200, 1.0),
    ]
    assert metric.left_at == 175  # step 150 is the reference itself; 50 and 250 are beyond it


def test_a_larger_budget_is_compared_at_equal_shares_and_a_smaller_one_at_equal_steps() -> None:
    reference = [{"step": step, "mel": 1000.0 - step} for step in range(0, 1001, 100)]
    rows = [{"step": 400, "mel": 1.0}]
    for total_steps, place in ((2000, 200), (4000, 100), (1000, 400), (500, 400), (None, 400)):
        found = compare(rows, reference, total_steps=total_steps)
        assert found.metrics[0].points[0].reference == 1000.0 - place
        assert found.stretch == max(1, (total_steps or 0) / 1000)
    last = compare([{"step": 3000, "mel": 1.0}], reference, total_steps=3000)
    assert last.metrics[0].points[0].reference == 0.0  # the end of one with the end of the other


def test_a_run_that_comes_back_is_told_from_one_that_does_not() -> None:
    reference = [{"step": step, "mel": 1.0} for step in (1, 2, 3)]
    found = compare([{"step": 1, "mel": 1.0}, {"step": 2, "mel": 2.0}, {"step": 3, "mel": 1.0}], reference)
    assert (found.verdict, found.left_at, found.inside) == ("came back", 2, False)
    assert found.lines()[0] == "left the band of the reference (10 %) at step 2, and came back"


# ---- what is said


def test_what_was_not_compared_is_named_with_its_reason() -> None:
    row = {"step": 100, "minutes": 3.0, "mel": 1.0, "commitment": 2.0, "entropy_bits_0": 9.0, "perplexity_0": 500.0}
    found = compare([{**row, "new": 1.0}], [{**row, "gone": 1.0, "perplexity_1": 400.0}])
    assert [metric.name for metric in found.metrics] == ["mel", "perplexity_0"]
    assert found.not_compared == {
        "minutes": "depends on the machine",
        "commitment": "moves with the latents' scale",
        "entropy_bits_0": "says what perplexity says",
        "new": "not in the reference",
        "gone": "only in the reference",
        "perplexity_1": "only in the reference",
    }
    assert "not compared: gone, perplexity (only in the reference)" in found.left_out
    early = compare([{"step": 5, "mel": 1.0}], [{"step": 100, "mel": 1.0}])
    assert early.verdict == "nothing compared"
    assert not early.inside
    assert early.not_compared == {"mel": "no step in the range of the reference"}


def test_the_lines_name_the_worst_codebook_and_its_first_step_outside() -> None:
    reference = [{"step": step, "perplexity_0": 500.0, "perplexity_1": 500.0} for step in (1000, 2000, 3000)]
    rows = [{"step": step, "perplexity_0": 490.0, "perplexity_1": 500.0 - step / 20} for step in (1000, 2000, 3000)]
    verdict, how, line = compare(rows, reference, total_steps=6000).lines()
    assert how.strip() == "the budget is 2 times the reference's: compared at equal shares of both"
    assert verdict == "OUTSIDE the band of the reference (10 %), which it left at step 2,000"
    assert "perplexity, codebook 2" in line
    assert "350 against 500, 42.9 % worse" in line
    assert line.endswith("left at step 2,000")


def test_a_tolerance_below_zero_is_refused() -> None:
    with pytest.raises(ValueError, match=r"the tolerance is -0\.1, and a part such as 0\.1 is wanted"):
        compare([{"step": 1}], [{"step": 1}], tolerance=-0.1)


# ---- files


@given(rows=rows_of_a_run)
def test_a_curve_file_gives_back_the_rows(rows: Rows, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("curve") / "curve.csv"
    rows[0] = {name: value for name, value in rows[0].items() if name != "mel"}  # an empty cell stays absent
    write_curve(rows, path)
    assert read_curve(path) == rows
    assert all(isinstance(row["step"], int) for row in read_curve(path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot be read"),
        ("", "rows with a column named step are wanted"),
        ("step,mel\n", "rows with a column named step are wanted"),
        ("mel\n1.0\n", "rows with a column named step are wanted"),
        ("step,mel\n1,much\n", "a table of numbers"),
        ("step\n1,2\n", "a table of numbers"),
    ],
)
def test_what_is_no_curve_is_refused_by_name(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "curve.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ValueError, match=rf"curve\.csv: .*{message}"):
        read_curve(path)


def test_rows_carry_the_minutes_before_them_and_one_column_a_codebook(tmp_path: Path) -> None:
    entries = [
        {"kind": "start", "step": 0},
        {"kind": "validation", "step": 5, "mel": 2.0},
        {"kind": "train", "step": 10, "seconds": 90.0},
        {"kind": "validation", "step": 10, "mel": 1.0, "perplexity": [3.0, 4.0]},
    ]
    log = tmp_path / "log.jsonl"
    log.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    assert validations(log) == [
        {"step": 5, "minutes": 0.0, "mel": 2.0},
        {"step": 10, "minutes": 1.5, "mel": 1.0, "perplexity_0": 3.0, "perplexity_1": 4.0},
    ]
    assert curve_table(validations(log))[0] == "| step | minutes | mel | perplexity 0 | perplexity 1 |"
    log.write_text(json.dumps(entries[0]) + "\n")
    with pytest.raises(ValueError, match=r"log\.jsonl: there is no validation in this log yet"):
        validations(log)


# ---- the curves that ship


@pytest.mark.parametrize(("model", "recipe"), SHIPPED.items())
def test_a_shipped_log_makes_the_shipped_curve_and_is_inside_it(model: str, recipe: str, tmp_path: Path) -> None:
    write_curve(curve_of(read_log(PRETRAINED / model)), tmp_path / "curve.csv")
    assert (tmp_path / "curve.csv").read_bytes() == (RECIPES / recipe / "curve.csv").read_bytes()
    assert compare_run(PRETRAINED / model, RECIPES / recipe / "curve.csv", tolerance=0.0).inside


def test_the_two_shipped_models_keep_up_with_each_other() -> None:
    for model, recipe in zip(SHIPPED, reversed(SHIPPED.values()), strict=True):
        assert compare_run(PRETRAINED / model, RECIPES / recipe / "curve.csv").inside


def test_the_scripts_beside_the_recipes_use_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "curve.csv"
    monkeypatch.setattr(sys, "argv", ["curve.py", str(PRETRAINED / "speech-16k-v1"), str(out)])
    runpy.run_path(str(RECIPES / "curve.py"), run_name="__main__")
    assert out.read_bytes() == (RECIPES / "speech_16k/curve.csv").read_bytes()
    assert "| 6800 | 62.1 | 3.64109 |" in capsys.readouterr().out
    monkeypatch.syspath_prepend(str(RECIPES))
    assert runpy.run_path(str(RECIPES / "ship.py"))["validations"] is validations
