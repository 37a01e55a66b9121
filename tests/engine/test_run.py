"""Runs on several workers and in batches: the same bytes, every block once, failures where they belong, no one left."""

import copy
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from tests.tiny import HOP, KINDS, noise, tiny_codec
from vqaudio.doctor import compare
from vqaudio.engine import Crew, Side, conditions, crew, decode_blocks, encode_blocks, side_by_side
from vqaudio.engine.conditions import Worker, borrowed_workers, call
from vqaudio.engine.run import MOST_BLOCKS, Seats

every_kind = pytest.mark.parametrize("kind", KINDS)
BLOCK = 4
LONG = (3 * MOST_BLOCKS * BLOCK + 2) * HOP + 7  # more than two pieces of a worker


def encoded(side: Side, audio: Tensor, *, workers: int = 1) -> Tensor:
    with crew(side, workers) as found:
        return torch.cat(list(found.run([audio], total=side.codec.frames_for)), dim=-1)


# ---- workers


@every_kind
@settings(max_examples=10)
@given(num_samples=st.integers(1, LONG), workers=st.integers(2, 4), channels=st.integers(1, 2))
def test_workers_change_no_byte(kind: str, num_samples: int, workers: int, channels: int) -> None:
    codec, audio = tiny_codec(kind), noise(channels, num_samples)
    alone = torch.cat(list(encode_blocks(codec, [audio], block_frames=BLOCK)), dim=-1)
    shared = torch.cat(list(encode_blocks(codec, [audio], block_frames=BLOCK, workers=workers)), dim=-1)
    assert torch.equal(shared, alone)
    settings = {"num_samples": num_samples, "block_frames": BLOCK}
    sound = torch.cat(list(decode_blocks(codec, [alone], **settings)), dim=-1)
    assert torch.equal(torch.cat(list(decode_blocks(codec, [alone], **settings, workers=workers)), dim=-1), sound)


