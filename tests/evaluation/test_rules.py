"""The pinned procedure: what is compared with what, and how it is scored."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.evaluation import parts
from vqaudio.dsp import resample
from vqaudio.evaluation.recordings import file_sha256, list_sha256, select
from vqaudio.evaluation.rules import as_heard, through_pcm16
from vqaudio.evaluation.scoring import score
from vqaudio.io import read_audio, write_audio


def test_sixteen_bits_are_those_of_a_wav_file(tmp_path: Path) -> None:
    audio = torch.linspace(-1.3, 1.3, 5_001)[None]
    write_audio(tmp_path / "a.wav", audio, 16_000)
    torch.testing.assert_close(through_pcm16(audio), read_audio(tmp_path / "a.wav")[0], atol=0, rtol=0)


def test_what_is_heard_has_the_length_of_the_reference() -> None:
    audio = parts.tone(0.5, 8_000)
    heard = as_heard(audio, 8_000, 16_000, length=9_000)
    assert heard.shape == (1, 9_000)
    torch.testing.assert_close(heard[:, :8_000], through_pcm16(resample(audio, 8_000, 16_000)))
    assert not heard[:, 8_000:].any()
    assert torch.equal(as_heard(audio, 8_000, 16_000, length=300), heard[:, :300])
    assert as_heard(audio, 8_000, 16_000).shape == (1, 8_000)


def test_every_measure_gets_its_own_rate_and_no_measure_costs_another_its_value() -> None:
    signal = parts.tone(0.5, 16_000)
    at_8k = parts.Measure(
        values=(parts.value("rate"), parts.value("length")), kinds=parts.KINDS, sample_rate=8_000, compute=parts.rate
    )
    bad = [
        parts.Measure(values=(parts.value(name),), kinds=parts.KINDS, sample_rate=None, compute=compute)
        for name, compute in (("refuses", parts.refuses), ("breaks", parts.breaks), ("infinite", parts.infinite))
    ]
    found = score(0.5 * signal, signal, 16_000, [*bad, parts.MISSING, at_8k, parts.ERROR])
    assert found.values == {"rate": 8_000, "length": 4_000, "error": pytest.approx(0.25, abs=1e-3)}
    assert found.unscored == {
        "refuses": "it does not like the sound of it",
        "breaks": "failed: IndexError: somebody else's mistake",
        "infinite": "its value is inf",
    }


def test_silence_is_not_scored_and_says_whose() -> None:
    signal, silence = parts.tone(0.1, 16_000), torch.zeros(1, 1_600)
    assert score(signal, silence, 16_000, [parts.ERROR]).unscored == {"error": "the recording is silent"}
    assert score(silence, signal, 16_000, [parts.ERROR]).unscored == {"error": "the estimate is silent"}
    assert score(silence, silence, 16_000, [parts.ERROR]).values == {}
    with pytest.raises(ValueError, match=r"shapes \(1, 1600\) and \(1, 1599\)"):
        score(signal, signal[:, :-1], 16_000, [parts.ERROR])


def write_corpus(folder: Path) -> Path:
    """A manifest of four recordings of three speakers and two kinds."""
    folder.mkdir()
    rows = [("a", "anna", "speech-read", "test"), ("b", "anna", "speech-talk", "test")]
    rows += [("c", "ben", "speech-read", "train"), ("d", "band", "music", "test")]
    lines = ["path\tspeaker\tkind\tsplit"]
    for number, (name, speaker, kind, split) in enumerate(rows):
        write_audio(folder / f"{name}.wav", parts.tone(0.2 + 0.1 * number, 8_000), 8_000)
        lines.append(f"{name}.wav\t{speaker}\t{kind}\t{split}")
    (folder / "manifest.tsv").write_text("\n".join(lines) + "\n")
    return folder


def test_recordings_are_selected_by_split_and_kind(tmp_path: Path) -> None:
    folder = write_corpus(tmp_path / "corpus")
    chosen = select(folder, split="test", kind="speech")
    assert [recording.path for recording in chosen.recordings] == ["a.wav", "b.wav"]
    assert [recording.speaker for recording in chosen.recordings] == ["anna", "anna"]
    assert select(folder / "manifest.tsv", kind="music").recordings[0].file == folder / "d.wav"
    assert select(folder, split="train").kind == "speech"  # the only kind there
    assert [each.path for each in select(folder, kind="speech", limit=2).recordings] == ["a.wav", "b.wav"]
    with pytest.raises(
        ValueError, match=r"holds music, speech-read, speech-talk; say which .*--kind speech or --kind mus"
    ):
        select(folder, split="test")
    with pytest.raises(ValueError, match=r"no recording of split 'valid'; it has test, train"):
        select(folder, split="valid")
    with pytest.raises(ValueError, match="no recording of kind 'music' in split 'train'"):
        select(folder, split="train", kind="music")


def test_without_a_manifest_the_files_are_taken_and_they_are_speech(tmp_path: Path) -> None:
    write_audio(tmp_path / "b.wav", parts.tone(0.1, 8_000), 8_000)
    (tmp_path / "anna").mkdir()
    write_audio(tmp_path / "anna/a.wav", parts.tone(0.1, 8_000), 8_000)
    chosen = select(tmp_path)
    assert (chosen.kind, [(each.path, each.speaker) for each in chosen.recordings]) == (
        "speech",
        [("anna/a.wav", "anna"), ("b.wav", "")],
    )
    assert select(tmp_path / "b.wav").recordings == (replace(chosen.recordings[1], file=tmp_path / "b.wav"),)


def test_the_list_is_known_by_its_bytes_and_order(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert file_sha256(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    pairs = [("a", "1"), ("b", "2")]
    others = [pairs[::-1], [("a", "2"), ("b", "2")], [("a", "1"), ("c", "2")], pairs[:1]]
    assert len({list_sha256(each) for each in [pairs, *others]}) == 5
