"""Losses: nothing for equal signals, known values where one can work them out, and gradients that survive silence."""

import math
from collections.abc import Callable

import librosa
import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor
from torch.nn import functional as F

from vqaudio.losses import (
    MultiResolutionSTFT,
    MultiScaleMel,
    mu_law_cross_entropy,
    waveform_l1,
    waveform_mse,
)
from vqaudio.losses.reconstruction import si_sdr
from vqaudio.nn.companding import mu_law_encode

RATE, T = 16_000, 4_000
MEL = MultiScaleMel(RATE, windows=(64, 512), num_mels=(10, 80))
STFT = MultiResolutionSTFT(windows=(64, 512), compressed=True)
LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "waveform_l1": waveform_l1,
    "waveform_mse": waveform_mse,
    "mel": MEL,
    "magnitude": lambda estimate, reference: STFT(estimate, reference)["magnitude"],
    "log_magnitude": lambda estimate, reference: STFT(estimate, reference)["log_magnitude"],
    "complex": lambda estimate, reference: STFT(estimate, reference)["complex"],
    "compressed_magnitude": lambda estimate, reference: STFT(estimate, reference)["compressed_magnitude"],
    "compressed_complex": lambda estimate, reference: STFT(estimate, reference)["compressed_complex"],
}
every_loss = pytest.mark.parametrize("name", LOSSES)


def noise(batch: int = 2, seed: int = 0, level: float = 0.1) -> Tensor:
    return level * torch.randn(batch, 1, T, generator=torch.Generator().manual_seed(seed))


@every_loss
def test_equal_signals_cost_nothing(name: str) -> None:
    audio = noise()
    assert LOSSES[name](audio, audio).item() == pytest.approx(0.0, abs=1e-5)
    assert LOSSES[name](torch.zeros(2, 1, T), torch.zeros(2, 1, T)).item() == pytest.approx(0.0, abs=1e-3)


@every_loss
def test_worse_estimates_cost_more(name: str) -> None:
    reference, error = noise(), noise(seed=1)
    costs = [LOSSES[name](reference + gain * error, reference).item() for gain in (0.01, 0.1, 1.0, 10.0)]
    assert costs == sorted(costs) and costs[0] < 0.5 * costs[-1]


@every_loss
@pytest.mark.parametrize("silent", ["estimate", "reference", "both"])
def test_gradient_is_finite_in_digital_silence(name: str, silent: str) -> None:
    estimate = torch.zeros(2, 1, T) if silent in ("estimate", "both") else noise()
    reference = torch.zeros(2, 1, T) if silent in ("reference", "both") else noise(seed=1)
    estimate.requires_grad_()
    loss = LOSSES[name](estimate, reference)
    loss.backward()
    assert loss.isfinite()
    assert estimate.grad is not None and estimate.grad.isfinite().all()
    # nor may one silent crop take over a batch: all else has gradients of about 1 / T
    assert estimate.grad.norm() < 1e3


@every_loss
def test_items_of_a_batch_do_not_meet(name: str) -> None:
    """A loud item's level is not the measure of a quiet one beside it."""
    loud, quiet = noise(1, seed=1), noise(1, seed=2, level=1e-3)
    estimate = noise(2, seed=3, level=0.05)
    together = LOSSES[name](estimate, torch.cat([loud, quiet]))
    alone = (LOSSES[name](estimate[:1], loud) + LOSSES[name](estimate[1:], quiet)) / 2
    torch.testing.assert_close(together, alone)


# ---- time domain


