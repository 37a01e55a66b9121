"""Codes: what they refuse, cutting and joining, and a file in which no byte can change unnoticed."""

import json
import math
import pickle
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

from tests.tiny import noise, tiny_tokenizer
from vqaudio.codes import Codes, CodesError

FINGERPRINT = "0123456789abcdef" * 4
RATES = st.sampled_from([8000, 11025, 16000, 22050, 24000, 44100, 48000])


def make_codes(
    num_samples: int = 1000,
    *,
    sizes: tuple[int, ...] = (16, 8, 1024),
    channels: int = 1,
    hop_length: int = 320,
    sample_rate: int = 16000,
    source_sample_rate: int = 16000,
    source_num_samples: int | None = None,
    seed: int = 0,
) -> Codes:
    generator = torch.Generator().manual_seed(seed)
    shape = (channels, -(-num_samples // hop_length))
    values = torch.stack([torch.randint(size, shape, generator=generator) for size in sizes], dim=1)
    if source_num_samples is None:
        source_num_samples = num_samples * source_sample_rate // sample_rate
    return Codes(
        values, sizes, sample_rate, hop_length, num_samples, source_sample_rate, source_num_samples, FINGERPRINT
    )


@st.composite
def any_codes(draw: st.DrawFn) -> Codes:
    source_sample_rate, sample_rate = draw(RATES), draw(RATES)
    source_num_samples = draw(st.integers(0, 5000))
    return make_codes(
        -(-source_num_samples * sample_rate // source_sample_rate),
        sizes=tuple(draw(st.lists(st.sampled_from([1, 2, 1000, 65536, 65537, 100000]), min_size=1, max_size=4))),
        channels=draw(st.integers(1, 3)),
        hop_length=draw(st.integers(50, 400)),
        sample_rate=sample_rate,
        source_sample_rate=source_sample_rate,
        source_num_samples=source_num_samples,
        seed=draw(st.integers(0, 99)),
    )


# ---- facts


def test_the_facts_follow_from_the_fields() -> None:
    codes = make_codes(44100, hop_length=441, sample_rate=44100, source_sample_rate=22050, channels=2)
    assert (codes.channels, codes.num_codebooks, codes.num_frames) == (2, 3, 100)
    assert codes.frame_rate == Fraction(100)
    assert codes.seconds == 1.0
    assert codes.bitrate == 100 * (4 + 3 + 10)
    assert codes.to_numpy().tolist() == codes.values.tolist()
    codes.to_numpy()[:] = -1
    assert codes.values.min() >= 0
    assert repr(codes).count("\n") == 0 and "100 frames at 100 Hz" in repr(codes)


def test_equality_looks_at_every_field() -> None:
    codes = make_codes()
    assert codes == make_codes()
    assert codes == pickle.loads(pickle.dumps(codes))
    assert codes != make_codes(seed=1)
    assert codes != replace(codes, token_fingerprint="f" * 64)
    assert codes != replace(codes, codebook_sizes=(16, 9, 1024))
    of_48k = make_codes(source_sample_rate=48000)
    assert of_48k != replace(of_48k, source_num_samples=2999)
    assert codes != "codes"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"values": torch.zeros(1, 3, 4, dtype=torch.int32)}, "int64 tensor on the CPU, and these are torch.int32"),
        ({"values": [[[0]]]}, "these are list"),
        ({"values": torch.zeros(3, 4, dtype=torch.int64)}, r"\(C, K, N\)"),
        ({"values": torch.zeros(0, 3, 4, dtype=torch.int64)}, r"not \(0, 3, 4\)"),
        ({"values": torch.zeros(1, 2, 4, dtype=torch.int64)}, "2 levels of codes, and 3 codebook sizes"),
        ({"values": torch.zeros(1, 3, 5, dtype=torch.int64)}, "5 frames of codes, and 1000 samples at hop 320 are 4"),
        ({"values": torch.full((1, 3, 4), 8)}, "level 1 holds code 8, outside 0 to 7"),
        ({"values": torch.full((1, 3, 4), -1)}, "level 0 holds code -1, outside 0 to 15"),
        ({"codebook_sizes": (16, 0, 1024)}, "codebook_sizes is"),
        ({"sample_rate": 0}, "sample_rate is 0; it must be an integer of at least 1"),
        ({"hop_length": 320.0}, "hop_length is 320.0"),
        ({"num_samples": -1}, "num_samples is -1"),
        ({"source_num_samples": 1001}, "1000 samples at 16000 Hz are not as long as 1001 samples at 16000 Hz"),
        ({"source_sample_rate": 8000}, "not as long as 1000 samples at 8000 Hz"),
        ({"token_fingerprint": "abc"}, "must be a SHA-256"),
        ({"token_fingerprint": "A" * 64}, "must be a SHA-256"),
    ],
)
def test_contradictions_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(CodesError, match=message):
        replace(make_codes(), **changes)


