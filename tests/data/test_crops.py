"""Crops: a pure function of (seed, step), fair over time, within full scale."""

import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings, strategies as st

from vqaudio.data import CropSampler, Item, Manifest, PackedAudio, prefetch, validation_clips, write_packs

RATE = 8000
PLAIN: dict[str, Any] = {"silence_probability": 0.0, "partial_silence_probability": 0.0, "full_edges_probability": 0.0}


def pack(
    root: Path, clips: Sequence[np.ndarray], speakers: Sequence[str] = (), part_samples: int = 10**6
) -> PackedAudio:
    """Packs of int16 clips, named 0.wav, 1.wav, …"""
    items = []
    for number, samples in enumerate(clips):
        soundfile.write(root / f"{number}.wav", samples.astype(np.int16), RATE, subtype="PCM_16")
        speaker = speakers[number] if speakers else str(number)
        items.append(Item(path=f"{number}.wav", split="train", speaker=speaker))
    manifest = Manifest(root, tuple(items))
    write_packs(manifest, root / "packs", sample_rate=RATE, max_part_bytes=2 * part_samples)
    return PackedAudio(root / "packs", "train")


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> PackedAudio:
    """Clips of 3000, 1000 and 50 samples; the last is loud."""
    generator = np.random.default_rng(0)
    clips = [generator.integers(-9000, 9000, length) for length in (3000, 1000)]
    return pack(tmp_path_factory.mktemp("crops"), [*clips, generator.choice([-32768, 32767], 50)])


@settings(max_examples=20)
@given(seed=st.integers(0, 2**64 - 1), step=st.integers(0, 10**6), batch_size=st.integers(1, 9), data=st.data())
def test_a_batch_is_a_pure_function_of_seed_and_step(
    packed: PackedAudio, seed: int, step: int, batch_size: int, data: st.DataObject
) -> None:
    """Whatever was drawn before, and however many ranks share it."""
    sampler = CropSampler(packed, crop_samples=64, batch_size=batch_size, seed=seed)
    batch = sampler.batch(step)
    sampler.batch(step + 1)
    again = sampler.batch(step)
    assert torch.equal(batch.audio, again.audio) and batch.names == again.names
    num_ranks = data.draw(st.integers(1, batch_size))
    shares = [
        CropSampler(packed, crop_samples=64, batch_size=batch_size, seed=seed, rank=r, num_ranks=num_ranks).batch(step)
        for r in range(num_ranks)
    ]
    assert torch.equal(torch.cat([share.audio for share in shares]), batch.audio)
    assert sum((share.names for share in shares), ()) == batch.names
    assert max(len(share.names) for share in shares) - min(len(share.names) for share in shares) <= 1


def test_batches_depend_only_on_the_global_index(packed: PackedAudio) -> None:
    """Two batches of four are one of eight."""
    four = CropSampler(packed, crop_samples=64, batch_size=4, seed=5)
    eight = CropSampler(packed, crop_samples=64, batch_size=8, seed=5)
    assert torch.equal(torch.cat([four.batch(6).audio, four.batch(7).audio]), eight.batch(3).audio)


def test_seeds_steps_and_items_all_differ(packed: PackedAudio) -> None:
    crops = [
        item.numpy().tobytes()
        for seed in (0, 1, 2**63)
        for step in (0, 1)
        for item in CropSampler(packed, crop_samples=64, batch_size=4, seed=seed, **PLAIN).batch(step).audio
    ]
    assert len(set(crops)) == len(crops)


@settings(max_examples=30)
@given(
    crop_samples=st.integers(1, 4000),
    seed=st.integers(0, 1000),
    gain_db=st.tuples(st.floats(-40, 30), st.floats(0, 30)).map(lambda pair: (pair[0], pair[0] + pair[1])),
)
def test_shape_type_and_range(packed: PackedAudio, crop_samples: int, seed: int, gain_db: tuple[float, float]) -> None:
    batch = CropSampler(packed, crop_samples=crop_samples, batch_size=6, seed=seed, gain_db=gain_db).batch(0)
    assert batch.audio.shape == (6, 1, crop_samples)
    assert batch.audio.dtype == torch.float32
    assert float(batch.audio.abs().max()) <= 1.0
    assert set(batch.names) <= {"0.wav", "1.wav", "2.wav"}


def test_crops_are_the_packed_samples_times_a_gain_of_either_sign(packed: PackedAudio) -> None:
    sampler = CropSampler(packed, crop_samples=200, batch_size=64, seed=1, gain_db=(-6.0, 6.0), **PLAIN)
    gains = []
    for item, name in zip(*_unpack(sampler.batch(0)), strict=True):
        clip = packed.clip(packed.names.index(name)) / 32768
        if name == "2.wav":  # shorter than the crop: zeros follow, and its peak leaves no room for more gain
            assert not item[50:].any()
            assert np.abs(item[:50]).max() <= 1.0
            continue
        place = _find(clip, item)
        gains.append(item @ clip[place : place + 200] / (clip[place : place + 200] @ clip[place : place + 200]))
        assert np.allclose(item, gains[-1] * clip[place : place + 200], atol=1e-6)
    levels = 20 * np.log10(np.abs(gains))
    assert -6.01 < levels.min() < -4 and 4 < levels.max() < 6.01
    assert 0.3 < np.mean(np.array(gains) > 0) < 0.7