@given(gain=st.floats(0.1, 2.0), level=st.floats(0.02, 1.0))
def test_waveform_l1_is_relative_to_the_level(gain: float, level: float) -> None:
    square_wave = level * torch.tensor([1.0, -1.0]).repeat(T // 2).view(1, 1, T)  # mean |x| = level = rms
    assert waveform_l1(torch.zeros(1, 1, T), square_wave).item() == pytest.approx(1.0, rel=1e-5)
    assert waveform_l1(gain * square_wave, square_wave).item() == pytest.approx(abs(1 - gain), abs=1e-5)


def test_waveform_l1_measures_silence_against_its_floor() -> None:
    assert waveform_l1(torch.full((1, 1, T), 1e-3), torch.zeros(1, 1, T)).item() == pytest.approx(0.1, rel=1e-5)


def test_waveform_mse_is_the_mean_square() -> None:
    assert waveform_mse(torch.full((2, 1, T), 0.5), torch.full((2, 1, T), 0.3)).item() == pytest.approx(0.04)


def test_mu_law_cross_entropy_of_even_odds_and_of_certainty() -> None:
    audio = noise()
    even = mu_law_cross_entropy(torch.zeros(2, 256, T), audio)
    assert even.item() == pytest.approx(math.log(256), rel=1e-5)
    certain = 50.0 * F.one_hot(mu_law_encode(audio)[:, 0], 256).transpose(1, 2).float()
    assert mu_law_cross_entropy(certain, audio).item() == pytest.approx(0.0, abs=1e-5)
    assert mu_law_cross_entropy(certain.flip(-1), audio).item() > 10


@given(snr_db=st.floats(-10, 50), gain=st.floats(0.1, 3.0))
def test_si_sdr_of_a_known_noise_at_any_gain(snr_db: float, gain: float) -> None:
    steps = torch.arange(T) * 2 * math.pi / T
    signal, error = torch.sin(10 * steps).view(1, 1, T), torch.cos(10 * steps).view(1, 1, T)  # orthogonal
    estimate = gain * (signal + 10 ** (-snr_db / 20) * error)
    assert si_sdr(estimate, signal).item() == pytest.approx(snr_db, abs=0.02)


def test_si_sdr_is_one_value_per_item() -> None:
    reference = noise(2)
    estimate = torch.stack([reference[0], reference[1] + noise(1, seed=5)[0]])
    perfect, poor = si_sdr(estimate, reference)
    assert perfect > 60 and -3 < poor < 3


@pytest.mark.parametrize("silent", ["estimate", "reference", "both"])
def test_si_sdr_of_silence_is_finite(silent: str) -> None:
    estimate = torch.zeros(1, 1, T) if silent != "reference" else noise(1)
    reference = torch.zeros(1, 1, T) if silent != "estimate" else noise(1)
    assert si_sdr(estimate, reference).isfinite().all()


# ---- spectra


@pytest.mark.parametrize("sample_rate", [16_000, 24_000, 44_100])
def test_no_mel_band_is_empty(sample_rate: int) -> None:
    """An empty band would say nothing, and look like a band in which all is well."""
    mel = MultiScaleMel(sample_rate)
    banks = [mel.get_buffer(f"bank_{size}") for size in mel.windows]
    assert [len(bank) for bank in banks] == [5, 10, 20, 40, 80, 160, 320]
    assert all((bank.sum(dim=1) > 0).all() for bank in banks)


def test_one_mel_scale_by_numpy_with_librosas_filters() -> None:
    estimate, reference = noise(1), noise(1, seed=1)
    filters = librosa.filters.mel(sr=RATE, n_fft=512, n_mels=80)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(512) / 512)  # Hann, periodic
    spectra = []
    for audio in (estimate, reference):
        padded = np.pad(audio[0, 0].double().numpy(), 256, mode="reflect")
        frames = np.lib.stride_tricks.sliding_window_view(padded, 512)[::128]
        spectra.append(np.log10(np.maximum(filters @ np.abs(np.fft.rfft(frames * window)).T, 1e-5)))
    expected = np.abs(spectra[0] - spectra[1]).mean()
    one_scale = MultiScaleMel(RATE, windows=(512,), num_mels=(80,))
    assert one_scale(estimate, reference).item() == pytest.approx(expected, rel=1e-4)


