"""Token files through the command line: what `vqaudio encode --layout` writes, and `vqaudio decode` reads."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.tiny import noise, save_tiny, tiny_tokenizer
from vqaudio import AudioTokenizer, TokenSpace
from vqaudio.cli import main
from vqaudio.io import read_audio, write_audio
from vqaudio.layouts import Flat
from vqaudio.layouts.files import read_sequences

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def model(tmp_path: Path) -> str:
    return str(save_tiny("rvq-projected", tmp_path / "model"))


def write_wavs(folder: Path) -> list[str]:
    """Five recordings of lengths that are no whole frames, one at another rate, one empty."""
    folder.mkdir()
    for number, (num_samples, rate) in enumerate([(930, 1_600), (201, 1_600), (2_000, 4_410), (1, 1_600), (0, 1_600)]):
        write_audio(folder / f"{number}.wav", noise(1, num_samples, seed=number), rate)
    return [str(folder)]


@pytest.mark.parametrize("layout", ["flat", "delay", "parallel", "coarse-first"])
@pytest.mark.parametrize("form", ["jsonl", "npy", "txt"])
def test_tokens_decode_to_what_the_codes_decode_to(
    tmp_path: Path, model: str, layout: str, form: str, capsys: Captured
) -> None:
    tokenizer = tiny_tokenizer("rvq-projected")
    files = write_wavs(tmp_path / "audio")
    tokens, again = tmp_path / "tokens", tmp_path / "again"
    options = ["--model", model, "--codebooks", "2", "--begin-end", "--workers", "2"]
    assert main(["encode", *files, "--out", str(tokens), *options, "--layout", layout, "--format", form]) == 0
    assert main(["decode", str(tokens), "--out", str(again), "--model", model, "--sample-rate", "source"]) == 0
    assert ("hold no lengths" in capsys.readouterr().err) == (form != "jsonl")
    space = TokenSpace.load(tokens / "space.json")
    assert space.layout.kind == layout and space.layout.codebook_sizes == (32, 32)
    for number in range(5):
        codes = tokenizer.encode(tmp_path / f"audio/{number}.wav", num_codebooks=2)
        if form == "jsonl":
            expected = tokenizer.decode(codes, sample_rate="source")
        else:  # whole frames at the model's rate
            expected = tokenizer.decode(space.to_codes(space.to_tokens(codes)))
            assert expected.shape[1] == codes.num_frames * 20
        audio, _ = read_audio(again / f"{number}.wav")
        torch.testing.assert_close(audio, expected.clamp(-1, 1), atol=2**-15, rtol=0)


def test_lines_are_in_the_order_of_the_files_and_say_all_lengths(tmp_path: Path, model: str) -> None:
    files = write_wavs(tmp_path / "audio")
    tokens = tmp_path / "tokens"
    command = ["encode", *files, "--out", str(tokens), "--model", model, "--layout", "flat", "--workers", "3"]
    assert main([*command, "--first-id", "32000"]) == 0
    lines = [json.loads(line) for line in (tokens / "tokens.jsonl").read_text().splitlines()]
    assert [line["name"] for line in lines] == ["0", "1", "2", "3", "4"]
    lengths = {"num_frames": 37, "num_samples": 726, "source_sample_rate": 4_410, "source_num_samples": 2_000}
    assert lines[2] == {"name": "2", "tokens": lines[2]["tokens"], **lengths}
    codes = tiny_tokenizer("rvq-projected").encode(tmp_path / "audio/1.wav")
    expected = [32_000 + 32 * k + int(codes.values[0, k, n]) for n in range(codes.num_frames) for k in range(3)]
    assert lines[1]["tokens"] == expected
    assert sorted(path.name for path in tokens.iterdir()) == ["space.json", "tokens.jsonl"]


def test_real_speech_there_and_back(tmp_path: Path, samples_folder: Path) -> None:
    path = samples_folder / "english-2.flac"
    arguments = ["--start", "0.5", "--end", "1.01", "--layout", "flat"]
    assert main(["encode", str(path), "--out", str(tmp_path / "tokens"), *arguments]) == 0
    assert main(["decode", str(tmp_path / "tokens"), "--out", str(tmp_path / "again")]) == 0
    tokenizer = AudioTokenizer.from_pretrained("speech-16k")
    codes = tokenizer.encode(path, start=0.5, end=1.01)
    (sequence,) = read_sequences(tmp_path / "tokens/tokens.jsonl")
    assert sequence.to_codes(TokenSpace.load(tmp_path / "tokens/space.json")) == codes
    audio, rate = read_audio(tmp_path / "again/english-2.wav")
    assert rate == 16_000 and audio.shape == (1, codes.num_samples)
    torch.testing.assert_close(audio, tokenizer.decode(codes).clamp(-1, 1), atol=2**-15, rtol=0)


def test_arrays_are_small_integers(tmp_path: Path, model: str) -> None:
    files = write_wavs(tmp_path / "audio")
    for layout, shape in (("flat", (11 * 3,)), ("delay", (3, 13))):
        out = tmp_path / layout
        assert main(["encode", *files, "--out", str(out), "--model", model, "--layout", layout, "--format", "npy"]) == 0
        array = np.load(out / "1.npy", allow_pickle=False)
        assert array.dtype == np.int32 and array.shape == shape


# ---- what goes wrong


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--format", "npy"], "--format goes with --layout"),
        (["--begin-end"], "--begin-end goes with --layout"),
        (["--first-id", "9"], "--first-id goes with --layout"),
        (["--layout", "delay", "--no-offsets"], "--no-offsets goes with --layout flat; delay has no choice"),
        (
            ["--layout", "parallel", "--first-id", "9"],
            "--first-id goes with sequences of one row; parallel has one for",
        ),
        (["--layout", "flat", "--channels", "keep"], "so its channels are mixed: leave out --channels"),
        (["--layout", "flat", "--stream"], "--layout writes files: leave out --stream"),
        (["--layout", "spiral"], "invalid choice: 'spiral'"),
    ],
)
def test_options_that_make_no_sense_are_usage_errors(
    tmp_path: Path, options: list[str], message: str, capsys: Captured
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["encode", "a.wav", "--out", str(tmp_path), *options])
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_tokens_of_two_kinds_do_not_get_into_one_folder(tmp_path: Path, model: str, capsys: Captured) -> None:
    files = write_wavs(tmp_path / "audio")
    command = ["encode", *files, "--out", str(tmp_path / "tokens"), "--model", model, "--layout"]
    assert main([*command, "flat"]) == 0
    before = (tmp_path / "tokens/tokens.jsonl").read_bytes()
    assert main([*command, "flat"]) == 0  # again is no mistake
    assert main([*command, "flat", "--no-offsets"]) == 1
    assert "space.json: the token spaces differ: layout.offsets is True here and False there" in capsys.readouterr().err
    assert (tmp_path / "tokens/tokens.jsonl").read_bytes() == before


def test_a_bad_recording_costs_the_others_nothing(tmp_path: Path, model: str, capsys: Captured) -> None:
    files = write_wavs(tmp_path / "audio")
    (tmp_path / "audio/1.wav").write_bytes(b"RIFF")
    tokens = tmp_path / "tokens"
    assert main(["encode", *files, "--out", str(tokens), "--model", model, "--layout", "flat", "--workers", "3"]) == 1
    lines = [json.loads(line) for line in (tokens / "tokens.jsonl").read_text().splitlines()]
    assert [line["name"] for line in lines] == ["0", "2", "3", "4"]
    lines[1]["tokens"][5] = 99
    lines[2]["num_samples"] = 500
    (tokens / "tokens.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    capsys.readouterr()
    assert main(["decode", str(tokens), "--out", str(tmp_path / "again"), "--model", model]) == 1
    error = capsys.readouterr().err
    assert "tokens.jsonl, line 2: item 0: position 5 holds id 99 (end" not in error
    assert f"{tokens / 'tokens.jsonl'}, line 2: " in error and "position 5 holds id 99" in error
    assert f"{tokens / 'tokens.jsonl'}, line 3: " in error and "500 samples at hop 20 are 25" in error
    assert sorted(path.name for path in (tmp_path / "again").iterdir()) == ["0.wav", "4.wav"]


def test_tokens_of_another_model_and_tokens_without_a_space_are_refused(
    tmp_path: Path, model: str, capsys: Captured
) -> None:
    files = write_wavs(tmp_path / "audio")
    tokens = tmp_path / "tokens"
    arguments = ["--model", model, "--layout", "flat", "--format", "txt"]
    assert main(["encode", *files, "--out", str(tokens), *arguments]) == 0
    other = str(save_tiny("rvq-unprojected", tmp_path / "other"))
    decode = ["decode", str(tokens / "0.txt"), "--out", str(tmp_path / "again"), "--model"]
    assert main([*decode, other]) == 1
    assert "0.txt: these tokens stand for other codes: token_fingerprint is" in capsys.readouterr().err
    (tokens / "0.txt").write_text("1 2 three\n")
    assert main([*decode, model]) == 1
    assert "0.txt: is no file of token ids (invalid literal" in capsys.readouterr().err
    (tokens / "space.json").unlink()
    assert main([*decode, model]) == 1
    assert "there is no space.json beside it or above" in capsys.readouterr().err
    assert not list((tmp_path / "again").iterdir())


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"name": "../a", "tokens": []}', r"line 1: name is '\.\./a'; it is a relative path, and stays below"),
        ('{"name": "/a", "tokens": []}', "line 1: name is '/a'"),
        ('{"name": "", "tokens": []}', "line 1: name is ''"),
        ('{"name": 3, "tokens": []}', "line 1: name is 3"),
        ('{"tokens": []}', "line 1: is no recording; wanted is JSON with name and tokens"),
        ("[1, 2]", "line 1: is no recording"),
        ("1 2 3", "line 1: is no recording"),
        ('{"name": "a", "tokens": []}\n{"name": "a", "tokens": []}', "line 2: name 'a' was there before"),
    ],
)
def test_lines_that_are_none_are_refused_by_number(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "tokens.jsonl"
    path.write_text(line + "\n")
    *_, last = read_sequences(path)
    with pytest.raises(ValueError, match=rf"tokens\.jsonl, {message}"):
        last.to_codes(TokenSpace.of(tiny_tokenizer("rvq-projected"), Flat(codebook_sizes=(32, 32, 32))))


def test_a_bad_line_does_not_cost_the_others_their_turn(tmp_path: Path, model: str, capsys: Captured) -> None:
    files = write_wavs(tmp_path / "audio")
    tokens = tmp_path / "tokens"
    assert main(["encode", *files, "--out", str(tokens), "--model", model, "--layout", "flat"]) == 0
    lines = (tokens / "tokens.jsonl").read_text().splitlines()
    (tokens / "tokens.jsonl").write_text("\n".join(["garbage", *lines[:2], '{"name": "../b"}', *lines[2:]]) + "\n")
    assert main(["decode", str(tokens), "--out", str(tmp_path / "again"), "--model", model]) == 1
    assert sorted(path.name for path in (tmp_path / "again").iterdir()) == [f"{number}.wav" for number in range(5)]
    said = capsys.readouterr().err
    assert "line 1: is no recording" in said and "line 4: is no recording" in said


def test_names_of_any_bytes_are_lines_as_well(tmp_path: Path, model: str) -> None:
    folder, tokens, again = tmp_path / "audio", tmp_path / "tokens", tmp_path / "again"
    folder.mkdir()
    names = ["a", os.fsdecode(b"b\xe9"), "c\\d", "日本"]
    for name in names:
        write_audio(folder / "x.wav", noise(1, 300), 1_600)
        (folder / "x.wav").rename(folder / f"{name}.wav")
    options = ["--model", model, "--workers", "2"]
    assert main(["encode", str(folder), "--out", str(tokens), *options, "--layout", "flat"]) == 0
    assert main(["decode", str(tokens), "--out", str(again), *options]) == 0
    assert {path.stem for path in again.iterdir()} == set(names)


@pytest.mark.parametrize("layout", ["parallel", "delay"])
@pytest.mark.parametrize("num_samples", [500, 0])
def test_a_stack_of_one_codebook_comes_back_from_text(
    tmp_path: Path, model: str, layout: str, num_samples: int
) -> None:
    write_audio(tmp_path / "a.wav", noise(1, num_samples), 1_600)
    options = ["--model", model, "--layout", layout, "--codebooks", "1", "--format", "txt"]
    assert main(["encode", str(tmp_path / "a.wav"), "--out", str(tmp_path / "tokens"), *options]) == 0
    assert main(["decode", str(tmp_path / "tokens"), "--out", str(tmp_path / "again"), "--model", model]) == 0
    assert read_audio(tmp_path / "again/a.wav")[0].shape == (1, num_samples)  # a whole number of frames


def test_a_run_without_any_result_leaves_what_was_there(tmp_path: Path, model: str) -> None:
    files = write_wavs(tmp_path / "audio")
    tokens = tmp_path / "tokens"
    options = ["--out", str(tokens), "--model", model, "--layout", "flat"]
    assert main(["encode", *files, *options]) == 0
    before = (tokens / "tokens.jsonl").read_bytes()
    assert main(["encode", str(tmp_path / "missing.wav"), *options]) == 1
    assert (tokens / "tokens.jsonl").read_bytes() == before
    assert sorted(path.name for path in tokens.iterdir()) == ["space.json", "tokens.jsonl"]


def test_recordings_that_were_there_stay(tmp_path: Path, model: str) -> None:
    write_wavs(tmp_path / "audio")
    tokens = tmp_path / "tokens"

    def names_after(*numbers: int) -> list[str]:
        files = [str(tmp_path / "audio" / f"{number}.wav") for number in numbers]
        assert main(["encode", *files, "--out", str(tokens), "--model", model, "--layout", "flat"]) == 0
        return [sequence.name for sequence in read_sequences(tokens / "tokens.jsonl")]

    assert names_after(0, 1) == ["0", "1"]
    (first, _) = (tokens / "tokens.jsonl").read_text().splitlines()
    with open(tokens / "tokens.jsonl", "a") as file:
        file.write("no recording")  # nor a line feed
    write_audio(tmp_path / "audio/1.wav", noise(1, 900), 1_600)
    assert names_after(3, 1) == ["3", "1", "0", ""]
    lines = (tokens / "tokens.jsonl").read_text().splitlines()
    assert lines[2:] == [first, "no recording"]
    assert json.loads(lines[1])["source_num_samples"] == 900


def test_what_a_manifest_says_stands_in_the_line(tmp_path: Path, model: str) -> None:
    write_wavs(tmp_path / "audio")
    told = [{"split": "train", "speaker": "anna", "text": "grün", "licence": "CC0"}, {"split": "test"}]
    lines = [json.dumps({"path": f"{number}.wav", **about}) for number, about in enumerate(told)]
    (tmp_path / "audio/manifest.jsonl").write_text("\n".join(lines), encoding="utf-8")
    options = ["--out", str(tmp_path / "tokens"), "--model", model, "--layout", "flat"]
    assert main(["encode", "--manifest", str(tmp_path / "audio/manifest.jsonl"), *options]) == 0
    found = [json.loads(line) for line in (tmp_path / "tokens/tokens.jsonl").read_text().splitlines()]
    facts = ("split", "speaker", "text", "licence")
    assert [{key: line[key] for key in facts if key in line} for line in found] == told
    assert main(["decode", str(tmp_path / "tokens"), "--out", str(tmp_path / "again"), "--model", model]) == 0


def test_a_line_and_a_file_of_one_name_are_told(tmp_path: Path, model: str, capsys: Captured) -> None:
    files = write_wavs(tmp_path / "audio")
    options = ["--out", str(tmp_path / "tokens"), "--model", model, "--layout", "flat"]
    assert main(["encode", *files, *options]) == 0
    assert main(["encode", f"{files[0]}/1.wav", *options, "--format", "npy"]) == 0
    assert main(["decode", str(tmp_path / "tokens"), "--out", str(tmp_path / "again"), "--model", model]) == 1
    assert "tokens.jsonl: its output" in (said := capsys.readouterr().err) and "1.npy too" in said
