"""The engine: what goes through a codec by blocks is what the codec computes, whatever stands beside it."""

import copy
import gc
import threading
import time
import weakref
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor, nn

from tests.tiny import HOP, KINDS, noise, tiny_codec
from vqaudio.engine import decode_blocks, encode_blocks
from vqaudio.models import Codec

every_kind = pytest.mark.parametrize("kind", KINDS)
BLOCK = 8  # frames: small, so that short signals cross many blocks


def encoded(codec: Codec, pieces: Iterable[Tensor], *, num_codebooks: int | None = None, block: int = BLOCK) -> Tensor:
    blocks = encode_blocks(codec, pieces, num_codebooks=num_codebooks, block_frames=block)
    return torch.cat(list(blocks), dim=-1)


def decoded(codec: Codec, pieces: Iterable[Tensor], num_samples: int, *, block: int = BLOCK) -> Tensor:
    return torch.cat(list(decode_blocks(codec, pieces, num_samples=num_samples, block_frames=block)), dim=-1)


@st.composite
def cut(draw: st.DrawFn, num_samples: int) -> list[int]:
    """Lengths of pieces, some of them 0, that sum to `num_samples`."""
    cuts = sorted(draw(st.lists(st.integers(0, num_samples), max_size=5)))
    return [stop - start for start, stop in zip([0, *cuts], [*cuts, num_samples], strict=True)]


class LatentsThrough(nn.Module):
    """In place of a quantiser: latents come out as they are."""

    def encode(self, latents: Tensor, *, num_codebooks: int | None = None) -> Tensor:
        return latents


@every_kind
@pytest.mark.parametrize("num_samples", [1, HOP, BLOCK * HOP, 5 * BLOCK * HOP - 7])
@pytest.mark.parametrize("block", [1, BLOCK])
def test_latents_of_blocks_are_those_of_the_whole(kind: str, num_samples: int, block: int) -> None:
    codec = copy.deepcopy(tiny_codec(kind))
    codec.quantizer = LatentsThrough()  # type: ignore[assignment]
    audio = noise(1, num_samples)
    with torch.no_grad():
        whole = codec.encode_latents(audio[None])
    torch.testing.assert_close(encoded(codec, [audio], block=block), whole, atol=1e-5, rtol=1e-5)


@every_kind
@pytest.mark.parametrize("num_samples", [1, HOP, BLOCK * HOP, 5 * BLOCK * HOP - 7])
@pytest.mark.parametrize("block", [1, BLOCK])
def test_audio_of_blocks_is_that_of_the_whole(kind: str, num_samples: int, block: int) -> None:
    codec = tiny_codec(kind)
    codes = codec.encode(noise(1, num_samples)[None])
    whole = codec.decode(codes)[0, :, :num_samples]
    blocks = decoded(codec, [codes], num_samples, block=block)
    if codec.config.output == "mu_law":  # near-ties between two classes may fall either way
        assert (blocks != whole).double().mean() < 0.01
        assert blocks.shape == whole.shape
    else:
        torch.testing.assert_close(blocks, whole, atol=1e-5, rtol=1e-5)


@every_kind
@given(data=st.data(), num_samples=st.integers(1, 4 * BLOCK * HOP), channels=st.integers(1, 3))
def test_pieces_of_any_sizes_give_the_same_bytes(
    kind: str, data: st.DataObject, num_samples: int, channels: int
) -> None:
    codec, audio = tiny_codec(kind), noise(channels, num_samples)
    whole = encoded(codec, [audio])
    assert torch.equal(encoded(codec, audio.split(data.draw(cut(num_samples)), dim=-1)), whole)

    codes_cut = whole.split(data.draw(cut(whole.shape[-1])), dim=-1)
    assert torch.equal(decoded(codec, codes_cut, num_samples), decoded(codec, [whole], num_samples))


