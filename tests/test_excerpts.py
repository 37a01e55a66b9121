"""Excerpts: a part of a recording has the codes and the sound that it has in the whole; no more is read or computed."""

import copy
import io
import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings, strategies as st

from tests.tiny import HOP, KINDS, SAMPLE_RATE, noise, tiny_codec, tiny_tokenizer
from vqaudio import AudioTokenizer, CodesError
from vqaudio.codes import exact
from vqaudio.engine import BLOCK_FRAMES
from vqaudio.io import write_audio

every_kind = pytest.mark.parametrize("kind", KINDS)
RATES = st.sampled_from([SAMPLE_RATE, 4_410, 1_000])
LONG = 5 * BLOCK_FRAMES * HOP
# Of the recording's duration, mostly inside it; as floats and as fractions.
PARTS = st.floats(0, 1.2, allow_nan=False) | st.fractions(0, 1, max_denominator=1000)
LENGTHS = st.integers(0, 2 * HOP) | st.integers(LONG // 2, LONG)  # at the model's rate


@every_kind
@settings(max_examples=12)
@given(num_samples=LENGTHS, rate=RATES, parts=st.tuples(PARTS, PARTS), workers=st.integers(1, 2))
def test_codes_of_an_excerpt_are_a_slice_of_the_whole(
    kind: str, num_samples: int, rate: int, parts: tuple[Any, Any], workers: int
) -> None:
    num_samples = num_samples * rate // SAMPLE_RATE
    tokenizer, audio = tiny_tokenizer(kind), noise(2, num_samples)
    start, end = (part * num_samples / rate for part in sorted(parts))
    whole = tokenizer.encode(audio, rate, channels="keep")
    assert tokenizer.encode(audio, rate, channels="keep", start=start, end=end, workers=workers) == whole.slice(
        start, end
    )
    assert tokenizer.encode(audio, rate, channels="keep", start=start) == whole.slice(start, math.inf)


@every_kind
@settings(max_examples=12)
@given(
    num_samples=LENGTHS,
    rate=RATES,
    out=st.sampled_from([None, "source", 3_200]),
    parts=st.tuples(PARTS, PARTS, PARTS),
)
def test_sound_of_excerpts_is_cut_from_the_whole(
    kind: str, num_samples: int, rate: int, out: Any, parts: tuple[Any, Any, Any]
) -> None:
    num_samples = num_samples * rate // SAMPLE_RATE
    tokenizer = tiny_tokenizer(kind)
    codes = tokenizer.encode(noise(1, num_samples), rate)
    whole = tokenizer.decode(codes, sample_rate=out)
    start, middle, end = (part * num_samples / rate for part in sorted(parts))
    first, last = (
        min(math.ceil(exact(time) * tokenizer.output_rate(codes, out)), whole.shape[1]) for time in (start, end)
    )
    assert torch.equal(tokenizer.decode(codes, sample_rate=out, start=start, end=end), whole[:, first:last])
    pair = [tokenizer.decode(codes, sample_rate=out, start=a, end=b) for a, b in ((start, middle), (middle, end))]
    assert torch.equal(torch.cat(pair, dim=1), whole[:, first:last]), "neighbours tile"


@pytest.mark.parametrize("times", [(-1, 2), (3, 2), (math.inf, math.inf)])
def test_intervals_that_are_none_are_refused(times: tuple[float, float]) -> None:
    tokenizer, audio = tiny_tokenizer("fsq"), noise(1, 5_000)
    codes = tokenizer.encode(audio)
    for call in (lambda **t: tokenizer.encode(audio, **t), lambda **t: tokenizer.decode(codes, **t)):
        with pytest.raises(CodesError, match="are no interval from 0 on"):
            call(start=times[0], end=times[1])


# ---- what is read


class Counting(io.BytesIO):
    """Knows which of its bytes were read, and how often."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.num_read = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.num_read += len(data)
        return data

    def readinto(self, buffer: Any, /) -> int:
        num = super().readinto(buffer)
        self.num_read += num
        return num


@pytest.mark.parametrize("rate", [SAMPLE_RATE, 4_410])
@pytest.mark.parametrize("extension", [".wav", ".flac"])
def test_no_more_of_a_file_is_read_than_the_excerpt_depends_on(tmp_path: Path, rate: int, extension: str) -> None:
    tokenizer = tiny_tokenizer("rvq-projected")
    seconds = 600
    write_audio(tmp_path / f"long{extension}", noise(1, seconds * rate), rate)
    data = (tmp_path / f"long{extension}").read_bytes()
    file = Counting(data)
    start, end = Fraction(400), Fraction(405)
    excerpt = tokenizer.encode(file, start=start, end=end)
    assert excerpt == tokenizer.encode(io.BytesIO(data)).slice(start, end)
    block = float(BLOCK_FRAMES / tokenizer.frame_rate)  # 2.5 s: one to warm up, and the rest of the first
    needed = (float(end - start) + 2 * block + 1) / seconds * len(data)
    headers = 3 * 65_536  # read by libsndfile, twice, and its search for FLAC's frames
    assert file.num_read < needed + headers
    assert file.num_read < 0.2 * len(data)


@pytest.mark.parametrize("extension", [".mp3", ".ogg", ".opus"])
def test_formats_that_cannot_be_entered_are_read_from_the_start_and_exact(tmp_path: Path, extension: str) -> None:
    tokenizer, rate = AudioTokenizer(tiny_codec("fsq"), tiny_tokenizer("fsq").info), 16_000
    path = tmp_path / f"a{extension}"
    write_audio(path, noise(1, 12 * rate), rate)
    whole = tokenizer.encode(path)
    for start, end in ((0, 1), (Fraction(7, 3), 5), (11, 30)):
        assert tokenizer.encode(path, start=start, end=end) == whole.slice(start, end)


# ---- what is computed


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("start", [0, 1, 2, 7, 12])  # blocks
@pytest.mark.parametrize("num_frames", [1, BLOCK_FRAMES - 7, BLOCK_FRAMES, 3 * BLOCK_FRAMES])  # one ends with a block
def test_no_more_is_computed_than_the_excerpt_and_its_warm_up(
    workers: int, start: int, num_frames: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vqaudio.engine import sides

    codec = copy.deepcopy(tiny_codec("rvq-projected"))
    tokenizer = AudioTokenizer(codec, tiny_tokenizer("rvq-projected").info)
    audio = noise(1, 20 * BLOCK_FRAMES * HOP)
    codes = tokenizer.encode(audio)
    seen: list[tuple[str, int]] = []
    original = sides._OneByOne.__call__

    def counted(self: Any, blocks: Any, streams: Any) -> Any:
        seen.extend((self.side.direction, block.index) for block in blocks)
        return original(self, blocks, streams)

    monkeypatch.setattr(sides._OneByOne, "__call__", counted)
    first = start * BLOCK_FRAMES + 5
    times = {"start": first / codec.frame_rate, "end": (first + num_frames) / codec.frame_rate}
    tokenizer.encode(audio, **times, workers=workers)
    tokenizer.decode(codes, **times, workers=workers)
    for direction, delay in (("encode", codec.encoder_delay_frames), ("decode", codec.decoder_delay_frames)):
        warm_up = sides.Side(codec, direction).grid.warm_up  # type: ignore[arg-type]
        needed = range(
            max(0, (first + delay) // BLOCK_FRAMES - warm_up), (first + num_frames - 1 + delay) // BLOCK_FRAMES + 1
        )
        own = [index for side, index in seen if side == direction]
        assert set(own) == set(needed)
        assert len(own) <= len(needed) + (workers - 1) * warm_up, "more than what starting apart repeats"
