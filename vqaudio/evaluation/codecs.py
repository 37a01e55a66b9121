"""Codecs of others as systems, by their own programs, and all reference systems by name.

    recording ──► in.wav, 16 bits, clipped to ±1 ──► encoder ──► coded file ──► decoder ──► out.wav ──► cut or padded
                                                                     └──► num_bits

Each recording has a temporary folder of its own. Encoding and decoding seconds are the wall time of a program's run,
its start included (a few milliseconds: on short recordings that is most of it).

What comes out is in time with what went in, from its first sample on. The delay is taken out by opusdec (pre-skip,
RFC 7845), by oggdec (granule positions), by lame (delay and padding are in the LAME tag, which `--abr` files always
have; `--cbr` files of low rates have no room for it and come out late), and for Codec2 in its module.
"""

import shlex
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from vqaudio.evaluation.bounds import GriffinLim, MuLaw, Pcm, Resampled, check_recording
from vqaudio.evaluation.codec2 import Codec2 as Codec2
from vqaudio.evaluation.command import CommandCodec as CommandCodec
from vqaudio.evaluation.measures import Kind
from vqaudio.evaluation.programs import (
    SECONDS_ARE,
    TIMEOUT_SECONDS,
    check_setting,
    missing_programs,
    mp3_bits,
    opus_bits,
    program_version,
    read_output,
    run_program,
    vorbis_bits,
    words_of,
)
from vqaudio.evaluation.systems import Decoded, Point, Reconstruction, System
from vqaudio.io import write_audio

SPEECH_KBPS, MUSIC_KBPS = (6.0, 8.0, 12.0, 16.0, 24.0), (6.0, 12.0, 24.0, 48.0, 96.0)


@dataclass(frozen=True, kw_only=True)
class ProgramCodec:
    """An encoder and a decoder that read and write WAV; made by `opus`, `vorbis` and `mp3`.

    In the commands {in} and {out} are WAV files, {coded} the coded file and {setting} one of `settings`.
    """

    name: str
    label: str
    settings: tuple[str, ...]  # one point each
    setting_label: str  # with {}, such as "{} kbit/s"
    encode: str
    decode: str
    suffix: str  # of the coded file
    package: str  # that brings the programs
    count_bits: Callable[[bytes], int]  # of the coded file; a function of a module, which can be pickled
    timeout_seconds: float = TIMEOUT_SECONDS
    kind: Literal["codec"] = field(default="codec", init=False)

    @property
    def points(self) -> tuple[Point, ...]:
        return tuple(
            Point(name=f"{self.name}@{setting}", label=self.setting_label.format(setting)) for setting in self.settings
        )

    @property
    def programs(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(shlex.split(command)[0] for command in (self.encode, self.decode)))

    def missing(self) -> str | None:
        return missing_programs(self.programs, self.package)

    def about(self) -> dict[str, Any]:
        return {
            "programs": {program: program_version(program) for program in self.programs},
            "encode": self.encode,
            "decode": self.decode,
            "settings": list(self.settings),
            "seconds": SECONDS_ARE,
        }

    def reconstruct(self, audio: Tensor, sample_rate: int) -> Reconstruction:
        """Decoded at the rate that the decoder writes. ValueError for a program that fails."""
        check_recording(audio)
        decoded = []
        with tempfile.TemporaryDirectory(prefix="vqaudio-") as folder:
            source, coded, out = (str(Path(folder) / name) for name in ("in.wav", f"coded{self.suffix}", "out.wav"))
            write_audio(source, audio, sample_rate)
            for point, setting in zip(self.points, self.settings, strict=True):
                paths = {"in": source, "coded": coded, "out": out, "setting": setting}
                for path in (coded, out):
                    Path(path).unlink(missing_ok=True)  # never the last point's
                encode_seconds = run_program(words_of(self.encode, paths), timeout_seconds=self.timeout_seconds)
                decode_seconds = run_program(words_of(self.decode, paths), timeout_seconds=self.timeout_seconds)
                estimate, rate, problems = read_output(point.name, out, audio.shape[1], sample_rate)
                decoded.append(
                    Decoded(
                        point=point,
                        audio=estimate,
                        sample_rate=rate,
                        num_bits=self.count_bits(Path(coded).read_bytes()),
                        encode_seconds=encode_seconds,
                        decode_seconds=decode_seconds,
                        problems=problems,
                    )
                )
        return Reconstruction(decoded=tuple(decoded))


