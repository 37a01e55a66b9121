"""The package's own metrics as measures: their values, and what they say where they have none."""

import pickle
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from vqaudio import metrics
from vqaudio.evaluation import own
from vqaudio.evaluation.measures import Measure, NotMeasuredError
from vqaudio.evaluation.scoring import score

RATE = 16_000
MEASURES = {measure.values[0].name: measure for measure in own.own_measures()}
PITCH = ("f0_correlation", "voicing_f1")


@pytest.fixture(autouse=True)
def no_tracks_of_other_tests() -> Iterator[None]:
    own._track.cache_clear()
    yield
    own._track.cache_clear()


def value_of(name: str, estimate: np.ndarray, reference: np.ndarray) -> float:
    values = MEASURES[name].compute(estimate, reference, RATE)
    assert set(values) == {name}
    return values[name]


@pytest.fixture
def signals(speech_clip: tuple[Tensor, int]) -> tuple[np.ndarray, np.ndarray]:
    """Two seconds of speech with noise 30 dB below it, and as they were; (T,) float32."""
    reference = speech_clip[0][0, RATE : 3 * RATE].numpy()
    noise = np.random.default_rng(0).standard_normal(len(reference))
    estimate = reference + noise * reference.std() / 10**1.5
    return estimate.astype(np.float32), reference


def test_values_are_those_of_the_metrics(signals: tuple[np.ndarray, np.ndarray]) -> None:
    estimate, reference = (torch.from_numpy(signal)[None, None] for signal in signals)
    tracks = [metrics.pitch_track(signal, RATE) for signal in signals]
    wanted = {
        "si_sdr": metrics.si_sdr(estimate, reference).item(),
        "mel_distance": metrics.mel_distance(estimate, reference, sample_rate=RATE).item(),
        "stft_distance": metrics.stft_distance(estimate, reference).item(),
        "log_spectral_distance": metrics.log_spectral_distance(estimate, reference).item(),
        "f0_correlation": metrics.f0_correlation(*tracks),
        "voicing_f1": metrics.voicing_f1(*tracks),
    }
    assert {name: value_of(name, *signals) for name in MEASURES} == wanted
    assert wanted["si_sdr"] == pytest.approx(30.0, abs=0.2)
    assert wanted["f0_correlation"] > 0.9 and wanted["voicing_f1"] > 0.8


def test_identity_is_perfect_and_noise_is_worse(signals: tuple[np.ndarray, np.ndarray]) -> None:
    estimate, reference = signals
    best = {"si_sdr": 100.0, "f0_correlation": pytest.approx(1.0), "voicing_f1": 1.0}
    for name, measure in MEASURES.items():
        perfect = value_of(name, reference, reference)
        assert perfect == best.get(name, 0.0), name
        worse = value_of(name, estimate, reference)
        assert (worse < perfect) == (measure.values[0].better == "higher"), name


def test_mel_distance_is_at_the_rate_of_the_signals(signals: tuple[np.ndarray, np.ndarray]) -> None:
    at_16k, at_44k = (MEASURES["mel_distance"].compute(*signals, rate)["mel_distance"] for rate in (RATE, 44_100))
    assert at_16k != at_44k


def test_too_short_signals_are_not_measured() -> None:
    short = np.full(700, 0.1, np.float32)
    for name in ("mel_distance", "stft_distance", "log_spectral_distance"):
        with pytest.raises(NotMeasuredError, match="700 samples are too short to compare spectra; 1025 are needed"):
            value_of(name, short, short)
    for name in PITCH:
        with pytest.raises(NotMeasuredError, match="700 samples are too short to track pitch; 800 are needed"):
            value_of(name, short, short)


def test_one_value_of_pitch_may_be_undefined_where_the_other_is_not(signals: tuple[np.ndarray, np.ndarray]) -> None:
    _, reference = signals
    whisper = (0.05 * np.random.default_rng(0).standard_normal(len(reference))).astype(np.float32)
    with pytest.raises(NotMeasuredError, match=r"^[0-9] voiced frames in common, and 10 are needed"):
        value_of("f0_correlation", whisper, reference)
    assert value_of("voicing_f1", whisper, reference) < 0.1
    with pytest.raises(NotMeasuredError, match="no voiced frame in either signal"):
        value_of("voicing_f1", whisper[:1200], whisper[1200:2400])


def test_each_signal_is_tracked_once(signals: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    tracked: list[int] = []
    real = metrics.pitch_track

    def counting(audio: np.ndarray, sample_rate: int) -> metrics.PitchTrack:
        tracked.append(len(audio))
        return real(audio, sample_rate)

    monkeypatch.setattr(metrics, "pitch_track", counting)
    first, reference = signals
    estimates = [first, *(np.float32(factor) * first for factor in (0.9, 0.8))]
    for estimate in estimates:
        for name in PITCH:
            value_of(name, estimate, reference.copy())
    assert len(tracked) == 4
    value_of("voicing_f1", first[:-1], reference[:-1])
    assert len(tracked) == 6


def test_scoring_takes_them_as_they_are(signals: tuple[np.ndarray, np.ndarray]) -> None:
    estimate, reference = (torch.from_numpy(signal)[None] for signal in signals)
    measures: tuple[Measure, ...] = own.own_measures()
    scores = score(estimate, reference, RATE, measures)
    assert set(scores.values) == set(MEASURES) and not scores.unscored
    assert scores.values["si_sdr"] == pytest.approx(30.0, abs=0.2)
    short = score(estimate[:, :700], reference[:, :700], RATE, measures)
    assert set(short.values) == {"si_sdr"}
    assert all("too short" in reason for reason in short.unscored.values())


def test_pitch_is_of_speech_alone_and_at_16_khz() -> None:
    assert {name for name, measure in MEASURES.items() if measure.kinds == ("speech",)} == set(PITCH)
    for name, measure in MEASURES.items():
        assert (measure.sample_rate == 16_000) == (name in PITCH)
        assert [value.name for value in measure.values] == [name]


def test_measures_travel_to_other_processes(speech_clip: tuple[Tensor, int]) -> None:
    clip, rate = speech_clip[0][0].numpy(), speech_clip[1]
    for measure in pickle.loads(pickle.dumps(own.own_measures())):
        (value,) = measure.values
        assert measure.compute(clip, clip, rate).keys() == {value.name}
