"""Raw samples: bytes <-> floats in every encoding, and the WAV headers of streams; soundfile is the judge."""

import io
import struct
from collections.abc import Iterator

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, strategies as st
from torch import Tensor

from vqaudio.containers import PLACEHOLDER_SIZES, AudioError
from vqaudio.io import read_audio
from vqaudio.pcm import ENCODINGS, PcmFormat, read_wav_header, to_bytes, to_floats, wav_header

BITS = {"u8": 8, "s16le": 16, "s24le": 24, "s32le": 32}  # of the integers
SUBTYPES = {"u8": "PCM_U8", "s16le": "PCM_16", "s24le": "PCM_24", "s32le": "PCM_32", "f32le": "FLOAT"}

every_encoding = pytest.mark.parametrize("encoding", SUBTYPES)
every_integer = pytest.mark.parametrize("encoding", BITS)
shapes = st.tuples(st.integers(1, 5), st.integers(0, 40))  # C, T
seeds = st.integers(0, 999)


def form_of(encoding: str, channels: int = 1, rate: int = 1_600) -> PcmFormat:
    return PcmFormat(encoding, rate, channels)


def uniform(shape: tuple[int, int], seed: int, most: float = 1.0) -> Tensor:
    """(C, T) in [-most, most], with the ends, the middle and the smallest steps among them."""
    audio = most * (2 * torch.rand(shape, generator=torch.Generator().manual_seed(seed)) - 1)
    ends = torch.tensor([most, -most, 0.0, -0.0, 2**-8, 2**-16, -(2**-24), 2**-32])
    audio.flatten()[: len(ends)] = ends[: audio.numel()]
    return audio


def test_every_encoding_is_tested() -> None:
    assert set(SUBTYPES) == set(ENCODINGS)


# ---- bytes <-> floats


