"""The package's own metrics as measures. `vqaudio.metrics` says what each computes, and with which settings."""

from collections.abc import Callable, Mapping
from functools import lru_cache
from importlib.metadata import version

import numpy as np
import torch
from torch import Tensor

from vqaudio import metrics
from vqaudio.evaluation.measures import Compute, Measure, NotMeasuredError, Value

PITCH_RATE = 16_000  # Hz
PITCH_NOTE = "pYIN on frames of 50 ms every 20 ms, 60 to 500 Hz."


def own_measures() -> tuple[Measure, ...]:
    """SI-SDR and the spectral distances at any rate; of speech, what is kept of its pitch."""
    return (
        _distance(
            Value(
                name="si_sdr",
                label="SI-SDR",
                better="higher",
                decimals=2,
                unit="dB",
                note="Low for any codec that does not keep the phase, however it sounds.",
            ),
            lambda estimate, reference, _: metrics.si_sdr(estimate, reference),
        ),
        _distance(
            Value(
                name="mel_distance",
                label="Mel distance",
                better="lower",
                decimals=3,
                note="As descript-audio-codec defines it, seven windows summed; it depends on the sample rate.",
            ),
            lambda estimate, reference, rate: metrics.mel_distance(estimate, reference, sample_rate=rate),
        ),
        _distance(
            Value(
                name="stft_distance",
                label="STFT distance",
                better="lower",
                decimals=3,
                note="As descript-audio-codec defines it, magnitudes and log powers; it depends on the level.",
            ),
            lambda estimate, reference, _: metrics.stft_distance(estimate, reference),
        ),
        _distance(
            Value(
                name="log_spectral_distance",
                label="LSD",
                better="lower",
                decimals=2,
                unit="dB",
                note="Windows of 2,048 samples and powers of at least 1e-8; some papers leave out a factor of 10.",
            ),
            lambda estimate, reference, _: metrics.log_spectral_distance(estimate, reference),
        ),
        _of_pitch(
            Value(
                name="f0_correlation",
                label="F0 correlation",
                better="higher",
                decimals=3,
                note=f"Of log F0 where both are voiced. {PITCH_NOTE}",
            ),
            metrics.f0_correlation,
        ),
        _of_pitch(
            Value(
                name="voicing_f1",
                label="Voicing F1",
                better="higher",
                decimals=3,
                note=f"Of the decisions voiced or not. {PITCH_NOTE}",
            ),
            metrics.voicing_f1,
        ),
    )


def _distance(value: Value, metric: Callable[[Tensor, Tensor, int], Tensor]) -> Measure:
    """`metric` takes (1, 1, T) twice and the sample rate."""

    def compute(estimate: np.ndarray, reference: np.ndarray, sample_rate: int) -> float:
        return metric(_tensor(estimate), _tensor(reference), sample_rate).item()

    return Measure(values=(value,), kinds=("speech", "music"), sample_rate=None, compute=_measured(value, compute))


def _of_pitch(value: Value, metric: Callable[[metrics.PitchTrack, metrics.PitchTrack], float]) -> Measure:
    """A measure for each value: either may be undefined where the other is not. The tracks they share."""

    def compute(estimate: np.ndarray, reference: np.ndarray, sample_rate: int) -> float:
        one, other = (_track(signal.astype(np.float32).tobytes(), sample_rate) for signal in (estimate, reference))
        return metric(one, other)

    return Measure(
        values=(value,),
        kinds=("speech",),
        sample_rate=PITCH_RATE,
        compute=_measured(value, compute),
        versions={"librosa": version("librosa")},
    )


def _measured(value: Value, compute: Callable[[np.ndarray, np.ndarray, int], float]) -> Compute:
    """What a metric refuses with a ValueError is what it has no value for."""

    def named(estimate: np.ndarray, reference: np.ndarray, sample_rate: int) -> Mapping[str, float]:
        try:
            return {value.name: compute(estimate, reference, sample_rate)}
        except ValueError as error:
            raise NotMeasuredError(str(error)) from error

    return named


def _tensor(signal: np.ndarray) -> Tensor:
    return torch.tensor(signal, dtype=torch.float32)[None, None]


# Many estimates in a row have one reference, and both measures of pitch want both tracks. The key is the samples.
@lru_cache(maxsize=8)
def _track(samples: bytes, sample_rate: int) -> metrics.PitchTrack:
    return metrics.pitch_track(np.frombuffer(samples, np.float32), sample_rate)
