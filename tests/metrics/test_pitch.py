"""Pitch tracks of vowels whose pitch is known, and the two scores on tracks worked out by hand."""

import numpy as np
import pytest
from torch import Tensor

from vqaudio.metrics import PitchTrack, f0_correlation, pitch_track, voicing_f1

RATE = 16_000
HOP = 320  # 20 ms
FORMANTS = ((1.0, 700, 80), (0.6, 1200, 90), (0.3, 2500, 150))  # amplitude, Hz, half width in Hz: an open "a"


def vowel(f0_hz: np.ndarray) -> np.ndarray:
    """(T,) of harmonics of `f0_hz` (T,) below 7.6 kHz under the envelope of three formants."""
    phase = 2 * np.pi * np.cumsum(f0_hz) / RATE
    total = np.zeros(len(f0_hz))
    for harmonic in range(1, 1 + int(7600 / f0_hz.min())):
        frequency = harmonic * f0_hz
        envelope = sum(amplitude / (1 + ((frequency - centre) / width) ** 2) for amplitude, centre, width in FORMANTS)
        total += np.where(frequency < 7600, envelope, 0) * np.sin(harmonic * phase)
    return 0.1 * total / total.std()


def glissando(low_hz: float, high_hz: float, *, seconds: float = 3.0) -> tuple[np.ndarray, PitchTrack]:
    """A vowel that glides up and down every two seconds and pauses for .5 of every 1.25, in noise of -50 dBFS; and its
    true track."""
    T = round(seconds * RATE)
    time = np.arange(T) / RATE
    f0_hz = low_hz * (high_hz / low_hz) ** (0.5 - 0.5 * np.cos(np.pi * time))
    sounds = time % 1.25 < 0.75
    edges = np.hanning(160)  # 10 ms
    audio = vowel(f0_hz) * np.convolve(sounds, edges / edges.sum(), mode="same")
    audio += 0.003 * np.random.default_rng(0).standard_normal(T)
    frames = np.minimum(np.arange(1 + T // HOP) * HOP, T - 1)
    return audio.astype(np.float32), PitchTrack(np.where(sounds[frames], f0_hz[frames], np.nan), sounds[frames])


def track(*f0_hz: float) -> PitchTrack:
    """0 is unvoiced."""
    values = np.array(f0_hz)
    return PitchTrack(np.where(values > 0, values, np.nan), values > 0)


@pytest.mark.parametrize(("low_hz", "high_hz"), [(70, 140), (100, 300), (180, 450)])
def test_a_glissando_is_followed(low_hz: float, high_hz: float) -> None:
    audio, truth = glissando(low_hz, high_hz)
    found = pitch_track(audio, RATE)
    assert f0_correlation(found, truth) > 0.999
    assert voicing_f1(found, truth) > 0.97
    cents = 1200 * np.log2(found.f0_hz / truth.f0_hz)
    assert np.nanmedian(np.abs(cents)) < 12.5  # half a step of its grid
    assert np.nanmax(np.abs(cents)) < 250  # nowhere another octave


def test_noise_and_silence_have_no_pitch() -> None:
    noise = np.random.default_rng(1).standard_normal(2 * RATE)
    assert pitch_track(0.1 * noise, RATE).voiced.mean() < 0.02
    silence = pitch_track(np.zeros(RATE), RATE)
    assert silence.voiced.shape == (51,) and not silence.voiced.any()
    assert np.isnan(silence.f0_hz).all()


def test_pitch_does_not_depend_on_the_level_or_the_sample_rate(speech_clip: tuple[Tensor, int]) -> None:
    speech = speech_clip[0][0, : 3 * RATE]
    loud = pitch_track(speech, RATE)
    quiet = pitch_track(0.125 * speech, RATE)
    np.testing.assert_array_equal(loud.f0_hz, quiet.f0_hz)
    spectrum = np.fft.rfft(speech.numpy())
    faster = pitch_track(1.5 * np.fft.irfft(spectrum, len(speech) * 3 // 2), 24_000)
    assert voicing_f1(faster, loud) > 0.95 and f0_correlation(faster, loud) > 0.98


def test_f0_correlation_is_that_of_logarithms() -> None:
    up = [100.0 * 2 ** (n / 12) for n in range(12)]
    assert f0_correlation(track(*(1.5 * f for f in up)), track(*up)) == pytest.approx(1.0)
    assert f0_correlation(track(*reversed(up)), track(*up)) == pytest.approx(-1.0)
    octave_up, octave_down = ([f * factor if n == 11 else f for n, f in enumerate(up)] for factor in (2.0, 0.5))
    semitones = np.arange(12.0)
    for other, step in ((octave_up, 12), (octave_down, -12)):
        wanted = np.corrcoef(semitones + step * (semitones == 11), semitones)[0, 1]
        assert f0_correlation(track(*other), track(*up)) == pytest.approx(wanted)


def test_f0_correlation_is_over_the_frames_voiced_in_both() -> None:
    up = [100.0 + n for n in range(14)]
    reference = track(0, 0, *up[2:])
    estimate = track(400, 400, *up[2:12], 0, 0)
    assert f0_correlation(estimate, reference) == pytest.approx(1.0)


def test_f0_correlation_is_refused_where_it_is_undefined() -> None:
    up, flat = track(*range(100, 112)), track(*[100.0] * 12)
    with pytest.raises(ValueError, match=r"^9 voiced frames in common, and 10 are needed"):
        f0_correlation(up, track(0, 0, 0, *range(103, 112)))
    with pytest.raises(ValueError, match="pitch of the reference is constant over the 12 voiced frames in common"):
        f0_correlation(up, flat)
    with pytest.raises(ValueError, match="pitch of the estimate is constant"):
        f0_correlation(flat, up)


def test_voicing_f1_of_four_frames() -> None:
    # 1 in both, 1 only in the estimate, 2 only in the reference: 2 · 1 / (2 + 3)
    estimate, reference = track(100, 100, 0, 0, 0), track(100, 0, 100, 100, 0)
    assert voicing_f1(estimate, reference) == pytest.approx(0.4)
    assert voicing_f1(reference, reference) == 1.0
    assert voicing_f1(estimate, track(0, 0, 0, 0, 0)) == 0.0
    with pytest.raises(ValueError, match="no voiced frame in either signal"):
        voicing_f1(track(0, 0), track(0, 0))


def test_what_cannot_be_tracked_or_compared_is_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(1, 800\); one channel \(T,\) is wanted"):
        pitch_track(np.zeros((1, 800)), RATE)
    with pytest.raises(ValueError, match="799 samples are too short to track pitch; 800 are needed"):
        pitch_track(np.zeros(799), RATE)
    with pytest.raises(ValueError, match="sample rate is 6,000; resample first"):
        pitch_track(np.zeros(6000), 6000)
    with pytest.raises(ValueError, match="tracks of 2 and 3 frames"):
        voicing_f1(track(1, 1), track(1, 1, 1))
    with pytest.raises(ValueError, match=r"shapes \(3,\) and \(2,\)"):
        PitchTrack(np.zeros(3), np.zeros(2, dtype=bool))
