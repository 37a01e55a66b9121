"""Codes: what one tokenised recording is, and its file.

A code file (.vqt) is a safetensors file, which any reader of that format opens, with one tensor and one string:

    8 bytes   length of the header, little endian
    header    {"__metadata__":{"vqaudio":META},"codes":{"dtype":"U16","shape":[C,K,N],"data_offsets":[0,2·C·K·N]}}
              followed by spaces up to a multiple of 8 bytes
    tensor    the codes (C, K, N), little endian: uint16, or uint32 ("U32", 4 bytes) if a codebook has over 65,536

META is JSON with sorted keys, no spaces and ASCII only: format ("vqaudio codes"), version (1), the fields of `Codes`,
and sha256, the hash of this same JSON without sha256 followed by the tensor's bytes. So given codes determine their
file to the byte: `load` writes what it read once more and compares, which finds a change anywhere, even in the padding.
"""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vqaudio.io import write_aside

FORMAT = "vqaudio codes"
VERSION = 1


class CodesError(ValueError):
    """Codes that contradict themselves or each other, or a file that holds none; one sentence, with the file's name."""


@dataclass(frozen=True, eq=False, repr=False)
class Codes:
    """One recording as codes. Checked when made; `num_samples` and N count per channel.

    `num_samples` counts at the model's rate: N = ceil(num_samples / hop_length). The source's rate and length come
    along for decoding to exactly them; the two lengths agree to less than one sample of the lower rate.
    """

    values: Tensor  # (C, K, N) int64 on the CPU, values[:, k] in 0 ... codebook_sizes[k] - 1
    codebook_sizes: tuple[int, ...]  # K of them
    sample_rate: int  # Hz, of the model
    hop_length: int
    num_samples: int
    source_sample_rate: int  # Hz
    source_num_samples: int
    token_fingerprint: str  # SHA-256, in hex, of what gives the codes their meaning

    def __post_init__(self) -> None:
        object.__setattr__(self, "codebook_sizes", tuple(self.codebook_sizes))
        for name, least in (
            ("sample_rate", 1),
            ("hop_length", 1),
            ("num_samples", 0),
            ("source_sample_rate", 1),
            ("source_num_samples", 0),
        ):
            number = getattr(self, name)
            if not _is_int(number) or number < least:
                raise CodesError(f"{name} is {number!r}; it must be an integer of at least {least}")
        if not all(_is_int(size) and 1 <= size <= 2**32 for size in self.codebook_sizes):
            raise CodesError(f"codebook_sizes is {self.codebook_sizes}; sizes are integers from 1 to 2^32")
        fingerprint = self.token_fingerprint
        if not isinstance(fingerprint, str) or len(fingerprint) != 64 or set(fingerprint) - set("0123456789abcdef"):
            raise CodesError(f"token_fingerprint is {fingerprint!r}; it must be a SHA-256 of 64 lower-case hex digits")
        _check_values(self.values, self.codebook_sizes)
        num_frames = -(-self.num_samples // self.hop_length)
        if self.num_frames != num_frames:
            counts = f"{self.num_samples} samples at hop {self.hop_length} are {num_frames}"
            raise CodesError(f"there are {self.num_frames} frames of codes, and {counts}")
        # Not the exact ceil(source_num_samples · sample_rate / source_sample_rate): pieces cut on frames, whose ends
        # fall between two samples of the source, would fit no such number.
        gap = abs(self.source_num_samples * self.sample_rate - self.num_samples * self.source_sample_rate)
        if gap >= max(self.sample_rate, self.source_sample_rate):
            source = f"{self.source_num_samples} samples at {self.source_sample_rate} Hz"
            raise CodesError(f"{self.num_samples} samples at {self.sample_rate} Hz are not as long as {source}")

    @property
    def channels(self) -> int:
        return self.values.shape[0]

    @property
    def num_codebooks(self) -> int:
        return self.values.shape[1]

    @property
    def num_frames(self) -> int:
        return self.values.shape[2]

    @property
    def frame_rate(self) -> Fraction:
        """Frames per second."""
        return Fraction(self.sample_rate, self.hop_length)

    @property
    def seconds(self) -> float:
        """The duration of the source."""
        return self.source_num_samples / self.source_sample_rate

    @property
    def bitrate(self) -> float:
        """Bits per second of one channel, log2 V for each code."""
        return float(self.frame_rate) * sum(math.log2(size) for size in self.codebook_sizes)

    def to_numpy(self) -> np.ndarray:
        """(C, K, N) int64, a copy."""
        return self.values.numpy().copy()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Codes):
            return NotImplemented
        return self._facts() == other._facts() and torch.equal(self.values, other.values)

    __hash__ = None  # type: ignore[assignment]  # the tensor can change

    def __repr__(self) -> str:
        channels = f"{self.channels} channel{'s' * (self.channels > 1)}"
        sizes = set(self.codebook_sizes)
        books = f"{self.num_codebooks} codebook{'s' * (self.num_codebooks > 1)} of {', '.join(map(str, sorted(sizes)))}"
        rate = f"{float(self.frame_rate):g} Hz, {self.bitrate / 1000:.3g} kbit/s a channel"
        return f"<Codes: {self.seconds:.2f} s, {channels}, {books}, {self.num_frames} frames at {rate}>"

    def _facts(self) -> dict[str, Any]:
        """All fields but the values."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "values"}

    # ---- parts

    def prefix(self, num_codebooks: int) -> "Codes":
        """The first codebooks alone."""
        if not 1 <= num_codebooks <= self.num_codebooks:
            raise CodesError(f"{num_codebooks} codebooks were asked for, and there are {self.num_codebooks}")
        values = self.values[:, :num_codebooks].contiguous()
        return replace(self, values=values, codebook_sizes=self.codebook_sizes[:num_codebooks])

    def slice(self, start_seconds: float | Fraction, end_seconds: float | Fraction) -> "Codes":
        """The whole frames that cover an interval; like a Python slice it may reach past the end, not before the start.

        The pieces between any cuts, concatenated, are the whole again.
        """
        first, last = frames_between(start_seconds, end_seconds, self.frame_rate, self.num_frames)
        lengths = Lengths(self.sample_rate, self.num_samples, self.source_sample_rate, self.source_num_samples)
        num_samples, source_num_samples = lengths.between(first * self.hop_length, last * self.hop_length)
        values = self.values[:, :, first:last].contiguous()
        return replace(self, values=values, num_samples=num_samples, source_num_samples=source_num_samples)

    @staticmethod
    def concatenate(parts: Sequence["Codes"]) -> "Codes":
        """Parts of one kind, one after the other; those that others follow must end on a whole frame."""
        if not parts:
            raise CodesError("there are no codes to concatenate")
        first, own = parts[0], ("num_samples", "source_num_samples")
        for part in parts[1:]:
            facts = {"channels": (part.channels, first.channels)}
            facts |= {name: (value, getattr(first, name)) for name, value in part._facts().items() if name not in own}
            for name, (value, expected) in facts.items():
                if value != expected:
                    raise CodesError(f"codes to concatenate differ in {name}: {expected} and {value}")
        filled = [part for part in parts if part.num_frames]
        for part in filled[:-1]:
            if part.num_samples % part.hop_length:
                length = f"{part.num_samples} samples at hop {part.hop_length}"
                raise CodesError(f"codes that others follow must end on a whole frame, and these have {length}")
        num_samples = sum(part.num_samples for part in parts)
        # Pieces of different recordings may each have been rounded the same way.
        exact, slack = num_samples * first.source_sample_rate, max(first.sample_rate, first.source_sample_rate)
        least, most = (exact - slack) // first.sample_rate + 1, -(-(exact + slack) // first.sample_rate) - 1
        source_num_samples = min(max(sum(part.source_num_samples for part in parts), least, 0), most)
        values = torch.cat([part.values for part in parts], dim=2)
        return replace(first, values=values, num_samples=num_samples, source_num_samples=source_num_samples)

    # ---- the file

    def save(self, path: str | Path) -> None:
        """Write a code file, complete or not at all."""
        _check_values(self.values, self.codebook_sizes)  # once more: uint16 would wrap what was changed since
        with write_aside(path) as partial:
            partial.write_bytes(_to_bytes(self))

    @staticmethod
    def load(path: str | Path) -> "Codes":
        """Read a code file; CodesError names the file if it is missing, foreign, newer, truncated or altered."""
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            raise CodesError(f"{path}: cannot be opened ({error.strerror})") from error
        try:
            codes = _from_bytes(data)
        except CodesError as error:
            raise CodesError(f"{path}: {error}") from error
        if _to_bytes(codes) != data:
            raise CodesError(f"{path}: altered since it was written: its bytes do not match their hash")
        return codes


def frames_between(
    start_seconds: float | Fraction, end_seconds: float | Fraction, frame_rate: Fraction, num_frames: int
) -> tuple[int, int]:
    """The whole frames that cover an interval: first, and the one after the last. The end may lie past the end."""
    _check_interval(start_seconds, end_seconds)
    first, last = min(math.floor(exact(start_seconds) * frame_rate), num_frames), num_frames
    if not math.isinf(end_seconds):
        last = min(math.ceil(exact(end_seconds) * frame_rate), num_frames)
    return first, last


def samples_between(
    start_seconds: float | Fraction, end_seconds: float | Fraction, sample_rate: int, num_samples: int
) -> tuple[int, int]:
    """The samples whose instants lie in [start, end): first, and the one after the last."""
    _check_interval(start_seconds, end_seconds)
    first, last = min(math.ceil(exact(start_seconds) * sample_rate), num_samples), num_samples
    if not math.isinf(end_seconds):
        last = min(math.ceil(exact(end_seconds) * sample_rate), num_samples)
    return first, last


def _check_interval(start_seconds: float | Fraction, end_seconds: float | Fraction) -> None:
    try:
        good = 0 <= start_seconds <= end_seconds and not math.isinf(start_seconds)
    except TypeError as error:
        given = f"{start_seconds!r} and {end_seconds!r}"
        raise CodesError(f"start and end are {given}; wanted are numbers of seconds") from error
    if not good:
        raise CodesError(f"seconds {start_seconds} to {end_seconds} are no interval from 0 on")


@dataclass(frozen=True)
class Lengths:
    """A recording's length at the model's rate and at its source's; `num_samples` None: still to be known."""

    sample_rate: int
    num_samples: int | None
    source_sample_rate: int
    source_num_samples: int

    def between(self, start: int, stop: int) -> tuple[int, int]:
        """Of the part from sample `start` to `stop` of the model's rate: its samples there, and in the source.

        The lengths of parts that follow each other add up to that of the whole, at both rates.
        """
        if self.num_samples is not None:
            start, stop = min(start, self.num_samples), min(stop, self.num_samples)
        return stop - start, self._in_source(stop) - self._in_source(start)

    def _in_source(self, position: int) -> int:
        if position == self.num_samples:
            return self.source_num_samples
        return min(position * self.source_sample_rate // self.sample_rate, self.source_num_samples)


def _is_int(number: object) -> bool:
    return isinstance(number, int) and not isinstance(number, bool)


def exact(seconds: float | Fraction) -> Fraction:
    """The fraction that is meant: 0.1 is 1/10, and not the float's value just above, which would cost a frame."""
    if isinstance(seconds, Integral):  # NumPy's too, which would stay what they are within a fraction
        seconds = int(seconds)
    elif isinstance(seconds, np.floating):
        seconds = float(seconds)
    return Fraction(seconds).limit_denominator(10**9)


def _check_values(values: Tensor, codebook_sizes: tuple[int, ...]) -> None:
    if not isinstance(values, Tensor) or values.dtype != torch.int64 or values.device.type != "cpu":
        given = f"{values.dtype} on {values.device}" if isinstance(values, Tensor) else type(values).__name__
        raise CodesError(f"the values of codes are an int64 tensor on the CPU, and these are {given}")
    if values.ndim != 3 or values.shape[0] < 1 or values.shape[1] < 1:
        raise CodesError(f"the values of codes are (C, K, N) with C and K of 1 or more, not {tuple(values.shape)}")
    if values.shape[1] != len(codebook_sizes):
        raise CodesError(f"there are {values.shape[1]} levels of codes, and {len(codebook_sizes)} codebook sizes")
    for level, size in enumerate(codebook_sizes if values.shape[2] else ()):
        least, most = (int(bound) for bound in torch.aminmax(values[:, level]))
        if least < 0 or most >= size:
            raise CodesError(f"level {level} holds code {least if least < 0 else most}, outside 0 to {size - 1}")


def _canonical(facts: dict[str, Any]) -> str:
    return json.dumps(facts, sort_keys=True, separators=(",", ":"))


def _to_bytes(codes: Codes) -> bytes:
    """The code file as drawn at the top."""
    wide = max(codes.codebook_sizes) > 65536
    tensor = codes.values.numpy().astype("<u4" if wide else "<u2").tobytes()
    facts = {**codes._facts(), "format": FORMAT, "version": VERSION}
    facts["sha256"] = hashlib.sha256(_canonical(facts).encode() + tensor).hexdigest()
    entry = {"dtype": "U32" if wide else "U16", "shape": list(codes.values.shape), "data_offsets": [0, len(tensor)]}
    header = json.dumps(
        {"__metadata__": {"vqaudio": _canonical(facts)}, "codes": entry}, separators=(",", ":")
    ).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + tensor


def _from_bytes(data: bytes) -> Codes:
    """The codes in a file's bytes, as far as they make sense; what differs otherwise is for the caller to find."""
    header_bytes = int.from_bytes(data[:8], "little")
    if len(data) < 8:
        raise CodesError(f"truncated, or no code file (.vqt): it has {len(data)} bytes")
    if data[8:9] not in (b"", b"{"):
        raise CodesError("is no code file (.vqt)")
    if 8 + header_bytes > len(data):
        raise CodesError(f"truncated or altered: a header of {header_bytes} bytes is promised")
    try:
        header = json.loads(data[8 : 8 + header_bytes])
        facts = json.loads(header["__metadata__"]["vqaudio"])
        known = facts.pop("format"), facts.pop("version")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise CodesError("is no code file (.vqt), though it may be another safetensors file, or is altered") from error
    if known[0] != FORMAT or not _is_int(known[1]):
        raise CodesError(f"is no code file (.vqt) but calls itself {known[0]!r} version {known[1]!r}")
    if known[1] > VERSION:
        raise CodesError(f"has format version {known[1]}, and this vqaudio reads up to {VERSION}; use a newer one")
    try:
        entry = header["codes"]
        dtype: np.dtype = np.dtype({"U16": "<u2", "U32": "<u4"}[entry["dtype"]])
        shape = tuple(entry["shape"])
        promised = math.prod(shape) * dtype.itemsize
        if promised > len(data) - 8 - header_bytes:
            raise CodesError(f"truncated: codes of {promised} bytes are promised, not all are there")
        values = np.frombuffer(data, dtype, math.prod(shape), 8 + header_bytes).reshape(shape).astype(np.int64)
        facts.pop("sha256")
        return Codes(torch.from_numpy(values), **facts)
    except CodesError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CodesError("altered since it was written: its header makes no sense") from error