@every_integer
@given(shape=shapes, seed=seeds)
def test_floats_come_back_within_half_a_step(encoding: str, shape: tuple[int, int], seed: int) -> None:
    audio, form, step = uniform(shape, seed), form_of(encoding, shape[0]), 2.0 ** (1 - BITS[encoding])
    data, num_clipped = to_bytes(audio, form)
    assert (len(data), num_clipped) == (audio.numel() * BITS[encoding] // 8, 0)
    back = to_floats(data, form)
    assert back.dtype == torch.float32 and back.shape == audio.shape
    # Integers reach to one step below +1.
    bound = torch.where(audio > 1 - step / 2, step, step / 2)
    assert ((back.double() - audio.double()).abs() <= bound).all()


@given(shape=shapes, seed=seeds, most=st.sampled_from([1.0, 1e-30, 1e30]))
def test_floats_as_floats_come_back_exactly(shape: tuple[int, int], seed: int, most: float) -> None:
    audio, form = uniform(shape, seed, most), form_of("f32le", shape[0])
    data, num_clipped = to_bytes(audio, form)
    assert num_clipped == 0
    assert data == struct.pack(f"<{audio.numel()}f", *audio.T.flatten().tolist())
    assert torch.equal(to_floats(data, form), audio)


@pytest.mark.parametrize("encoding", ["u8", "s16le", "s24le"])
@given(data=st.binary(max_size=240), channels=st.integers(1, 5))
def test_bytes_come_back_exactly(encoding: str, data: bytes, channels: int) -> None:
    form = form_of(encoding, channels)
    data = data[: len(data) - len(data) % form.frame_bytes]
    assert to_bytes(to_floats(data, form), form) == (data, 0)


@given(steps=st.lists(st.integers(-(2**31), 2**31 - 1), max_size=40))
def test_of_32_bits_come_back_those_that_a_float_holds(steps: list[int]) -> None:
    given = np.array(steps, "<i4")
    nearest = given.astype(np.float32).astype(np.int64).clip(-(2**31), 2**31 - 1)
    back = to_bytes(to_floats(given.tobytes(), form_of("s32le")), form_of("s32le"))[0]
    assert np.frombuffer(back, "<i4").tolist() == nearest.tolist()


@every_encoding
def test_channels_are_interleaved(encoding: str) -> None:
    form = form_of(encoding, 2)
    data, _ = to_bytes(torch.tensor([[0.5, 0.25, 0.0], [-0.5, -0.25, -1.0]]), form)
    left, right = (to_bytes(torch.tensor([row]), form_of(encoding))[0] for row in ([0.5, 0.25, 0], [-0.5, -0.25, -1]))
    width = form.frame_bytes // 2
    mixed = [side[at : at + width] for at in range(0, 3 * width, width) for side in (left, right)]
    assert data == b"".join(mixed)


@pytest.mark.parametrize(
    ("encoding", "least", "half", "most"),
    [
        ("u8", "00", "c0", "ff"),
        ("s16le", "0080", "0040", "ff7f"),
        ("s24le", "000080", "000040", "ffff7f"),
        ("s32le", "00000080", "00000040", "ffffff7f"),
    ],
)
def test_samples_beyond_full_scale_are_clipped_and_counted(encoding: str, least: str, half: str, most: str) -> None:
    audio = torch.tensor([[-1.0, -1.001, -9.0, 0.5], [1.0, 1.001, 1e30, 0.5]])
    data, num_clipped = to_bytes(audio, form_of(encoding, 2))
    assert data == bytes.fromhex((least + most) * 3 + half * 2)
    assert num_clipped == 4


@pytest.mark.parametrize(("steps", "expected"), [(0.49, 0), (0.51, 1), (-0.49, 0), (-0.51, -1), (1.5, 2), (-2.5, -2)])
def test_rounding_is_to_the_nearest_step(steps: float, expected: int) -> None:
    data, _ = to_bytes(torch.tensor([[steps / 2**15]]), form_of("s16le"))
    assert int.from_bytes(data, "little", signed=True) == expected


@pytest.mark.parametrize("encoding", [*BITS, "f32le"])
def test_floats_do_not_share_the_bytes(encoding: str) -> None:
    form = form_of(encoding)
    data = to_bytes(uniform((1, 12), 0), form)[0]
    before = bytes(bytearray(data))
    to_floats(data, form).fill_(0.25)
    assert data == before


# ---- soundfile as the judge


def written_by_soundfile(audio: Tensor, form: PcmFormat, kind: str = "WAV") -> bytes:
    """A WAV of the samples, rounded here: libsndfile rounds down."""
    samples = audio.T.numpy()
    if form.encoding != "f32le":
        bits = BITS[form.encoding]
        steps = np.rint(samples.astype(np.float64) * 2 ** (bits - 1)).clip(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        samples = steps.astype(np.int32) << (32 - bits)
    file = io.BytesIO()
    soundfile.write(file, samples, form.sample_rate, SUBTYPES[form.encoding], format=kind)
    return file.getvalue()


def opened(data: bytes) -> tuple[PcmFormat, int | None, bytes]:
    """What a WAV's header says, and all that follows it."""
    assert data[:4] == b"RIFF"
    file = io.BytesIO(data[4:])
    form, size = read_wav_header(file, "NAME")
    return form, size, file.read()


@every_encoding
@given(shape=shapes, seed=seeds, kind=st.sampled_from(["WAV", "WAVEX"]), rate=st.sampled_from([1_600, 44_100, 192_000]))
def test_what_soundfile_writes_is_read(encoding: str, shape: tuple[int, int], seed: int, kind: str, rate: int) -> None:
    audio, form = uniform(shape, seed), form_of(encoding, shape[0], rate)
    whole = written_by_soundfile(audio, form, kind)
    found, size, rest = opened(whole)
    data, _ = to_bytes(audio, form)
    assert found == form
    assert size == (len(data) or None)  # nothing: a placeholder too
    assert rest[: len(data)] == data
    samples, _ = soundfile.read(io.BytesIO(whole), dtype="float32", always_2d=True)
    assert np.array_equal(to_floats(data, form).numpy(), samples.T)


@every_encoding
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_what_is_written_others_read(encoding: str, channels: int) -> None:
    form = form_of(encoding, channels, 44_100)
    data, _ = to_bytes(uniform((channels, 50), 3), form)
    whole = wav_header(form) + data
    assert opened(whole) == (form, None, data)
    info = soundfile.info(io.BytesIO(whole))
    assert (info.subtype, info.samplerate, info.channels, info.frames) == (SUBTYPES[encoding], 44_100, channels, 50)
    samples, rate = read_audio(io.BytesIO(whole))
    assert rate == 44_100 and torch.equal(samples, to_floats(data, form))


# ---- headers


def chunk(kind: bytes, data: bytes, size: int | None = None) -> bytes:
    size = len(data) if size is None else size
    return kind + size.to_bytes(4, "little") + data + b"\0" * (len(data) % 2)


def fmt(tag: int = 1, channels: int = 2, rate: int = 8_000, bits: int = 16, more: bytes = b"") -> bytes:
    width = channels * bits // 8
    return chunk(b"fmt ", struct.pack("<HHIIHH", tag, channels, rate, rate * width, width, bits) + more)


def wav(*chunks: bytes) -> bytes:
    return b"RIFF\x24\0\0\0WAVE" + b"".join(chunks)


@given(
    before=st.lists(st.tuples(st.sampled_from([b"LIST", b"JUNK", b"bext"]), st.binary(max_size=30)), max_size=3),
    between=st.lists(st.tuples(st.sampled_from([b"fact", b"PEAK", b"LIST"]), st.binary(max_size=30)), max_size=3),
)
def test_other_chunks_are_passed_over(before: list[tuple[bytes, bytes]], between: list[tuple[bytes, bytes]]) -> None:
    chunks = [chunk(*each) for each in before], [chunk(*each) for each in between]
    data = wav(*chunks[0], fmt(), *chunks[1], chunk(b"data", b"abcdefgh"), chunk(b"LIST", b"later"))
    form, size, rest = opened(data)
    assert (form, size, rest[:8]) == (PcmFormat("s16le", 8_000, 2), 8, b"abcdefgh")


@pytest.mark.parametrize(("tag", "bits", "encoding"), [(1, 24, "s24le"), (1, 8, "u8"), (3, 32, "f32le")])
def test_extensible_headers_name_the_encoding_in_their_sub_format(tag: int, bits: int, encoding: str) -> None:
    guid = tag.to_bytes(2, "little") + bytes.fromhex("000000001000800000aa00389b71")
    more = struct.pack("<HHI", 22, bits, 3) + guid
    assert opened(wav(fmt(0xFFFE, bits=bits, more=more), chunk(b"data", b"", 24)))[0].encoding == encoding


@pytest.mark.parametrize("size", [*sorted(PLACEHOLDER_SIZES), 0x7FFFFFF0, 0xFFFFFFF0])
def test_placeholder_sizes_mean_until_the_end(size: int) -> None:
    assert opened(wav(fmt(), chunk(b"data", b"", size)))[1] is None


def truncations() -> Iterator[bytes]:
    whole = wav(chunk(b"LIST", b"odd"), fmt(), chunk(b"fact", b"1234"), chunk(b"data", b"", 8))
    yield from (whole[4:length] for length in range(4, len(whole)))


def test_a_header_cut_off_anywhere_is_refused_by_name() -> None:
    for data in truncations():
        with pytest.raises(AudioError, match=r"^NAME: (ends within its WAV header|begins like a WAV file)"):
            read_wav_header(io.BytesIO(data), "NAME")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"RIFF\x24\0\0\0AVI " + fmt(), "begins like a WAV file, and goes on otherwise"),
        (wav(chunk(b"data", b"12345678"), fmt()), "ends within its WAV header"),
        (wav(chunk(b"fmt ", bytes(8))), "ends within its WAV header"),
        (wav(fmt(tag=2, bits=4)), "a WAV of format 2 with 4 bits, 2 channels at 8000 Hz; read are u8, s16le"),
        (wav(fmt(tag=3, bits=64)), "a WAV of format 3 with 64 bits"),
        (wav(fmt(tag=3, bits=16)), "a WAV of format 3 with 16 bits"),
        (wav(fmt(bits=20)), "a WAV of format 1 with 20 bits"),
        (wav(fmt(tag=0xFFFE)), "a WAV of format 65534"),
        (wav(fmt(channels=0)), "0 channels"),
        (wav(fmt(rate=0)), "at 0 Hz"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_foreign_headers_are_refused_by_name(data: bytes, expected: str) -> None:
    with pytest.raises(AudioError, match=f"^NAME: .*{expected}"):
        read_wav_header(io.BytesIO(data[4:] + chunk(b"data", b"", 8) * (b"data" not in data)), "NAME")