@every_kind
@given(num_samples=st.integers(1, 3 * BLOCK * HOP), num_zeros=st.integers(0, 3 * BLOCK * HOP))
def test_appended_zeros_change_no_code(kind: str, num_samples: int, num_zeros: int) -> None:
    codec, audio = tiny_codec(kind), noise(1, num_samples)
    longer = encoded(codec, [audio, torch.zeros(1, num_zeros)])
    codes = encoded(codec, [audio])
    assert codes.shape[-1] == -(-num_samples // HOP)
    assert torch.equal(longer[..., : codes.shape[-1]], codes)


@every_kind
def test_channels_do_not_meet(kind: str) -> None:
    codec, audio = tiny_codec(kind), noise(3, 3 * BLOCK * HOP + 5)
    together = encoded(codec, [audio])
    alone = torch.cat([encoded(codec, [channel]) for channel in audio.split(1)])
    assert torch.equal(together, alone)
    num_samples = audio.shape[-1]
    one_by_one = torch.cat([decoded(codec, [row], num_samples) for row in together.split(1)])
    assert torch.equal(decoded(codec, [together], num_samples), one_by_one)


@every_kind
def test_first_codebooks_are_the_first_rows(kind: str) -> None:
    codec, audio = tiny_codec(kind), noise(1, 2 * BLOCK * HOP + 1)
    codes = encoded(codec, [audio])
    assert codes[0].unique(dim=-1).shape[-1] > BLOCK, "codes that never change would prove nothing"
    for number in range(1, len(codec.codebook_sizes) + 1):
        assert torch.equal(encoded(codec, [audio], num_codebooks=number), codes[:, :number])


@every_kind
def test_no_trace_is_left(kind: str) -> None:
    codec = copy.deepcopy(tiny_codec(kind)).train()
    before = {key: value.clone() for key, value in codec.state_dict().items()}
    random_state, num_threads = torch.random.get_rng_state(), torch.get_num_threads()
    codes = encoded(codec, [noise(1, 500)])
    decoded(codec, [codes], 500)
    assert codec.training
    assert all(torch.equal(value, before[key]) for key, value in codec.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), random_state)
    assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
    assert torch.get_num_threads() == num_threads


@every_kind
def test_the_mode_of_the_codec_does_not_matter(kind: str) -> None:
    codec, training = tiny_codec(kind), copy.deepcopy(tiny_codec(kind)).train()
    audio = noise(1, 500)
    codes = encoded(codec, [audio])
    assert torch.equal(encoded(training, [audio]), codes)
    assert torch.equal(decoded(training, [codes], 500), decoded(codec, [codes], 500))


@pytest.fixture
def two_threads() -> Iterator[None]:
    num_threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(num_threads)


def test_blocks_run_on_one_thread(two_threads: None, monkeypatch: pytest.MonkeyPatch) -> None:
    codec, seen = tiny_codec("fsq"), []
    original = codec.quantizer.decode

    def looking(codes: Tensor) -> Tensor:
        seen.append(torch.get_num_threads())
        return original(codes)

    monkeypatch.setattr(codec.quantizer, "decode", looking)
    decoded(codec, [encoded(codec, [noise(1, 3 * BLOCK * HOP)])], 3 * BLOCK * HOP)
    assert set(seen) == {1}


def test_settings_of_the_caller_change_nothing(two_threads: None) -> None:
    codec, audio = tiny_codec("rvq-projected"), noise(1, 40 * BLOCK * HOP)
    codes = encoded(codec, [audio], block=200)
    sound = decoded(codec, [codes], audio.shape[-1], block=200)
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.inference_mode():
        assert torch.equal(encoded(codec, [audio], block=200), codes)
        assert torch.equal(decoded(codec, [codes], audio.shape[-1], block=200), sound)
        assert torch.is_autocast_enabled("cpu")


@pytest.fixture
def low_precision() -> Iterator[Any]:
    operation = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = operation.fp32_precision
    operation.fp32_precision = "bf16"
    yield operation
    operation.fp32_precision = before


