"""The command line: what it writes, what it prints, how it ends."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch

from tests.tiny import noise, save_tiny, tiny_tokenizer
from vqaudio import __version__
from vqaudio.cli import main
from vqaudio.cli.files import plan
from vqaudio.codes import Codes
from vqaudio.io import read_audio, write_audio

WAV = frozenset({".wav"})
Captured = pytest.CaptureFixture[str]


@pytest.fixture
def model(tmp_path: Path) -> str:
    return str(save_tiny("rvq-projected", tmp_path / "model"))


def write_wav(path: Path, *, channels: int = 1, num_samples: int = 2_000, rate: int = 1_600) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_audio(path, noise(channels, num_samples), rate)
    return path


def written(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


# ---- the three jobs


def test_encode_and_decode_do_what_the_tokenizer_does(tmp_path: Path, model: str, capsys: Captured) -> None:
    tokenizer = tiny_tokenizer("rvq-projected")
    path = write_wav(tmp_path / "a.wav", channels=2, rate=4_410)
    assert main(["encode", str(path), "--out", str(tmp_path / "codes"), "--model", model]) == 0
    assert "1 file, 0.5 s of audio" in capsys.readouterr().out
    codes = Codes.load(tmp_path / "codes/a.vqt")
    assert codes == tokenizer.encode(path)

    decode = ["decode", str(tmp_path / "codes/a.vqt"), "--model", model, "--out"]
    assert main([*decode, str(tmp_path / "model-rate")]) == 0
    assert main([*decode, str(tmp_path / "source-rate"), "--sample-rate", "source"]) == 0
    assert main([*decode, str(tmp_path / "other-rate"), "--sample-rate", "8000", "--format", "flac"]) == 0
    for name, rate in (("model-rate/a.wav", None), ("source-rate/a.wav", "source"), ("other-rate/a.flac", 8_000)):
        audio, found = read_audio(tmp_path / name)
        expected = tokenizer.decode(codes, sample_rate=rate)  # type: ignore[arg-type]
        assert found == tokenizer.output_rate(codes, rate)  # type: ignore[arg-type]
        torch.testing.assert_close(audio, expected.clamp(-1, 1), atol=2**-15, rtol=0)


def test_reconstruct_writes_both_and_prints_figures(tmp_path: Path, model: str, capsys: Captured) -> None:
    path = write_wav(tmp_path / "a.wav", channels=2)
    arguments = ["reconstruct", str(path), "--out", str(tmp_path / "out"), "--model", model]
    assert main([*arguments, "--channels", "keep", "--codebooks", "2"]) == 0
    assert written(tmp_path / "out") == ["a.vqt", "a.wav"]
    (row,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("a.wav")]
    assert row.split()[:5] == ["a.wav", "1.25", "100", "2", "1.60"]  # kbps of both channels
    assert Codes.load(tmp_path / "out/a.vqt").values.shape == (2, 2, 100)
    assert read_audio(tmp_path / "out/a.wav")[0].shape == (2, 2_000)


@pytest.mark.parametrize(("kbps", "expected"), [("0.4", 1), ("0.79", 1), ("0.8", 2), ("1.2", 3), ("64", 3)])
def test_kbps_takes_the_most_codebooks_within(tmp_path: Path, model: str, kbps: str, expected: int) -> None:
    path = write_wav(tmp_path / "a.wav")
    assert main(["encode", str(path), "--out", str(tmp_path / "out"), "--model", model, "--kbps", kbps]) == 0
    assert Codes.load(tmp_path / "out/a.vqt").num_codebooks == expected


def test_decoding_fewer_codebooks(tmp_path: Path, model: str) -> None:
    tokenizer = tiny_tokenizer("rvq-projected")
    codes = tokenizer.encode(noise(1, 900))
    codes.save(tmp_path / "a.vqt")
    arguments = ["--out", str(tmp_path / "out"), "--model", model, "--codebooks", "1"]
    assert main(["decode", str(tmp_path / "a.vqt"), *arguments]) == 0
    expected = tokenizer.decode(codes.prefix(1))
    torch.testing.assert_close(read_audio(tmp_path / "out/a.wav")[0], expected.clamp(-1, 1), atol=2**-15, rtol=0)


def test_clipping_is_reported(tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    model = save_tiny("fsq", tmp_path / "model")
    tiny_tokenizer("fsq").encode(noise(1, 900)).save(tmp_path / "a.vqt")
    loud = torch.tensor([[0.0, 1.5, -2.0]])
    monkeypatch.setattr("vqaudio.tokenizer.AudioTokenizer.decode_blocks", lambda *_, **__: iter([loud]))
    assert main(["decode", str(tmp_path / "a.vqt"), "--out", str(tmp_path / "out"), "--model", str(model)]) == 0
    assert f"{tmp_path / 'out/a.wav'}: 2 samples beyond full scale clipped" in capsys.readouterr().err


def test_results_are_replaced_only_by_whole_ones(
    tmp_path: Path, model: str, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_tokenizer("rvq-projected").encode(noise(1, 900)).save(tmp_path / "a.vqt")
    arguments = ["decode", str(tmp_path / "a.vqt"), "--out", str(tmp_path / "out"), "--model", model]
    assert main(arguments) == 0
    before = (tmp_path / "out/a.wav").read_bytes()

    def breaking(*_: object, **__: object) -> object:
        yield torch.zeros(1, 100)
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr("vqaudio.tokenizer.AudioTokenizer.decode_blocks", breaking)
        assert main(arguments) == 1
    assert f"{tmp_path / 'a.vqt'}: RuntimeError: out of memory" in capsys.readouterr().err
    assert (tmp_path / "out/a.wav").read_bytes() == before
    assert main([*arguments, "--codebooks", "1"]) == 0
    assert (tmp_path / "out/a.wav").read_bytes() != before
    assert written(tmp_path / "out") == ["a.wav"]


# ---- which files


def test_files_folders_and_patterns_keep_their_structure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.wav", "corpus/anna/1.wav", "corpus/2.WAV", "corpus/note.txt", "more/x/y/3.wav", "more/4.wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    found = plan(["a.wav", "corpus", "more/**/*.wav"], Path("out"), extensions=WAV, suffixes=[".vqt", ".flac"])
    assert found.failures == ()
    assert {task.source.as_posix(): [path.as_posix() for path in task.outputs] for task in found.tasks} == {
        "a.wav": ["out/a.vqt", "out/a.flac"],
        "corpus/anna/1.wav": ["out/anna/1.vqt", "out/anna/1.flac"],
        "corpus/2.WAV": ["out/2.vqt", "out/2.flac"],
        "more/4.wav": ["out/4.vqt", "out/4.flac"],
        "more/x/y/3.wav": ["out/x/y/3.vqt", "out/x/y/3.flac"],
    }


def test_a_name_with_brackets_is_a_file_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("take[1].wav").touch()
    assert [task.source.name for task in plan(["take[1].wav"], Path("o"), extensions=WAV, suffixes=[".vqt"]).tasks] == [
        "take[1].wav"
    ]


def test_a_file_named_twice_is_done_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_wav(Path("in/a.wav"))
    found = plan(
        ["in/a.wav", "in", "in/*.wav", str(tmp_path / "in/a.wav")], Path("o"), extensions=WAV, suffixes=[".vqt"]
    )
    assert len(found.tasks) == 1 and found.failures == ()


def test_inputs_with_one_output_are_refused_by_name_and_the_others_done(
    tmp_path: Path, model: str, capsys: Captured
) -> None:
    one, two, good = (write_wav(tmp_path / name) for name in ("x/a.wav", "y/a.wav", "b.wav"))
    out = tmp_path / "out"
    assert main(["encode", str(one), str(two), str(good), "--out", str(out), "--model", model]) == 1
    assert written(out) == ["b.vqt", "index.jsonl"]
    errors = capsys.readouterr().err
    assert f"{one}: its output {out / 'a.vqt'} is that of {two} too" in errors
    assert f"{two}: its output {out / 'a.vqt'} is that of {one} too" in errors


def test_an_input_is_never_replaced(tmp_path: Path, model: str, capsys: Captured) -> None:
    path = write_wav(tmp_path / "in/a.wav")
    before = path.read_bytes()
    assert main(["reconstruct", str(path), "--out", str(tmp_path / "in"), "--model", model]) == 1
    assert f"{path}: its output would replace {path}, an input; choose another --out" in capsys.readouterr().err
    assert path.read_bytes() == before and written(tmp_path / "in") == ["a.wav"]


def test_nothing_to_do_is_a_failure(tmp_path: Path, model: str, capsys: Captured) -> None:
    (tmp_path / "empty").mkdir()
    arguments = ["--out", str(tmp_path / "out"), "--model", model]
    assert main(["encode", str(tmp_path / "empty"), str(tmp_path / "*.wav"), *arguments]) == 1
    errors = capsys.readouterr().err
    assert "empty: this folder holds no file with extension" in errors
    assert "*.wav: no file matches this pattern" in errors


# ---- info


def test_info_on_each_kind_of_thing(tmp_path: Path, model: str, capsys: Captured) -> None:
    audio = write_wav(tmp_path / "a.wav", channels=2, rate=4_410, num_samples=4_410)
    codes = tiny_tokenizer("rvq-projected").encode(audio)
    codes.save(tmp_path / "a.vqt")
    assert main(["info", str(audio), str(tmp_path / "a.vqt"), model]) == 0
    of_audio, of_codes, of_model = capsys.readouterr().out.split("\n\n")
    for expected in ("WAV, PCM_16", "1.000 s", "4410 Hz", "4410\n", "channels           2"):
        assert expected in of_audio
    for expected in (
        "3 of 32 codes",
        "80 at 80 per second",
        "1.2 kbps",
        "1600 samples at 1600 Hz",
        codes.token_fingerprint,
    ):
        assert expected in of_codes
    for expected in ("model tiny-rvq-projected", "0.4, 0.8, 1.2 kbps", "25 ms in the encoder", codes.token_fingerprint):
        assert expected in of_model


def test_info_on_a_folder_of_codes(tmp_path: Path, model: str, capsys: Captured) -> None:
    write_wav(tmp_path / "in/a.wav")
    write_wav(tmp_path / "in/b/c.wav")
    assert main(["encode", str(tmp_path / "in"), "--out", str(tmp_path / "codes"), "--model", model]) == 0
    capsys.readouterr()
    assert main(["info", str(tmp_path / "codes")]) == 0
    said = capsys.readouterr().out
    for expected in (
        "folder of code files",
        "2, 2.5 s",
        "without a split 2",
        "3 of 32 codes",
        "of a model that does not",
    ):
        assert expected in said


def test_info_goes_on_after_a_failure(tmp_path: Path, model: str, capsys: Captured) -> None:
    (tmp_path / "bad.vqt").write_bytes(b"nothing")
    assert main(["info", "no-such-thing", str(tmp_path / "bad.vqt"), model]) == 1
    output = capsys.readouterr()
    assert "model tiny-rvq-projected" in output.out
    assert "no-such-thing: there is no such file or folder, and no such model ships with vqaudio" in output.err
    assert "bad.vqt: truncated, or no code file" in output.err


# ---- prepare and train


def test_prepare_makes_packs_and_says_what_is_dropped(tmp_path: Path, capsys: Captured) -> None:
    for speaker in ("anna", "bert", "carl"):
        write_wav(tmp_path / f"in/{speaker}/1.wav", num_samples=3_000 + len(speaker) + ord(speaker[0]))
    (tmp_path / "in/anna/bad.wav").write_text("no audio")
    out = tmp_path / "packs"
    arguments = ["prepare", str(tmp_path / "in"), "--out", str(out), "--sample-rate", "1600"]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert f"dropped: 1 (1 unreadable); see {out / 'dropped.jsonl'}" in said
    assert "train: " in said and "valid: " in said and f"packed into {out}" in said
    assert main(arguments) == 0
    assert "nothing to do" in capsys.readouterr().out


def test_train_makes_a_model_that_codes(tmp_path: Path, capsys: Captured) -> None:
    for number, speaker in enumerate(("anna", "bert", "carl")):
        write_wav(tmp_path / f"in/{speaker}/1.wav", num_samples=8_000 + number)
    assert main(["prepare", str(tmp_path / "in"), "--out", str(tmp_path / "packs"), "--sample-rate", "1600"]) == 0
    (tmp_path / "recipe.toml").write_text(RECIPE)
    train = ["train", str(tmp_path / "recipe.toml"), "--packs", str(tmp_path / "packs"), "--out", str(tmp_path / "run")]
    assert main([*train, "--steps", "3", "--codec.quantizer.num-codebooks", "2", "--seed.typo=1"]) == 1
    assert "seed" in capsys.readouterr().err
    assert main([*train, "--steps", "3", "--codec.quantizer.num-codebooks", "2"]) == 0
    assert f"the model is in {tmp_path / 'run/model'}" in capsys.readouterr().out
    path = write_wav(tmp_path / "a.wav")
    assert main(["encode", str(path), "--out", str(tmp_path / "out"), "--model", str(tmp_path / "run/model")]) == 0
    assert Codes.load(tmp_path / "out/a.vqt").codebook_sizes == (16, 16)


RECIPE = """
name = "tiny"
[codec]
sample_rate = 1600
[codec.encoder]
kind = "plain"
strides = [4, 5]
channels = 8
[codec.decoder]
kind = "plain"
strides = [5, 4]
channels = 8
[codec.quantizer]
kind = "residual_vq"
dim = 8
num_codebooks = 3
codebook_size = 16
codebook_dim = 4
[data]
batch_size = 2
[quantizer]
quantize_after = 1
fit_batches = 2
[losses]
mel_windows = [64]
num_mels = [8]
stft_windows = [64]
[report]
validation_clips = 1
validation_seconds = 1.0
num_samples = 1
"""


# ---- how it ends


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["encode", "a.wav"], "files and --out are wanted, or --stream"),
        (["encode", "a.wav", "--out", "o", "--codebooks", "2", "--kbps", "1"], "not allowed with"),
        (
            ["encode", "a.wav", "--out", "o", "--codec.quantizer.dim", "4"],
            "unrecognized arguments: --codec.quantizer.dim",
        ),
        (["encode", "a.wav", "--out", __file__], "is a file, and a folder is wanted"),
        (["decode", "a.vqt", "--out", "o", "--sample-rate", "fast"], "fast is neither source, model nor a positive"),
        (["transmogrify"], "invalid choice: 'transmogrify'"),
    ],
)
def test_a_wrong_command_line_exits_with_2(arguments: list[str], expected: str, capsys: Captured) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2
    assert expected in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("--kbps", "0.3", "--kbps is 0.3; one codebook of tiny-rvq-projected takes 0.4 kbps"),
        ("--codebooks", "4", "--codebooks is 4; tiny-rvq-projected has 3 codebooks"),
    ],
)
def test_options_that_the_model_cannot_meet_exit_with_2(
    tmp_path: Path, model: str, option: str, value: str, expected: str, capsys: Captured
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["encode", "a.wav", "--out", str(tmp_path / "out"), "--model", model, option, value])
    assert exit_.value.code == 2
    assert expected in capsys.readouterr().err


def test_an_unknown_model_is_named(tmp_path: Path, capsys: Captured) -> None:
    assert main(["encode", "a.wav", "--out", str(tmp_path / "out"), "--model", "whale-8k"]) == 1
    assert "vqaudio: whale-8k: neither a folder nor a model that ships with vqaudio" in capsys.readouterr().err


def test_version(capsys: Captured) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["--version"])
    assert exit_.value.code == 0
    assert capsys.readouterr().out == f"vqaudio {__version__}\n"


def test_interruption_leaves_nothing_half_written(tmp_path: Path) -> None:
    model = save_tiny("rvq-projected", tmp_path / "model")
    Codes.concatenate([tiny_tokenizer("rvq-projected").encode(noise(1, 20_000))] * 200).save(tmp_path / "long.vqt")
    command = [sys.executable, "-m", "vqaudio.cli", "decode", str(tmp_path / "long.vqt"), "--model", str(model)]
    process = subprocess.Popen(
        [*command, "--out", str(tmp_path / "out"), "--sample-rate", "8000"],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    try:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob("out/.*.partial")) and time.monotonic() < deadline:
            time.sleep(0.02)  # until it writes
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, errors
    assert errors == "vqaudio: interrupted\n"
    assert written(tmp_path / "out") == []


def test_a_closed_pipe_is_no_traceback(tmp_path: Path, model: str) -> None:
    command = f"{sys.executable} -m vqaudio.cli info {model} {model} {model} | head -n 1"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=120)
    assert result.stdout == f"{model}\n"
    assert "Traceback" not in result.stderr and "Exception" not in result.stderr


def test_written_audio_is_what_soundfile_reads(tmp_path: Path, model: str) -> None:
    path = write_wav(tmp_path / "a.wav")
    assert main(["reconstruct", str(path), "--out", str(tmp_path / "out"), "--model", model]) == 0
    assert soundfile.info(tmp_path / "out/a.wav").frames == 2_000


# ---- what stands in the way of one file is not in the way of others


def test_paths_that_cannot_be_looked_at_are_failures_of_their_own(tmp_path: Path, model: str, capsys: Captured) -> None:
    good = write_wav(tmp_path / "in/good.wav")
    (tmp_path / "in/loop.wav").symlink_to("loop.wav")
    (tmp_path / "in/nowhere.wav").symlink_to("gone.wav")
    write_wav(tmp_path / "in/a.wav").rename(tmp_path / "in/..wav")
    os.mkfifo(tmp_path / "in/pipe.wav")
    (tmp_path / "in/._good.wav").write_bytes(b"what macOS leaves beside good.wav")
    long = f"{'a' * 300}.wav"
    named = [str(tmp_path / "in/loop.wav"), str(tmp_path / "in/..wav"), long]
    arguments = [str(good.parent), *named, "--out", str(tmp_path / "out")]
    assert main(["encode", *arguments, "--model", model]) == 1
    assert written(tmp_path / "out") == ["good.vqt", "index.jsonl"]
    said = capsys.readouterr().err
    for reason in (
        "..wav: without its extension nothing is left of its name",
        "loop.wav: cannot be opened (Too many levels of symbolic links)",
        "nowhere.wav: cannot be opened (No such file or directory)",
        f"{long}: File name too long",
    ):
        assert reason in said, reason
    assert "pipe" not in said and said.startswith("4 failures:")


def test_a_folder_that_cannot_be_searched_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By what the system would say: whoever runs this may be allowed everything."""
    write_wav(tmp_path / "in/a.wav")
    walk = os.walk

    def refusing(top: Path, onerror: Callable[[OSError], None]) -> Iterator[Any]:
        onerror(PermissionError(13, "Permission denied", f"{top}/secret"))
        yield from walk(top)

    monkeypatch.setattr("os.walk", refusing)
    found = plan([str(tmp_path / "in")], tmp_path / "out", extensions=WAV, suffixes=[".vqt"])
    assert found.failures == (f"{tmp_path}/in/secret: cannot be searched (Permission denied)",)
    assert [task.source.name for task in found.tasks] == ["a.wav"]


