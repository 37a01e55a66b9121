"""The promise of the package in one test: however a recording is fed, it has the same codes, and they the same sound.

Alone or among neighbours, whole, in chunks, pushed into a session, as an excerpt, with any number of threads and
workers, inside autocast or not: codes and audio are equal byte for byte. Only shorter blocks, which trade that for
latency, may differ: codes then by near-ties, audio by 1e-5.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from tests.tiny import KINDS, noise, tiny_tokenizer
from vqaudio import AudioTokenizer, Codes, read_audio
from vqaudio.doctor import compare
from vqaudio.dsp import resample
from vqaudio.engine import BLOCK_FRAMES
from vqaudio.shipped import shipped_models

SAMPLES = Path(__file__).resolve().parent.parent / "samples"
# What every version keeps is in tests/test_shipped.py. Laws take long, and are about networks: these are all there are.
SHIPPED = sorted({path.name for name, path in shipped_models().items() if name != path.name} | {"speech-16k-v2"})


def tokenizer_of(name: str, cache: dict[str, AudioTokenizer] = {}) -> AudioTokenizer:  # noqa: B006 (a cache)
    if name not in cache:
        cache[name] = tiny_tokenizer(name) if name in KINDS else AudioTokenizer.from_pretrained(name)
    return cache[name]


def recording(tokenizer: AudioTokenizer, num_samples: int) -> Tensor:
    """Speech for models that were trained, noise for the others: (1, T) at the model's rate."""
    if tokenizer.info.name.startswith("tiny"):
        return noise(1, num_samples)
    clips = [read_audio(SAMPLES / f"{name}.flac") for name in ("english-1", "english-2")]
    speech = torch.cat([resample(audio, rate, tokenizer.sample_rate) for audio, rate in clips], dim=1)
    return speech[:, :num_samples]


@dataclass(frozen=True)
class Way:
    """How a recording is fed."""

    threads: int
    workers: int | None
    autocast: bool

    @contextmanager
    def taken(self) -> Iterator[None]:
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.autocast):
                yield
        finally:
            torch.set_num_threads(before)


ways = st.builds(Way, threads=st.integers(1, 2), workers=st.none() | st.integers(1, 3), autocast=st.booleans())


@st.composite
def pieces(draw: st.DrawFn, total: int) -> list[tuple[int, int]]:
    inner = sorted(draw(st.lists(st.integers(0, total), max_size=5)))
    return list(pairwise([0, *inner, total]))


@pytest.mark.parametrize(("name", "examples"), [(kind, 12) for kind in KINDS] + [(model, 4) for model in SHIPPED])
def test_however_it_is_fed_a_recording_has_the_same_codes(name: str, examples: int) -> None:
    tokenizer = tokenizer_of(name)
    most = round(2.6 * BLOCK_FRAMES) * tokenizer.hop_length

    @settings(max_examples=examples)
    @given(data=st.data(), num_samples=st.integers(1, most), way=ways)
    def law(data: st.DataObject, num_samples: int, way: Way) -> None:
        audio = recording(tokenizer, num_samples)
        codes = tokenizer.encode(audio, workers=1)
        sound = tokenizer.decode(codes, workers=1)
        neighbours = [
            recording(tokenizer, data.draw(st.integers(0, most))) for _ in range(data.draw(st.integers(0, 2)))
        ]
        place = data.draw(st.integers(0, len(neighbours)))
        frames = sorted(data.draw(st.tuples(*[st.integers(0, codes.num_frames)] * 2)))
        start, end = (Fraction(frame) / codes.frame_rate for frame in frames)
        with way.taken():
            assert tokenizer.encode(audio, workers=way.workers) == codes
            assert torch.equal(tokenizer.decode(codes, workers=way.workers), sound)

            batch = [*neighbours[:place], audio, *neighbours[place:]]
            together = tokenizer.encode_batch(batch, workers=way.workers)
            assert together[place] == codes
            assert torch.equal(tokenizer.decode_batch(together, workers=way.workers)[place], sound)

            excerpt = tokenizer.encode(audio, start=start, end=end, workers=way.workers)
            assert excerpt == codes.slice(start, end)
            cut = slice(frames[0] * codes.hop_length, frames[1] * codes.hop_length)
            assert torch.equal(tokenizer.decode(codes, start=start, end=end, workers=way.workers), sound[:, cut])

            session = tokenizer.session()
            parts = [session.push(audio[:, a:b]) for a, b in data.draw(pieces(num_samples))]
            assert Codes.concatenate([*parts, session.finish()]) == codes
            decoding = tokenizer.decoding_session()
            heard = [decoding.push(codes.values[..., a:b]) for a, b in data.draw(pieces(codes.num_frames))]
            assert torch.equal(torch.cat([*heard, decoding.finish()], dim=1)[:, :num_samples], sound)

    law()


@pytest.mark.parametrize("name", [*KINDS, *SHIPPED])
@pytest.mark.parametrize("block_frames", [1, 7])
def test_shorter_blocks_differ_by_near_ties_at_most(name: str, block_frames: int) -> None:
    tokenizer = tokenizer_of(name)
    audio = recording(tokenizer, 500 * tokenizer.hop_length + 3)
    codes = tokenizer.encode(audio)
    session = tokenizer.session(block_frames=block_frames)
    live = Codes.concatenate([session.push(audio), session.finish()])
    difference = compare(tokenizer.codec, audio, live.values, codes.values)
    assert difference.explained, str(difference)
    assert difference.differing < 0.02 * difference.frames

    decoding = tokenizer.decoding_session(block_frames=block_frames)
    sound = torch.cat([decoding.push(codes), decoding.finish()], dim=1)
    if tokenizer.codec.config.output == "mu_law":  # near-ties between two classes may fall either way
        assert (sound != tokenizer.decode(codes)).double().mean() < 0.01
    else:
        torch.testing.assert_close(sound, tokenizer.decode(codes), atol=1e-5, rtol=1e-5)
