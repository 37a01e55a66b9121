"""vqaudio encode into a folder: what is there is not made again, and the index tells what is there."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import soundfile

from tests.tiny import noise, save_tiny, tiny_tokenizer
from vqaudio.cli import main
from vqaudio.code_index import INDEX_NAME, JOURNAL_NAME, read_index
from vqaudio.codes import Codes
from vqaudio.io import write_audio
from vqaudio.lm import CodeFolder

KIND = "rvq-projected"
NAMES = ("anna/1", "anna/2", "bert")
Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny(KIND, tmp_path_factory.mktemp("models") / "model"))


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    for number, name in enumerate(NAMES):
        path = tmp_path / f"in/{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_audio(path, noise(2, 400 + 30 * number, seed=number), 1_600)
    return tmp_path / "in"


def encode(recordings: Path, model: str, *options: str) -> int:
    out = str(recordings.parent / "out")
    return main(["encode", str(recordings), "--out", out, "--model", model, "--workers", "1", *options])


def contents(folder: Path) -> dict[str, bytes]:
    """Of all files that are not hidden."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }


def times(folder: Path) -> dict[str, int]:
    return {path.stem: path.stat().st_mtime_ns for path in folder.rglob("*.vqt")}


def age(folder: Path) -> None:
    """Files that are written again will be seen to be newer."""
    for path in folder.rglob("*.vqt"):
        os.utime(path, (1, 1))


def last_line(capsys: Captured) -> str:
    return capsys.readouterr().out.splitlines()[-1]


def test_a_folder_is_coded_once(
    recordings: Path, model: str, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = recordings.parent / "out"
    assert encode(recordings, model) == 0
    assert last_line(capsys).startswith("3 files, 0.8 s of audio,")
    folder = CodeFolder(out)
    assert [item.name for item in folder.items] == list(NAMES)
    assert folder.codes(1) == tiny_tokenizer(KIND).encode(recordings / "anna/2.wav")
    assert folder.token_fingerprint == tiny_tokenizer(KIND).token_fingerprint
    before = contents(out)
    age(out)

    def unreadable(*_: Any, **__: Any) -> None:
        raise AssertionError("audio was opened")

    with monkeypatch.context() as patch:
        patch.setattr(soundfile, "SoundFile", unreadable)
        assert encode(recordings, model) == 0
    assert last_line(capsys) == f"nothing to do, 3 there already -> {out}"
    assert contents(out) == before and set(times(out).values()) == {10**9}

    assert encode(recordings, model, "--overwrite") == 0
    assert last_line(capsys).startswith("3 files,") and contents(out) == before
    assert min(times(out).values()) > 10**9


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-2] ^= 1
    path.write_bytes(data)


def replace_source(path: Path) -> None:
    write_audio(path, noise(2, 430, seed=9), 1_600)  # as long as before


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("out/anna/2.vqt", Path.unlink),
        ("out/anna/2.vqt", damage),
        ("out/anna/2.vqt", lambda path: tiny_tokenizer(KIND).encode(noise(1, 430)).save(path)),  # whole, of another
        ("in/anna/2.wav", replace_source),
    ],
)
def test_what_is_gone_damaged_or_of_another_source_is_made_again(
    recordings: Path, model: str, capsys: Captured, name: str, change: Callable[[Path], Any]
) -> None:
    out = recordings.parent / "out"
    assert encode(recordings, model) == 0
    age(out)
    change(recordings.parent / name)
    assert encode(recordings, model) == 0
    line = last_line(capsys)
    assert line.startswith("1 file,") and ", 2 there already ->" in line
    assert [name for name, when in times(out).items() if when > 10**9] == ["2"]
    assert CodeFolder(out).codes(1) == tiny_tokenizer(KIND).encode(recordings / "anna/2.wav")


