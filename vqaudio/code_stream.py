"""Codes through pipes: what `vqaudio encode --stream` writes and `vqaudio decode --stream` reads, as it is made.

A code file (.vqt) says at its beginning how long it is, so a recording has to be over before it can be written. Here

    header    one line of JSON: format ("vqaudio code stream"), version (1), channels, codebook_sizes, sample_rate,
              hop_length, source_sample_rate, token_fingerprint; ends with a line feed
    chunks    16 bytes: frames n, samples at the model's rate, samples of the source, CRC-32 of the codes (each 4 bytes,
              little endian), followed by the codes of n frames, frame by frame (n, C, K): uint16, or uint32 if a
              codebook has over 65,536
    end       a chunk of 16 zero bytes; without it, the stream was cut off

Size: header + 16 · (chunks + 1) + 2 · n · C · K bytes.
"""

import json
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
import torch

from vqaudio.codes import Codes, CodesError

FORMAT = "vqaudio code stream"
VERSION = 1
LONGEST_HEADER = 1 << 20  # bytes; what is longer is another kind of file
SHARED = ("sample_rate", "hop_length", "source_sample_rate", "token_fingerprint")

_CHUNK = struct.Struct("<IIII")


class CodeStreamWriter:
    """Write codes as they come; each `write` reaches the reader at once."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._header: dict[str, object] | None = None

    def write(self, codes: Codes) -> None:
        header = {name: getattr(codes, name) for name in SHARED}
        header |= {"channels": codes.channels, "codebook_sizes": list(codes.codebook_sizes)}
        if self._header is None:
            line = json.dumps({"format": FORMAT, "version": VERSION, **header}, sort_keys=True)
            self._file.write(line.encode() + b"\n")
            self._header = header
        elif header != self._header:
            raise CodesError("codes of another kind than those before them cannot follow in a stream")
        if codes.num_frames:
            values = codes.values.permute(2, 0, 1).numpy().astype(_dtype(codes.codebook_sizes))
            data = values.tobytes()
            counts = codes.num_frames, codes.num_samples, codes.source_num_samples
            self._file.write(_CHUNK.pack(*counts, zlib.crc32(data)) + data)
        self._file.flush()

    def close(self) -> None:
        """Write the end mark; without it a reader takes the stream for cut off."""
        self._file.write(_CHUNK.pack(0, 0, 0, 0))
        self._file.flush()


def read_code_stream(file: BinaryIO, name: str) -> Iterator[Codes]:
    """The codes of a stream, chunk by chunk as they come; CodesError names the stream if it is foreign or cut off.

    The first have no frames: they tell of what kind the others will be.
    """
    line = file.readline(LONGEST_HEADER)
    try:
        header = json.loads(line)
        known = header.pop("format"), header.pop("version")
        channels, codebook_sizes = header.pop("channels"), tuple(header.pop("codebook_sizes"))
        facts = {key: header[key] for key in SHARED}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        what = "ended before it began" if not line else "is no code stream, as `vqaudio encode --stream` writes"
        raise CodesError(f"{name}: {what}") from error
    if known[0] != FORMAT or not isinstance(known[1], int) or known[1] > VERSION:
        raise CodesError(f"{name}: calls itself {known[0]!r} version {known[1]!r}; read is version {VERSION}")
    dtype = np.dtype(_dtype(codebook_sizes))
    nothing = torch.zeros(channels, len(codebook_sizes), 0, dtype=torch.int64)
    yield Codes(nothing, codebook_sizes=codebook_sizes, num_samples=0, source_num_samples=0, **facts)
    while True:
        head = file.read(_CHUNK.size)
        if len(head) < _CHUNK.size:
            raise CodesError(f"{name}: was cut off: it ends without its end mark")
        num_frames, num_samples, source_num_samples, checksum = _CHUNK.unpack(head)
        if not num_frames:
            return
        size = num_frames * channels * len(codebook_sizes) * dtype.itemsize
        data = file.read(size)
        if len(data) < size:
            raise CodesError(f"{name}: was cut off within a chunk")
        if zlib.crc32(data) != checksum:
            raise CodesError(f"{name}: altered on its way: a chunk does not match its checksum")
        values = np.frombuffer(data, dtype).reshape(num_frames, channels, -1).transpose(1, 2, 0).astype(np.int64)
        yield Codes(
            torch.from_numpy(np.ascontiguousarray(values)),
            codebook_sizes=codebook_sizes,
            num_samples=num_samples,
            source_num_samples=source_num_samples,
            **facts,
        )


def _dtype(codebook_sizes: tuple[int, ...]) -> str:
    return "<u4" if max(codebook_sizes) > 65536 else "<u2"
