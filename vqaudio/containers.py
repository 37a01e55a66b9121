"""Audio containers whose headers libsndfile believes too readily, or not enough: WAV, AIFF, Ogg and MP3.

Reads the few bytes that tell a truncated file from a whole one, and hands libsndfile a corrected header where the one
in the file is wrong in a known way. What is done for each container is listed in `vqaudio.io`.
"""

import io
import os
from dataclasses import dataclass
from typing import BinaryIO

# Bytes per sample where seeking is exact to the sample and a sample has a fixed size (in FLAC: before compression).
# The lossy formats seek near the place, or start with an unsettled decoder: they are read from the start.
SAMPLE_BYTES = {"PCM_S8": 1, "PCM_U8": 1, "PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8}
SAMPLE_BYTES |= {"ULAW": 1, "ALAW": 1}

# Sizes that mean "not known when the header was written": zero, all ones, signed maximum, arecord's, sox's.
PLACEHOLDER_SIZES = frozenset({0, 0xFFFFFFFF, 0x7FFFFFFF, 0x80000000, 0x7FFFF000})


class AudioError(ValueError):
    """An audio file or array cannot be read or written; one sentence that names it."""


def repaired(name: str, file: BinaryIO, size: int) -> tuple["BinaryIO | Spliced", tuple[int, int] | None]:
    """The file as libsndfile should see it, and for WAV and AIFF the promised and present bytes of its data chunk."""
    start = file.read(4)
    file.seek(0)
    if start in (b"RIFF", b"RIFX", b"RF64", b"BW64", b"FORM"):
        position, promised = _data_chunk(name, file, size)
        present = size - position
        file.seek(0)
        if promised not in PLACEHOLDER_SIZES:
            return file, (promised, present)
        if promised == 0 and present > 0 and start == b"RIFF" and _container_size(file) != size:
            # Streamed, or never finished by its recorder: libsndfile takes the zero at its word.
            head = file.read(position - 4) + min(present, 0xFFFFFFFF).to_bytes(4, "little")
            return Spliced(head, file, position, size), None
    elif start == b"OggS":
        _check_last_page(name, file, size)
    else:
        first = _mp3_start(file)
        header = _mp3_header(first, file)
        if header is not None and not _has_frame_count(first, header, file):
            return Spliced(_info_frame(header, _count_mp3_frames(first, header, file)), file, first, size), None
    file.seek(0)
    return file, None


class Spliced(io.RawIOBase):
    """A read-only file made of `head` followed by `file` from byte `skip` on: a header corrected in passing."""

    def __init__(self, head: bytes, file: BinaryIO, skip: int, size: int) -> None:
        self.head, self.file, self.skip = head, file, skip
        self.size = len(head) + size - skip
        self.position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self.position = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self.position, os.SEEK_END: self.size}[whence]
        return self.position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        if self.position < len(self.head):
            piece = self.head[self.position : self.position + len(buffer)]
        else:
            self.file.seek(self.position - len(self.head) + self.skip)
            piece = self.file.read(len(buffer))
        buffer[: len(piece)] = piece
        self.position += len(piece)
        return len(piece)


def _container_size(file: BinaryIO) -> int:
    """The whole file's size according to its RIFF header."""
    file.seek(4)
    size = int.from_bytes(file.read(4), "little") + 8
    file.seek(0)
    return size


def _data_chunk(name: str, file: BinaryIO, size: int) -> tuple[int, int]:
    """Where the samples of a RIFF or AIFF file begin, and how many bytes of them its header promises."""
    file.seek(0)
    big = file.read(4) in (b"RIFX", b"FORM")
    position, large = 12, None
    while position + 8 <= size:
        file.seek(position)
        kind, length = file.read(4), int.from_bytes(file.read(4), "big" if big else "little")
        position += 8
        if kind == b"ds64":  # RF64: the 64-bit sizes; EBU Tech 3306
            large = int.from_bytes(file.read(16)[8:], "little")
        if kind in (b"data", b"SSND"):
            return position, large if large is not None and length == 0xFFFFFFFF else length
        position += length + length % 2
    raise AudioError(f"{name}: truncated: its header ends before any samples")


def check_data_size(name: str, kind: str, subtype: str, channels: int, promised: int, present: int) -> None:
    """Refuse a data chunk that ends before its size, by a sample or more."""
    if promised <= present:
        return
    if subtype in SAMPLE_BYTES:
        width = SAMPLE_BYTES[subtype] * channels
        extra = 8 if kind == "AIFF" else 0  # SSND begins with an offset and a block size
        if (promised - extra) // width > (present - extra) // width:
            counts = f"{(promised - extra) // width} samples, {max(present - extra, 0) // width} are there"
            raise AudioError(f"{name}: truncated: header promises {counts}")
    else:
        raise AudioError(f"{name}: truncated: header promises {promised} bytes of audio, {present} are there")


