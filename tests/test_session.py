"""Sessions: pushed in any sizes they give what files give; in time; and their state is data."""

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from tests.tiny import HOP, KINDS, SAMPLE_RATE, noise, save_tiny, tiny_tokenizer
from vqaudio import AudioTokenizer, Codes, CodesError, SessionError, push_together
from vqaudio.io import AudioError
from vqaudio.session import DecodingSession, Session

every_kind = pytest.mark.parametrize("kind", KINDS)
RATES = st.sampled_from([SAMPLE_RATE, 4_410, 1_000])
LONG = 3 * 200 * HOP  # of the source, some blocks at any of the rates


@st.composite
def cuts(draw: st.DrawFn, total: int) -> list[tuple[int, int]]:
    """A range in pieces, some of them empty."""
    inner = sorted(draw(st.lists(st.integers(0, total), max_size=6)))
    return list(pairwise([0, *inner, total]))


def pushed(session: Any, whole: Tensor, pieces: list[tuple[int, int]]) -> list[Any]:
    return [*(session.push(whole[..., start:stop]) for start, stop in pieces), session.finish()]


# ---- the same as files


@every_kind
@settings(max_examples=12)
@given(data=st.data(), num_samples=st.integers(1, LONG), rate=RATES, channels=st.integers(1, 2))
def test_pushed_in_any_sizes_the_codes_are_those_of_the_whole(
    kind: str, data: st.DataObject, num_samples: int, rate: int, channels: int
) -> None:
    tokenizer, audio = tiny_tokenizer(kind), noise(channels, num_samples)
    parts = pushed(tokenizer.session(rate, channels="keep"), audio, data.draw(cuts(num_samples)))
    assert Codes.concatenate(parts) == tokenizer.encode(audio, rate, channels="keep")


@every_kind
@settings(max_examples=12)
@given(data=st.data(), num_samples=st.integers(1, LONG), rate=RATES, out=st.sampled_from([None, "source", 3_200]))
def test_pushed_in_any_sizes_the_audio_is_that_of_the_whole(
    kind: str, data: st.DataObject, num_samples: int, rate: int, out: Any
) -> None:
    tokenizer = tiny_tokenizer(kind)
    codes = tokenizer.encode(noise(1, num_samples), rate)
    pieces = data.draw(cuts(codes.num_frames))
    session = tokenizer.decoding_session(out)
    parts = [session.push(_frames(codes, start, stop)) for start, stop in pieces]
    assert torch.equal(torch.cat([*parts, session.finish()], dim=1), tokenizer.decode(codes, sample_rate=out))


def _frames(codes: Codes, start: int, stop: int) -> Codes:
    from fractions import Fraction

    return codes.slice(Fraction(start) / codes.frame_rate, Fraction(stop) / codes.frame_rate)


def test_channels_are_mixed_as_encode_mixes_them() -> None:
    tokenizer, audio = tiny_tokenizer("rvq-projected"), noise(2, 5_000)
    parts = pushed(tokenizer.session(4_410), audio, [(0, 1_000), (1_000, 5_000)])
    assert Codes.concatenate(parts) == tokenizer.encode(audio, 4_410)


def test_fewer_codebooks() -> None:
    tokenizer, audio = tiny_tokenizer("rvq-projected"), noise(1, 2_000)
    parts = pushed(tokenizer.session(num_codebooks=2), audio, [(0, 2_000)])
    assert Codes.concatenate(parts) == tokenizer.encode(audio, num_codebooks=2)
    (sound, rest) = pushed(tokenizer.decoding_session(), parts[-1].values, [(0, parts[-1].num_frames)])
    assert torch.equal(torch.cat([sound, rest], dim=1), tokenizer.decode(parts[-1]))


def test_chunks_may_be_what_encode_takes() -> None:
    tokenizer, audio = tiny_tokenizer("fsq"), noise(1, 900).clamp(-1, 0.99)
    steps = (audio * 2**15).round().to(torch.int16)
    session = tokenizer.session()
    parts = [session.push(steps[:, :300].numpy()), session.push(steps[0, 300:].to(torch.float64) / 2**15)]
    assert Codes.concatenate([*parts, session.finish()]) == tokenizer.encode(steps)


