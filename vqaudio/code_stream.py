"""Codes through pipes: what `vqaudio encode --stream` writes and `vqaudio decode --stream` reads, as it is made.

A code file (.vqt) says at its beginning how long it is, so a recording has to be over before it can be written. Here

    header    one line of JSON: format ("vqaudio code stream"), version (1), channels, codebook_sizes, sample_rate,
              hop_length, source_sample_rate, token_fingerprint; ends with a line feed
    chunks    16 bytes: frames n, samples at the model's rate, samples of the source, and the CRC-32 of these twelve
              bytes and the codes (each 4 bytes, little endian); then the codes of n frames, frame by frame (n, C, K):
              uint16, or uint32 if a codebook has over 65,536
    end       a chunk of no frames and no samples; without it, the stream was cut off

Size: header + 16 · (chunks + 1) + 2 · n · C · K bytes.
"""

import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import replace
from typing import BinaryIO

import numpy as np
import torch

from vqaudio.codes import Codes, CodesError

FORMAT = "vqaudio code stream"
VERSION = 1
LONGEST_HEADER = 1 << 20  # bytes; what is longer is another kind of file
SHARED = ("sample_rate", "hop_length", "source_sample_rate", "token_fingerprint")

_COUNTS = struct.Struct("<III")
_CHECKSUM = struct.Struct("<I")


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
            self._write(_COUNTS.pack(codes.num_frames, codes.num_samples, codes.source_num_samples), data)
        self._file.flush()

    def close(self) -> None:
        """Write the end mark; without it a reader takes the stream for cut off."""
        self._write(_COUNTS.pack(0, 0, 0), b"")
        self._file.flush()

    def _write(self, counts: bytes, data: bytes) -> None:
        self._file.write(counts + _CHECKSUM.pack(zlib.crc32(counts + data)) + data)


def read_code_stream(file: BinaryIO, name: str) -> Iterator[Codes]:
    """The codes of a stream, chunk by chunk as they come; CodesError names the stream if it is foreign or cut off.

    The first have no frames: they tell of what kind the others will be.
    """
    nothing = _header(file.readline(LONGEST_HEADER), name)
    yield nothing
    channels, num_codebooks, _ = nothing.values.shape
    dtype = np.dtype(_dtype(nothing.codebook_sizes))
    while True:
        counts, checksum = file.read(_COUNTS.size), file.read(_CHECKSUM.size)
        if len(checksum) < _CHECKSUM.size:
            raise CodesError(f"{name}: was cut off: it ends without its end mark")
        num_frames, num_samples, source_num_samples = _COUNTS.unpack(counts)
        size = num_frames * channels * num_codebooks * dtype.itemsize
        data = b"".join(_read(file, size))
        if len(data) < size:
            raise CodesError(f"{name}: was cut off within a chunk")
        if (zlib.crc32(counts + data),) != _CHECKSUM.unpack(checksum):
            raise CodesError(f"{name}: altered on its way: a chunk does not match its checksum")
        if not num_frames:
            return
        values = np.frombuffer(data, dtype).reshape(num_frames, channels, -1).transpose(1, 2, 0).astype(np.int64)
        yield replace(
            nothing,
            values=torch.from_numpy(np.ascontiguousarray(values)),
            num_samples=num_samples,
            source_num_samples=source_num_samples,
        )


def _read(file: BinaryIO, size: int) -> Iterator[bytes]:
    """`size` bytes, or what there is; by pieces, since a size altered on its way may be beyond all memory."""
    while size and (piece := file.read(min(size, 1 << 20))):
        yield piece
        size -= len(piece)


def _header(line: bytes, name: str) -> Codes:
    """What the header says, as codes without frames."""
    if not line:
        raise CodesError(f"{name}: ended before it began")
    try:
        header = json.loads(line)
        kind, version = header.pop("format"), header.pop("version")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CodesError(f"{name}: is no code stream, as `vqaudio encode --stream` writes") from error
    if kind != FORMAT or version not in range(1, VERSION + 1) or isinstance(version, bool):
        raise CodesError(f"{name}: calls itself {kind!r} version {version!r}; read is version {VERSION}")
    try:
        sizes = tuple(header["codebook_sizes"])
        values = torch.zeros(header["channels"], len(sizes), 0, dtype=torch.int64)
        facts = {key: header[key] for key in SHARED}
        return Codes(values, codebook_sizes=sizes, num_samples=0, source_num_samples=0, **facts)
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        what = f": {error}" if isinstance(error, CodesError) else ""
        raise CodesError(f"{name}: is no code stream, or its header was altered{what}") from error


def _dtype(codebook_sizes: tuple[int, ...]) -> str:
    return "<u4" if max(codebook_sizes) > 65536 else "<u2"
