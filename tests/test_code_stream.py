"""Code streams: what is read is what was written, at once, and nothing cut off or altered passes for whole."""

import io
import json
from collections.abc import Iterable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, strategies as st

from vqaudio.code_stream import LONGEST_HEADER, VERSION, CodeStreamWriter, read_code_stream
from vqaudio.codes import Codes, CodesError

HOP, RATE = 20, 1_600
CHUNK_HEAD = 16  # bytes


def make_codes(
    num_samples: int, *, sizes: tuple[int, ...] = (32, 7), channels: int = 1, source_rate: int = RATE, seed: int = 0
) -> Codes:
    generator = torch.Generator().manual_seed(seed)
    shape = (channels, -(-num_samples // HOP))
    return Codes(
        torch.stack([torch.randint(size, shape, generator=generator) for size in sizes], dim=1),
        codebook_sizes=sizes,
        sample_rate=RATE,
        hop_length=HOP,
        num_samples=num_samples,
        source_sample_rate=source_rate,
        source_num_samples=num_samples * source_rate // RATE,
        token_fingerprint="0123456789abcdef" * 4,
    )


def parts_of(codes: Codes, cuts: Iterable[int]) -> list[Codes]:
    """Pieces between cuts, in frames; of the same cut twice, one piece is empty."""
    edges = [Fraction(HOP * frame, RATE) for frame in (0, *sorted(cuts), codes.num_frames)]
    return [codes.slice(start, stop) for start, stop in pairwise(edges)]


def stream_of(parts: Iterable[Codes]) -> bytes:
    file = io.BytesIO()
    writer = CodeStreamWriter(file)
    for part in parts:
        writer.write(part)
    writer.close()
    return file.getvalue()


def read(data: bytes) -> tuple[list[Codes], str | None]:
    """All that a stream gives, and the message of the error that ends it."""
    found = []
    try:
        for codes in read_code_stream(io.BytesIO(data), "NAME"):
            found.append(codes)
    except CodesError as error:
        return found, str(error)
    return found, None


def header_length(data: bytes | bytearray) -> int:
    return data.index(b"\n") + 1


@st.composite
def cut_codes(draw: st.DrawFn) -> tuple[Codes, list[Codes]]:
    codes = make_codes(
        draw(st.integers(0, 40 * HOP)),
        sizes=tuple(draw(st.lists(st.sampled_from([1, 2, 1000, 65536, 65537, 2**32]), min_size=1, max_size=4))),
        channels=draw(st.integers(1, 3)),
        source_rate=draw(st.sampled_from([RATE, 1_000, 44_100])),
        seed=draw(st.integers(0, 99)),
    )
    return codes, parts_of(codes, draw(st.lists(st.integers(0, codes.num_frames), max_size=5)))


# ---- there and back


@given(case=cut_codes())
def test_what_is_read_is_what_was_written(case: tuple[Codes, list[Codes]]) -> None:
    codes, parts = case
    found, error = read(stream_of(parts))
    assert error is None
    assert found[0] == codes.slice(0, 0)  # tells of what kind the others are
    assert found[1:] == [part for part in parts if part.num_frames]
    assert Codes.concatenate(found) == codes


@given(case=cut_codes())
def test_the_size_is_that_of_the_formula(case: tuple[Codes, list[Codes]]) -> None:
    codes, parts = case
    data = stream_of(parts)
    num_chunks = sum(part.num_frames > 0 for part in parts)
    width = 4 if max(codes.codebook_sizes) > 65536 else 2
    codes_bytes = width * codes.num_frames * codes.channels * codes.num_codebooks
    assert len(data) == header_length(data) + CHUNK_HEAD * (num_chunks + 1) + codes_bytes


def test_the_header_is_a_line_of_json_with_the_documented_keys() -> None:
    data = stream_of([make_codes(50, channels=2, source_rate=44_100)])
    assert json.loads(data[: header_length(data)]) == {
        "format": "vqaudio code stream",
        "version": 1,
        "channels": 2,
        "codebook_sizes": [32, 7],
        "sample_rate": RATE,
        "hop_length": HOP,
        "source_sample_rate": 44_100,
        "token_fingerprint": "0123456789abcdef" * 4,
    }


def test_codes_lie_frame_by_frame() -> None:
    values = torch.tensor([[[0x0102, 3], [4, 5]], [[6, 7], [8, 9]]])  # (C, K, N)
    codes = Codes(values, (65536, 65536), RATE, HOP, 2 * HOP, RATE, 2 * HOP, "0" * 64)
    data = stream_of([codes])
    start = header_length(data) + CHUNK_HEAD
    assert data[start:-CHUNK_HEAD] == bytes([2, 1, 4, 0, 6, 0, 8, 0, 3, 0, 5, 0, 7, 0, 9, 0])


@pytest.mark.parametrize(("size", "width"), [(65536, 2), (65537, 4)])
def test_the_largest_codes_keep_their_value(size: int, width: int) -> None:
    codes = Codes(torch.tensor([[[size - 1, 0]]]), (size,), RATE, HOP, 2 * HOP, RATE, 2 * HOP, "0" * 64)
    data = stream_of([codes])
    assert len(data) == header_length(data) + 2 * CHUNK_HEAD + 2 * width
    assert Codes.concatenate(read(data)[0]) == codes


def test_every_write_reaches_the_reader_at_once() -> None:
    pipe = io.BytesIO()
    writer = CodeStreamWriter(io.BufferedWriter(pipe))
    parts = parts_of(make_codes(6 * HOP), [0, 1, 3])  # the first is empty
    for count, part in enumerate(parts):
        writer.write(part)
        found, error = read(pipe.getvalue())
        assert found[1:] == parts[1 : count + 1]
        assert error == "NAME: was cut off: it ends without its end mark"
    writer.close()
    assert read(pipe.getvalue())[1] is None


def test_nothing_is_read_past_the_end_mark() -> None:
    data = stream_of([make_codes(50)])
    file = io.BytesIO(data + data)
    first = list(read_code_stream(file, "NAME"))
    assert file.tell() == len(data)
    assert list(read_code_stream(file, "NAME")) == first


@pytest.mark.parametrize(
    "other",
    [
        make_codes(60, sizes=(32,)),
        make_codes(60, sizes=(32, 8)),
        make_codes(60, channels=2),
        make_codes(60, source_rate=8_000),
        make_codes(0, channels=2),
    ],
)
def test_codes_of_another_kind_cannot_follow(other: Codes) -> None:
    file = io.BytesIO()
    writer = CodeStreamWriter(file)
    writer.write(make_codes(40))
    before = file.getvalue()
    with pytest.raises(CodesError, match="codes of another kind than those before them cannot follow in a stream"):
        writer.write(other)
    assert file.getvalue() == before


# ---- cut off, altered, foreign


@pytest.mark.parametrize("sizes", [(32, 7), (70_000,)])
def test_a_stream_cut_off_anywhere_gives_its_whole_chunks_and_is_refused(sizes: tuple[int, ...]) -> None:
    parts = parts_of(make_codes(7 * HOP - 3, sizes=sizes), [1, 4])
    data = stream_of(parts)
    # Where each part ends: streams of fewer parts are prefixes of it, but for their end mark.
    ends = [len(stream_of(parts[:count])) - CHUNK_HEAD for count in range(1, len(parts) + 1)]
    assert read(b"") == ([], "NAME: ended before it began")
    for length in range(1, len(data)):
        found, error = read(data[:length])
        if length < header_length(data) - 1:
            assert found == [] and error is not None and error.startswith("NAME: ")
        else:
            assert found[1:] == parts[: sum(end <= length for end in ends)]
            assert error is not None and error.startswith("NAME: was cut off")
    assert read(data)[1] is None


def flips(data: bytes, start: int, stop: int) -> Iterable[tuple[int, bytes]]:
    for place in range(8 * start, 8 * stop):
        changed = bytearray(data)
        changed[place // 8] ^= 1 << place % 8
        yield place, bytes(changed)


def test_one_flipped_bit_in_the_codes_or_their_checksum_is_refused() -> None:
    parts = parts_of(make_codes(5 * HOP), [2])
    data = stream_of(parts)
    start = header_length(data) + CHUNK_HEAD + parts[0].values.numel() * 2  # of the second chunk
    for _, changed in flips(data, start + 12, len(data) - CHUNK_HEAD):
        found, error = read(changed)
        assert found[1:] == parts[:1]  # what came before is given
        assert error == "NAME: altered on its way: a chunk does not match its checksum"


def test_one_flipped_bit_in_the_counts_of_a_chunk_is_refused() -> None:
    data = stream_of(parts_of(make_codes(5 * HOP), [4]))
    first = header_length(data)
    second = first + CHUNK_HEAD + 4 * 2 * 2
    places = [(first, first + 12), (second, second + 12), (len(data) - CHUNK_HEAD, len(data))]
    unnoticed = [place for start, stop in places for place, other in flips(data, start, stop) if read(other)[1] is None]
    assert unnoticed == []


def test_an_altered_count_costs_no_memory() -> None:
    data = bytearray(stream_of([make_codes(HOP, channels=100, sizes=(2,) * 1000)]))
    data[header_length(data) + 3] = 0x80  # 2^31 frames more: beyond any address space
    with pytest.raises(CodesError, match="NAME: was cut off within a chunk"):
        list(read_code_stream(io.BufferedReader(io.BytesIO(data)), "NAME"))  # as standard input is


def with_header(**changes: Any) -> bytes:
    data = stream_of([make_codes(50)])
    header = json.loads(data[: header_length(data)]) | changes
    return json.dumps(header).encode() + b"\n" + data[header_length(data) :]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"version": VERSION + 1}, f"calls itself 'vqaudio code stream' version {VERSION + 1}; read is version 1"),
        ({"version": "1"}, "calls itself 'vqaudio code stream' version '1'; read is version 1"),
        ({"format": "vqaudio codes"}, "calls itself 'vqaudio codes' version 1; read is version 1"),
        ({"codebook_sizes": 3}, "is no code stream"),
    ],
)
def test_another_version_or_format_is_named(changes: dict[str, Any], expected: str) -> None:
    found, error = read(with_header(**changes))
    assert found == [] and error is not None
    assert error.startswith(f"NAME: {expected}")


