"""vqaudio lm sample and evaluate: what is written, how it adds up, and whom the intervals are over."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from tests.lm.small import SMALL, chained_codes
from tests.tiny import SAMPLE_RATE, noise, save_tiny
from vqaudio.cli import main
from vqaudio.code_index import IndexEntry, write_index
from vqaudio.codes import Codes
from vqaudio.io import write_audio
from vqaudio.layouts import Delay, TokenSpace
from vqaudio.lm.evaluate import fewer_percent, speech_values, summary_lines
from vqaudio.lm.model import LanguageModel, code_bits, load_lm, save_lm
from vqaudio.lm.ngram import ngram_bits
from vqaudio.lm.speech import codes_of
from vqaudio.tokenizer import AudioTokenizer

FRAME_RATE = 80  # per second, of the tiny tokenizer


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny("rvq-projected", tmp_path_factory.mktemp("tokenizer") / "model")


@pytest.fixture(scope="module")
def model(tokenizer: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights, over the first two of three codebooks."""
    made = AudioTokenizer.from_pretrained(tokenizer)
    space = TokenSpace.of(made, Delay(codebook_sizes=made.codebook_sizes[:2]))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = LanguageModel(SMALL, space, window=40)
    folder = tmp_path_factory.mktemp("lm") / "model"
    save_lm(network, folder, tokenizer=str(tokenizer), about={"step": 1}, card="")
    return folder


def sampled(model: Path, out: Path, *more: str) -> list[Codes]:
    assert main(["lm", "sample", str(model), "--out", str(out), "--seconds", "0.5", *more]) == 0
    return [Codes.load(path) for path in sorted(out.glob("*.vqt"))]


def test_samples_are_codes_and_their_sound(model: Path, tokenizer: Path, tmp_path: Path) -> None:
    found = sampled(model, tmp_path, "--count", "2", "--seed", "3")
    assert [codes.num_frames for codes in found] == [FRAME_RATE // 2] * 2 and found[0] != found[1]
    made = AudioTokenizer.from_pretrained(tokenizer)
    for number, codes in enumerate(found, start=1):
        audio, rate = soundfile.read(tmp_path / f"sample-{number}.wav", dtype="float32")
        expected = made.decode(codes)[0].clamp(-1, 1)
        assert rate == SAMPLE_RATE
        torch.testing.assert_close(torch.from_numpy(audio), expected, atol=2**-14, rtol=0)
    assert sampled(model, tmp_path / "again", "--count", "2", "--seed", "3") == found
    assert sampled(model, tmp_path / "other", "--count", "2", "--seed", "4") != found


def test_a_prompt_of_sound_or_of_codes_is_gone_on_with(model: Path, tokenizer: Path, tmp_path: Path) -> None:
    write_audio(tmp_path / "a.wav", noise(1, SAMPLE_RATE), SAMPLE_RATE)
    codes = AudioTokenizer.from_pretrained(tokenizer).encode(tmp_path / "a.wav")
    codes.save(tmp_path / "a.vqt")
    for name in ("a.wav", "a.vqt"):
        more = ["--prompt", str(tmp_path / name), "--prompt-seconds", "0.25"]
        (found,) = sampled(model, tmp_path / name.replace(".", "-"), *more)
        assert torch.equal(found.values[..., :20], codes.values[:, :2, :20])
        assert not torch.equal(found.values[..., 20:], codes.values[:, :2, 20:40])


def test_what_makes_no_sense_is_refused(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    common = ["lm", "sample", str(model), "--out", str(tmp_path / "out")]
    for more, message in (
        (["--seconds", "0.001"], "less than a frame"),
        (["--temperature", "-1"], "temperature is -1.0"),
        (["--tokenizer", "speech-16k"], "stand for other codes"),
        (["--prompt", str(tmp_path / "none.vqt")], "none.vqt"),
        (["--device", "cuda:99"], "device 'cuda:99' cannot be used ("),
    ):
        assert main([*common, *more]) == 1
        assert message in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*common, "--prompt-seconds", "1"])
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert main([*common, "--tokenizer", "speech-16k"]) == 1
    assert "language models need transformers, which is not installed" in capsys.readouterr().err


# ---- evaluation