def test_codes_as_tensors_are_whole_frames() -> None:
    tokenizer = tiny_tokenizer("rvq-projected")
    values = tokenizer.encode(noise(1, 300 * HOP)).values
    session = tokenizer.decoding_session()
    sound = [session.push(values[0, :, :100]), session.push(values[..., 100:]), session.finish()]
    assert torch.equal(torch.cat(sound, dim=1), tokenizer.decode(tokenizer.encode(noise(1, 300 * HOP))))


@pytest.mark.parametrize("rate", [SAMPLE_RATE, 4_410])
def test_nothing_in_nothing_out(rate: int) -> None:
    tokenizer = tiny_tokenizer("rvq-projected")
    empty = tokenizer.session(rate).finish()
    assert (empty.num_frames, empty.num_samples, empty.source_num_samples) == (0, 0, 0)
    session = tokenizer.session(rate, channels="keep")
    assert session.push(np.zeros((2, 0), np.float32)).values.shape == (2, 3, 0)
    assert session.finish().values.shape == (2, 3, 0)
    assert tokenizer.decoding_session().finish().shape == (1, 0)
    decoding = tokenizer.decoding_session("source")
    assert decoding.push(empty).shape == (1, 0)
    assert decoding.finish().shape == (1, 0)


# ---- in time


@every_kind
@settings(max_examples=10)
@given(data=st.data(), rate=RATES, block=st.sampled_from([1, 3, 200]), num_samples=st.integers(1, LONG))
def test_frames_come_out_within_the_latency(
    kind: str, data: st.DataObject, rate: int, block: int, num_samples: int
) -> None:
    tokenizer, audio = tiny_tokenizer(kind), noise(1, num_samples)
    session = tokenizer.session(rate, block_frames=block)
    delay = tokenizer.codec.encoder_delay_frames
    expected = float((block + delay) / tokenizer.frame_rate) + session._resampler.delay_samples / rate
    assert session.latency_seconds == pytest.approx(expected)
    frames = 0
    for start, stop in data.draw(cuts(num_samples)):
        frames += session.push(audio[:, start:stop]).num_frames
        assert frames >= math.floor((stop / rate - session.latency_seconds) * tokenizer.frame_rate)


@every_kind
@given(block=st.sampled_from([1, 3]), sizes=st.lists(st.integers(0, 9), max_size=8))
def test_samples_come_out_within_the_latency(kind: str, block: int, sizes: list[int]) -> None:
    tokenizer = tiny_tokenizer(kind)
    session = tokenizer.decoding_session(block_frames=block)
    frames = samples = 0
    for size in sizes:
        samples += session.push(torch.zeros(1, tokenizer.num_codebooks, size, dtype=torch.int64)).shape[1]
        frames += size
        assert samples >= math.floor((frames / tokenizer.frame_rate - session.latency_seconds) * SAMPLE_RATE)


# ---- the state


@every_kind
@pytest.mark.parametrize("how", ["copied", "saved"])
def test_a_session_goes_on_elsewhere(kind: str, how: str, tmp_path: Path) -> None:
    """Copied in the middle, or written to a file and taken up by a tokenizer loaded anew; the first one goes on too."""
    tokenizer = tiny_tokenizer(kind)
    other = AudioTokenizer.from_pretrained(save_tiny(kind, tmp_path / "model"))
    audio, rate = noise(2, LONG), 4_410
    session = tokenizer.session(rate, channels="keep", block_frames=7)
    head = session.push(audio[:, :5_555])
    twin = _moved(session, other, how, tmp_path / "state")
    codes = []
    for each in (session, twin):
        codes.append(Codes.concatenate([head, each.push(audio[:, 5_555:]), each.finish()]))
    assert codes[0] == codes[1]

    decoding = tokenizer.decoding_session("source", block_frames=7)
    start = decoding.push(_frames(codes[0], 0, 50))
    pair = (decoding, _moved(decoding, other, how, tmp_path / "state"))
    rest = _frames(codes[0], 50, codes[0].num_frames)
    sound = [torch.cat([start, each.push(rest), each.finish()], dim=1) for each in pair]
    assert torch.equal(sound[0], sound[1])
    assert sound[0].shape[1] == LONG