def test_scales_are_averaged() -> None:
    estimate, reference = noise(1), noise(1, seed=1)
    each = [
        MultiScaleMel(RATE, windows=(size,), num_mels=(mels,))(estimate, reference)
        for size, mels in zip(MEL.windows, (10, 80), strict=True)
    ]
    torch.testing.assert_close(MEL(estimate, reference), torch.stack(each).mean())


@settings(max_examples=10)
@given(gain_db=st.floats(-30, 30))
def test_log_spectra_measure_gain_in_tenths_of_a_bel(gain_db: float) -> None:
    audio = noise()
    louder = audio * 10 ** (gain_db / 20)
    expected = pytest.approx(abs(gain_db) / 20, abs=0.01)
    assert MEL(louder, audio).item() == expected
    assert LOSSES["log_magnitude"](louder, audio).item() == expected


@pytest.mark.parametrize("gain", [0.0, 0.5, 2.0])
def test_linear_spectra_measure_gain_as_a_ratio(gain: float) -> None:
    parts = STFT(gain * noise(), noise())
    assert parts["magnitude"].item() == pytest.approx(abs(1 - gain), rel=1e-3)
    assert parts["complex"].item() == pytest.approx(abs(1 - gain), rel=1e-3)


@pytest.mark.parametrize("gain", [0.1, 0.5, 2.0])
def test_compressed_spectra_measure_gain_as_loudness(gain: float) -> None:
    parts = STFT(gain * noise(), noise())
    assert parts["compressed_magnitude"].item() == pytest.approx(abs(1 - gain**0.3), rel=2e-3)
    assert parts["compressed_complex"].item() == pytest.approx(abs(1 - gain**0.3), rel=2e-3)


def test_what_is_lost_of_a_quiet_part_counts_for_more_when_compressed() -> None:
    loud_then_quiet = torch.cat([noise(level=0.1), noise(level=0.001, seed=1)], dim=-1)
    without_quiet = loud_then_quiet * (torch.arange(2 * T) < T)
    parts = STFT(without_quiet, loud_then_quiet)
    assert parts["complex"].item() < 0.02
    assert parts["compressed_complex"].item() == pytest.approx(0.01**0.3 / (1 + 0.01**0.3), rel=0.1)
    assert parts["compressed_magnitude"].item() > 5 * parts["magnitude"].item()


def test_parts_that_nobody_asked_for_are_not_computed() -> None:
    assert set(MultiResolutionSTFT(windows=(64,))(noise(), noise())) == {"magnitude", "log_magnitude", "complex"}


def test_only_complex_spectra_and_waveforms_hear_a_turned_sign() -> None:
    audio = noise()
    parts = STFT(-audio, audio)
    assert parts["magnitude"].item() == pytest.approx(0, abs=1e-5)
    assert parts["log_magnitude"].item() == pytest.approx(0, abs=1e-5)
    assert parts["compressed_magnitude"].item() == pytest.approx(0, abs=1e-5)
    assert MEL(-audio, audio).item() == pytest.approx(0, abs=1e-5)
    assert parts["complex"].item() == pytest.approx(2.0, rel=1e-3)
    assert parts["compressed_complex"].item() == pytest.approx(2.0, rel=1e-3)
    assert waveform_l1(-audio, audio).item() > 1.5


def test_windows_without_a_number_of_mels_are_refused() -> None:
    with pytest.raises(ValueError, match="2 windows but 1 numbers of mels; give one number per window"):
        MultiScaleMel(RATE, windows=(64, 512), num_mels=(10,))


@every_loss
@pytest.mark.parametrize("num_samples", [1, 7, 256, 257])
def test_clips_shorter_than_half_a_window_have_a_loss(name: str, num_samples: int) -> None:
    estimate, reference = noise()[..., :num_samples], noise(seed=1)[..., :num_samples]
    estimate.requires_grad_()
    loss = LOSSES[name](estimate, reference)
    loss.backward()
    assert loss.isfinite() and loss > 0 and estimate.grad is not None and estimate.grad.isfinite().all()
