"""`encode --stream` and `decode --stream`: between pipes, the codes and samples of files, as soon as they are there."""

import contextlib
import io
import os
import re
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from tests.tiny import HOP, SAMPLE_RATE, noise, save_tiny, tiny_tokenizer
from vqaudio.cli import main
from vqaudio.code_stream import CodeStreamWriter, read_code_stream
from vqaudio.codes import Codes, CodesError
from vqaudio.io import write_audio
from vqaudio.pcm import PcmFormat, read_wav_header, to_bytes, wav_header

KIND = "rvq-projected"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny(KIND, tmp_path_factory.mktemp("streaming") / "model"))


# ---- pipes within this process


class Pieces(io.RawIOBase):
    """A pipe that holds `data`, of which each read gives at most the next piece; told before each one."""

    def __init__(self, data: bytes, sizes: Iterable[int] = (), before_read: Callable[[], object] | None = None) -> None:
        self.data, self.sizes, self.before_read = data, list(sizes), before_read

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self.before_read is not None:
            self.before_read()
        size = min(len(buffer), self.sizes.pop(0) if self.sizes else len(buffer))
        piece, self.data = self.data[:size], self.data[size:]
        buffer[: len(piece)] = piece
        return len(piece)


@dataclass
class Standard:
    """In place of sys.stdin or sys.stdout."""

    buffer: Any


@dataclass(frozen=True)
class Result:
    status: int
    output: bytes
    errors: str


def run(arguments: Sequence[str], source: bytes | Pieces, *, model: str, output: io.BytesIO | None = None) -> Result:
    """One command between two pipes."""
    output = io.BytesIO() if output is None else output
    raw = Pieces(source) if isinstance(source, bytes) else source
    with (
        mock.patch.object(sys, "stdin", Standard(io.BufferedReader(raw))),
        mock.patch.object(sys, "stdout", Standard(output)),
        contextlib.redirect_stderr(io.StringIO()) as errors,
    ):
        try:
            status = main([*arguments, "--model", model])
        except SystemExit as exit_:
            assert isinstance(exit_.code, int)
            status = exit_.code
    return Result(status, output.getvalue(), errors.getvalue())


CLIPPED = r"(\d+ samples? beyond full scale clipped\n)?"  # a tiny model is sometimes loud


def succeeded(result: Result) -> bytes:
    assert result.status == 0 and re.fullmatch(CLIPPED, result.errors), result.errors
    return result.output


def codes_in(stream: bytes) -> Codes:
    return Codes.concatenate(list(read_code_stream(io.BytesIO(stream), "stream")))


def stream_of(*parts: Codes) -> bytes:
    file = io.BytesIO()
    writer = CodeStreamWriter(file)
    for part in parts:
        writer.write(part)
    writer.close()
    return file.getvalue()


def pcm(audio: Tensor) -> bytes:
    """(C, T) -> s16le."""
    return np.rint(audio.T.numpy().astype(np.float64) * 2**15).clip(-(2**15), 2**15 - 1).astype("<i2").tobytes()


def samples_in(wav: bytes) -> tuple[int, np.ndarray]:
    """The rate and the samples (T, C) of a WAV of 16 bits that came through a pipe."""
    file = io.BytesIO(wav[4:])
    form, size = read_wav_header(file, "wav")
    assert (wav[:4], form.encoding, size) == (b"RIFF", "s16le", None)
    return form.sample_rate, np.frombuffer(file.read(), "<i2").reshape(-1, form.channels)


def input_wav(channels: int, rate: int, num_samples: int, path: Path) -> bytes:
    write_audio(path, noise(channels, num_samples), rate)
    return path.read_bytes()


# ---- as files


