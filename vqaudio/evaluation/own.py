"""The package's own metrics as measures. `vqaudio.metrics` says what each computes, and with which settings."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version

import numpy as np
import torch
from torch import Tensor

from vqaudio import metrics
from vqaudio.evaluation.measures import Measure, NotMeasuredError, Value

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
            _si_sdr,
        ),
        _distance(
            Value(
                name="mel_distance",
                label="Mel distance",
                better="lower",
                decimals=3,
                note="As descript-audio-codec defines it, seven windows summed; it depends on the sample rate.",
            ),
            _mel_distance,
        ),
        _distance(
            Value(
                name="stft_distance",
                label="STFT distance",
                better="lower",
                decimals=3,
                note="As descript-audio-codec defines it, magnitudes and log powers; it depends on the level.",
            ),
            _stft_distance,
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
            _log_spectral_distance,
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


# Measures travel to other processes, so what they compute by are functions of this module and instances of its classes.


def _si_sdr(estimate: Tensor, reference: Tensor, sample_rate: int) -> Tensor:
    return metrics.si_sdr(estimate, reference)


def _mel_distance(estimate: Tensor, reference: Tensor, sample_rate: int) -> Tensor:
    return metrics.mel_distance(estimate, reference, sample_rate=sample_rate)


def _stft_distance(estimate: Tensor, reference: Tensor, sample_rate: int) -> Tensor:
    return metrics.stft_distance(estimate, reference)


def _log_spectral_distance(estimate: Tensor, reference: Tensor, sample_rate: int) -> Tensor:
    return metrics.log_spectral_distance(estimate, reference)


def _distance(value: Value, metric: Callable[[Tensor, Tensor, int], Tensor]) -> Measure:
    """`metric` takes (1, 1, T) twice and the sample rate."""
    return Measure(values=(value,), kinds=("speech", "music"), sample_rate=None, compute=_Distance(value.name, metric))


def _of_pitch(value: Value, metric: Callable[[metrics.PitchTrack, metrics.PitchTrack], float]) -> Measure:
    """A measure for each value: either may be undefined where the other is not. The tracks they share."""
    return Measure(
        values=(value,),
        kinds=("speech",),
        sample_rate=PITCH_RATE,
        compute=_OfPitch(value.name, metric),
        versions={"librosa": version("librosa")},
    )


@dataclass(frozen=True)
class _Distance:
    """What a metric refuses with a ValueError is what it has no value for."""

    name: str
    metric: Callable[[Tensor, Tensor, int], Tensor]

    def __call__(self, estimate: np.ndarray, reference: np.ndarray, sample_rate: int) -> Mapping[str, float]:
        try:
            return {self.name: self.metric(_tensor(estimate), _tensor(reference), sample_rate).item()}
        except ValueError as error:
            raise NotMeasuredError(str(error)) from error


@dataclass(frozen=True)
class _OfPitch:
    """Likewise, of the pitch tracks of both."""

    name: str
    metric: Callable[[metrics.PitchTrack, metrics.PitchTrack], float]

    def __call__(self, estimate: np.ndarray, reference: np.ndarray, sample_rate: int) -> Mapping[str, float]:
        try:
            one, other = (_track(signal.astype(np.float32).tobytes(), sample_rate) for signal in (estimate, reference))
            return {self.name: self.metric(one, other)}
        except ValueError as error:
            raise NotMeasuredError(str(error)) from error


def _tensor(signal: np.ndarray) -> Tensor:
    return torch.tensor(signal, dtype=torch.float32)[None, None]


# Many estimates in a row have one reference, and both measures of pitch want both tracks. The key is the samples.
@lru_cache(maxsize=8)
def _track(samples: bytes, sample_rate: int) -> metrics.PitchTrack:
    return metrics.pitch_track(np.frombuffer(samples, np.float32), sample_rate)
