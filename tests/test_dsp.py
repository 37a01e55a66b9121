"""The resampler against sines, torchaudio and itself in other chunks; mixing down; mel filters against librosa."""

import math
from fractions import Fraction

import librosa
import numpy as np
import pytest
import torch
import torchaudio
from hypothesis import given, settings, strategies as st
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
from torch import Tensor

from vqaudio.dsp import Resampler, mel_filterbank, mix_down, resample, resampled_length

RATE_PAIRS = [(44100, 16000), (22050, 16000), (48000, 24000), (16000, 44100), (24000, 16000), (8000, 11025)]


def noise(num_samples: int, *, channels: int = 1, seed: int = 0) -> Tensor:
    return torch.randn(channels, num_samples, generator=torch.Generator().manual_seed(seed)) * 0.1


def sine(frequency_hz: float, sample_rate: int, num_samples: int) -> Tensor:
    """(1, T) float32, of amplitude 1."""
    time = torch.arange(num_samples, dtype=torch.float64) / sample_rate
    return torch.sin(2 * math.pi * frequency_hz * time).float()[None]


def snr_db(estimate: Tensor, reference: Tensor) -> float:
    estimate, reference = estimate.double(), reference.double()
    return float(10 * torch.log10(reference.square().sum() / (estimate - reference).square().sum()))


def in_chunks(audio: Tensor, source_rate: int, target_rate: int, sizes: list[int]) -> Tensor:
    resampler = Resampler(source_rate, target_rate)
    pieces, position = [], 0
    for size in [*sizes, audio.shape[1]]:
        pieces.append(resampler.push(audio[:, position : position + size]))
        position += size
    return torch.cat([*pieces, resampler.finish()], dim=1)


# ---- laws


@pytest.mark.parametrize(("source_rate", "target_rate"), [*RATE_PAIRS, (16000, 16000), (997, 1009)])
@given(num_samples=st.integers(0, 9000), sizes=st.lists(st.integers(0, 3000), max_size=8), seed=st.integers(0, 9))
def test_the_output_does_not_depend_on_the_chunks(
    source_rate: int, target_rate: int, num_samples: int, sizes: list[int], seed: int
) -> None:
    audio = noise(num_samples, channels=2, seed=seed)
    whole = resample(audio, source_rate, target_rate)
    assert in_chunks(audio, source_rate, target_rate, sizes).numpy().tobytes() == whole.numpy().tobytes()