@pytest.mark.parametrize(
    ("channels", "rate", "encoding", "decoding"),
    [
        (1, SAMPLE_RATE, [], []),
        (1, SAMPLE_RATE, ["--codebooks", "2"], ["--codebooks", "1"]),
        (1, SAMPLE_RATE, ["--kbps", "0.8"], ["--sample-rate", "8000"]),
        (2, SAMPLE_RATE, ["--channels", "keep"], []),
        (2, 4_410, [], ["--sample-rate", "source"]),
        (2, 4_410, ["--channels", "keep"], ["--sample-rate", "source", "--codebooks", "2"]),
    ],
)
@pytest.mark.parametrize("num_samples", [1, 7_777])
def test_pipes_do_what_files_do(
    tmp_path: Path, model: str, channels: int, rate: int, encoding: list[str], decoding: list[str], num_samples: int
) -> None:
    wav = input_wav(channels, rate, num_samples, tmp_path / "a.wav")
    files = ["--model", model, "--out", str(tmp_path / "out")]
    assert main(["encode", str(tmp_path / "a.wav"), *encoding, *files]) == 0
    assert main(["decode", str(tmp_path / "out/a.vqt"), *decoding, *files]) == 0

    stream = succeeded(run(["encode", "--stream", *encoding], wav, model=model))
    assert codes_in(stream) == Codes.load(tmp_path / "out/a.vqt")
    found_rate, samples = samples_in(succeeded(run(["decode", "--stream", *decoding], stream, model=model)))
    expected, expected_rate = soundfile.read(tmp_path / "out/a.wav", dtype="int16", always_2d=True)
    assert found_rate == expected_rate and np.array_equal(samples, expected)


@pytest.mark.parametrize("encoding", ["u8", "s16le", "s24le", "s32le", "f32le"])
def test_bare_samples_of_every_encoding_in_and_out(model: str, encoding: str) -> None:
    tokenizer = tiny_tokenizer(KIND)
    form = PcmFormat(encoding, 4_410, 2)
    data, _ = to_bytes(noise(2, 3_000), form)
    wav = wav_header(form) + data
    bare = ["--pcm", encoding, "--input-rate", "4410", "--input-channels", "2"]
    stream = succeeded(run(["encode", "--stream", "--channels", "keep", *bare], data, model=model))
    assert stream == succeeded(run(["encode", "--stream", "--channels", "keep"], wav, model=model))
    codes = codes_in(stream)
    assert (codes.channels, codes.source_sample_rate, codes.source_num_samples) == (2, 4_410, 3_000)

    found = succeeded(run(["decode", "--stream", "--pcm", encoding], stream, model=model))
    assert found == to_bytes(tokenizer.decode(codes), PcmFormat(encoding, SAMPLE_RATE, 2))[0]


def test_bare_samples_are_s16le_at_the_models_rate_in_one_channel_unless_said(model: str) -> None:
    audio = noise(1, 3_000)
    data = pcm(audio)
    stream = succeeded(run(["encode", "--stream"], data, model=model))
    audio = torch.from_numpy(np.frombuffer(data, "<i2").astype(np.float32)[None] / 2**15)
    assert codes_in(stream) == tiny_tokenizer(KIND).encode(audio)


@settings(max_examples=10)  # of four commands each
@given(
    sizes=st.lists(st.integers(1, 900), max_size=30),
    num_samples=st.integers(3, 900),
    channels=st.integers(1, 2),
    header=st.booleans(),
)
def test_how_the_input_is_cut_changes_nothing(
    model: str, sizes: list[int], num_samples: int, channels: int, header: bool
) -> None:
    form = PcmFormat("s16le", 4_410, channels)
    data = pcm(noise(channels, num_samples))
    data = wav_header(form) + data if header else data
    bare = [] if header else ["--input-rate", "4410", "--input-channels", str(channels)]
    encode = ["encode", "--stream", "--block-frames", "4", "--channels", "keep", *bare]
    decode = ["decode", "--stream", "--block-frames", "4"]
    whole = succeeded(run(encode, data, model=model))
    cut = succeeded(run(encode, Pieces(data, sizes), model=model))
    assert codes_in(cut) == codes_in(whole)
    audio = succeeded(run(decode, whole, model=model))
    assert succeeded(run(decode, Pieces(cut, sizes), model=model)) == audio