def _moved(session: Any, tokenizer: AudioTokenizer, how: str, path: Path) -> Any:
    if how == "copied":
        return session.copy()
    session.save(path)
    return tokenizer.resume_session(path)


def test_a_finished_session_stays_finished(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer("fsq")
    session = tokenizer.session()
    session.push(noise(1, 100))
    session.finish()
    session.save(tmp_path / "state")
    for each in (session, session.copy(), tokenizer.resume_session(tmp_path / "state")):
        with pytest.raises(SessionError, match="this session is finished; open another one"):
            each.push(noise(1, 1))
        with pytest.raises(SessionError, match="finished"):
            each.finish()


def test_files_of_sessions_are_checked(tmp_path: Path) -> None:
    tokenizer, path = tiny_tokenizer("rvq-projected"), tmp_path / "state"
    session = tokenizer.session(block_frames=2)
    session.push(noise(1, 999))
    session.save(path)
    data = path.read_bytes()
    with pytest.raises(SessionError, match=r"state: is a session of another model than tiny-fsq"):
        tiny_tokenizer("fsq").resume_session(path)
    for wrong, message in (
        (b"", "is no session"),
        (b"RIFF" + data[4:], "is no session"),
        (data[:-5], "is no session of vqaudio, or damaged"),
        (data[:-1] + bytes([data[-1] ^ 1]), "altered since it was written"),
        (data.replace(b'block_frames\\": 2', b'block_frames\\": 3'), "altered since it was written"),
        (data.replace(b'version\\": 1', b'version\\": 2'), "format version 2; this vqaudio reads 1"),
    ):
        assert wrong != data
        path.write_bytes(wrong)
        with pytest.raises(SessionError, match=message) as error:
            tokenizer.resume_session(path)
        assert str(path) in str(error.value)
    with pytest.raises(SessionError, match="cannot be opened"):
        tokenizer.resume_session(tmp_path / "nothing")


def test_a_decoding_session_belongs_to_its_decoder(tmp_path: Path) -> None:
    """The encoder's state fits any model with the same tokens, the decoder's only the same weights."""
    from vqaudio.checkpoint import load_codec, save_codec

    tokenizer = tiny_tokenizer("rvq-projected")
    codec, _ = load_codec(save_tiny("rvq-projected", tmp_path / "model"))
    codec.decoder.layers[0].conv.weight.data.mul_(1.1)  # type: ignore[union-attr]
    save_codec(codec, tmp_path / "finetuned", name="finetuned", about={}, card="")
    finetuned = AudioTokenizer.from_pretrained(tmp_path / "finetuned")
    encoding, decoding = tokenizer.session(), tokenizer.decoding_session()
    encoding.save(tmp_path / "encoding")
    decoding.save(tmp_path / "decoding")
    assert isinstance(finetuned.resume_session(tmp_path / "encoding"), Session)
    with pytest.raises(SessionError, match="another model than finetuned"):
        finetuned.resume_session(tmp_path / "decoding")
    assert isinstance(tokenizer.resume_session(tmp_path / "decoding"), DecodingSession)


# ---- many sessions


@every_kind
def test_interleaved_sessions_do_not_meet(kind: str) -> None:
    tokenizer = tiny_tokenizer(kind)
    audios = [noise(1, LONG, seed) for seed in range(2)]
    sessions = [tokenizer.session() for _ in audios]
    parts: list[list[Codes]] = [[], []]
    for start in range(0, LONG, 1_111):
        for session, own, audio in zip(sessions, parts, audios, strict=True):
            own.append(session.push(audio[:, start : start + 1_111]))
    for session, own, audio in zip(sessions, parts, audios, strict=True):
        assert Codes.concatenate([*own, session.finish()]) == tokenizer.encode(audio)


@settings(max_examples=5)
@given(data=st.data(), workers=st.integers(1, 3))
def test_sessions_pushed_together_do_not_meet(data: st.DataObject, workers: int) -> None:
    """Of different models, rates and block sizes, encoding and decoding, a chunk each."""
    first, second = tiny_tokenizer("rvq-projected"), tiny_tokenizer("fsq")
    codes = second.encode(noise(1, 1_000))
    sessions: list[Any] = [
        first.session(block_frames=3),
        first.session(4_410, block_frames=3),
        first.session(block_frames=3),
        second.session(block_frames=3, channels="keep"),
        second.decoding_session(block_frames=3),
    ]
    wholes = [noise(1, 1_000, 1), noise(1, 1_000, 2), noise(1, 1_000, 3), noise(2, 1_000, 4), codes.values]
    alone = [session.copy() for session in sessions]
    pieces = [data.draw(cuts(whole.shape[-1])) for whole in wholes]
    for number in range(6):
        chunks = [
            whole[..., slice(*own[number])] if number < len(own) else whole[..., :0]
            for whole, own in zip(wholes, pieces, strict=True)
        ]
        together = push_together(sessions, chunks, workers=workers)
        for one, session, chunk in zip(together, alone, chunks, strict=True):
            expected = session.push(chunk)
            assert torch.equal(one, expected) if isinstance(one, Tensor) else one == expected


# ---- what is refused


def test_a_bad_chunk_leaves_the_session_as_it_was() -> None:
    tokenizer, audio = tiny_tokenizer("rvq-projected"), noise(1, 3_000)
    session, other = tokenizer.session(4_410), tokenizer.session(4_410)
    parts = [session.push(audio[:, :1_000])]
    bad = audio[:, 1_000:].clone()
    bad[0, 5] = torch.nan
    for chunk, message in (
        (bad, "sample 5 of channel 0 is nan"),
        (audio.to(torch.complex64), "wanted are floats"),
        (audio[None], "shape"),
        ("audio.wav", "a chunk is a str"),
    ):
        with pytest.raises((AudioError, SessionError), match=message):
            session.push(chunk)  # type: ignore[arg-type]
        with pytest.raises((AudioError, SessionError), match=message):
            push_together([other, session], [audio[:, :500], chunk])  # type: ignore[list-item]
    parts += [session.push(audio[:, 1_000:]), session.finish()]
    assert Codes.concatenate(parts) == tokenizer.encode(audio, 4_410)
    assert Codes.concatenate([other.push(audio), other.finish()]) == tokenizer.encode(audio, 4_410)


def test_channels_cannot_change() -> None:
    session = tiny_tokenizer("fsq").session(channels="keep")
    session.push(noise(2, 10))
    with pytest.raises(SessionError, match="a chunk of 1 channels follows one of 2"):
        session.push(noise(1, 10))


def test_codes_that_cannot_follow_are_refused() -> None:
    tokenizer = tiny_tokenizer("rvq-projected")
    session = tokenizer.decoding_session()
    session.push(tokenizer.encode(noise(1, 2 * HOP)))
    for wrong, message in (
        (tiny_tokenizer("rvq-unprojected").encode(noise(1, HOP)), "codes of another tokenizer"),
        (tokenizer.encode(noise(1, HOP), num_codebooks=1), "must be the same"),
        (tokenizer.encode(noise(2, HOP), channels="keep"), "must be the same"),
        (tokenizer.encode(noise(1, HOP), 4_410), "must be the same"),
        (torch.full((3, 4), 99), "level 0 holds code 99, outside 0 to 31"),
        (torch.zeros(3, 4), "wanted are vqaudio.Codes, or int64"),
    ):
        with pytest.raises((CodesError, SessionError), match=message):
            session.push(wrong)
    session.push(tokenizer.encode(noise(1, 7)))
    with pytest.raises(SessionError, match="ended within a frame, so they were the last"):
        session.push(tokenizer.encode(noise(1, HOP)))
    assert session.finish().shape == (1, 2 * HOP + 7)


def test_settings_are_checked() -> None:
    tokenizer = tiny_tokenizer("fsq")
    with pytest.raises(ValueError, match="block_frames is 0"):
        tokenizer.session(block_frames=0)
    with pytest.raises(ValueError, match="num_codebooks is 9"):
        tokenizer.session(num_codebooks=9)
    with pytest.raises(AudioError, match="sample_rate is 0"):
        tokenizer.decoding_session(0)
    session = tokenizer.session()
    with pytest.raises(ValueError, match="2 chunks for 2 sessions"):
        push_together([session, session], [noise(1, 1), noise(1, 1)])
