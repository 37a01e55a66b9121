"""A run that is killed or interrupted leaves no half file under a final name, and what was done before whole."""

import io
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
import torch

from tests.tiny import noise, save_tiny, tiny_tokenizer
from vqaudio.cli import main
from vqaudio.cli.interrupts import interruptible
from vqaudio.codes import Codes
from vqaudio.io import write_audio

KIND = "rvq-projected"
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}
LONG = 2_000_000  # samples: a second of work, so that a signal comes in the middle


@pytest.fixture
def model(tmp_path: Path) -> str:
    return str(save_tiny(KIND, tmp_path / "model"))


def stopped(command: list[str], reached: Callable[[], bool], stop: signal.Signals) -> tuple[int, str]:
    """Start a command, send it a signal as soon as a moment is reached: its exit status and what it said."""
    process = subprocess.Popen(
        [sys.executable, "-m", "vqaudio.cli", *command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=ONE_THREAD,
    )
    try:
        deadline = time.monotonic() + 60
        while not reached() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        process.send_signal(stop)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    return process.returncode, errors


def finals(folder: Path) -> list[str]:
    """Files under names that a user or a later run would take for results."""
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def write_long(path: Path) -> Path:
    write_audio(path, noise(1, LONG // 20).repeat(1, 20), 1_600, subtype="PCM_U8")
    return path


def save_long(path: Path) -> Path:
    Codes.concatenate([tiny_tokenizer(KIND).encode(noise(1, 20_000))] * (LONG // 20_000)).save(path)
    return path


def test_encode_killed_in_the_middle(tmp_path: Path, model: str) -> None:
    (tmp_path / "in").mkdir()
    write_audio(tmp_path / "in/a.wav", noise(1, 900), 1_600)
    write_long(tmp_path / "in/long.wav")
    out = tmp_path / "out"
    command = ["encode", str(tmp_path / "in"), "--out", str(out), "--model", model, "--workers", "1"]
    status, errors = stopped(command, (out / "a.vqt").exists, signal.SIGKILL)
    assert (status, errors) == (-signal.SIGKILL, "")
    assert finals(out) == ["a.vqt"]
    assert Codes.load(out / "a.vqt") == tiny_tokenizer(KIND).encode(tmp_path / "in/a.wav")


def test_decode_killed_in_the_middle_keeps_what_was_there(tmp_path: Path, model: str) -> None:
    """Both the file done before in this run and the earlier version of the one at work."""
    (tmp_path / "in").mkdir()
    codes = tiny_tokenizer(KIND).encode(noise(1, 900))
    codes.save(tmp_path / "in/a.vqt")
    save_long(tmp_path / "in/long.vqt")
    out = tmp_path / "out"
    out.mkdir()
    write_audio(out / "long.wav", noise(1, 500), 1_600)
    before = (out / "long.wav").read_bytes()

    def at_work() -> bool:
        return (out / "a.wav").exists() and any(path.stat().st_size > 100_000 for path in out.glob(".*.partial"))

    arguments = ["decode", str(tmp_path / "in"), "--out", str(out), "--model", model, "--workers", "1"]
    status, errors = stopped([*arguments, "--sample-rate", "8000"], at_work, signal.SIGKILL)
    assert status == -signal.SIGKILL, errors
    assert finals(out) == ["a.wav", "long.wav"]
    assert (out / "long.wav").read_bytes() == before
    audio, rate = soundfile.read(out / "a.wav", dtype="float32")
    expected = tiny_tokenizer(KIND).decode(codes, sample_rate=8_000)[0].clamp(-1, 1)
    assert rate == 8_000
    torch.testing.assert_close(torch.from_numpy(audio), expected, atol=2**-15, rtol=0)

    # What the killed run has left behind is in nobody's way.
    (partial,) = out.glob(".*.partial")
    tiny_tokenizer(KIND).encode(noise(1, 700)).save(tmp_path / "in/long.vqt")
    assert main(arguments) == 0
    assert main(["encode", str(out), "--out", str(tmp_path / "again"), "--model", model]) == 0
    assert finals(tmp_path / "again") == ["a.vqt", "index.jsonl", "long.vqt"]
    assert partial.exists() and soundfile.info(out / "long.wav").frames == 700


KILLED_AT_THE_RENAME = """
import os, signal, sys
from vqaudio.cli import main
from vqaudio.cli.interrupts import interruptible
os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
main(sys.argv[1:])
"""


def test_encode_killed_just_before_the_file_gets_its_name(tmp_path: Path, model: str) -> None:
    write_audio(tmp_path / "a.wav", noise(1, 900), 1_600)
    out = tmp_path / "out"
    arguments = ["encode", str(tmp_path / "a.wav"), "--out", str(out), "--model", model]
    script = [sys.executable, "-c", KILLED_AT_THE_RENAME, *arguments]
    result = subprocess.run(script, env=ONE_THREAD, timeout=60, stdout=subprocess.DEVNULL)
    assert result.returncode == -signal.SIGKILL
    (left,) = out.iterdir()
    assert left.suffix == ".partial" and left.name.startswith(".")
    assert Codes.load(left).num_samples == 900  # whole, so a crash at the rename loses the name alone


def interrupted_decoding(tmp_path: Path, model: str) -> Path:
    """The folder of results after control-C with two files at work and one done."""
    (tmp_path / "in").mkdir()
    tiny_tokenizer(KIND).encode(noise(1, 900)).save(tmp_path / "in/a.vqt")
    for name in ("b", "c"):
        save_long(tmp_path / f"in/{name}.vqt")
    out = tmp_path / "out"

    def at_work() -> bool:
        return (out / "a.wav").exists() and len(list(out.glob(".*.partial"))) == 2

    command = ["decode", str(tmp_path / "in"), "--out", str(out), "--model", model, "--workers", "2"]
    status, errors = stopped(command, at_work, signal.SIGINT)
    assert status == 130 and errors.endswith("vqaudio: interrupted\n"), errors
    assert "Traceback" not in errors
    return out


def test_decode_interrupted_in_the_middle_leaves_whole_files_alone(tmp_path: Path, model: str) -> None:
    out = interrupted_decoding(tmp_path, model)
    assert list(out.glob(".*")) == []
    found = {path.name: soundfile.info(path).frames for path in out.iterdir()}
    assert found.pop("a.wav") == 900
    assert all(frames == LONG for frames in found.values())


def test_an_interrupt_does_not_wait_for_the_files_at_work(tmp_path: Path, model: str) -> None:
    assert finals(interrupted_decoding(tmp_path, model)) == ["a.wav"]


def test_encode_interrupted_in_the_middle_does_not_go_on(tmp_path: Path, model: str) -> None:
    (tmp_path / "in").mkdir()
    write_audio(tmp_path / "in/a.wav", noise(1, 900), 1_600)
    write_long(tmp_path / "in/b.wav")
    write_audio(tmp_path / "in/c.wav", noise(1, 900), 1_600)
    out = tmp_path / "out"
    command = ["encode", str(tmp_path / "in"), "--out", str(out), "--model", model, "--workers", "1"]
    status, errors = stopped(command, (out / "a.vqt").exists, signal.SIGINT)
    assert (status, errors) == (130, "vqaudio: interrupted\n")
    assert sorted(path.name for path in out.iterdir()) == ["a.vqt", "index.jsonl"]
    assert Codes.load(out / "a.vqt") == tiny_tokenizer(KIND).encode(tmp_path / "in/a.wav")


class PressesControlC(io.BytesIO):
    """A file during whose first large read, which libsndfile makes through a callback, Ctrl-C is pressed."""

    armed = False

    def read(self, size: int | None = -1, /) -> bytes:
        if self.armed:
            self.armed = False
            os.kill(os.getpid(), signal.SIGINT)
        return super().read(size)

    def readinto(self, buffer: Any, /) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def test_an_interrupt_within_a_callback_from_c_is_not_lost(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = PressesControlC(write_long(tmp_path / "long.wav").read_bytes())
    with soundfile.SoundFile(file) as sound, pytest.raises(KeyboardInterrupt), interruptible():
        file.armed = True
        for _ in range(2_000):
            sound.read(1_000)
            sound.seek(0)
            time.sleep(0.001)
    assert not file.armed and "Exception ignored" not in capfd.readouterr().err
