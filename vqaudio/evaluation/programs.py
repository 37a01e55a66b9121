"""Run the programs of other codecs, and count the coded bits in the files they leave behind."""

import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from torch import Tensor
from torch.nn.functional import pad

from vqaudio.dsp import mix_down, resampled_length
from vqaudio.io import read_audio

TIMEOUT_SECONDS = 600.0  # of one program on one recording; the slowest here code an hour in less
LENGTH_TOLERANCE = (
    0.1  # of the recording, or in seconds if that is more: beyond is another signal, not a frame too many
)

# Layer III, in kbit/s, for MPEG 1 and for MPEG 2 and 2.5 (ISO 11172-3 2.4.2.3, ISO 13818-3 2.4.2.3).
MP3_KBPS = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
MP3_LOW_KBPS = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
SECONDS_ARE = "wall time of the program, its start included"


def check_setting(codec: str, value: object, good: bool, wanted: str) -> None:
    """ValueError that begins with the codec's name unless `good`; `wanted` says what it takes."""
    if not good:
        raise ValueError(f"{codec}: {value} was asked for, and it takes {wanted}")


def words_of(template: str, values: Mapping[str, str]) -> list[str]:
    """A command line split as a shell would, with each {name} replaced afterwards: no value is split or expanded."""
    words = shlex.split(template)
    for name, value in values.items():
        words = [word.replace("{" + name + "}", value) for word in words]
    return words


