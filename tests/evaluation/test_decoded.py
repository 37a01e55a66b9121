"""Decoded files beside their references: pairs, and what is none."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from vqaudio.dsp import resample
from vqaudio.evaluation.decoded import DecodedFolder, check_pair, shift, unpaired
from vqaudio.io import read_audio, write_audio

RATE = 16_000


@pytest.fixture
def english(samples_folder: Path) -> list[Tensor]:
    """Three clips of real speech, (1, T) at 16 kHz, all of one length."""
    names = ("english-1.flac", "english-2.flac", "english-mandarin-accent.flac")
    clips = [read_audio(samples_folder / name) for name in names]
    audio = [resample(clip, rate, RATE) for clip, rate in clips]
    return [each[:, : min(clip.shape[-1] for clip in audio)] for each in audio]


def test_a_shift_is_found_to_the_sample_and_told(english: list[Tensor]) -> None:
    clip = english[0]
    assert check_pair(clip, clip, RATE) == []
    for lag in (-800, -1, 1, 37):
        shifted = torch.roll(clip, lag, dims=1)
        said = check_pair(shifted, clip, RATE)
        assert said == [
            f"the decoded file seems to be {abs(lag)} samples {'late' if lag > 0 else 'early'} at 16,000 Hz"
        ]
    assert shift(torch.randn(4_000, generator=torch.Generator().manual_seed(1)), clip[0, :4_000], 1_600) is None
    assert shift(torch.zeros(100), torch.zeros(100), 10) is None


def test_strangers_of_the_same_length_are_no_pair(english: list[Tensor]) -> None:
    for number, clip in enumerate(english):
        for other in (*english[:number], *english[number + 1 :]):
            with pytest.raises(ValueError, match=r"levels correlate by .* only: no pair"):
                check_pair(other, clip, RATE)


def test_a_poor_codec_is_still_a_pair(english: list[Tensor]) -> None:
    """Noise of the speech's own level, frame by frame, has nothing but its envelope."""
    generator = torch.Generator().manual_seed(2)
    for clip in english:
        frames = clip[0].unfold(0, 320, 320)
        noise = torch.randn(frames.shape, generator=generator) * frames.square().mean(dim=1, keepdim=True).sqrt()
        assert check_pair(noise.reshape(1, -1), clip, RATE) == []


def test_lengths_may_differ_by_a_frame_and_no_more(english: list[Tensor]) -> None:
    clip = english[0]
    assert check_pair(clip[:, :-1_500], clip, RATE) == []
    with pytest.raises(ValueError, match=r"the decoded file is .* s long and the recording .* s: no pair"):
        check_pair(clip[:, :-1_700], clip, RATE)


def test_files_are_found_by_their_path_without_its_ending(tmp_path: Path, english: list[Tensor]) -> None:
    (tmp_path / "anna").mkdir()
    write_audio(tmp_path / "anna/a.wav", english[0], RATE)
    write_audio(tmp_path / "anna/ab.wav", english[1], RATE)
    (tmp_path / "anna/a.txt").write_text("not audio")
    folder = DecodedFolder(str(tmp_path), "codec", kbps=2.0)
    (decoded,) = folder.decoded("anna/a.flac", english[0], RATE).decoded
    torch.testing.assert_close(decoded.audio, english[0], atol=2**-15, rtol=0)
    assert decoded.num_bits == round(2_000 * english[0].shape[-1] / RATE) and decoded.problems == ()
    with pytest.raises(ValueError, match=r"there is no decoded file for it: anna/c\.flac would be c\.\* in"):
        folder.find("anna/c.flac")
    write_audio(tmp_path / "anna/a.flac", english[0], RATE)
    with pytest.raises(ValueError, match=r"there are 2 decoded files for it: a\.flac, a\.wav"):
        folder.find("anna/a.ogg")
    assert unpaired(tmp_path, ["anna/a.flac"]) == ["anna/ab.wav"]


def test_a_lower_rate_is_told(tmp_path: Path, english: list[Tensor]) -> None:
    write_audio(tmp_path / "a.wav", resample(english[0], RATE, 8_000), 8_000)
    (decoded,) = DecodedFolder(str(tmp_path / "a.wav"), "a").decoded("whatever.flac", english[0], RATE).decoded
    assert decoded.problems == ("decoded at 8,000 Hz and scored at 16,000 Hz: nothing is above 4,000 Hz",)
    assert (decoded.sample_rate, decoded.num_bits) == (8_000, None)


def test_paths_that_lead_elsewhere_are_looked_for_in_the_folder(tmp_path: Path, english: list[Tensor]) -> None:
    """Manifests list recordings by absolute paths, or by ones that lead upwards."""
    for folder, audio in (("rec", english[0]), ("dec", english[1])):
        (tmp_path / folder).mkdir()
        write_audio(tmp_path / folder / "a.wav", audio, RATE)
    deep = tmp_path / "dec" / (tmp_path / "rec").relative_to("/")
    deep.mkdir(parents=True)
    write_audio(deep / "b.wav", english[1], RATE)
    folder = DecodedFolder(str(tmp_path / "dec"), "codec")
    assert folder.find("../a.wav") == tmp_path / "dec/a.wav"
    assert folder.find(str(tmp_path / "rec/b.flac")) == deep / "b.wav"
    with pytest.raises(ValueError, match="there is no decoded file for it"):
        folder.find(str(tmp_path / "rec/a.wav"))
    assert unpaired(tmp_path / "dec", ["../a.wav", str(tmp_path / "rec/b.flac")]) == []
