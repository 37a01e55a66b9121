"""The command line's speed, for speed.py: a folder of files, recordings of hours, and cold starts."""

import contextlib
import io
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from common import note, real_speech, taken, times

from vqaudio import write_audio
from vqaudio.cli import main as vqaudio
from vqaudio.io import AudioWriter

COMMAND_LINE = "import sys; from vqaudio.cli import main; sys.exit(main())"
FILE_RATE, FILE_SECONDS = 16_000, 10.0


def write_speech(path: Path, seconds: float) -> None:
    """Speech of any length, block by block."""
    block = real_speech(60.0, FILE_RATE)[None]
    with AudioWriter(path, FILE_RATE, 1) as writer:
        while (missing := round(seconds * FILE_RATE) - writer.num_samples) > 0:
            writer.write(block[:, :missing])


def folder_rates(
    model: str, folder: Path, *, num_files: int, rounds: int, threads: Sequence[int]
) -> list[dict[str, Any]]:
    """`vqaudio encode` and `decode` of a folder of short files, in this process."""
    sources, decoded = folder / "sources", folder / "decoded"
    sources.mkdir()
    for number in range(num_files):
        write_speech(sources / f"{number:03}.flac", FILE_SECONDS)
    seconds = num_files * FILE_SECONDS
    best: dict[int, list[float]] = {}
    for turn in range(rounds):
        for number in threads:
            codes = folder / f"codes-{turn}-{number}"  # of its own: what has been encoded once is not encoded again
            torch.set_num_threads(number)  # as many workers as the command line takes by itself
            both = [
                taken(command, ["encode", str(sources), "--out", str(codes), "--model", model])[0],
                taken(command, ["decode", str(codes), "--out", str(decoded), "--model", model])[0],
            ]
            best[number] = [min(pair) for pair in zip(best.get(number, both), both, strict=True)]
    return [
        {
            "files": num_files,
            "seconds": seconds,
            "threads": number,
            "encode_times_real_time": times(seconds, encoding),
            "decode_times_real_time": times(seconds, decoding),
        }
        for number, (encoding, decoding) in best.items()
    ]


def command(words: list[str]) -> None:
    """A `vqaudio` command in this process."""
    with contextlib.redirect_stdout(io.StringIO()):
        status = vqaudio(words)
    if status:
        raise RuntimeError(f"vqaudio {' '.join(words)} ended with status {status}")


def long_recording(model: str, folder: Path, hours: float, *, threads: int) -> dict[str, Any]:
    """From file to code file and back, each in a fresh process."""
    source, codes = folder / "long.flac", folder / "codes" / "long.vqt"
    write_speech(source, hours * 3600)
    entry: dict[str, Any] = {"hours": hours, "threads": threads}
    for operation, given, out in (("encode", source, codes.parent), ("decode", codes, folder / "decoded")):
        script = Path(__file__).with_name("resident.py")
        words = [
            str(word) for word in (sys.executable, script, threads, operation, given, "--out", out, "--model", model)
        ]
        found = json.loads(subprocess.run(words, check=True, stdout=subprocess.PIPE).stdout)
        if found["status"]:
            raise RuntimeError(f"vqaudio {operation} {given} ended with status {found['status']}")
        entry[f"{operation}_peak_mb"] = found["peak_mb"]
        entry[f"{operation}_times_real_time"] = times(hours * 3600, found["seconds"])
    return entry


def from_files(
    model: str, *, num_files: int, hours: Sequence[float], rounds: int, threads: Sequence[int]
) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        folder = folder_rates(model, Path(name), num_files=num_files, rounds=rounds, threads=threads)
    note("a folder of files")
    long = []
    for number in hours:
        with tempfile.TemporaryDirectory() as name:
            long.append(long_recording(model, Path(name), number, threads=max(threads)))
        note(f"a file of {number:g} h")
    return {"folder": folder, "long": long}


def cold_start(model: str, *, rounds: int) -> dict[str, Any]:
    """Wall seconds, best of rounds in which the two take turns."""
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "clip.flac"
        write_audio(clip, real_speech(10.0, FILE_RATE), FILE_RATE)
        encoding = [sys.executable, "-c", COMMAND_LINE, "encode", str(clip), "--model", model]
        importing = [sys.executable, "-c", "import torch"]
        best = {"vqaudio_encode_seconds": float("inf"), "import_torch_seconds": float("inf")}
        for turn in range(rounds):
            words = [*encoding, "--out", str(Path(folder) / f"codes-{turn}")]
            for name, command_words in zip(best, (words, importing), strict=True):
                best[name] = min(best[name], taken(run_quietly, command_words)[0])
    return {name: round(seconds, 2) for name, seconds in best.items()}


def run_quietly(words: list[str]) -> None:
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