def test_links_are_recordings_of_their_own(tmp_path: Path, model: str) -> None:
    """As in corpora that keep each content once."""
    write_wav(tmp_path / "store/0af3.wav")
    (tmp_path / "corpus").mkdir()
    for name in ("one.wav", "two.wav"):
        (tmp_path / "corpus" / name).symlink_to("../store/0af3.wav")
    assert main(["encode", str(tmp_path / "corpus"), "--out", str(tmp_path / "out"), "--model", model]) == 0
    assert written(tmp_path / "out") == ["index.jsonl", "one.vqt", "two.vqt"]


def test_two_ways_to_one_file_with_one_output_are_one(tmp_path: Path) -> None:
    write_wav(tmp_path / "real/a.wav")
    (tmp_path / "link").symlink_to("real")
    found = plan([str(tmp_path / "real"), str(tmp_path / "link")], tmp_path, extensions=WAV, suffixes=[".vqt"])
    assert [task.source for task in found.tasks] == [tmp_path / "real/a.wav"] and not found.failures


def test_decoding_beside_the_originals_leaves_them(tmp_path: Path, model: str, capsys: Captured) -> None:
    path = write_wav(tmp_path / "a.wav", rate=4_410)
    before = path.read_bytes()
    here = ["--out", str(tmp_path), "--model", model]
    assert main(["encode", str(path), *here]) == 0
    os.utime(path, (1_700_000_000, 1_700_000_000))
    assert main(["decode", str(tmp_path / "a.vqt"), *here]) == 1
    assert "a.wav is older, and so no result of it; choose another --out" in capsys.readouterr().err
    assert path.read_bytes() == before
    assert main(["decode", str(tmp_path / "a.vqt"), *here, "--format", "flac"]) == 0  # in the way of nothing
    assert main(["decode", str(tmp_path / "a.vqt"), *here, "--format", "flac"]) == 0  # its own result is replaced


def test_results_within_the_folder_are_no_inputs_of_the_next_run(tmp_path: Path, model: str) -> None:
    write_wav(tmp_path / "rec/a.wav")
    out = tmp_path / "rec/out"
    for asked in (str(tmp_path / "rec"), f"{tmp_path}/rec/**/*.wav", f"{tmp_path}/rec"):
        assert main(["reconstruct", asked, "--out", str(out), "--model", model]) == 0
        assert written(out) == ["a.vqt", "a.wav"]
    assert main(["encode", str(out), "--out", str(tmp_path / "again"), "--model", model]) == 0  # unless asked for


def test_after_two_dashes_there_are_files_alone(tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write_wav(tmp_path / "--take.1.wav")
    monkeypatch.chdir(tmp_path)
    assert main(["encode", "--out", "out", "--model", model, "--", "--take.1.wav"]) == 0
    assert written(tmp_path / "out") == ["--take.1.vqt", "index.jsonl"]


def test_a_closed_standard_output_is_no_error(tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_wav(tmp_path / "a.wav")
    monkeypatch.setattr(sys, "stdout", None)
    assert main(["encode", str(path), "--out", str(tmp_path / "out"), "--model", model]) == 0
