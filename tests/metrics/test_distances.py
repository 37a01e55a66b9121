"""Distances against answers that are known: laws, descript-audio-codec's own numbers, librosa and numpy."""

import json
import math
from collections.abc import Callable
from typing import Any

import librosa
import numpy as np
import pytest
import torch
from torch import Tensor

from tests.golden import metrics as golden
from vqaudio.metrics import edge_error_ratio, log_spectral_distance, mel_distance, si_sdr, stft_distance

RATE = 16_000
ROWS: list[dict[str, Any]] = json.loads(golden.GOLDEN.read_text(encoding="utf-8"))["rows"]


def mel_distance_16k(estimate: Tensor, reference: Tensor) -> Tensor:
    return mel_distance(estimate, reference, sample_rate=RATE)


def edge_error_ratio_16k(estimate: Tensor, reference: Tensor) -> Tensor:
    return edge_error_ratio(estimate, reference, sample_rate=RATE)


DISTANCES = (mel_distance_16k, stft_distance, log_spectral_distance)
METRICS = (si_sdr, *DISTANCES, edge_error_ratio_16k)
Metric = Callable[[Tensor, Tensor], Tensor]


def noise(num_samples: int, seed: int) -> Tensor:
    """(1, 1, T) of Gaussian noise at -20 dBFS."""
    return 0.1 * torch.randn(1, 1, num_samples, generator=torch.Generator().manual_seed(seed))


def orthogonal_noise(signal: Tensor, *, snr_db: float) -> Tensor:
    """Noise without any part of `signal` in it, `snr_db` below it."""
    other = noise(signal.shape[-1], seed=1)
    other = other - (other * signal).sum() / signal.square().sum() * signal
    return other * (signal.norm() / other.norm()) * 10 ** (-snr_db / 20)