def _check_last_page(name: str, file: BinaryIO, size: int) -> None:
    """Refuse an Ogg file whose last page is cut short (RFC 3533: 27 bytes, segment table, segments)."""
    start = max(0, size - 2 * 65307)  # the largest page, twice
    file.seek(start)
    tail = file.read()
    last = tail.rfind(b"OggS\0")
    page = tail[last:] if last >= 0 else b""
    segments = page[27 : 27 + page[26]] if len(page) >= 27 else b""
    if len(page) < 27 or len(segments) < page[26] or len(page) < 27 + len(segments) + sum(segments):
        raise AudioError(f"{name}: truncated: its last Ogg page is not complete")


# ---- MPEG audio, layer III, without a frame count


@dataclass(frozen=True)
class _Mp3Header:
    """What matters of a frame's four bytes (ISO 11172-3 2.4.1.3, ISO 13818-3)."""

    bits: int
    frame_bytes: int
    side_bytes: int

    @property
    def kind(self) -> int:
        """What all frames of a stream share: version, layer, rate."""
        return self.bits & 0xFFFE0C00


def _mp3_start(file: BinaryIO) -> int:
    """The position after an ID3v2 tag, if there is one."""
    file.seek(0)
    tag = file.read(10)
    if len(tag) < 10 or tag[:3] != b"ID3":
        return 0
    a, b, c, d = tag[6:]
    return 10 + (a << 21 | b << 14 | c << 7 | d) + (10 if tag[5] & 0x10 else 0)


def _mp3_header(position: int, file: BinaryIO) -> _Mp3Header | None:
    """The header of the layer III frame at `position`, or None if there is none."""
    file.seek(position)
    return _parse_mp3_header(file.read(4))


def _parse_mp3_header(four: bytes) -> _Mp3Header | None:
    bits = int.from_bytes(four, "big")
    version, layer = bits >> 19 & 3, bits >> 17 & 3  # version 3: MPEG 1, 2: MPEG 2, 0: MPEG 2.5; layer 1: III
    bitrate, rate = bits >> 12 & 15, bits >> 10 & 3
    if len(four) < 4 or bits >> 21 != 0x7FF or version == 1 or layer != 1 or bitrate in (0, 15) or rate == 3:
        return None
    table = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
    if version != 3:
        table = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
    sample_rate = (44100, 48000, 32000)[rate] >> {3: 0, 2: 1, 0: 2}[version]
    frame_bytes = (144 if version == 3 else 72) * table[bitrate - 1] * 1000 // sample_rate + (bits >> 9 & 1)
    mono = bits >> 6 & 3 == 3
    side_bytes = (17 if mono else 32) if version == 3 else (9 if mono else 17)
    return _Mp3Header(bits, frame_bytes, side_bytes)


def _has_frame_count(first: int, header: _Mp3Header, file: BinaryIO) -> bool:
    """Whether the first frame is no audio but a Xing, Info or VBRI header."""
    file.seek(first)
    frame = file.read(header.frame_bytes)
    return frame[4 + header.side_bytes :][:4] in (b"Xing", b"Info") or frame[36:40] == b"VBRI"


def _count_mp3_frames(first: int, header: _Mp3Header, file: BinaryIO) -> int:
    """How many complete frames of the first one's kind follow each other, looking for the next one after damage."""
    file.seek(first)
    data, position, count = file.read(1 << 20), 0, 0
    while True:
        if position + 4 > len(data):
            more = file.read(1 << 20)
            if not more:
                return count - (position > len(data))  # the last one was cut
            data, position = data[position:] + more, max(0, position - len(data))
            continue
        found = _parse_mp3_header(data[position : position + 4])
        if found is not None and found.kind == header.kind:
            position += found.frame_bytes
            count += 1
        else:
            following = data.find(b"\xff", position + 1)
            position = len(data) - 3 if following < 0 else following


def _info_frame(header: _Mp3Header, num_frames: int) -> bytes:
    """A frame of silence that carries the number of frames to come, in the form the Xing encoder gave it."""
    # No checksum, no padding, bit rate 9 (128 or 80 kbit/s: room enough).
    four = (header.bits & 0xFFFF0DFF & ~0xF000 | 0x00019000).to_bytes(4, "big")
    parsed = _parse_mp3_header(four)
    assert parsed is not None
    frame = four + bytes(header.side_bytes) + b"Xing" + (1).to_bytes(4, "big") + num_frames.to_bytes(4, "big")
    return frame.ljust(parsed.frame_bytes, b"\0")