def run_program(command: Sequence[str], *, timeout_seconds: float) -> float:
    """Run to its end; the wall time in seconds, the start of the process included.

    ValueError, one sentence with the program's name, if it cannot be started, ends with another status than 0 (the
    last line that it wrote is quoted), or takes longer than the timeout: then it is killed, and whatever it started
    with it.
    """
    name = os.path.basename(command[0])
    began = time.perf_counter()
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a group of its own, to be ended as a whole
        )
    except OSError as error:
        raise ValueError(f"{name} cannot be started: {error.strerror or error}") from error
    with process:
        try:
            output, _ = process.communicate(timeout=timeout_seconds)
        except BaseException as error:
            _kill(process)
            if isinstance(error, subprocess.TimeoutExpired):
                raise ValueError(f"{name} did not end within {timeout_seconds:g} seconds and was stopped") from error
            raise
    seconds = time.perf_counter() - began
    if process.returncode:
        how = f"with status {process.returncode}" if process.returncode > 0 else f"by signal {-process.returncode}"
        lines = output.decode(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        raise ValueError(f"{name} ended {how}, " + (f"saying: {last[-300:]}" if last else "and wrote nothing"))
    return seconds


def _kill(process: "subprocess.Popen[bytes]") -> None:
    if os.name == "posix":
        with suppress(ProcessLookupError):  # it ended by itself in between
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()


def missing_programs(programs: Sequence[str], package: str) -> str | None:
    """One sentence that says which of the programs are not on the path and what brings them, or None."""
    absent = [program for program in programs if shutil.which(program) is None]
    if not absent:
        return None
    verb = "is" if len(absent) == 1 else "are"
    return f"{' and '.join(absent)} {verb} not on the path: install {package}"


@lru_cache(maxsize=32)
def program_version(program: str) -> str:
    """The first line that `program --version` writes; where it is, for a program without that option."""
    where = shutil.which(program)
    if where is None:
        return "not installed"
    try:
        result = subprocess.run(
            [where, "--version"], capture_output=True, stdin=subprocess.DEVNULL, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return f"{where}, which tells no version"
    lines = (result.stdout + result.stderr).decode(errors="replace").strip().splitlines()
    if result.returncode or not lines:
        return f"{where}, which tells no version"
    return lines[0].strip()


def read_output(name: str, path: str, num_samples: int, sample_rate: int) -> tuple[Tensor, int, tuple[str, ...]]:
    """What a decoder left, (1, T) as long as the recording, its rate in Hz, and what was done about its length.

    The recording has `num_samples` at `sample_rate`; T is as many at the output's rate, rounded up. Channels are mixed
    down, and what is cut or filled up with zeros is at the end. ValueError, which begins with `name`, for no file or
    none that can be read, and for a length that differs by more than a tenth and a tenth of a second.
    """
    if not Path(path).is_file():
        raise ValueError(f"{name} left no file at {{out}}")
    try:
        audio, rate = read_audio(path)
    except ValueError as error:
        raise ValueError(f"{name}: what it left at {{out}} cannot be read: {error}") from error
    audio, wanted = mix_down(audio), resampled_length(num_samples, sample_rate, rate)
    more = audio.shape[1] - wanted
    if abs(more) > LENGTH_TOLERANCE * max(wanted, rate) or audio.shape[1] == 0:
        lengths = f"{audio.shape[1]} samples at {rate} Hz, and the recording has {wanted} at that rate"
        raise ValueError(f"{name} left {lengths}; is something else at {{out}}?")
    audio = pad(audio, (0, -more))
    if abs(more) <= 1:  # rounding
        return audio, rate, ()
    what = f"{more} samples longer than the recording and cut" if more > 0 else f"{-more} samples short and filled up"
    return audio, rate, (f"the output of {name} at {rate} Hz was {what}",)


def ogg_packet_sizes(data: bytes) -> list[int]:
    """Bytes of each packet of an Ogg file with one stream (RFC 3533); ValueError where a page does not follow.

    page      "OggS" · 22 bytes · n · n lacing values · segments of so many bytes, then the next page
    packet    segments of 255 bytes up to the first shorter one, which may be on a later page
    """
    sizes, size, position = [], 0, 0
    while position < len(data):
        if data[position : position + 4] != b"OggS" or position + 27 > len(data):
            raise ValueError(f"no Ogg page begins at byte {position}")
        lacing = data[position + 27 : position + 27 + data[position + 26]]
        for value in lacing:
            size += value
            if value < 255:
                sizes.append(size)
                size = 0
        position += 27 + len(lacing) + sum(lacing)
    return sizes


def opus_bits(data: bytes) -> int:
    """Of an Ogg Opus file: its packets without the first two, which are headers (RFC 7845), and without Ogg's pages."""
    return 8 * sum(ogg_packet_sizes(data)[2:])


def vorbis_bits(data: bytes) -> int:
    """Of an Ogg Vorbis file: its packets without the first three (Vorbis I 4.2), and without Ogg's pages.

    The third header holds the code books, 2 to 4 kB without which nothing can be decoded: left out, as it is sent once
    however long the recording is.
    """
    return 8 * sum(ogg_packet_sizes(data)[3:])


def mp3_bits(data: bytes) -> int:
    """Of an MP3 file: all frames, without ID3 tags and without a first frame that is a Xing, Info or LAME header."""
    first, last = 0, len(data)
    if data[:3] == b"ID3" and len(data) >= 10:
        a, b, c, d = data[6:10]
        first = 10 + (a << 21 | b << 14 | c << 7 | d)
    if data[-128:-125] == b"TAG":
        last -= 128
    header = int.from_bytes(data[first : first + 4], "big")
    version, rate_index = header >> 19 & 3, header >> 10 & 3  # version 3: MPEG 1, 2: MPEG 2, 0: MPEG 2.5
    if header >> 21 != 0x7FF or version == 1 or rate_index == 3 or header >> 12 & 15 == 15:
        raise ValueError(f"no MP3 frame begins at byte {first}")
    sample_rate = (44100, 48000, 32000)[rate_index] >> {3: 0, 2: 1, 0: 2}[version]
    kbps = (MP3_KBPS if version == 3 else MP3_LOW_KBPS)[header >> 12 & 15]
    frame_bytes = (144_000 if version == 3 else 72_000) * kbps // sample_rate + (header >> 9 & 1)
    side_bytes = {True: (9, 17), False: (17, 32)}[version != 3][header >> 6 & 3 != 3]  # mono, stereo
    if data[first + 4 + side_bytes : first + 8 + side_bytes] in (b"Xing", b"Info"):
        first += frame_bytes
    return 8 * (last - first)