@pytest.mark.parametrize(
    "options",
    [["--channels", "keep"], ["--start", "0.1"], ["--end", "0.2"]],
    ids=lambda options: options[0],
)
def test_other_options_are_other_codes(recordings: Path, model: str, capsys: Captured, options: list[str]) -> None:
    assert encode(recordings, model) == 0
    assert encode(recordings, model, *options) == 0
    line = last_line(capsys)
    assert line.startswith("3 files,") and "there already" not in line
    assert encode(recordings, model, *options) == 0
    assert last_line(capsys).startswith("nothing to do, 3 there already")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--codebooks", "2"], "have 3 codebooks, and 2 are asked for"),
        (["--model", "speech-16k"], "are of a model that does not ship, and not of speech-16k"),
    ],
    ids=["codebooks", "model"],
)
def test_codes_of_two_kinds_do_not_get_into_one_folder(
    recordings: Path, model: str, capsys: Captured, options: list[str], expected: str
) -> None:
    assert encode(recordings, model) == 0
    before = times(recordings.parent / "out")
    assert encode(recordings, model, *options) == 1
    assert f"out: codes are there that {expected}, such as anna/1; choose another --out" in capsys.readouterr().err
    assert times(recordings.parent / "out") == before
    assert encode(recordings, model, *options, "--overwrite") == 0
    assert last_line(capsys).startswith("3 files,")
    assert encode(recordings, model, *options) == 0
    assert last_line(capsys).startswith("nothing to do, 3 there already")
    if "--model" in options:
        assert encode(recordings, model) == 1
        assert "are of speech-16k-v4, and not of" in capsys.readouterr().err


def test_excerpts_are_told_apart(recordings: Path, model: str) -> None:
    """Of one length, and with one start or end in common."""
    out = recordings.parent / "out"
    for start, end in ((0.05, 0.1), (0.1, 0.15), (0.05, 0.15), (0.05, 0.2)):
        assert encode(recordings, model, "--start", str(start), "--end", str(end)) == 0
        expected = tiny_tokenizer(KIND).encode(recordings / "bert.wav", start=start, end=end)
        assert Codes.load(out / "bert.vqt") == expected


def test_an_index_lists_what_is_whole_also_when_a_file_failed(recordings: Path, model: str, capsys: Captured) -> None:
    out = recordings.parent / "out"
    (recordings / "broken.wav").write_bytes(b"RIFF")
    assert encode(recordings, model) == 1
    assert "broken.wav: " in capsys.readouterr().err
    assert list(read_index(out)) == list(NAMES)
    # A damaged code file whose source cannot be read any more is in the index no longer; nor is one that is gone.
    damage(out / "anna/1.vqt")
    (recordings / "anna/1.wav").write_bytes(b"")
    (out / "anna/2.vqt").unlink()
    (recordings / "anna/2.wav").unlink()
    assert encode(recordings, model) == 1
    assert list(read_index(out)) == ["bert"]
    # A source that is gone is no reason to forget codes that are whole.
    (recordings / "bert.wav").unlink()
    assert encode(recordings, model) == 1
    assert list(read_index(out)) == ["bert"]


def test_folders_grow(recordings: Path, model: str, capsys: Captured) -> None:
    assert main(["encode", str(recordings / "anna"), "--out", str(recordings.parent / "out"), "--model", model]) == 0
    assert encode(recordings, model) == 0
    assert list(read_index(recordings.parent / "out")) == ["1", "2", *NAMES]


def test_an_index_of_another_kind_is_refused_and_kept(recordings: Path, model: str, capsys: Captured) -> None:
    out = recordings.parent / "out"
    out.mkdir()
    (out / INDEX_NAME).write_text('{"page": 1}\n')
    assert encode(recordings, model) == 1
    assert f"{out / INDEX_NAME}, line 1: is no recording of an index: name is missing" in capsys.readouterr().err
    assert contents(out) == {INDEX_NAME: b'{"page": 1}\n'}


# ---- killed


