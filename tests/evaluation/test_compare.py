"""Paired differences, and who may replace whom."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.evaluation import parts
from vqaudio.evaluation.compare import DECISIVE, compare, comparison_rows, contender, verdict
from vqaudio.evaluation.evaluate import Options, evaluate
from vqaudio.evaluation.measures import Measure
from vqaudio.evaluation.recordings import Selection, select
from vqaudio.evaluation.results import ResultsError
from vqaudio.io import write_audio

RATE = 1_600
MEASURES = [
    replace(parts.ERROR, values=(parts.value("mel_distance"),), compute=lambda *pair: {"mel_distance": _error(pair)}),
    *(
        Measure(values=(parts.value(name, "higher"),), kinds=parts.KINDS, sample_rate=None, compute=compute)
        for name, compute in (
            ("pesq_wb", lambda *pair: {"pesq_wb": 4 - _error(pair)}),
            ("stoi", lambda *pair: {"stoi": 1 - _error(pair)}),
        )
    ),
]


def _error(pair: Any) -> float:
    return parts.error(*pair)["error"]


@pytest.fixture
def selection(tmp_path: Path) -> Selection:
    for number in range(8):
        folder = tmp_path / f"corpus/speaker-{number % 4}"
        folder.mkdir(parents=True, exist_ok=True)
        write_audio(folder / f"{number}.wav", parts.tone(0.3, RATE, 0.1 + 0.1 * number), RATE)
    return select(tmp_path / "corpus")


def evaluated(selection: Selection, out: Path, *systems: parts.Attenuator) -> str:
    evaluate(systems, selection, out, measures=MEASURES, scoring_rate=RATE, options=Options(workers=0, clips=0))
    return str(out)


def test_differences_are_of_pairs_and_decide(selection: Selection, tmp_path: Path) -> None:
    """A gain of 0.9 errs by a tenth of the level, one of 0.8 by two tenths: for every file, whatever its level."""
    a = evaluated(selection, tmp_path / "a", parts.Attenuator("old", gains=(0.8,)))
    b = evaluated(selection, tmp_path / "b", parts.Attenuator("new", gains=(0.9,)))
    _rename_point(tmp_path / "a")
    _rename_point(tmp_path / "b")
    found = compare(contender(a), contender(b))
    mean_level = sum(0.1 + 0.1 * number for number in range(8)) / 8
    (point,) = found["points"]
    assert point["values"]["mel_distance"]["mean"] == pytest.approx(-0.1 * mean_level, abs=1e-3)
    assert point["values"]["stoi"]["mean"] == pytest.approx(0.1 * mean_level, abs=1e-3)
    assert {name: each["settled"] for name, each in point["values"].items()} == dict.fromkeys(
        DECISIVE["speech"], "better"
    )
    assert found["may_replace"] and (found["a"]["name"], found["b"]["name"]) == ("old", "new")
    back = compare(contender(b), contender(a))
    assert {each["settled"] for each in back["points"][0]["values"].values()} == {"worse"} and not back["may_replace"]
    same = compare(contender(a), contender(a))
    assert {each["settled"] for each in same["points"][0]["values"].values()} == {"open"} and not same["may_replace"]
    columns, rows = comparison_rows(found)
    assert columns == ["point", "MEL DISTANCE", "PESQ WB", "STOI"]
    assert rows[0][1].startswith("-0.0450 [-0.06") and rows[0][1].endswith(" better")


@pytest.mark.parametrize("fails", [True, False])
def test_who_fails_on_some_recordings_replaces_nobody(selection: Selection, tmp_path: Path, fails: bool) -> None:
    """Better on the five recordings that it can do, of eight."""
    a = evaluated(selection, tmp_path / "a", parts.Attenuator("old", gains=(0.8,)))
    b = evaluated(selection, tmp_path / "b", parts.Fickle("new", gains=(0.9,), fails=fails))
    _rename_point(tmp_path / "a")
    _rename_point(tmp_path / "b")
    found = compare(contender(a), contender(b))
    (point,) = found["points"]
    assert {(each["settled"], each["files"], each["lost"]) for each in point["values"].values()} == {("better", 5, 3)}
    assert not found["may_replace"]
    assert comparison_rows(found)[1][0][1].endswith(" better (3 lost)")
    back = compare(contender(b), contender(a))  # what the first could not do is no loss of the second
    assert {each["lost"] for each in back["points"][0]["values"].values()} == {0}
    if fails:
        problems = {problem["what"] for problem in contender(b).summary["problems"]}
        assert problems == {"RuntimeError: DefaultCPUAllocator: can't allocate memory"}


def _rename_point(folder: Path) -> None:
    """Gains are the setting of an attenuator, and these two have none in common."""
    for path in (folder / "evaluation.json", folder / "files.jsonl"):
        path.write_text(path.read_text().replace("@0.8", "@x").replace("@0.9", "@x"))


def test_both_intervals_must_exclude_zero() -> None:
    settled = {"mean": 0.2, "low": 0.1, "high": 0.3, "speakers_low": 0.05, "speakers_high": 0.4}
    assert (verdict(settled, "higher"), verdict(settled, "lower")) == ("better", "worse")
    assert verdict(settled | {"speakers_low": -0.01}, "higher") == "open"
    assert verdict(settled | {"low": 0.0}, "higher") == "open"
    assert verdict({"mean": 0.2}, "higher") == "open"
    negative = {"mean": -0.2, "low": -0.3, "high": -0.1}
    assert (verdict(negative, "higher"), verdict(negative, "lower")) == ("worse", "better")


def test_what_cannot_be_compared_is_refused_by_name(selection: Selection, tmp_path: Path) -> None:
    a = evaluated(selection, tmp_path / "a", parts.Attenuator("old", gains=(0.8,)))
    other = evaluated(selection, tmp_path / "b", parts.Attenuator("new", gains=(0.9,)))
    with pytest.raises(ResultsError, match=r"no point in common: old has times 0\.8; new has times 0\.9"):
        compare(contender(a), contender(other))
    write_audio(selection.recordings[3].file, parts.tone(0.3, RATE, 0.77), RATE)
    c = evaluated(selection, tmp_path / "c", parts.Attenuator("new", gains=(0.8,)))
    with pytest.raises(ResultsError, match=f"different recordings: 1 of them, such as {selection.recordings[3].path}"):
        compare(contender(a), contender(c))
    summary = json.loads((tmp_path / "c/evaluation.json").read_text())
    summary["rules"]["sample_rate"] = 8_000
    (tmp_path / "c/evaluation.json").write_text(json.dumps(summary))
    with pytest.raises(ResultsError, match=r"made by other rules \(sample_rate\)"):
        compare(contender(a), contender(c))


def test_of_several_systems_one_is_named(selection: Selection, tmp_path: Path) -> None:
    two = evaluated(selection, tmp_path / "a", parts.Attenuator("one"), parts.Attenuator("two"))
    with pytest.raises(ResultsError, match=r"has one, two; say which is meant, .*a:one"):
        contender(two)
    assert contender(f"{two}:two").name == "two"
    with pytest.raises(ResultsError, match="has no system 'three'; it has one, two"):
        contender(f"{two}:three")
