"""Means with bootstrap intervals, over files and over speakers.

Files of one speaker resemble each other, so an interval over files alone is too narrow for "on other speakers"; the
second interval draws whole speakers (a cluster bootstrap; Davison & Hinkley, Bootstrap Methods, 1997, sec. 3.8).
"""

from collections.abc import Sequence

import numpy as np

from vqaudio.evaluation.rules import RESAMPLES

PERCENTILES = (2.5, 97.5)
DIGITS = 5
CHUNK = 4_000_000  # picks at a time: 32 MB


def mean_with_intervals(values: Sequence[float], speakers: Sequence[str], *, seed: int = 0) -> dict[str, float]:
    """The mean of `values` and its 95 % intervals; `speakers` names who each value is of ("": nobody else's).

    Of one file, or of one speaker, nothing can be said about others: that interval is left out.
    """
    array = np.asarray(values, dtype=np.float64)
    if not len(array):
        raise ValueError("a mean of no values was asked for")
    result = {"mean": _rounded(array.mean()), "files": len(array)}
    if len(array) > 1:
        low, high = np.percentile(_means_of_resamples(array, np.ones_like(array), seed), PERCENTILES)
        result |= {"low": _rounded(low), "high": _rounded(high)}
    names = [speaker or f"file {number}" for number, speaker in enumerate(speakers)]
    _, groups = np.unique(names, return_inverse=True)
    sums, counts = np.bincount(groups, weights=array), np.bincount(groups).astype(np.float64)
    result["speakers"] = len(sums)
    if len(sums) > 1:
        low, high = np.percentile(_means_of_resamples(sums, counts, seed), PERCENTILES)
        result |= {"speakers_low": _rounded(low), "speakers_high": _rounded(high)}
    return result


def _means_of_resamples(sums: np.ndarray, counts: np.ndarray, seed: int) -> np.ndarray:
    """(RESAMPLES,): groups drawn with replacement, the sum of all their values over the number of all their values."""
    generator = np.random.default_rng(seed)
    at_once = max(1, CHUNK // len(sums))
    means = []
    for start in range(0, RESAMPLES, at_once):
        picks = generator.integers(0, len(sums), size=(min(at_once, RESAMPLES - start), len(sums)))
        means.append(sums[picks].sum(axis=1) / counts[picks].sum(axis=1))
    return np.concatenate(means)


def _rounded(value: float) -> float:
    return round(float(value), DIGITS)
