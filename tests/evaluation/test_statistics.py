"""Means and their intervals."""

import numpy as np
import pytest

from vqaudio.evaluation.statistics import mean_with_intervals


def test_a_constant_has_no_width() -> None:
    found = mean_with_intervals([2.5] * 8, list("aabbccdd"))
    assert found == {
        "mean": 2.5,
        "files": 8,
        "low": 2.5,
        "high": 2.5,
        "speakers": 4,
        "speakers_low": 2.5,
        "speakers_high": 2.5,
    }


def test_the_width_over_files_is_that_of_a_mean() -> None:
    """±1.96 standard errors, for many values of a normal distribution."""
    values = np.random.default_rng(1).normal(3.0, 2.0, size=400)
    found = mean_with_intervals(list(values), [""] * 400)
    half = 1.96 * values.std() / np.sqrt(400)
    assert found["mean"] == pytest.approx(values.mean(), abs=1e-5)
    assert found["mean"] - found["low"] == pytest.approx(half, rel=0.08)
    assert found["high"] - found["mean"] == pytest.approx(half, rel=0.08)
    assert found["speakers"] == 400  # unknown speakers are nobody else
    assert found["speakers_low"] == pytest.approx(found["low"], abs=0.01)


def test_speakers_whose_files_are_alike_widen_the_interval_over_speakers() -> None:
    """Ten speakers with ten equal files each are ten values: wider by the root of ten than a hundred would be."""
    levels = np.random.default_rng(2).normal(size=10)
    values, speakers = np.repeat(levels, 10), np.repeat([f"s{i}" for i in range(10)], 10)
    found = mean_with_intervals(list(values), list(speakers))
    over_files = found["high"] - found["low"]
    over_speakers = found["speakers_high"] - found["speakers_low"]
    assert over_speakers / over_files == pytest.approx(np.sqrt(10), rel=0.15)


def test_a_speaker_with_more_files_weighs_more() -> None:
    """The mean stays that over files, also within the bootstrap over speakers."""
    found = mean_with_intervals([1.0] * 9 + [0.0], ["many"] * 9 + ["one"])
    assert found["mean"] == 0.9
    assert (found["speakers_low"], found["speakers_high"]) == (0.0, 1.0)
    ten = mean_with_intervals([1.0] * 91 + [0.0] * 9, ["many"] * 91 + [f"one {i}" for i in range(9)])
    assert ten["speakers_high"] > 0.9  # once that speaker is drawn; were all alike, some 0.3


def test_one_file_says_nothing_about_others() -> None:
    assert mean_with_intervals([0.3], ["anna"]) == {"mean": 0.3, "files": 1, "speakers": 1}
    two = mean_with_intervals([0.3, 0.5], ["anna", "anna"])
    assert "low" in two and "speakers_low" not in two
    with pytest.raises(ValueError, match="no values"):
        mean_with_intervals([], [])


def test_the_same_values_give_the_same_interval_always() -> None:
    values, speakers = list(np.random.default_rng(3).normal(size=50)), list("ab" * 25)
    assert mean_with_intervals(values, speakers) == mean_with_intervals(values, speakers)