def test_crops_are_uniform_over_time(packed: PackedAudio) -> None:
    sampler = CropSampler(packed, crop_samples=100, batch_size=2000, seed=2, gain_db=(0.0, 0.0), **PLAIN)
    items, names = _unpack(sampler.batch(0))
    counts = Counter(names)
    assert counts["0.wav"] / 2000 == pytest.approx(3000 / 4050, abs=0.03)
    assert counts["1.wav"] / 2000 == pytest.approx(1000 / 4050, abs=0.03)
    assert 5 < counts["2.wav"] < 60
    clip = packed.clip(0) / 32768
    starts = [_find(clip, item) for item, name in zip(items, names, strict=True) if name == "0.wav"][:250]
    quarters = np.histogram(starts, bins=4, range=(0, 2900))[0] / len(starts)
    assert np.allclose(quarters, 0.25, atol=0.1)


def test_edge_crops_hold_the_start_or_end_with_silence_outside(packed: PackedAudio) -> None:
    options = PLAIN | {"full_edges_probability": 1.0}
    sampler = CropSampler(packed, crop_samples=100, batch_size=300, seed=3, gain_db=(0.0, 0.0), **options)
    clip = packed.clip(0) / 32768
    outside: dict[str, list[int]] = {"start": [], "end": []}
    for item, name in zip(*_unpack(sampler.batch(0)), strict=True):
        if name != "0.wav":
            continue
        used = np.flatnonzero(item)
        first, last = int(used[0]), int(used[-1]) + 1
        inside = item[first:last]
        if min(np.abs(inside - sign * clip[: last - first]).max() for sign in (1, -1)) < 1e-6:
            outside["start"].append(first)
        else:
            assert min(np.abs(inside - sign * clip[first - last :]).max() for sign in (1, -1)) < 1e-6
            outside["end"].append(100 - last)
    for zeros in outside.values():
        assert len(zeros) > 50
        assert min(zeros) < 5 and 45 < max(zeros) <= 50


def test_only_real_edges_of_a_cut_recording_are_edges(tmp_path: Path) -> None:
    """A recording of 1000 samples in pieces of 250: the inner borders get no silence."""
    packed = pack(tmp_path, [np.random.default_rng(1).integers(1, 9000, 1000)], part_samples=250)
    assert list(packed.names) == ["0.wav@0", "0.wav@250", "0.wav@500", "0.wav@750"]
    options = PLAIN | {"full_edges_probability": 1.0}
    sampler = CropSampler(packed, crop_samples=100, batch_size=200, seed=3, **options)
    for item, name in zip(*_unpack(sampler.batch(0)), strict=True):
        if name == "0.wav@0":
            assert item[-1] != 0
        elif name == "0.wav@750":
            assert item[0] != 0
        else:
            assert item.all()


def test_silence_and_stretches_of_it_come_as_often_as_asked(tmp_path: Path) -> None:
    packed = pack(tmp_path, [np.random.default_rng(1).integers(1, 9000, 4000)])
    options: dict[str, Any] = {
        "full_edges_probability": 0.0,
        "silence_probability": 0.3,
        "partial_silence_probability": 0.5,
    }
    sampler = CropSampler(packed, crop_samples=80, batch_size=1000, seed=4, **options)
    zeros = (sampler.batch(0).audio[:, 0] == 0).sum(dim=1).numpy()
    assert np.mean(zeros == 80) == pytest.approx(0.3, abs=0.05)
    partial = zeros[(zeros > 0) & (zeros < 80)]
    assert len(partial) / 1000 == pytest.approx(0.35, abs=0.05)
    assert partial.min() >= 10 and partial.max() <= 40
    default = CropSampler(packed, crop_samples=80, batch_size=1000, seed=4).batch(0).audio[:, 0]
    assert 0 < int((default == 0).all(dim=1).sum()) < 60


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"crop_samples": 0}, "crop_samples 0"),
        ({"batch_size": 2, "num_ranks": 3}, "rank 0 of 3"),
        ({"rank": 1}, "rank 1 of 1"),
        ({"seed": -1}, "got -1"),
        ({"gain_db": (3.0, -3.0)}, "lowest, highest"),
        ({"gain_db": (0.0, float("inf"))}, "finite dB"),
        ({"silence_probability": 1.5}, "got 1.5"),
    ],
)
def test_bad_options_are_refused(packed: PackedAudio, change: dict[str, Any], message: str) -> None:
    options: dict[str, Any] = {"crop_samples": 64, "batch_size": 4, "seed": 0}
    with pytest.raises(ValueError, match=message):
        CropSampler(packed, **(options | change))