@pytest.mark.parametrize("num_samples", [1, 2, 3])
def test_the_shortest_bare_input_is_encoded(model: str, num_samples: int) -> None:
    stream = succeeded(run(["encode", "--stream"], pcm(noise(1, num_samples)), model=model))
    assert codes_in(stream).num_samples == num_samples


@pytest.mark.parametrize("size", [100, 0, 0xFFFFFFFF])
def test_samples_end_where_the_wav_header_says(model: str, size: int, tmp_path: Path) -> None:
    data = pcm(noise(1, 80))
    head = wav_header(PcmFormat("s16le", SAMPLE_RATE, 1))[:-4] + size.to_bytes(4, "little")
    stream = succeeded(run(["encode", "--stream"], head + data, model=model))
    assert codes_in(stream).num_samples == (50 if size == 100 else 80)


@pytest.mark.parametrize("wav", [False, True])
def test_no_samples_in_none_out(model: str, wav: bool) -> None:
    source = wav_header(PcmFormat("s16le", 8_000, 1)) if wav else b""
    stream = succeeded(run(["encode", "--stream"], source, model=model))
    codes = codes_in(stream)
    assert (codes.num_frames, codes.source_sample_rate) == (0, 8_000 if wav else SAMPLE_RATE)
    rate, samples = samples_in(succeeded(run(["decode", "--stream", "--sample-rate", "source"], stream, model=model)))
    assert (rate, samples.shape) == (codes.source_sample_rate, (0, 1))


