"""Raw samples through pipes: PCM of a few encodings, bare or behind a WAV header of unknown length, <-> floats.

For what has no end yet and cannot be seeked in, where libsndfile does not help. Files go through `vqaudio.io`.
"""

import struct
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from vqaudio.containers import PLACEHOLDER_SIZES, AudioError

# Name: numpy's type, WAV's format tag (1 integers, 3 floats) and bits. Three-byte samples have no numpy type.
ENCODINGS: dict[str, tuple[str, int, int]] = {
    "u8": ("u1", 1, 8),
    "s16le": ("<i2", 1, 16),
    "s24le": ("", 1, 24),
    "s32le": ("<i4", 1, 32),
    "f32le": ("<f4", 3, 32),
}
LONGEST_CHUNK = 1 << 24  # bytes, of what may come before the samples: pictures, text
UNKNOWN_SIZE = 0xFFFFFFFF  # of a WAV that is still being written


@dataclass(frozen=True)
class PcmFormat:
    encoding: str
    sample_rate: int  # Hz
    channels: int

    @property
    def frame_bytes(self) -> int:
        """Of one sample of all channels."""
        return ENCODINGS[self.encoding][2] // 8 * self.channels


def to_floats(data: bytes, form: PcmFormat) -> Tensor:
    """Interleaved samples, whole ones of all channels -> (C, T) float32; integers span [-1, 1)."""
    dtype, _, bits = ENCODINGS[form.encoding]
    if form.encoding == "s24le":  # as the upper three bytes of four
        wide = np.zeros((len(data) // 3, 4), np.uint8)
        wide[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
        samples = wide.view("<i4")[:, 0].astype(np.float64) / 2**31
    else:
        samples = np.frombuffer(data, dtype)
        if form.encoding == "u8":
            samples = samples.astype(np.float32) / 128 - 1
        elif form.encoding != "f32le":
            samples = samples.astype(np.float64) / 2 ** (bits - 1)
    return torch.from_numpy(
        np.array(samples.reshape(-1, form.channels).T, np.float32, order="C")
    )  # a copy: bytes are not ours


def to_bytes(audio: Tensor, form: PcmFormat) -> tuple[bytes, int]:
    """(C, T) floats -> interleaved samples, rounded to the nearest step, and how many were beyond full scale."""
    samples = audio.numpy().T  # (T, C)
    _, _, bits = ENCODINGS[form.encoding]
    if form.encoding == "f32le":
        return samples.astype("<f4").tobytes(), 0
    full_scale = 2 ** (bits - 1)
    num_clipped = int(np.count_nonzero(np.abs(samples) > 1))
    steps = np.clip(np.rint(samples.astype(np.float64) * full_scale), -full_scale, full_scale - 1).astype(np.int64)
    if form.encoding == "u8":
        return (steps + 128).astype("u1").tobytes(), num_clipped
    wide = steps.astype("<i4")[..., None].view(np.uint8)  # (T, C, 4), the lowest byte first
    return wide[..., : bits // 8].tobytes(), num_clipped


def wav_header(form: PcmFormat) -> bytes:
    """Of a WAV whose length is not known."""
    _, tag, bits = ENCODINGS[form.encoding]
    rate, width = form.sample_rate, form.frame_bytes
    chunk = struct.pack("<HHIIHH", tag, form.channels, rate, rate * width, width, bits)
    head = b"RIFF" + UNKNOWN_SIZE.to_bytes(4, "little") + b"WAVEfmt " + len(chunk).to_bytes(4, "little") + chunk
    return head + b"data" + UNKNOWN_SIZE.to_bytes(4, "little")


def read_wav_header(file: BinaryIO, name: str) -> tuple[PcmFormat, int | None]:
    """What follows "RIFF" in a stream, up to its samples: their format, and their bytes (None: until the end)."""
    if file.read(8)[4:] != b"WAVE":
        raise AudioError(f"{name}: begins like a WAV file, and goes on otherwise")
    form = None
    while True:
        head = file.read(8)
        if len(head) < 8:
            raise AudioError(f"{name}: ends within its WAV header")
        kind, size = head[:4], int.from_bytes(head[4:], "little")
        if kind == b"data" and form is not None:
            return form, None if size in PLACEHOLDER_SIZES or size > 0x7FFF0000 else size
        if size > LONGEST_CHUNK:
            raise AudioError(f"{name}: its WAV header has a chunk {kind!r} of {size} bytes, which is none")
        chunk = file.read(size + size % 2)
        if kind == b"fmt " and len(chunk) >= 16:
            form = _format(chunk, name)


def _format(chunk: bytes, name: str) -> PcmFormat:
    tag, channels, rate, _, _, bits = struct.unpack("<HHIIHH", chunk[:16])
    if tag == 0xFFFE and len(chunk) >= 26:  # WAVE_FORMAT_EXTENSIBLE: the tag begins its sub-format
        tag = int.from_bytes(chunk[24:26], "little")
    for encoding, (_, its_tag, its_bits) in ENCODINGS.items():
        if (its_tag, its_bits) == (tag, bits) and channels and rate:
            return PcmFormat(encoding, rate, channels)
    known = ", ".join(ENCODINGS)
    raise AudioError(
        f"{name}: a WAV of format {tag} with {bits} bits, {channels} channels at {rate} Hz; read are {known}"
    )