@pytest.mark.parametrize(
    "changes",
    [
        {"channels": "2"},
        {"channels": -1},
        {"channels": 0},
        {"channels": 1.5},
        {"channels": 10**19},
        {"codebook_sizes": []},
        {"codebook_sizes": ["a"]},
        {"codebook_sizes": [0]},
        {"hop_length": "x"},
        {"token_fingerprint": "short"},
        {"version": 0},
        {"version": True},
    ],
    ids=str,
)
def test_a_header_that_makes_no_sense_is_refused_by_name(changes: dict[str, Any]) -> None:
    found, error = read(with_header(**changes))
    assert found == [] and error is not None and error.startswith("NAME: ")


FOREIGN = {
    "lines": b"hello\n" * 100,
    "no text": bytes(range(256)) * 20,
    "zeros": bytes(3_000),
    "a number": b"3\n",
    "a list": b"[1, 2]\n",
    "another object": b'{"format": "vqaudio code stream"}\n',
    "a long number": b"9" * 5_000 + b"\n",
    "no line feed": b"x" * (LONGEST_HEADER + 10),
    "RIFF": b"RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0\n",
}


@pytest.mark.parametrize("name", FOREIGN)
def test_foreign_streams_are_refused_by_name(name: str) -> None:
    assert read(FOREIGN[name]) == ([], "NAME: is no code stream, as `vqaudio encode --stream` writes")


def test_a_deeply_nested_header_is_refused_by_name() -> None:
    assert read(b"[" * 200_000)[1] == "NAME: is no code stream, as `vqaudio encode --stream` writes"


def test_a_code_file_is_no_code_stream(tmp_path: Path) -> None:
    make_codes(50).save(tmp_path / "a.vqt")
    found, error = read((tmp_path / "a.vqt").read_bytes())
    assert found == [] and error == "NAME: is no code stream, as `vqaudio encode --stream` writes"