def killed_when(reached: Callable[[], bool], arguments: list[str]) -> None:
    """Start a command and kill it as soon as a moment is reached."""
    process = subprocess.Popen(
        [sys.executable, "-m", "vqaudio.cli", *arguments],
        stdout=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    try:
        deadline = time.monotonic() + 60
        while not reached() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
    finally:
        process.kill()
        status = process.wait(timeout=60)
    assert status == -signal.SIGKILL


def test_killed_and_run_again_is_never_killed(recordings: Path, model: str, capsys: Captured) -> None:
    write_audio(recordings / "long.wav", noise(1, 60_000).repeat(1, 10), 1_600, subtype="PCM_U8")
    out, never = recordings.parent / "out", recordings.parent / "never"
    arguments = ["encode", str(recordings), "--model", model, "--workers", "1", "--out"]
    # In the order of names: the long one is at work when all others are done.
    killed_when((out / "bert.vqt").exists, [*arguments, str(out)])
    assert not (out / INDEX_NAME).exists()
    with open(out / JOURNAL_NAME, "a") as journal:
        journal.write('{"name": "lo')  # a line that was being written
    assert main([*arguments, str(out)]) == 0
    line = last_line(capsys)
    # The entry of the last may not have been written yet; then its codes are made once more.
    assert ", 3 there already" in line or ", 2 there already" in line
    assert main([*arguments, str(never)]) == 0
    assert contents(out) == contents(never) and len(contents(out)) == 5
    assert not (out / JOURNAL_NAME).exists()


# ---- of a manifest


def write_manifest(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_manifest_says_what_and_its_labels_come_along(recordings: Path, model: str, capsys: Captured) -> None:
    out = recordings.parent / "out"
    told = {"split": "train", "speaker": "anna", "text": "eins – zwei", "licence": "CC0", "kind": "speech"}
    rows: list[dict[str, Any]] = [
        {"path": "../in/anna/1.wav", **told},
        {"path": str(recordings / "bert.wav"), "split": "test"},
        {"path": "gone.wav", "split": "test"},
    ]
    manifest = write_manifest(recordings.parent / "packs/manifest.jsonl", rows)
    arguments = ["encode", "--manifest", str(manifest), "--out", str(out), "--model", model]
    assert main([*arguments, "--split", "train"]) == 0
    (item,) = CodeFolder(out).items
    assert item.name == "in/anna/1"
    assert {key: getattr(item, key) for key in ("split", "speaker", "text", "licence")} == {
        key: told[key] for key in ("split", "speaker", "text", "licence")
    }

    assert main(arguments) == 1  # an unreadable input does not end the run
    printed = capsys.readouterr()
    assert "gone.wav" in printed.err and "1 there already" in printed.out
    bert = f"{recordings / 'bert'}".lstrip("/")
    assert [(item.name, item.split, item.text) for item in CodeFolder(out).items] == sorted(
        [("in/anna/1", "train", "eins – zwei"), (bert, "test", None)]
    )

    rows[0]["text"] = "eins, zwei"  # put right: the index is, and nothing is coded for that
    write_manifest(manifest, rows)
    age(out)
    assert main([*arguments, "--split", "train"]) == 0
    assert "nothing to do, 1 there already" in capsys.readouterr().out
    assert CodeFolder(out).select(split="train").items[0].text == "eins, zwei"

    assert main([*arguments, "--split", "valid"]) == 1
    assert "no recording of split 'valid'; it has test, train" in capsys.readouterr().err


def test_a_manifest_of_columns(recordings: Path, model: str) -> None:
    (recordings / "list.tsv").write_text('path\tspeaker\ttext\nanna/1.wav\tanna\tsaid "so"\nbert.wav\tbert\t\n')
    out = recordings.parent / "out"
    assert main(["encode", "--manifest", str(recordings / "list.tsv"), "--out", str(out), "--model", model]) == 0
    assert [(item.name, item.speaker, item.text) for item in CodeFolder(out).items] == [
        ("anna/1", "anna", 'said "so"'),
        ("bert", "bert", None),
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["a.wav", "--split", "train"], "--split goes with --manifest"),
        (["a.wav", "--manifest", "m.jsonl"], "--manifest says which files: leave out FILES"),
        (["a.wav", "--layout", "flat", "--overwrite"], "--overwrite goes with code files"),
        (["--split", "train"], "files and --out are wanted, or --stream"),
    ],
)
def test_options_that_do_not_go_together(options: list[str], message: str, capsys: Captured) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["encode", *options, "--out", "out"])
    assert exit_.value.code == 2 and message in capsys.readouterr().err


def test_an_index_beside_token_files_is_none_of_them(recordings: Path, model: str) -> None:
    out, audio = recordings.parent / "out", recordings.parent / "audio"
    assert encode(recordings, model) == 0 and encode(recordings, model, "--layout", "flat", "--format", "npy") == 0
    for path in out.rglob("*.vqt"):
        path.unlink()
    assert main(["decode", str(out), "--out", str(audio), "--model", model]) == 0
    assert sorted(path.relative_to(audio).with_suffix("").as_posix() for path in audio.rglob("*.wav")) == list(NAMES)
