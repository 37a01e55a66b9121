"""µ-law: 256 classes that lie denser near zero, torchaudio's being the oracle."""

import math

import torch
import torchaudio
from hypothesis import given, strategies as st

from vqaudio.nn.companding import NUM_CLASSES, mu_law_decode, mu_law_encode


def compressed(x: float) -> float:
    return math.copysign(math.log1p(255 * abs(x)) / math.log1p(255), x)


@given(x=st.floats(-1, 1, width=32))
def test_round_trip_is_within_half_a_class(x: float) -> None:
    back = mu_law_decode(mu_law_encode(torch.tensor([x]))).item()
    assert abs(compressed(back) - compressed(x)) <= 1 / 255 + 1e-5


def test_every_class_is_its_own_round_trip() -> None:
    classes = torch.arange(NUM_CLASSES)
    assert torch.equal(mu_law_encode(mu_law_decode(classes)), classes)


@given(x=st.floats(-1.5, 1.5, width=32), y=st.floats(-1.5, 1.5, width=32))
def test_louder_samples_have_no_lower_class(x: float, y: float) -> None:
    low, high = mu_law_encode(torch.tensor(sorted([x, y])))
    assert low <= high


def test_ends_of_the_scale() -> None:
    assert mu_law_encode(torch.tensor([-7.0, -1.0, 1.0, 7.0])).tolist() == [0, 0, 255, 255]
    torch.testing.assert_close(mu_law_decode(torch.tensor([0, 255])), torch.tensor([-1.0, 1.0]))


def test_silence_stays_below_80_db() -> None:
    silence = mu_law_decode(mu_law_encode(torch.zeros(3)))
    assert silence.abs().max() < 10 ** (-80 / 20)


def test_agrees_with_torchaudio() -> None:
    audio = torch.linspace(-1, 1, 9_999)
    classes = mu_law_encode(audio)
    assert classes.dtype == torch.int64
    assert torch.equal(classes, torchaudio.functional.mu_law_encoding(audio, NUM_CLASSES))
    torch.testing.assert_close(mu_law_decode(classes), torchaudio.functional.mu_law_decoding(classes, NUM_CLASSES))