@settings(deadline=None)  # filters of a ratio like 1409 : 1 take a second to compute
@given(source_rate=st.integers(1, 3000), target_rate=st.integers(1, 3000), num_samples=st.integers(0, 3000))
def test_the_length_is_exact_for_any_two_rates(source_rate: int, target_rate: int, num_samples: int) -> None:
    num_samples = min(num_samples, 3000 * source_rate // target_rate)
    length = math.ceil(Fraction(num_samples * target_rate, source_rate))
    assert resampled_length(num_samples, source_rate, target_rate) == length
    assert resample(torch.ones(1, num_samples), source_rate, target_rate).shape == (1, length)


@pytest.mark.parametrize(("source_rate", "target_rate"), RATE_PAIRS)
def test_a_channel_does_not_depend_on_its_neighbours(source_rate: int, target_rate: int) -> None:
    audio = noise(5000, channels=5)
    together = resample(audio, source_rate, target_rate)
    for channel in range(5):
        alone = resample(audio[channel : channel + 1], source_rate, target_rate)
        assert alone.numpy().tobytes() == together[channel].numpy().tobytes()


def test_the_output_does_not_depend_on_the_number_of_threads() -> None:
    audio = noise(30000, channels=2)
    for rates in [(44100, 16000), (48000, 16000), (192000, 8000), (8000, 44100), (16000, 15999)]:
        outputs = []
        for num_threads in (1, 2):
            with threadpool_limits(num_threads):
                outputs.append(resample(audio, *rates).numpy().tobytes())
        assert outputs[0] == outputs[1], rates


def test_autocast_gradients_and_strides_leave_no_mark() -> None:
    audio = noise(3000, channels=2)
    expected = resample(audio, 24000, 16000)
    with torch.autocast("cpu", torch.bfloat16):
        assert resample(audio, 24000, 16000).equal(expected)
    assert resample(audio.clone().requires_grad_(), 24000, 16000).equal(expected)
    assert resample(audio.T.contiguous().T, 24000, 16000).equal(expected)
    assert resample(audio.double(), 24000, 16000).equal(expected)


# ---- signals


@pytest.mark.parametrize(("source_rate", "target_rate"), RATE_PAIRS)
def test_sines_below_the_transition_pass_in_place_and_in_size(source_rate: int, target_rate: int) -> None:
    for fraction in (0.01, 0.3, 0.7, 0.87):
        frequency_hz = fraction * min(source_rate, target_rate) / 2
        output = resample(sine(frequency_hz, source_rate, source_rate), source_rate, target_rate)
        reference = sine(frequency_hz, target_rate, output.shape[1])
        inside = slice(target_rate // 4, -target_rate // 4)
        assert snr_db(output[:, inside], reference[:, inside]) > 80  # ripple below 0.001 dB


@pytest.mark.parametrize(("source_rate", "target_rate"), [pair for pair in RATE_PAIRS if pair[0] > pair[1]])
def test_sines_above_the_new_nyquist_frequency_do_not_fold_back(source_rate: int, target_rate: int) -> None:
    for fraction in (1.01, 1.1, 1.3):
        audio = sine(min(fraction * target_rate, 0.99 * source_rate) / 2, source_rate, source_rate)
        output = resample(audio, source_rate, target_rate)[:, target_rate // 4 : -target_rate // 4]
        assert 20 * math.log10(float(output.square().mean().sqrt()) * math.sqrt(2) + 1e-30) < -80


@pytest.mark.parametrize(("source_rate", "target_rate"), RATE_PAIRS)
def test_torchaudio_agrees_on_band_limited_sound(
    source_rate: int, target_rate: int, speech_clip: tuple[Tensor, int]
) -> None:
    speech, speech_rate = speech_clip
    cutoff = 0.35 * min(source_rate, target_rate)
    for audio in (noise(source_rate * 2), torchaudio.functional.resample(speech, speech_rate, source_rate)):
        audio = audio[:, : source_rate * 2]
        spectrum = torch.fft.rfft(audio)
        spectrum[:, int(cutoff * audio.shape[1] / source_rate) :] = 0
        audio = torch.fft.irfft(spectrum, n=audio.shape[1])
        expected = torchaudio.functional.resample(audio, source_rate, target_rate, lowpass_filter_width=256)
        output = resample(audio, source_rate, target_rate)
        assert output.shape == expected.shape
        inside = slice(target_rate // 4, -target_rate // 4)
        assert snr_db(output[:, inside], expected[:, inside]) > 60


def test_a_constant_stays_and_silence_is_outside() -> None:
    output = resample(torch.full((1, 44100), 0.5), 44100, 16000)[0]
    assert (output[500:-500] - 0.5).abs().max() < 1e-6
    assert 0.25 < output[0] < 0.4  # nearly half of the filter sees zeros
    assert not resample(torch.zeros(1, 5000), 44100, 16000).any()


@pytest.mark.parametrize(("source_rate", "target_rate"), [*RATE_PAIRS, (16000, 16000), (44100, 48000)])
def test_live_output_is_no_later_than_the_stated_delay(source_rate: int, target_rate: int) -> None:
    resampler = Resampler(source_rate, target_rate)
    assert resampler.delay_samples < 0.06 * source_rate
    given_samples = 0
    for pushed in range(50, 10000, 50):
        given_samples += resampler.push(noise(50)).shape[1]
        settled = pushed - resampler.delay_samples  # every output up to this source sample
        assert given_samples >= settled * target_rate // source_rate


def test_finishing_leaves_the_resampler_as_new() -> None:
    resampler = Resampler(22050, 16000)
    assert resampler.finish().shape == (1, 0)
    for channels in (2, 1):
        audio = noise(3000, channels=channels)
        output = torch.cat([resampler.push(audio), resampler.finish()], dim=1)
        assert output.equal(resample(audio, 22050, 16000))


def test_wrong_input_is_refused() -> None:
    for rates in ((0, 16000), (16000, -1), (16000.0, 8000)):
        with pytest.raises(ValueError, match="must be a positive integer number of Hz"):
            Resampler(*rates)
    resampler = Resampler(16000, 8000)
    for shape in ((5,), (0, 5), (1, 2, 5)):
        with pytest.raises(ValueError, match=r"is \(C, T\) with C of 1 or more"):
            resampler.push(torch.zeros(shape))
    resampler.push(torch.zeros(2, 5))
    with pytest.raises(ValueError, match="a chunk of 1 channels follows one of 2"):
        resampler.push(torch.zeros(1, 5))


# ---- mixing down


@given(channels=st.integers(1, 9), num_samples=st.integers(0, 300), cut=st.integers(0, 300))
def test_mixing_down_is_the_mean_whatever_the_chunks(channels: int, num_samples: int, cut: int) -> None:
    audio = noise(num_samples, channels=channels)
    mixed = mix_down(audio)
    assert mixed.shape == (1, num_samples)
    np.testing.assert_allclose(mixed.numpy(), audio.double().mean(0, keepdim=True).numpy(), atol=1e-7)
    assert torch.cat([mix_down(audio[:, :cut]), mix_down(audio[:, cut:])], dim=1).equal(mixed)


def test_mixing_down_leaves_its_input_alone() -> None:
    audio = noise(100, channels=3)
    before = audio.clone()
    mix_down(audio)
    assert audio.equal(before)
    with pytest.raises(ValueError, match=r"and this has shape \(100,\)"):
        mix_down(audio[0])


# ---- mel filters


@pytest.mark.parametrize(
    ("sample_rate", "fft_size", "num_mels", "min_hz", "max_hz"),
    [
        (16000, 512, 80, 0.0, None),
        (16000, 32, 5, 0.0, None),
        (24000, 1024, 100, 0.0, None),
        (22050, 1024, 80, 0.0, 8000.0),
        (44100, 2048, 128, 30.0, 20000.0),
        (8000, 400, 1, 2000.0, 3000.0),
    ],
)
def test_mel_filters_are_librosas(
    sample_rate: int, fft_size: int, num_mels: int, min_hz: float, max_hz: float | None
) -> None:
    filters = mel_filterbank(
        sample_rate=sample_rate, fft_size=fft_size, num_mels=num_mels, min_hz=min_hz, max_hz=max_hz
    )
    expected = librosa.filters.mel(sr=sample_rate, n_fft=fft_size, n_mels=num_mels, fmin=min_hz, fmax=max_hz)
    assert filters.dtype == torch.float32 and filters.shape == (num_mels, fft_size // 2 + 1)
    np.testing.assert_allclose(filters.numpy(), expected, rtol=1e-5, atol=1e-7)


def test_impossible_mel_filters_are_refused() -> None:
    with pytest.raises(ValueError, match=r"from 0\.0 to 9000 Hz do not lie within 0 to 8000\.0 Hz"):
        mel_filterbank(sample_rate=16000, fft_size=512, num_mels=80, max_hz=9000)
    with pytest.raises(ValueError, match="0 mels of 512 FFT points"):
        mel_filterbank(sample_rate=16000, fft_size=512, num_mels=0)


@given(
    rates=st.sampled_from([(44_100, 16_000), (16_000, 44_100), (48_000, 16_000), (8_000, 8_000), (7, 5)]),
    num_samples=st.integers(1, 9_000),
    parts=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
def test_a_signal_without_its_beginning_goes_on_as_the_whole(
    rates: tuple[int, int], num_samples: int, parts: tuple[float, float]
) -> None:
    audio = torch.randn(2, num_samples, generator=torch.Generator().manual_seed(num_samples))
    whole = resample(audio, *rates)
    start, stop = sorted(int(part * whole.shape[1]) for part in parts)
    resampler = Resampler(*rates)
    first, position = resampler.start_at(start)
    assert position <= start
    last = min(resampler.num_inputs_for(stop), num_samples)
    outputs = torch.cat([resampler.push(audio[:, first:last]), resampler.finish()], dim=1)
    assert torch.equal(outputs[:, start - position : stop - position], whole[:, start:stop])


@given(cut=st.integers(0, 9_000))
def test_the_state_of_a_resampler_goes_on_elsewhere(cut: int) -> None:
    audio = torch.randn(1, 9_000, generator=torch.Generator().manual_seed(0))
    first, second = Resampler(44_100, 16_000), Resampler(44_100, 16_000)
    head = first.push(audio[:, :cut])
    second.restore(*first.state())
    for each in (first, second):
        outputs = torch.cat([head, each.push(audio[:, cut:]), each.finish()], dim=1)
        assert torch.equal(outputs, resample(audio, 44_100, 16_000))
