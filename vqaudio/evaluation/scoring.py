"""One estimate against its reference: every value that can be computed, and for the others why not."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from vqaudio.dsp import resample
from vqaudio.evaluation.measures import Measure, NotMeasuredError

DIGITS = 5  # behind the point, of a value in the results


@dataclass(frozen=True)
class Scores:
    """By the names of values; what is in neither was not asked for."""

    values: dict[str, float] = field(default_factory=dict)
    unscored: dict[str, str] = field(default_factory=dict)  # the reasons, in words


def score(estimate: Tensor, reference: Tensor, sample_rate: int, measures: Sequence[Measure]) -> Scores:
    """(1, T) both, at the scoring rate, after 16 bits. Measures that are missing here are passed over."""
    if estimate.shape != reference.shape or reference.ndim != 2 or len(reference) != 1:
        raise ValueError(
            f"estimate and reference have shapes {tuple(estimate.shape)} and {tuple(reference.shape)}; "
            "both must be the same (1, samples)"
        )
    scores = Scores()
    silent = (
        "the recording is silent" if not reference.any() else "the estimate is silent" if not estimate.any() else ""
    )
    pairs = {sample_rate: (estimate, reference)}
    for measure in measures:
        names = [value.name for value in measure.values]
        if measure.missing is not None:
            continue
        if silent:
            scores.unscored.update(dict.fromkeys(names, silent))
            continue
        rate = measure.sample_rate or sample_rate
        if rate not in pairs:
            pairs[rate] = (resample(estimate, sample_rate, rate), resample(reference, sample_rate, rate))
        one, other = (signal[0].contiguous().numpy() for signal in pairs[rate])
        try:
            with torch.inference_mode():
                found = measure.compute(one, other, rate)
            for name in names:
                if not math.isfinite(found[name]):
                    raise NotMeasuredError(f"its value is {found[name]}")
        except NotMeasuredError as error:
            scores.unscored.update(dict.fromkeys(names, str(error)))
        except Exception as error:  # of somebody else's code: it must not cost the other measures their values
            scores.unscored.update(dict.fromkeys(names, f"failed: {type(error).__name__}: {error}"))
        else:
            scores.values.update({name: round(float(found[name]), DIGITS) for name in names})
    return scores
