"""Metrics against answers that are known: identity, noise of a known level, librosa and numpy."""

import math

import librosa
import numpy as np
import pytest
import torch
from torch import Tensor

from vqaudio.metrics import edge_error_ratio, mel_distance, si_sdr, stft_distance

RATE = 16_000


def noise(num_samples: int, seed: int) -> Tensor:
    """(1, 1, T) of Gaussian noise at -20 dBFS."""
    return 0.1 * torch.randn(1, 1, num_samples, generator=torch.Generator().manual_seed(seed))


def orthogonal_noise(signal: Tensor, *, snr_db: float) -> Tensor:
    """Noise without any part of `signal` in it, `snr_db` below it."""
    other = noise(signal.shape[-1], seed=1)
    other = other - (other * signal).sum() / signal.square().sum() * signal
    return other * (signal.norm() / other.norm()) * 10 ** (-snr_db / 20)


@pytest.mark.parametrize("snr_db", [-3.0, 0.0, 17.5])
def test_si_sdr_of_orthogonal_noise_is_its_level(snr_db: float) -> None:
    signal = noise(8000, seed=0)
    estimate = signal + orthogonal_noise(signal, snr_db=snr_db)
    assert si_sdr(estimate, signal).item() == pytest.approx(snr_db, abs=1e-3)


def test_si_sdr_ignores_gain_and_not_delay() -> None:
    signal = noise(8000, seed=0)
    estimate = signal + orthogonal_noise(signal, snr_db=12.0)
    assert si_sdr(0.2 * estimate, signal).item() == pytest.approx(12.0, abs=1e-3)
    assert si_sdr(signal.roll(1, dims=-1), signal).item() < -20.0


def test_equal_signals_are_no_distance_apart(speech_clip: tuple[Tensor, int]) -> None:
    audio = speech_clip[0][None, :, :RATE]
    assert mel_distance(audio, audio, sample_rate=RATE).item() == 0.0
    assert stft_distance(audio, audio).item() == 0.0
    assert si_sdr(audio, audio).item() > 80.0
    assert edge_error_ratio(audio, audio, sample_rate=RATE).item() == 1.0


def test_a_gain_of_6_db_is_a_distance_of_6_db_at_every_window() -> None:
    audio = noise(RATE, seed=0)  # nowhere near the floor of the logarithm
    assert stft_distance(2.0 * audio, audio).item() == pytest.approx(20 * math.log10(2), rel=1e-4)
    assert mel_distance(2.0 * audio, audio, sample_rate=RATE).item() == pytest.approx(7 * math.log10(2), rel=1e-4)


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
    assert mel_distance(estimate, reference, sample_rate=RATE).item() == pytest.approx(wanted, rel=1e-3)


def test_stft_distance_is_that_of_numpy_spectra(speech_clip: tuple[Tensor, int]) -> None:
    reference = speech_clip[0][None, :, RATE : 2 * RATE]
    estimate = reference + 0.1 * noise(RATE, seed=0)
    distances = []
    for window in (512, 2048):
        taper = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
        levels = []
        for x in (estimate, reference):
            padded = np.pad(x[0, 0].double().numpy(), window // 2, mode="reflect")
            frames = np.lib.stride_tricks.sliding_window_view(padded, window)[:: window // 4]
            levels.append(20 * np.log10(np.maximum(np.abs(np.fft.rfft(frames * taper)), 1e-5)))
        distances.append(np.abs(levels[0] - levels[1]).mean())
    assert stft_distance(estimate, reference).item() == pytest.approx(float(np.mean(distances)), rel=1e-3)


def test_neighbours_in_a_batch_change_nothing() -> None:
    reference = torch.cat([noise(4000, seed=0), 0.01 * noise(4000, seed=1), torch.zeros(1, 1, 4000)])
    estimate = reference + 0.1 * noise(4000, seed=2)
    metrics = (
        si_sdr,
        stft_distance,
        lambda x, y: mel_distance(x, y, sample_rate=RATE),
        lambda x, y: edge_error_ratio(x, y, sample_rate=RATE),
    )
    for metric in metrics:
        together = metric(estimate, reference)
        assert together.shape == (3,)
        alone = torch.cat([metric(estimate[i : i + 1], reference[i : i + 1]) for i in range(3)])
        torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)


def test_more_noise_is_a_larger_distance(speech_clip: tuple[Tensor, int]) -> None:
    reference = speech_clip[0][None, :, RATE : 2 * RATE]
    levels = torch.tensor([0.001, 0.01, 0.1])[:, None, None]
    estimates = reference + levels * noise(RATE, seed=0)
    references = reference.expand(3, -1, -1)
    assert (mel_distance(estimates, references, sample_rate=RATE).diff() > 0).all()
    assert (stft_distance(estimates, references).diff() > 0).all()
    assert (si_sdr(estimates, references).diff() < 0).all()


def test_edge_error_ratio_is_the_ratio_of_error_powers() -> None:
    reference = noise(RATE, seed=0)
    error = torch.ones_like(reference)
    error[..., :800] = 3.0  # 50 ms
    error[..., -800:] = 1.0
    # (9 + 1) / 2 at the edges, 1 in between
    assert edge_error_ratio(reference + error, reference, sample_rate=RATE).item() == pytest.approx(5.0, rel=1e-5)


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(ValueError, match=r"shapes \(1, 1, 2000\) and \(1, 1, 1999\)"):
        stft_distance(torch.zeros(1, 1, 2000), torch.zeros(1, 1, 1999))
    with pytest.raises(ValueError, match=r"\(batch, 1, samples\)"):
        mel_distance(torch.zeros(1, 2, 2000), torch.zeros(1, 2, 2000), sample_rate=RATE)
    with pytest.raises(ValueError, match="1024 samples are too short to compare spectra; 1025 are needed"):
        mel_distance(torch.zeros(1, 1, 1024), torch.zeros(1, 1, 1024), sample_rate=RATE)
    with pytest.raises(ValueError, match=r"do not hold two edges of 0.05 s"):
        edge_error_ratio(torch.zeros(1, 1, 1600), torch.zeros(1, 1, 1600), sample_rate=RATE)