@pytest.mark.parametrize("depth", [1, 4, 50])
def test_prefetch_gives_the_same_batches_in_order(packed: PackedAudio, depth: int) -> None:
    sampler = CropSampler(packed, crop_samples=64, batch_size=2, seed=7)
    batches = list(prefetch(sampler, 3, 15, depth=depth))
    assert len(batches) == 12
    for step, batch in enumerate(batches, start=3):
        assert torch.equal(batch.audio, sampler.batch(step).audio)
    assert not _prefetch_threads()


def test_leaving_a_prefetch_early_ends_its_thread(packed: PackedAudio) -> None:
    sampler = CropSampler(packed, crop_samples=64, batch_size=2, seed=7)
    batches = prefetch(sampler, 0, 10**9, depth=2)
    next(batches)
    assert len(_prefetch_threads()) == 1
    batches.close()  # type: ignore[attr-defined]
    assert not _prefetch_threads()


def test_prefetch_stays_within_its_depth(packed: PackedAudio) -> None:
    drawn: list[int] = []
    enough = threading.Event()

    class Watched(CropSampler):
        def batch(self, step: int):  # type: ignore[no-untyped-def]
            drawn.append(step)
            if step >= 3:
                enough.set()
            return super().batch(step)

    batches = prefetch(Watched(packed, crop_samples=64, batch_size=2, seed=7), 0, 100, depth=3)
    next(batches)
    assert enough.wait(timeout=10)
    assert drawn == [0, 1, 2, 3]  # one was taken, three wait
    batches.close()  # type: ignore[attr-defined]


def test_an_error_in_the_thread_is_raised_in_its_place(packed: PackedAudio) -> None:
    class Broken(CropSampler):
        def batch(self, step: int):  # type: ignore[no-untyped-def]
            if step == 2:
                raise OSError("the disk went away")
            return super().batch(step)

    batches = prefetch(Broken(packed, crop_samples=64, batch_size=2, seed=7), 0, 10)
    assert len([next(batches), next(batches)]) == 2
    with pytest.raises(OSError, match="the disk went away"):
        next(batches)
    assert not _prefetch_threads()


def test_validation_clips_are_spread_over_speakers_and_repeatable(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    speakers = ["a"] * 6 + ["b"] * 2 + ["c"]
    clips = [generator.integers(-9000, 9000, 300 if n == 6 else 1000 + n) for n in range(9)]
    packed = pack(tmp_path, clips, speakers)
    drawn = validation_clips(packed, seconds=0.1, count=6, sample_rate=RATE)
    assert Counter(speakers[int(name[0])] for name, _ in drawn) == {"a": 3, "b": 2, "c": 1}
    assert len({name for name, _ in drawn}) == 6
    lengths = {name: audio.shape for name, audio in drawn}
    assert lengths.pop("6.wav") == (1, 300)  # shorter than asked for: whole, after the longer one of its speaker
    assert set(lengths.values()) == {(1, 800)}
    for name, audio in drawn:
        assert audio.dtype == torch.float32
        clip = packed.clip(packed.names.index(name)).astype(np.float32) / 32768
        place = _find(clip, audio[0].numpy())
        assert np.array_equal(audio[0].numpy(), clip[place : place + audio.shape[1]])
    again = validation_clips(packed, seconds=0.1, count=6, sample_rate=RATE)
    assert all(a[0] == b[0] and torch.equal(a[1], b[1]) for a, b in zip(drawn, again, strict=True))
    other = validation_clips(packed, seconds=0.1, count=6, sample_rate=RATE, seed=1)
    assert [name for name, _ in other] != [name for name, _ in drawn]
    assert len(validation_clips(packed, seconds=0.1, count=99, sample_rate=RATE)) == 9
    first = validation_clips(packed, seconds=0.1, count=3, sample_rate=RATE)
    assert {speakers[int(name[0])] for name, _ in first} == {"a", "b", "c"}
    assert "6.wav" not in {name for name, _ in first}


def test_validation_at_another_rate_is_refused(packed: PackedAudio) -> None:
    with pytest.raises(ValueError, match=r"packed at 8000 Hz, but 16000 Hz is wanted"):
        validation_clips(packed, seconds=0.1, count=3, sample_rate=16000)


def _unpack(batch) -> tuple[list[np.ndarray], tuple[str, ...]]:  # type: ignore[no-untyped-def]
    return [item.astype(np.float64) for item in batch.audio[:, 0].numpy()], batch.names


def _find(clip: np.ndarray, item: np.ndarray) -> int:
    """Where in `clip` the crop `item` lies, up to a gain of either sign."""
    windows = np.lib.stride_tricks.sliding_window_view(clip, len(item))
    return int(np.argmax(np.abs(windows @ item) / np.linalg.norm(windows, axis=1)))


def _prefetch_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "vqaudio-prefetch"]
