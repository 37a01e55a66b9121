"""The paired comparison that decides whether a model may replace another."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parent.parent.parent / "benchmarks"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        spec = importlib.util.spec_from_file_location("compare_script", BENCHMARKS / "compare.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(BENCHMARKS))
    return module


def results(*, pesq: float = 0.0, mel: float = 0.0, stoi: float = 0.0, files: int = 40) -> dict[str, Any]:
    """Files of very different quality, each moved by the same amount and a little noise of its own."""
    rows = [
        {
            "path": f"{number}.flac",
            "scores": {
                "8": {
                    "pesq": 1.0 + number / 10 + pesq + 0.01 * (number % 3),
                    "stoi": 0.5 + number / 100 + stoi,
                    "si_sdr": number,
                    "mel_distance": 3.0 - number / 20 + mel,
                }
            },
        }
        for number in range(files)
    ]
    return {
        "model": "m",
        "model_fingerprint": "f",
        "token_fingerprint": "t",
        "rates": [{"codebooks": 8}],
        "files": rows,
    }


def test_small_differences_are_settled_because_files_are_paired(script: ModuleType) -> None:
    found = script.compare(results(), results(pesq=0.02, stoi=0.001, mel=-0.01))
    assert found["rates"][0]["pesq"]["mean"] == pytest.approx(0.02)
    assert found["rates"][0]["pesq"]["low"] > 0.01
    assert found["may_replace"] is True


@pytest.mark.parametrize("worse", [{"pesq": -0.02}, {"stoi": -0.001}, {"mel": 0.01}, {"pesq": 0.0}])
def test_every_decisive_metric_has_to_be_better(script: ModuleType, worse: dict[str, float]) -> None:
    better = {"pesq": 0.02, "stoi": 0.001, "mel": -0.01}
    assert script.compare(results(), results(**{**better, **worse}))["may_replace"] is False


def test_a_file_that_one_could_not_be_scored_on_does_not_count(script: ModuleType) -> None:
    before, after = results(), results(pesq=0.02)
    del after["files"][3]["scores"]["8"]["pesq"]
    assert script.compare(before, after)["rates"][0]["pesq"]["files"] == 39
    assert script.compare(before, after)["rates"][0]["stoi"]["files"] == 40


def test_results_of_other_files_are_refused(script: ModuleType) -> None:
    with pytest.raises(ValueError, match=r"of different files: 1 are in one only, such as 40\.flac"):
        script.compare(results(), results(files=41))
