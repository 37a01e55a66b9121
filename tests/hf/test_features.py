"""VQAudioFeatureExtractor: recordings of any lengths and kinds -> one rectangle and its mask."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from transformers import AutoFeatureExtractor

from tests.tiny import HOP, SAMPLE_RATE, noise, tiny_tokenizer
from vqaudio.dsp import resample
from vqaudio.hf import VQAudioFeatureExtractor, VQAudioModel
from vqaudio.io import AudioError

EXTRACTOR = VQAudioFeatureExtractor(sampling_rate=SAMPLE_RATE, hop_length=HOP)


@given(st.lists(st.integers(0, 3 * HOP + 1), min_size=1, max_size=4))
def test_every_recording_is_there_and_the_mask_says_where(lengths: list[int]) -> None:
    audios = [noise(1, length, seed)[0].numpy() for seed, length in enumerate(lengths)]
    found = EXTRACTOR(audios, sampling_rate=SAMPLE_RATE, return_tensors="np")
    T = -(-max(lengths) // HOP) * HOP
    assert found["input_values"].shape == (len(lengths), 1, T) and found["input_values"].dtype == np.float32
    assert found["padding_mask"].tolist() == [[1] * length + [0] * (T - length) for length in lengths]
    for audio, values, mask in zip(audios, found["input_values"], found["padding_mask"], strict=True):
        assert np.array_equal(values[0][mask == 1], audio) and not values[0][mask == 0].any()


@pytest.mark.parametrize(
    "recording",
    [
        [0.5, -0.25, 0.0],
        (0.5, -0.25, 0),
        np.array([0.5, -0.25, 0.0]),
        np.array([[0.5, -0.25, 0.0]], np.float32),
        torch.tensor([0.5, -0.25, 0.0], dtype=torch.float16),
        np.array([16384, -8192, 0], np.int16),
    ],
    ids=("list", "tuple", "float64", "one channel", "float16 tensor", "PCM"),
)
def test_the_same_recording_in_every_form(recording: Any) -> None:
    for given_as, count in ((recording, 1), ([recording, recording], 2)):
        found = EXTRACTOR(given_as, sampling_rate=SAMPLE_RATE, return_tensors="pt")
        assert found["input_values"].shape == (count, 1, HOP) and found["padding_mask"].shape == (count, HOP)
        assert found["input_values"][-1, 0, :4].tolist() == [0.5, -0.25, 0, 0]


def test_padding_and_truncation_are_those_of_transformers() -> None:
    audios = [[0.1] * 50, [0.2] * 130]
    fixed = EXTRACTOR(audios, "max_length", True, 90, "pt", SAMPLE_RATE)
    assert fixed["padding_mask"].sum(dim=1).tolist() == [50, 100] and fixed["input_values"].shape == (2, 1, 100)
    ragged = EXTRACTOR(audios, padding=False, sampling_rate=SAMPLE_RATE)
    assert [values.shape for values in ragged["input_values"]] == [(1, 50), (1, 130)]
    assert [len(mask) for mask in ragged["padding_mask"]] == [50, 130]


def test_resampled_recordings_have_the_codes_of_the_tokenizer() -> None:
    audio = noise(1, 4_000)
    model = VQAudioModel.from_vqaudio(tiny_tokenizer("rvq-projected"))
    inputs = EXTRACTOR(audio, sampling_rate=4_410, resample=True, return_tensors="pt")
    assert torch.equal(
        inputs["input_values"][:, :, : inputs["padding_mask"].sum()], resample(audio, 4_410, 1_600)[None]
    )
    codes = tiny_tokenizer("rvq-projected").encode(audio, 4_410)
    assert torch.equal(model.encode(**inputs).audio_codes, codes.values)


def test_it_is_saved_and_loaded(tmp_path: Any) -> None:
    EXTRACTOR.save_pretrained(tmp_path)
    found = AutoFeatureExtractor.from_pretrained(tmp_path)
    assert isinstance(found, VQAudioFeatureExtractor) and found.to_dict() == EXTRACTOR.to_dict()


@pytest.mark.parametrize(
    ("recordings", "options", "message"),
    [
        ([0.1], {}, r"sampling_rate is missing: say at how many Hz the audio is \(the model's: 1600\)"),
        ([0.1], {"sampling_rate": 8_000}, "the audio is at 8000 Hz and the model at 1600 Hz; resample it"),
        ([0.1], {"sampling_rate": -1}, "must be a positive integer number of Hz"),
        ([], {"sampling_rate": 1_600}, "there is no recording"),
        ([[0.1], np.zeros((2, 9))], {"sampling_rate": 1_600}, "recording 1: has 2 channels; mix them"),
        (torch.zeros(2, 9), {"sampling_rate": 1_600}, "recording 0: has 2 channels; mix them"),
        (torch.zeros(2, 1, 9), {"sampling_rate": 1_600}, "one recording"),
        ([[0.1], [0.1, float("nan")]], {"sampling_rate": 1_600}, "recording 1: .* sample 1 of channel 0 is nan"),
        ([[0.1], ["a"]], {"sampling_rate": 1_600}, "recording 1: could not convert string to float"),
        (np.zeros(9, bool), {"sampling_rate": 1_600}, "recording 0: the audio array is bool"),
    ],
)
def test_recordings_that_make_no_sense_are_refused(recordings: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        EXTRACTOR(recordings, **options)
    assert not message.startswith("recording") or isinstance(caught.value, AudioError)


def test_stereo_is_no_setting() -> None:
    with pytest.raises(ValueError, match="feature_size is 2; it is 1"):
        VQAudioFeatureExtractor(feature_size=2)