def opus(kbps: Sequence[float] = SPEECH_KBPS) -> ProgramCodec:
    """Opus by opus-tools, variable rate, its own choice between speech and music, decoded without dither to floats."""
    for value in kbps:
        # opusenc takes less without a word, and then codes at 6 or a little below; more than 256 it lowers
        check_setting("opus", value, 6 <= value <= 256, "6 to 256 kbit/s, which is what opusenc has for one channel")
    return ProgramCodec(
        name="opus",
        label="Opus",
        settings=_settings(kbps),
        setting_label="{} kbit/s",
        encode="opusenc --quiet --bitrate {setting} {in} {coded}",
        decode="opusdec --quiet --float {coded} {out}",
        suffix=".opus",
        package="opus-tools (Debian, Homebrew)",
        count_bits=opus_bits,
    )


def vorbis(qualities: Sequence[float] = (-1, 2, 5, 8)) -> ProgramCodec:
    """Ogg Vorbis by oggenc's quality, -1 to 10: it has modes for every rate, which `--bitrate` has not."""
    for value in qualities:
        check_setting("vorbis", value, -1 <= value <= 10, "qualities of -1 to 10")
    return ProgramCodec(
        name="vorbis",
        label="Vorbis",
        settings=_settings(qualities),
        setting_label="quality {}",
        encode="oggenc --quiet --quality={setting} --output={coded} {in}",
        decode="oggdec --quiet --output={out} {coded}",
        suffix=".ogg",
        package="vorbis-tools (Debian, Homebrew)",
        count_bits=vorbis_bits,
    )


def mp3(kbps: Sequence[float] = (32, 64, 128)) -> ProgramCodec:
    """MP3 by lame at an average rate; for few kbit/s lame lowers the sample rate, at which it is decoded then."""
    for value in kbps:
        check_setting("mp3", value, 8 <= value <= 310 and value == int(value), "whole numbers of 8 to 310 kbit/s")
    return ProgramCodec(
        name="mp3",
        label="MP3",
        settings=_settings(kbps),
        setting_label="{} kbit/s",
        encode="lame --silent --abr {setting} {in} {coded}",
        decode="lame --silent --decode {coded} {out}",
        suffix=".mp3",
        package="lame (Debian, Homebrew)",
        count_bits=mp3_bits,
    )


def _settings(values: Sequence[float]) -> tuple[str, ...]:
    return tuple(f"{value:g}" for value in values)


# ---- by name


def reference_systems(kind: Kind) -> tuple[System, ...]:
    """What stands beside a model in a table by default. Programs that are not installed are among them."""
    if kind == "speech":
        return opus(), Codec2(), MuLaw(), Resampled(rates=(8000,)), GriffinLim()
    return opus(MUSIC_KBPS), vorbis(), mp3(), Resampled(), GriffinLim()


def _numbers(words: Sequence[str]) -> tuple[float, ...]:
    return tuple(float(word) for word in words)


def _integers(words: Sequence[str]) -> tuple[int, ...]:
    return tuple(int(word) for word in words)


# With the settings as they were written, and without any. G.711 and PCM have one setting each.
FROM_SETTINGS: dict[str, Callable[[Sequence[str]], System]] = {
    "opus": lambda words: opus(_numbers(words)),
    "codec2": lambda words: Codec2(modes=tuple(word.upper() for word in words)),
    "vorbis": lambda words: vorbis(_numbers(words)),
    "mp3": lambda words: mp3(_numbers(words)),
    "resampled": lambda words: Resampled(rates=_integers(words)),
    "griffin-lim": lambda words: GriffinLim(num_mels=_integers(words)),
}
WITH_DEFAULTS: dict[str, Callable[[Kind], System]] = {
    "opus": lambda kind: opus(SPEECH_KBPS if kind == "speech" else MUSIC_KBPS),
    "codec2": lambda kind: Codec2(),
    "vorbis": lambda kind: vorbis(),
    "mp3": lambda kind: mp3(),
    "mu-law": lambda kind: MuLaw(),
    "pcm": lambda kind: Pcm(),
    "resampled": lambda kind: Resampled(),
    "griffin-lim": lambda kind: GriffinLim(),
}


def system_from(text: str, *, kind: Kind = "speech") -> System:
    """A system by its name, with its default points for `kind` or with those after an @: opus, opus@6,12, codec2@700C.

    ValueError for an unknown name, which lists the known ones, and for settings that the system does not have.
    """
    name, at, settings = text.strip().partition("@")
    if name not in WITH_DEFAULTS:
        raise ValueError(f"there is no system called {name!r}; those with a name are {', '.join(WITH_DEFAULTS)}")
    if not at:
        return WITH_DEFAULTS[name](kind)
    if name not in FROM_SETTINGS:
        raise ValueError(f"{text}: {name} has one setting only; write {name}")
    words = list(dict.fromkeys(word.strip() for word in settings.split(",")))
    try:
        return FROM_SETTINGS[name](words)
    except ValueError as error:
        if str(error).startswith(f"{name}: "):
            raise
        raise ValueError(
            f"{text}: settings are numbers after the @, with commas between them, as {name}@8,16"
        ) from error