def test_clipping_is_reported(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    loud = torch.tensor([[0.0, 1.5, -2.0]])
    monkeypatch.setattr("vqaudio.session.DecodingSession.finish", lambda _: loud)
    stream = stream_of(tiny_tokenizer(KIND).encode(noise(1, 20)))
    result = run(["decode", "--stream"], stream, model=model)
    assert (result.status, result.errors) == (0, "2 samples beyond full scale clipped\n")
    assert result.output.endswith(bytes.fromhex("0000ff7f0080"))


# ---- as soon as they are there


@pytest.mark.parametrize("command", ["encode", "decode"])
def test_output_comes_before_the_input_ends(model: str, command: str) -> None:
    """With five frames in each piece, some come out before the next one is asked for."""
    num_pieces = 12
    if command == "encode":
        source, sizes = pcm(noise(1, 5 * num_pieces * HOP)), [2 * 5 * HOP] * num_pieces
    else:
        codes = tiny_tokenizer(KIND).encode(noise(1, 5 * HOP))
        source = stream_of(*[codes] * num_pieces)
        size = 16 + 5 * 3 * 2
        sizes = [len(source) - size * num_pieces - 16, *[size] * num_pieces]
    output, seen = io.BytesIO(), []
    pieces = Pieces(source, sizes, lambda: seen.append(len(output.getvalue())))
    succeeded(run([command, "--stream", "--block-frames", "1"], pieces, model=model, output=output))
    grown = [after - before for before, after in pairwise(seen)]
    assert len(grown) >= num_pieces and all(grown[2 : num_pieces - 1])
    assert seen[num_pieces] > 0.8 * len(output.getvalue())


def test_without_block_frames_blocks_are_those_of_files(model: str) -> None:
    """And so nothing comes out of a few frames until the input ends."""
    output, seen = io.BytesIO(), []
    pieces = Pieces(pcm(noise(1, 300)), [100] * 6, lambda: seen.append(len(codes_or_none(output))))
    stream = succeeded(run(["encode", "--stream"], pieces, model=model, output=output))
    assert seen[-1] == 0 and codes_in(stream).num_frames == 15


def codes_or_none(output: io.BytesIO) -> list[Codes]:
    """The chunks written so far."""
    found: list[Codes] = []
    with contextlib.suppress(CodesError):
        found.extend(codes for codes in read_code_stream(io.BytesIO(output.getvalue()), "") if codes.num_frames)
    return found


# ---- how it ends


@pytest.mark.parametrize("num_chunks", [0, 1, 2, 3])
def test_a_stream_cut_off_is_decoded_as_far_as_it_goes(model: str, num_chunks: int) -> None:
    tokenizer = tiny_tokenizer(KIND)
    codes = tokenizer.encode(noise(1, 2_000))
    parts = [codes.slice(seconds / 2, seconds / 2 + 0.5) for seconds in range(3)]
    whole = stream_of(*parts)
    end = len(stream_of(*parts[:num_chunks])) - 16 if num_chunks else whole.index(b"\n") + 1
    for length in {end, min(end + 20, len(whole) - 1)}:
        result = run(["decode", "--stream"], whole[:length], model=model)
        assert result.status == 1
        assert re.fullmatch(CLIPPED + "vqaudio: standard input: was cut off.*\n", result.errors)
        expected = tokenizer.decode(Codes.concatenate([codes.slice(0, 0), *parts[:num_chunks]]))
        assert samples_in(result.output)[1].tobytes() == pcm(expected)


WAV = wav_header(PcmFormat("s16le", SAMPLE_RATE, 1))


@pytest.mark.parametrize(
    ("arguments", "source", "expected"),
    [
        (["decode"], b"", "ended before it began"),
        (["decode"], b"garbage\n" * 50, "is no code stream, as `vqaudio encode --stream` writes"),
        (["decode"], bytes(range(256)) * 40, "is no code stream, as `vqaudio encode --stream` writes"),
        (["decode"], WAV + bytes(4_000), "is no code stream, as `vqaudio encode --stream` writes"),
        (["encode"], b"RIFF\0\0\0\0AVI LIST" + bytes(100), "begins like a WAV file, and goes on otherwise"),
        (["encode"], b"fLaC\0\0\0\x22" + bytes(100), "begins like a file of another kind; wanted are samples"),
        (["encode"], b"ID3\4" + bytes(100), "begins like a file of another kind; wanted are samples"),
        (["encode"], b'{"channels": 1}' + bytes(100), "begins like a file of another kind; wanted are samples"),
        (["encode"], WAV[:30], "ends within its WAV header"),
        (["encode"], WAV[:20] + b"\x55" + WAV[21:], "a WAV of format 85 with 16 bits, 1 channels at 1600 Hz"),
        (["encode", "--pcm", "wav"], bytes(100), "is no WAV; for bare samples say --pcm s16le"),
        (["encode", "--pcm", "wav"], b"", "is no WAV; for bare samples say --pcm s16le"),
        (["encode", "--input-rate", "8000"], WAV, "--input-rate is 8000, and the WAV header says 1600"),
        (["encode", "--input-channels", "2"], WAV, "--input-channels is 2, and the WAV header says 1"),
    ],
)
def test_garbage_is_one_sentence_and_exit_status_1(
    model: str, arguments: list[str], source: bytes, expected: str
) -> None:
    result = run([*arguments, "--stream"], source, model=model)
    assert (result.status, result.output) == (1, b"")
    assert result.errors.startswith(f"vqaudio: standard input: {expected}") and result.errors.count("\n") == 1


def test_samples_that_are_no_numbers_are_refused_and_leave_no_end_mark(model: str) -> None:
    data = np.array([0.1] * 999 + [np.nan], "<f4").tobytes()
    result = run(["encode", "--stream", "--pcm", "f32le", "--block-frames", "1"], Pieces(data, [800, 800]), model=model)
    assert result.status == 1 and result.errors.startswith("vqaudio: ") and result.errors.count("\n") == 1
    assert "nan" in result.errors and result.output != b""
    with pytest.raises(CodesError, match="cut off"):
        codes_in(result.output)


@pytest.mark.parametrize("channels", [1, 2])
def test_an_input_that_ends_within_a_sample_is_encoded_up_to_it(model: str, channels: int) -> None:
    data = pcm(noise(channels, 300))
    form = ["--input-channels", str(channels)]
    result = run(["encode", "--stream", *form], data[:-1], model=model)
    assert result.status == 1
    assert result.errors == (
        f"vqaudio: standard input: ended within a sample of {2 * channels} bytes; what came before is encoded\n"
    )
    whole = data[: -2 * channels]
    assert codes_in(result.output) == codes_in(succeeded(run(["encode", "--stream", *form], whole, model=model)))


def test_a_wav_that_ends_before_its_header_says_is_encoded_and_reported(model: str) -> None:
    head = WAV[:-4] + (200).to_bytes(4, "little")
    result = run(["encode", "--stream"], head + pcm(noise(1, 50)), model=model)
    assert result.status == 1
    assert result.errors.startswith("vqaudio: standard input: ") and result.errors.count("\n") == 1


def test_codes_of_another_model_are_refused(model: str) -> None:
    stream = stream_of(tiny_tokenizer("fsq").encode(noise(1, 100)))
    result = run(["decode", "--stream"], stream, model=model)
    assert result.status == 1
    assert result.errors.startswith("vqaudio: codes of another tokenizer") and result.errors.count("\n") == 1
    assert b"RIFF" not in result.output or samples_in(result.output)[1].size == 0


def test_more_codebooks_than_came_are_refused(model: str) -> None:
    stream = stream_of(tiny_tokenizer(KIND).encode(noise(1, 100), num_codebooks=1))
    result = run(["decode", "--stream", "--codebooks", "2"], stream, model=model)
    assert result.status == 1
    assert result.errors == "vqaudio: 2 codebooks were asked for, and there are 1\n"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["encode", "a.wav"], "it takes neither files nor --out"),
        (["decode", "a.vqt"], "it takes neither files nor --out"),
        (["encode", "--out", "o"], "it takes neither files nor --out"),
        (["decode", "--out", "o"], "it takes neither files nor --out"),
        (["decode", "--codebooks", "4"], "--codebooks is 4; tiny-rvq-projected has 3 codebooks"),
        (["encode", "--kbps", "0.1"], "--kbps is 0.1; one codebook of tiny-rvq-projected takes 0.4 kbps"),
        (["encode", "--pcm", "mp3"], "invalid choice: 'mp3'"),
        (["encode", "--block-frames", "0"], "0 is not a positive whole number"),
        (["decode", "--input-rate", "8000"], "unrecognized arguments: --input-rate"),
        (["encode", "--start", "1"], "--start"),
        (["decode", "--end", "1"], "--end"),
        (["decode", "--format", "flac"], "--format"),
    ],
)
def test_a_wrong_command_line_exits_with_2(model: str, arguments: list[str], expected: str) -> None:
    result = run([*arguments, "--stream"], b"", model=model)
    assert (result.status, result.output) == (2, b"")
    assert expected in result.errors