@given(num_samples=st.integers(0, 10**7), source_rate=RATES, rate=RATES)
def test_every_length_that_resampling_gives_is_accepted_and_the_next_ones_are_not(
    num_samples: int, source_rate: int, rate: int
) -> None:
    length = -(-num_samples * rate // source_rate)
    codes = make_codes(
        length, sizes=(2,), hop_length=10**8, sample_rate=rate, source_sample_rate=source_rate,
        source_num_samples=num_samples,
    )  # fmt: skip
    too_far = 2 * math.ceil(source_rate / rate)
    with pytest.raises(CodesError, match="not as long as"):
        replace(codes, source_num_samples=num_samples + too_far)


# ---- parts


def test_a_prefix_has_the_first_levels() -> None:
    codes = make_codes()
    assert codes.prefix(2).values.equal(codes.values[:, :2])
    assert codes.prefix(2).codebook_sizes == (16, 8)
    assert codes.prefix(3) == codes
    for num_codebooks in (0, 4):
        with pytest.raises(CodesError, match=f"{num_codebooks} codebooks were asked for, and there are 3"):
            codes.prefix(num_codebooks)


@given(codes=any_codes(), cuts=st.lists(st.floats(0, 1), max_size=4))
def test_pieces_between_any_cuts_make_the_whole_again(codes: Codes, cuts: list[float]) -> None:
    frames = sorted(round(cut * codes.num_frames) for cut in cuts)
    bounds = [Fraction(0), *(frame / codes.frame_rate for frame in frames), codes.num_frames / codes.frame_rate]
    pieces = [codes.slice(start, stop) for start, stop in pairwise(bounds)]
    assert Codes.concatenate(pieces) == codes


def test_a_slice_covers_its_interval_with_whole_frames() -> None:
    codes = make_codes(16000 * 3 + 100, source_sample_rate=48000)  # 151 frames of 20 ms
    part = codes.slice(0.1, 0.25)  # 0.1 as a float lies above 1/10, and frame 5 begins at 1/10
    assert part.values.equal(codes.values[:, :, 5:13])
    assert (part.num_samples, part.source_num_samples) == (8 * 320, 8 * 960)
    assert codes.slice(0.3, 0.3 + 0.1 + 0.2).num_frames == 15  # rounds to 0.6000000000000001
    end = codes.slice(2.99, math.inf)
    assert (end.num_frames, end.num_samples, end.source_num_samples) == (2, 420, 1260)
    assert codes.slice(100, 200).num_frames == 0
    assert codes.slice(0, 100) == codes
    for start, stop in ((-0.1, 1), (2, 1), (math.nan, 1), (math.inf, math.inf)):
        with pytest.raises(CodesError, match="are no interval from 0 on"):
            codes.slice(start, stop)


def test_joining_refuses_gaps_and_strangers() -> None:
    codes = make_codes()
    whole, empty = codes.slice(0, 0.06), codes.slice(9, 9)
    assert Codes.concatenate([whole, codes, empty]).values.equal(torch.cat([whole.values, codes.values], dim=2))
    with pytest.raises(CodesError, match="must end on a whole frame, and these have 1000 samples at hop 320"):
        Codes.concatenate([codes, whole])
    with pytest.raises(CodesError, match="no codes to concatenate"):
        Codes.concatenate([])
    for other, name in (
        (replace(codes, token_fingerprint="f" * 64), "token_fingerprint"),
        (make_codes(channels=2), "channels"),
        (codes.prefix(2), "codebook_sizes"),
        (make_codes(source_sample_rate=48000), "source_sample_rate"),
    ):
        with pytest.raises(CodesError, match=f"differ in {name}"):
            Codes.concatenate([whole, other])


def test_many_pieces_of_different_recordings_keep_a_possible_length() -> None:
    """A frame of 200 samples is 551.25 at 44.1 kHz, and each piece has 551: the sum would be 25 short."""
    piece = make_codes(200, hop_length=200, source_sample_rate=44100)
    joined = Codes.concatenate([piece] * 100)
    assert joined.num_samples == 20000
    assert abs(joined.source_num_samples - 55125) <= 44100 / 16000


# ---- the file


@given(codes=any_codes())
@example(codes=make_codes(0))
def test_load_gives_what_was_saved(codes: Codes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "same.vqt"
    codes.save(path)
    assert Codes.load(path) == codes
    assert not list(path.parent.glob("*.partial"))


def test_any_safetensors_reader_opens_the_file(tmp_path: Path) -> None:
    for codes, dtype in ((make_codes(), torch.uint16), (make_codes(sizes=(65537,)), torch.uint32)):
        codes.save(tmp_path / "a.vqt")
        with safe_open(tmp_path / "a.vqt", framework="pt") as file:
            assert file.get_tensor("codes").dtype == dtype
            assert file.get_tensor("codes").long().equal(codes.values)
            facts = json.loads(file.metadata()["vqaudio"])
        assert facts["format"] == "vqaudio codes" and facts["version"] == 1
        assert facts["num_samples"] == 1000 and facts["token_fingerprint"] == FINGERPRINT


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    """A folder to write into, and the bytes of a small code file with padding."""
    folder = tmp_path_factory.mktemp("codes")
    make_codes().save(folder / "good.vqt")
    data = (folder / "good.vqt").read_bytes()
    assert b"}}  " in data  # there is padding to alter
    return folder, data


@given(position=st.integers(0, 10**6), mask=st.integers(1, 255))
def test_one_byte_altered_anywhere_is_refused(saved: tuple[Path, bytes], position: int, mask: int) -> None:
    folder, data = saved
    altered = bytearray(data)
    altered[position % len(data)] ^= mask
    (folder / "altered.vqt").write_bytes(altered)
    with pytest.raises(CodesError, match=r"altered\.vqt"):
        Codes.load(folder / "altered.vqt")


def test_each_byte_in_turn_altered_is_refused(saved: tuple[Path, bytes]) -> None:
    folder, data = saved
    path = folder / "each.vqt"
    for position in range(len(data)):
        for mask in (1, 16):
            path.write_bytes(data[:position] + bytes([data[position] ^ mask]) + data[position + 1 :])
            with pytest.raises(CodesError, match=r"each\.vqt"):
                Codes.load(path)


def test_a_cut_or_an_addition_anywhere_is_refused(saved: tuple[Path, bytes]) -> None:
    folder, data = saved
    path = folder / "cut.vqt"
    for size in range(len(data)):
        path.write_bytes(data[:size])
        with pytest.raises(CodesError, match=r"cut\.vqt: truncated"):
            Codes.load(path)
    path.write_bytes(data + b"\0")
    with pytest.raises(CodesError, match=r"cut\.vqt: altered"):
        Codes.load(path)


def test_foreign_missing_and_newer_files_are_refused_by_name(saved: tuple[Path, bytes], tmp_path: Path) -> None:
    data = saved[1]
    path = tmp_path / "other.vqt"
    save_file({"codes": torch.zeros(1, 3, 4, dtype=torch.uint16)}, path)
    with pytest.raises(CodesError, match=r"other\.vqt: is no code file.*another safetensors file"):
        Codes.load(path)
    path.write_bytes(b"RIFF" + bytes(100))
    with pytest.raises(CodesError, match=r"other\.vqt: is no code file"):
        Codes.load(path)
    path.write_bytes(data.replace(rb"\"version\":1", rb"\"version\":2"))
    with pytest.raises(CodesError, match=r"other\.vqt: has format version 2, and this vqaudio reads up to 1"):
        Codes.load(path)
    path.write_bytes(data.replace(b"vqaudio codes", b"vqaudio store"))
    with pytest.raises(CodesError, match="calls itself 'vqaudio store'"):
        Codes.load(path)
    with pytest.raises(CodesError, match=r"nowhere\.vqt: cannot be opened"):
        Codes.load(tmp_path / "nowhere.vqt")


def test_a_failed_save_leaves_the_old_file(tmp_path: Path) -> None:
    codes = make_codes()
    codes.save(tmp_path / "a.vqt")
    spoilt = make_codes()
    spoilt.values[0, 0, 0] = 99  # a tensor can be changed behind our back
    with pytest.raises(CodesError, match="level 0 holds code 99"):
        spoilt.save(tmp_path / "a.vqt")
    assert Codes.load(tmp_path / "a.vqt") == codes
    with pytest.raises(ValueError, match="no folder"):
        codes.save(tmp_path / "none" / "a.vqt")
    with pytest.raises(ValueError, match="is a folder"):
        codes.save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["a.vqt"]


def test_seconds_of_numpy_are_seconds() -> None:
    codes = tiny_tokenizer("rvq-projected").encode(noise(1, 16_000), 1_600)
    for kind in (np.int64, np.int32, np.float32, np.float64):
        part = codes.slice(kind(1), kind(3))
        assert part == codes.slice(1, 3) and type(part.num_samples) is int