def test_blocks_run_in_full_float32_and_the_setting_comes_back(
    low_precision: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec, seen = tiny_codec("fsq"), []
    original = codec.quantizer.encode

    def looking(latents: Tensor, *, num_codebooks: int | None = None) -> Tensor:
        seen.append(low_precision.fp32_precision)
        return original(latents, num_codebooks=num_codebooks)

    monkeypatch.setattr(codec.quantizer, "encode", looking)
    encoded(codec, [noise(1, 3 * BLOCK * HOP)])
    assert set(seen) == {"ieee"}
    assert low_precision.fp32_precision == "bf16"


def test_many_callers_at_once_agree_and_new_threads_keep_their_setting(two_threads: None) -> None:
    codec, audio = tiny_codec("rvq-projected"), noise(1, 20 * BLOCK * HOP)
    expected = encoded(codec, [audio])
    results: list[Tensor] = []
    threads = [threading.Thread(target=lambda: results.append(encoded(codec, [audio]))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 6
    assert all(torch.equal(result, expected) for result in results)
    found: list[int] = []
    later = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    later.start()
    later.join()
    assert found == [2]


def test_results_can_meet_gradients() -> None:
    codec = tiny_codec("rvq-projected")
    codes = next(encode_blocks(codec, [noise(1, 200)]))
    table = torch.zeros(32, 4, requires_grad=True)
    nn.functional.embedding(codes, table).sum().backward()
    weight = torch.ones(1, requires_grad=True)
    (next(decode_blocks(codec, [codes], num_samples=200)) * weight).sum().backward()
    assert table.grad is not None and weight.grad is not None


def test_reading_stays_one_block_ahead() -> None:
    codec, num_read = tiny_codec("rvq-projected"), 0

    def pieces() -> Iterator[Tensor]:
        nonlocal num_read
        for _ in range(1000):
            num_read += 1
            yield torch.zeros(1, BLOCK * HOP)

    blocks = encode_blocks(codec, pieces(), block_frames=BLOCK)
    next(blocks)
    assert num_read <= 3
    blocks.close()


def test_a_failing_source_fails_the_call() -> None:
    def pieces() -> Iterator[Tensor]:
        yield torch.zeros(1, 3 * BLOCK * HOP)
        raise ValueError("the source broke")

    with pytest.raises(ValueError, match="the source broke"):
        encoded(tiny_codec("fsq"), pieces())


@settings(max_examples=10)
@given(num_samples=st.integers(0, 200))
def test_no_samples_no_blocks_and_the_right_number_of_frames_otherwise(num_samples: int) -> None:
    codec = tiny_codec("fsq")
    blocks = list(encode_blocks(codec, [noise(1, num_samples)], block_frames=3))
    assert sum(block.shape[-1] for block in blocks) == -(-num_samples // HOP)


@every_kind
@pytest.mark.parametrize("moved", [False, True])
def test_what_is_kept_of_a_model_follows_its_weights(kind: str, moved: bool) -> None:
    """Changed where they lie, as training does, or put elsewhere, as `.to` does."""
    codec, audio = copy.deepcopy(tiny_codec(kind)), noise(1, 900)
    before = encoded(codec, [audio])
    sound = decoded(codec, [before], 900)
    for tensor in codec.state_dict().values():
        if tensor.is_floating_point():
            tensor.mul_(1.05)
    if moved:
        codec.double().float()
    fresh = copy.deepcopy(codec)  # for which nothing is kept
    codes = encoded(codec, [audio])
    assert torch.equal(codes, encoded(fresh, [audio]))
    assert torch.equal(decoded(codec, [codes], 900), decoded(fresh, [codes], 900))
    assert not torch.equal(decoded(codec, [before], 900), sound)


def test_what_is_kept_of_a_model_goes_with_it() -> None:
    codec = copy.deepcopy(tiny_codec("rvq-projected"))
    decoded(codec, [encoded(codec, [noise(1, 100)])], 100)
    parts = [weakref.ref(part) for part in (codec.encoder, codec.quantizer, codec.decoder)]
    del codec
    until = time.monotonic() + 20
    while any(part() is not None for part in parts) and time.monotonic() < until:
        time.sleep(0.01)  # the worker may still be leaving its crew
        gc.collect()
    assert [part() is None for part in parts] == [True, True, True]