# ---- real pipes between processes


COMMAND = [sys.executable, "-m", "vqaudio.cli"]
# As most people run it: without its buffer, standard output would need no flush.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"} | {
    "OMP_NUM_THREADS": "1"
}


def shell(script: str) -> subprocess.CompletedProcess[bytes]:
    """A line for bash, in which VQAUDIO is the command."""
    script = "set -o pipefail; " + script.replace("VQAUDIO", " ".join(COMMAND))
    return subprocess.run(["bash", "-c", script], capture_output=True, timeout=120, env=ENVIRONMENT)


def test_two_processes_in_a_row(tmp_path: Path, model: str) -> None:
    input_wav(2, 4_410, 20_000, tmp_path / "a.wav")
    encode = f"encode --model {model} --channels keep"
    decode = f"decode --model {model} --sample-rate source"
    result = shell(f"cat {tmp_path / 'a.wav'} | VQAUDIO {encode} --stream | VQAUDIO {decode} --stream")
    assert result.returncode == 0 and re.fullmatch(CLIPPED, result.stderr.decode())

    out = ["--out", str(tmp_path / "out")]
    assert main([*encode.split(), str(tmp_path / "a.wav"), *out]) == 0
    assert main([*decode.split(), str(tmp_path / "out/a.vqt"), *out]) == 0
    expected, expected_rate = soundfile.read(tmp_path / "out/a.wav", dtype="int16", always_2d=True)
    found_rate, samples = samples_in(result.stdout)
    assert found_rate == expected_rate == 4_410 and np.array_equal(samples, expected)