@pytest.fixture(scope="module")
def codes(tokenizer: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four recordings of 100 frames in each split."""
    folder, made, entries = tmp_path_factory.mktemp("codes"), AudioTokenizer.from_pretrained(tokenizer), []
    space = TokenSpace.of(made, Delay(codebook_sizes=made.codebook_sizes))
    for number, split in enumerate(("train", "valid", "test")):
        for item in range(4):
            each = codes_of(space, torch.from_numpy(chained_codes(made.codebook_sizes, 100, seed=10 * number + item)))
            each.save(folder / f"{split}-{item}.vqt")
            speaker = f"{split}-{item // 2}"
            entries.append(IndexEntry.of(f"{split}-{item}", each, "0" * 64, split=split, speaker=speaker))
    write_index(folder, entries)
    return folder


def test_an_evaluation_adds_up(model: Path, codes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "evaluation.json"
    clips = ["--clips", str(tmp_path / "clips"), "--seconds", "0.75", "--prompt-seconds", "0.25"]
    with pytest.raises(SystemExit):
        main(["lm", "evaluate", str(model)])
    assert main(["lm", "evaluate", str(model), str(codes), "--out", str(out), *clips]) == 0
    said = capsys.readouterr().out
    result = json.loads(out.read_text())
    assert result["data"]["speakers"] == 2 and result["data"]["seconds"] == 400 / FRAME_RATE
    assert result["bits"]["uncoded"] == FRAME_RATE * 10

    parts = {
        split: [Codes.load(codes / f"{split}-{item}.vqt").values[0, :2] for item in range(4)]
        for split in ("train", "valid", "test")
    }
    ours = torch.cat(code_bits(load_lm(model).model, parts["test"]), dim=1).numpy()
    arrays = [[each.numpy() for each in parts[split]] for split in ("train", "valid", "test")]
    theirs = np.concatenate(ngram_bits(*arrays, codebook_sizes=(32, 32)), axis=1)
    for name, bits in (("model", ours), ("ngram", theirs)):
        assert result["bits"][name]["total"] == pytest.approx(FRAME_RATE * bits.sum() / 400, abs=0.02)
        assert result["bits"][name]["codebooks"] == pytest.approx(FRAME_RATE * bits.mean(axis=1), abs=0.02)
    fewer = result["bits"]["fewer_percent"]
    assert fewer["mean"] == pytest.approx(100 * (1 - ours.sum() / theirs.sum()), abs=0.02)
    assert fewer["low"] <= fewer["mean"] <= fewer["high"]
    assert f"{result['bits']['ngram']['total']:.1f}" in said and "results are in" in said


def test_differences_are_those_of_whole_speakers() -> None:
    """One speaker of whom all is half, and one of whom nothing is: the interval spans from one to the other."""
    theirs = [np.full((2, 50), 8.0)] * 20
    ours = [bits * (0.5 if number < 10 else 1.0) for number, bits in enumerate(theirs)]
    found = fewer_percent(ours, theirs, ["anna"] * 10 + ["bert"] * 10)
    assert found == {"mean": 25.0, "low": 0.0, "high": 50.0}
    many = fewer_percent(ours, theirs, [str(number) for number in range(20)])
    assert many["mean"] == 25.0 and many["low"] > 10 and many["high"] < 40
    assert fewer_percent(ours, theirs, ["anna"] * 20) == {"mean": 25.0}


def test_a_voice_is_measured_and_silence_is_not() -> None:
    time = np.arange(16_000) / 16_000
    tone = np.where((time * 150) % 1 < 0.1, 0.5, -0.05).astype(np.float32)  # pulses, as of a voice
    values = speech_values(tone, 16_000)
    assert values["f0_median_hz"] == pytest.approx(150, rel=0.02) and values["voiced_share"] > 0.8
    assert values["level_db"] == pytest.approx(20 * np.log10(np.sqrt(np.mean(tone**2))), abs=1e-3)
    silent = speech_values(np.zeros(16_000, np.float32), 16_000)
    assert silent == {"voiced_share": 0.0}


def test_words_of_a_result() -> None:
    result = {
        "data": {"recordings": 3, "speakers": 2, "seconds": 90.0, "split": "test"},
        "bits": {
            "model": {"total": 90.0, "codebooks": [90.0]},
            "ngram": {"total": 100.0, "codebooks": [100.0]},
            "fewer_percent": {"mean": 10.0, "low": 9.0, "high": 11.0},
            "fewer_percent_of_codebooks": [{"mean": 10.0}],
        },
        "samples": {
            "groups": {"begun": {"files": 2, "values": {"dnsmos_ovrl": {"mean": 2.5}}}},
            "speed": {"one": {"tokens_per_second": 200.0, "times_real_time": 2.0}},
        },
    }
    text = "\n".join(summary_lines(result))
    for part in ("3 recordings of 2 speakers, 1.5 minutes", "10.0 [9.0, 11.0]", "dnsmos_ovrl 2.5", "2 times real time"):
        assert part in text
