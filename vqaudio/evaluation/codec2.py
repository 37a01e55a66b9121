"""Codec2 as a system, by c2enc and c2dec."""

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import Tensor

from vqaudio.dsp import resample
from vqaudio.evaluation.bounds import check_recording, from_16_bits, to_16_bits
from vqaudio.evaluation.programs import (
    SECONDS_ARE,
    TIMEOUT_SECONDS,
    check_setting,
    missing_programs,
    program_version,
    run_program,
)
from vqaudio.evaluation.systems import Decoded, Point, Reconstruction


@dataclass(frozen=True)
class Frame:
    """Of codec2.c: what a frame is, and how far the decoder's output lies behind, in samples at 8 kHz.

    The delay has two parts. A frame's parameters are measured in a window whose middle is 160 samples before the end of
    what was read, and heard around the end of the 80 samples that are synthesised from them: 160 samples after the
    middle. 700C moreover begins each interpolation with the parameters of the frame before (newamp1.c): 80 more.
    """

    bits: int
    samples: int
    delay: int = 160

    @property
    def bytes(self) -> int:
        """Of a frame in a file of c2enc, which fills up its last byte."""
        return -(-self.bits // 8)


FRAMES = {
    "3200": Frame(64, 160),
    "2400": Frame(48, 160),
    "1600": Frame(64, 320),
    "1400": Frame(56, 320),
    "1300": Frame(52, 320),
    "1200": Frame(48, 320),
    "700C": Frame(28, 320, delay=240),
}


@dataclass(frozen=True, kw_only=True)
class Codec2:
    """Codec2 at 8 kHz, a parametric vocoder: the waveform is another one, and only its envelope can be compared.

    The recording is followed by silence to the end of a frame that holds all of it after the delay, and the frames of
    that silence count. `num_bits` counts 52 bits for a frame of 1300 and 28 of 700C, where the file has whole bytes.
    """

    modes: tuple[str, ...] = ("3200", "2400", "1300", "700C")
    timeout_seconds: float = TIMEOUT_SECONDS
    name: str = field(default="codec2", init=False)
    label: str = field(default="Codec2", init=False)
    kind: Literal["codec"] = field(default="codec", init=False)

    def __post_init__(self) -> None:
        for mode in self.modes:
            check_setting("codec2", mode, mode in FRAMES, f"one of the modes {', '.join(FRAMES)}")

    @property
    def points(self) -> tuple[Point, ...]:
        return tuple(Point(name=f"codec2@{mode}", label=f"mode {mode}") for mode in self.modes)

    def missing(self) -> str | None:
        return missing_programs(("c2enc", "c2dec"), "codec2 (Debian, Homebrew)")

    def about(self) -> dict[str, Any]:
        return {
            "programs": {program: program_version(program) for program in ("c2enc", "c2dec")},
            "encode": "c2enc {setting} {in} {coded}",
            "decode": "c2dec {setting} {coded} {out}",
            "settings": list(self.modes),
            "sample_rate": 8000,
            "delay_samples": {mode: FRAMES[mode].delay for mode in self.modes},
            "seconds": SECONDS_ARE,
        }

    def reconstruct(self, audio: Tensor, sample_rate: int) -> Reconstruction:
        """Decoded at 8 kHz, (1, ceil(T · 8000 / sample_rate)). ValueError for a program that fails."""
        check_recording(audio)
        samples = to_16_bits(resample(audio, sample_rate, 8000))
        decoded = []
        with tempfile.TemporaryDirectory(prefix="vqaudio-") as folder:
            source, coded, out = (str(Path(folder) / name) for name in ("in.raw", "coded.bit", "out.raw"))
            for point, mode in zip(self.points, self.modes, strict=True):
                frame = FRAMES[mode]
                num_frames = -(-(len(samples) + frame.delay) // frame.samples)
                padded = np.pad(samples, (0, num_frames * frame.samples - len(samples)))
                Path(source).write_bytes(padded.astype("<i2").tobytes())
                encode_seconds = run_program(["c2enc", mode, source, coded], timeout_seconds=self.timeout_seconds)
                decode_seconds = run_program(["c2dec", mode, coded, out], timeout_seconds=self.timeout_seconds)
                num_coded, heard = Path(coded).stat().st_size, np.fromfile(out, "<i2")
                if (num_coded, len(heard)) != (num_frames * frame.bytes, len(padded)):
                    sizes = f"{num_coded} bytes and then {len(heard)} samples"
                    raise ValueError(
                        f"c2enc and c2dec {mode} made {sizes} of {num_frames} frames; is it another Codec2?"
                    )
                decoded.append(
                    Decoded(
                        point=point,
                        audio=from_16_bits(heard[frame.delay : frame.delay + len(samples)]),
                        sample_rate=8000,
                        num_bits=num_frames * frame.bits,
                        encode_seconds=encode_seconds,
                        decode_seconds=decode_seconds,
                    )
                )
        return Reconstruction(decoded=tuple(decoded))