def pair(row: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Estimate and reference of a golden row, (1, 1, T)."""
    audio, sample_rate = golden.read_clip(row["clip"])
    assert sample_rate == RATE
    worse = golden.degrade(audio, row["degradation"])
    return torch.from_numpy(worse)[None, None], torch.from_numpy(audio)[None, None]


def golden_rows(test: Callable[..., None]) -> Callable[..., None]:
    ids = [f"{row['clip'].split('.')[0]}-{row['degradation']}" for row in ROWS]
    return pytest.mark.parametrize("row", ROWS, ids=ids)(test)


@golden_rows
def test_distances_are_those_of_descript_audio_codec(row: dict[str, Any]) -> None:
    estimate, reference = pair(row)
    # Its operations are the same in float32, up to their order; 5e-6 was seen, where a shift leaves small differences
    # of large magnitudes.
    assert mel_distance_16k(estimate, reference).item() == pytest.approx(row["mel_distance"], rel=2e-5)
    assert stft_distance(estimate, reference).item() == pytest.approx(row["stft_distance"], rel=2e-5)


@golden_rows
def test_si_sdr_is_that_of_descript_audio_codec(row: dict[str, Any]) -> None:
    wanted = row["si_sdr"]
    if wanted is None:  # infinite there: a change of level and nothing else
        assert si_sdr(*pair(row)).item() == 100.0
    else:  # it removes means, and adds 1e-8 to its sums: 1e-3 dB was seen
        assert si_sdr(*pair(row)).item() == pytest.approx(wanted, abs=5e-3)


@golden_rows
def test_log_spectral_distance_is_that_of_librosa_spectra(row: dict[str, Any]) -> None:
    pair_ = pair(row)
    spectra = [
        librosa.stft(x[0, 0].double().numpy(), n_fft=2048, hop_length=512, window="hann", pad_mode="reflect")
        for x in pair_
    ]
    one, other = (librosa.power_to_db(np.abs(x) ** 2, ref=1.0, amin=1e-8, top_db=None) for x in spectra)
    wanted = np.sqrt(np.mean((one - other) ** 2, axis=0)).mean()
    # both in float64; the value is rounded to float32
    assert log_spectral_distance(*pair_).item() == pytest.approx(float(wanted), rel=1e-6)


@pytest.mark.parametrize("snr_db", [-30.0, -3.0, 0.0, 17.5, 60.0])
def test_si_sdr_of_orthogonal_noise_is_its_level(snr_db: float) -> None:
    signal = noise(8000, seed=0)
    estimate = signal + orthogonal_noise(signal, snr_db=snr_db)
    assert si_sdr(estimate, signal).item() == pytest.approx(snr_db, abs=1e-3)


def test_si_sdr_of_any_noise_is_about_its_level(speech_clip: tuple[Tensor, int]) -> None:
    speech = speech_clip[0][None]
    other = noise(speech.shape[-1], seed=0)
    scaled = other * (speech.norm() / other.norm()) * 10 ** (-15 / 20)
    assert si_sdr(speech + scaled, speech).item() == pytest.approx(15.0, abs=0.1)


def test_si_sdr_ignores_gain_and_not_delay() -> None:
    signal = noise(8000, seed=0)
    estimate = signal + orthogonal_noise(signal, snr_db=12.0)
    for gain in (0.2, -3.0, 1e-25):  # the squares of the last are no float32
        assert si_sdr(gain * estimate, signal).item() == pytest.approx(12.0, abs=1e-3)
        assert si_sdr(estimate, gain * signal).item() == pytest.approx(12.0, abs=1e-3)
    assert si_sdr(signal.roll(1, dims=-1), signal).item() < -20.0


def test_si_sdr_of_a_sine_one_sample_late_is_the_cotangent_of_its_phase() -> None:
    time = torch.arange(RATE, dtype=torch.float64)
    sines = [torch.sin(2 * math.pi * 500 / RATE * (time - delay))[None, None] for delay in (1, 0)]
    # cos φ of it is the reference, and sin φ is not
    wanted = 20 * math.log10(1 / math.tan(2 * math.pi * 500 / RATE))
    assert si_sdr(*sines).item() == pytest.approx(wanted, abs=1e-3)


def test_si_sdr_is_a_number_within_100_db_whatever_it_gets() -> None:
    signal, silence = noise(4000, seed=0), torch.zeros(1, 1, 4000)
    assert si_sdr(signal, signal).item() == 100.0
    assert si_sdr(0.3 * signal, signal).item() == 100.0  # rounded to float32, more than 100 dB below
    assert si_sdr(silence, signal).item() == -100.0
    assert si_sdr(signal, silence).item() == -100.0
    assert si_sdr(silence, silence).item() == 100.0
    apart = [torch.cat(halves, dim=-1) for halves in ((signal, silence), (silence, signal))]
    assert si_sdr(*apart).item() == -100.0


def test_equal_signals_are_no_distance_apart(speech_clip: tuple[Tensor, int]) -> None:
    audio = speech_clip[0][None, :, :RATE]
    for distance in DISTANCES:
        assert distance(audio, audio).item() == 0.0
    assert edge_error_ratio_16k(audio, audio).item() == 1.0


@pytest.mark.parametrize("gain", [2.0, 0.5, -3.0])
def test_a_gain_is_the_distance_that_theory_says(gain: float) -> None:
    audio = noise(RATE, seed=0)  # nowhere near the floor of a logarithm
    log_gain = abs(math.log10(abs(gain)))
    assert log_spectral_distance(gain * audio, audio).item() == pytest.approx(20 * log_gain, rel=1e-5)
    assert mel_distance_16k(gain * audio, audio).item() == pytest.approx(7 * log_gain, rel=1e-4)
    louder = [stft_distance(gain * level * audio, level * audio).item() for level in (1.0, 2.0)]
    # log powers: 2 |log10 gain| at each of two windows; magnitudes: proportional to the level
    assert 2 * louder[0] - louder[1] == pytest.approx(4 * log_gain, rel=1e-4)
    assert louder[1] > louder[0]


def test_one_sample_of_delay_is_no_matter_to_spectra_of_steady_sound() -> None:
    time = torch.arange(RATE + 1, dtype=torch.float64)
    sound = sum(torch.sin(2 * math.pi * f / RATE * time) for f in (300, 1100, 4000)) / 10  # (T + 1,)
    late, audio = sound[None, None, :-1], sound[None, None, 1:]
    white = noise(RATE, seed=0)
    assert mel_distance_16k(late, audio).item() < 0.1 * mel_distance_16k(audio + 0.01 * white, audio).item()
    assert stft_distance(late, audio).item() < 0.1 * stft_distance(audio + 0.01 * white, audio).item()
    assert log_spectral_distance(late, audio).item() < 0.1 * log_spectral_distance(audio + 0.01 * white, audio).item()


def test_silence_is_at_the_floors() -> None:
    silence = torch.zeros(1, 1, RATE)
    for distance in DISTANCES:
        assert distance(1e-9 * noise(RATE, seed=0), silence).item() < 1e-6
    last_bit = (noise(RATE, seed=0) * 5).round() / 32768  # of 16
    assert 0 < last_bit.abs().max() < 4 / 32768
    assert 6.0 < log_spectral_distance(last_bit, silence).item() < 13.0


def test_mel_distance_is_the_sum_over_windows_of_librosa_mel_distances(speech_clip: tuple[Tensor, int]) -> None:
    reference = speech_clip[0][None, :, RATE : 2 * RATE]
    estimate = reference + 0.1 * noise(RATE, seed=0)
    wanted = 0.0
    for window, mels in zip((32, 64, 128, 256, 512, 1024, 2048), (5, 10, 20, 40, 80, 160, 320), strict=True):
        bank = librosa.filters.mel(sr=RATE, n_fft=window, n_mels=mels)
        both = [
            np.abs(librosa.stft(x[0, 0].numpy(), n_fft=window, hop_length=window // 4, pad_mode="reflect"))
            for x in (estimate, reference)
        ]
        one, other = (np.log10(np.maximum(bank @ magnitude, 1e-5)) for magnitude in both)
        wanted += float(np.abs(one - other).mean())
    # librosa transforms in another precision; log10 makes the most of what is left in the quietest bands
    assert mel_distance_16k(estimate, reference).item() == pytest.approx(wanted, rel=1e-3)


def test_stft_distance_is_that_of_numpy_spectra(speech_clip: tuple[Tensor, int]) -> None:
    reference = speech_clip[0][None, :, RATE : 2 * RATE]
    estimate = reference + 0.1 * noise(RATE, seed=0)
    wanted = 0.0
    for window in (512, 2048):
        taper = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
        magnitudes = []
        for x in (estimate, reference):
            padded = np.pad(x[0, 0].double().numpy(), window // 2, mode="reflect")
            frames = np.lib.stride_tricks.sliding_window_view(padded, window)[:: window // 4]
            magnitudes.append(np.abs(np.fft.rfft(frames * taper)))
        one, other = magnitudes
        wanted += np.abs(one - other).mean()
        wanted += np.abs(np.log10(np.maximum(one, 1e-5) ** 2) - np.log10(np.maximum(other, 1e-5) ** 2)).mean()
    assert stft_distance(estimate, reference).item() == pytest.approx(float(wanted), rel=1e-4)


@pytest.mark.parametrize("metric", METRICS)
def test_neighbours_in_a_batch_change_nothing(metric: Metric) -> None:
    reference = torch.cat([noise(4000, seed=0), 0.01 * noise(4000, seed=1), torch.zeros(1, 1, 4000)])
    estimate = reference + 0.1 * noise(4000, seed=2)
    together = metric(estimate, reference)
    assert together.shape == (3,) and together.dtype == torch.float32
    alone = torch.cat([metric(estimate[i : i + 1], reference[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(together, alone, rtol=1e-6, atol=0.0)  # sums of rows may differ in their last bits
    assert metric(estimate[:0], reference[:0]).shape == (0,)


@pytest.mark.parametrize("metric", METRICS)
def test_metrics_take_no_part_in_training(metric: Metric) -> None:
    estimate = noise(4000, seed=0).requires_grad_()
    assert not metric(estimate, noise(4000, seed=1)).requires_grad


def test_more_noise_is_a_larger_distance(speech_clip: tuple[Tensor, int]) -> None:
    reference = speech_clip[0][None, :, RATE : 2 * RATE]
    levels = torch.tensor([0.001, 0.01, 0.1])[:, None, None]
    estimates = reference + levels * noise(RATE, seed=0)
    references = reference.expand(3, -1, -1)
    for distance in DISTANCES:
        assert (distance(estimates, references).diff() > 0).all()
    assert (si_sdr(estimates, references).diff() < 0).all()


def test_edge_error_ratio_is_the_ratio_of_error_powers() -> None:
    reference = noise(RATE, seed=0)
    error = torch.ones_like(reference)
    error[..., :800] = 3.0  # 50 ms
    error[..., -800:] = 1.0
    # (9 + 1) / 2 at the edges, 1 in between
    assert edge_error_ratio_16k(reference + error, reference).item() == pytest.approx(5.0, rel=1e-5)


def test_what_cannot_be_compared_is_refused() -> None:
    for metric in METRICS:
        with pytest.raises(ValueError, match=r"shapes \(1, 1, 2000\) and \(1, 1, 1999\)"):
            metric(torch.zeros(1, 1, 2000), torch.zeros(1, 1, 1999))
        with pytest.raises(ValueError, match=r"\(batch, 1, samples\)"):
            metric(torch.zeros(1, 2, 2000), torch.zeros(1, 2, 2000))
    for distance in DISTANCES:
        with pytest.raises(ValueError, match="1024 samples are too short to compare spectra; 1025 are needed"):
            distance(torch.zeros(1, 1, 1024), torch.zeros(1, 1, 1024))
        assert distance(torch.zeros(1, 1, 1025), torch.zeros(1, 1, 1025)).item() == 0.0
    with pytest.raises(ValueError, match=r"do not hold two edges of 0.05 s"):
        edge_error_ratio_16k(torch.zeros(1, 1, 1600), torch.zeros(1, 1, 1600))