def read_exactly(file: Any, num_bytes: int, *, seconds: float = 60) -> bytes:
    """So many bytes of an open pipe, in time."""
    data, deadline = b"", time.monotonic() + seconds
    while len(data) < num_bytes:
        ready, _, _ = select.select([file], [], [], max(0.0, deadline - time.monotonic()))
        piece = os.read(file.fileno(), num_bytes - len(data)) if ready else b""
        assert piece, f"{len(data)} of {num_bytes} bytes came"
        data += piece
    return data


def test_live_and_then_the_encoder_dies(tmp_path: Path, model: str) -> None:
    """The decoder's samples are there while the input is open; when the encoder is killed, it ends what has come."""
    tokenizer = tiny_tokenizer(KIND)
    data = pcm(noise(1, 1_000))
    encoding, decoding = tokenizer.session(block_frames=1), tokenizer.decoding_session(block_frames=1)
    codes = encoding.push(np.frombuffer(data, "<i2"))
    settled, rest = pcm(decoding.push(codes)), pcm(decoding.finish())
    assert len(settled) > 0.9 * len(data) and len(rest) > 0

    with open(tmp_path / "errors", "w+b") as errors, contextlib.ExitStack() as stack:

        def start(command: str, source: Any) -> "subprocess.Popen[bytes]":
            arguments = [*COMMAND, command, "--stream", "--model", model, "--block-frames", "1"]
            process = stack.enter_context(
                subprocess.Popen(
                    arguments, stdin=source, stdout=subprocess.PIPE, stderr=errors, bufsize=0, env=ENVIRONMENT
                )
            )
            stack.callback(process.kill)
            return process

        encoder = start("encode", subprocess.PIPE)
        decoder = start("decode", encoder.stdout)
        assert encoder.stdin is not None and encoder.stdout is not None and decoder.stdout is not None
        encoder.stdout.close()  # the decoder has it
        encoder.stdin.write(data)  # and stays open
        head = wav_header(PcmFormat("s16le", SAMPLE_RATE, 1))
        assert read_exactly(decoder.stdout, len(head) + len(settled)) == head + settled
        encoder.kill()
        assert read_exactly(decoder.stdout, len(rest)) == rest
        assert decoder.stdout.read() == b""
        assert decoder.wait(timeout=60) == 1
        errors.seek(0)
        expected = "vqaudio: standard input: was cut off: it ends without its end mark\n"
        assert re.fullmatch(CLIPPED + expected, errors.read().decode())


def test_a_reader_that_goes_away_is_no_traceback(tmp_path: Path, model: str) -> None:
    """Nor one that goes away because its own reader has."""
    # The codes are more than a pipe holds, and the samples too: both writers have to notice. With four channels mixed a
    # write of codes is small enough to wait in Python's buffer, which is flushed once more at exit.
    (tmp_path / "in").write_bytes(pcm(noise(1, 440_000).expand(4, -1)))
    encode, decode = (f"VQAUDIO {command} --stream --model {model}" for command in ("encode", "decode"))
    encode += " --input-channels 4"
    result = shell(f"{encode} < {tmp_path / 'in'} | {decode} | head -c 100; echo _${{PIPESTATUS[*]}}")
    assert result.stderr == b""
    assert len(result.stdout) == 100 + len("_1 1 0\n") and result.stdout.endswith(b"_1 1 0\n")


@pytest.mark.parametrize("closed", ["stdin", "stdout"])
@pytest.mark.parametrize("command", ["encode", "decode"])
def test_a_closed_pipe_is_told(
    model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], closed: str, command: str
) -> None:
    monkeypatch.setattr(sys, closed, None)
    with pytest.raises(SystemExit):
        main([command, "--stream", "--model", model])
    assert "from standard input to standard output, and one of them is closed" in capsys.readouterr().err