def counting(side: Side, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The indices of the blocks that go through the codec, as they do."""
    seen: list[int] = []
    original = Side.steps

    def steps(self: Side) -> "Iterator[object]":
        from contextlib import contextmanager

        @contextmanager
        def wrapped() -> Iterator[object]:
            with original(self) as run:

                def counted(blocks: list, streams: list) -> list[Tensor]:  # type: ignore[type-arg]
                    seen.extend(block.index for block in blocks)
                    time.sleep(0.002)  # so that no worker is done before the next piece is ready
                    return run(blocks, streams)

                yield counted

        return wrapped()  # type: ignore[return-value]

    monkeypatch.setattr(Side, "steps", steps)
    return seen


def test_one_worker_computes_every_block_once(monkeypatch: pytest.MonkeyPatch) -> None:
    side = Side(tiny_codec("rvq-projected"), "encode", block_frames=BLOCK)
    seen = counting(side, monkeypatch)
    encoded(side, noise(1, LONG))
    assert seen == list(range(side.grid.num_blocks(LONG)))


def test_workers_share_one_recording_for_the_price_of_warming_up(monkeypatch: pytest.MonkeyPatch) -> None:
    side = Side(tiny_codec("rvq-projected"), "encode", block_frames=BLOCK)
    seen = counting(side, monkeypatch)
    encoded(side, noise(1, LONG), workers=2)
    num_blocks, pieces = side.grid.num_blocks(LONG), -(-side.grid.num_blocks(LONG) // MOST_BLOCKS)
    assert set(seen) == set(range(num_blocks))
    assert num_blocks < len(seen) <= num_blocks + (pieces - 1) * side.grid.warm_up, "nothing was done side by side"


def test_recordings_side_by_side_warm_nothing_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """While there are as many runs as workers, each carries its own state on."""
    side = Side(tiny_codec("rvq-projected"), "encode", block_frames=BLOCK)
    seen = counting(side, monkeypatch)
    audios = [noise(1, LONG, seed) for seed in range(2)]
    ready = threading.Barrier(2)
    with crew(side, 2) as found:

        def run(audio: Tensor) -> Tensor:
            def pieces() -> Iterator[Tensor]:
                yield audio[:, :HOP]
                ready.wait()  # both runs have their seats
                yield audio[:, HOP:]
                ready.wait()  # and none is over before the other has handed its last block in

            return torch.cat(list(found.run(pieces(), total=side.codec.frames_for)), dim=-1)

        results = side_by_side(run, audios, 2)
    # When one is over, the other may take its seat for one last piece apart.
    assert 0 <= len(seen) - 2 * side.grid.num_blocks(LONG) <= side.grid.warm_up
    for audio, result in zip(audios, results, strict=True):
        assert torch.equal(result, encoded(side, audio))


def test_a_run_that_waits_gets_a_seat_from_one_that_has_several() -> None:
    seats = Seats(2)
    seats.take()
    assert seats.take_if_free()
    assert not seats.take_if_free()
    waiting = threading.Thread(target=seats.take)
    waiting.start()
    while not seats.wanted:
        time.sleep(0.001)
    seats.give()
    waiting.join(5)
    assert not waiting.is_alive() and not seats.wanted and not seats.take_if_free()


# ---- batches of one shape, as on a GPU


@every_kind
def test_lanes_side_by_side_are_near_ties_at_most(kind: str) -> None:
    """The batch of another device, run here on the CPU: fewer recordings than lanes, and more."""
    codec = tiny_codec(kind)
    side = Side(codec, "encode", block_frames=BLOCK, lanes=3)
    audios = [noise(1, num_samples, num_samples) for num_samples in (1, 500, 5_000, 77, 3_000, 2_999, 640)]
    with crew(side) as found:
        assert found.capacity == 3
        results = side_by_side(
            lambda audio: torch.cat(list(found.run([audio], total=codec.frames_for)), dim=-1), audios, 3
        )
    for audio, codes in zip(audios, results, strict=True):
        alone = torch.cat(list(encode_blocks(codec, [audio], block_frames=BLOCK)), dim=-1)
        assert codes.shape == alone.shape
        assert compare(codec, audio, codes, alone).explained

    back = Side(codec, "decode", block_frames=BLOCK, lanes=3)
    with crew(back) as found:
        for audio, codes in zip(audios, results, strict=True):
            num_samples = audio.shape[1]
            sound = torch.cat(list(found.run([codes], total=lambda _, n=num_samples: n)), dim=-1)  # type: ignore[misc]
            alone = torch.cat(list(decode_blocks(codec, [codes], num_samples=num_samples, block_frames=BLOCK)), dim=-1)
            if codec.config.output == "mu_law":
                assert (sound != alone).double().mean() < 0.01
            else:
                torch.testing.assert_close(sound, alone, atol=1e-5, rtol=1e-5)


def test_lanes_are_always_as_many(monkeypatch: pytest.MonkeyPatch) -> None:
    codec, shapes = copy.deepcopy(tiny_codec("rvq-projected")), set()
    codec.encoder.register_forward_pre_hook(lambda _, inputs: shapes.add(tuple(inputs[0].shape)))
    side = Side(codec, "encode", block_frames=BLOCK, lanes=3)
    with crew(side) as found:
        side_by_side(
            lambda audio: list(found.run([audio], total=codec.frames_for)),
            [noise(1, length) for length in (10, 999, 5_000, 31)],
            3,
        )
    assert shapes == {(3, 1, BLOCK * HOP)}


def test_lanes_may_have_different_numbers_of_codebooks() -> None:
    codec = tiny_codec("rvq-projected")
    codes = torch.cat(list(encode_blocks(codec, [noise(1, 900)], block_frames=BLOCK)), dim=-1)
    with crew(Side(codec, "decode", block_frames=BLOCK, lanes=3)) as found:
        results = side_by_side(
            lambda k: torch.cat(list(found.run([codes[:, :k]], total=lambda _: 900)), dim=-1), (1, 3, 2, 3), 3
        )
    for k, sound in zip((1, 3, 2, 3), results, strict=True):
        alone = torch.cat(list(decode_blocks(codec, [codes[:, :k]], num_samples=900, block_frames=BLOCK)), dim=-1)
        torch.testing.assert_close(sound, alone, atol=1e-5, rtol=1e-5)


# ---- failures


@every_kind
@pytest.mark.parametrize("lanes", [1, 3])
def test_a_failing_block_fails_its_run_and_the_crew_goes_on(kind: str, lanes: int) -> None:
    codec = tiny_codec(kind)
    side = Side(codec, "decode", block_frames=BLOCK, lanes=lanes)
    good = torch.zeros(1, len(codec.codebook_sizes), 30, dtype=torch.int64)
    bad = good.clone()
    bad[0, -1, 17] = codec.codebook_sizes[-1]
    message = rf"code {bad.max()} at item 0, codebook {good.shape[1] - 1}, frame 1 is outside 0 … {bad.max() - 1}"
    for workers in (1, 2):
        with crew(side, workers) as found:
            expected = torch.cat(list(found.run([good], total=lambda _: 600)), dim=-1)
            with pytest.raises(ValueError, match=message):
                list(found.run([bad], total=lambda _: 600))
            assert torch.equal(torch.cat(list(found.run([good], total=lambda _: 600)), dim=-1), expected)


def test_a_crew_that_cannot_start_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Side) -> None:
        raise MemoryError("no room for buffers")

    monkeypatch.setattr(Side, "steps", broken)
    side = Side(tiny_codec("fsq"), "encode", block_frames=BLOCK)
    with crew(side, 2) as found, pytest.raises(MemoryError, match="no room for buffers"):
        list(found.run([noise(1, 1_000)], total=side.codec.frames_for))


def test_a_dismissed_crew_leaves_nobody_waiting() -> None:
    side = Side(tiny_codec("fsq"), "encode", block_frames=BLOCK)
    failures: list[str] = []
    started = threading.Event()

    def work(found: Crew) -> None:
        def endless() -> Iterator[Tensor]:
            while True:
                started.set()
                yield noise(1, 1_000)

        try:
            for _ in found.run(endless(), total=side.codec.frames_for):
                pass
        except RuntimeError as error:
            failures.append(str(error))

    with crew(side, 2) as found:
        threads = [threading.Thread(target=work, args=(found,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        started.wait(10)
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    assert failures == ["the crew was dismissed before this was computed"] * 3


def test_closing_early_ends_the_work() -> None:
    side = Side(tiny_codec("fsq"), "encode", block_frames=BLOCK)
    with crew(side, 2) as found:
        blocks = found.run([noise(1, LONG)], total=side.codec.frames_for)
        next(blocks)
        blocks.close()  # type: ignore[attr-defined]
        assert found.seats.take_if_free() and found.seats.take_if_free(), "a seat was not given back"


def test_one_failure_ends_a_batch() -> None:
    done: list[int] = []

    def work(number: int) -> int:
        if number == 1:
            raise ValueError("the second one broke")
        time.sleep(0.01)
        done.append(number)
        return number

    for count in (1, 2):
        done.clear()
        with pytest.raises(ValueError, match="the second one broke"):
            side_by_side(work, range(50), count)
        assert len(done) < 50
    assert side_by_side(lambda number: number * 2, range(7), 3) == [0, 2, 4, 6, 8, 10, 12]


# ---- threads


def test_workers_are_kept_and_lent_again() -> None:
    with borrowed_workers(2) as first:
        pass
    with borrowed_workers(2) as second:
        assert set(map(id, first)) == set(map(id, second))
    assert all(isinstance(worker, Worker) for worker in second)


def test_what_a_call_in_a_worker_raises_comes_out() -> None:
    def broken() -> None:
        raise KeyError("inside")

    with borrowed_workers(1) as (worker,):
        with pytest.raises(KeyError, match="inside"):
            call(worker, broken)
        assert call(worker, lambda: torch.get_num_threads()) == 1


def test_new_threads_keep_the_callers_number() -> None:
    """Starting a worker sets one thread for itself, and for the whole process what the caller had."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with borrowed_workers(len(conditions._idle) + 1):  # at least one is new
            found: list[int] = []
            later = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
            later.start()
            later.join()
        assert found == [2] and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_an_end_of_the_process_waits_for_blocks_under_way() -> None:
    """A thread that returns from torch to an interpreter that is gone aborts the process."""
    program = """
import sys, time, torch
from vqaudio.engine.conditions import borrowed_workers
with borrowed_workers(2) as workers:
    for worker in workers * 1000:
        worker.submit(lambda: torch.randn(400, 400) @ torch.randn(400, 400))
    time.sleep(0.1)
    sys.exit(3)
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert (result.returncode, result.stderr) == (3, "")
