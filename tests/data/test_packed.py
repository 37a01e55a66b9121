"""Packs: what goes in comes out, in parts of bounded size, and damage is noticed."""

import json
import pickle
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, strategies as st

from vqaudio.data import Item, Manifest, PackedAudio, PackError, write_packs
from vqaudio.dsp import mix_down, resample
from vqaudio.io import read_audio

RATE = 8000


def noise(num_samples: int, seed: int = 0, level: float = 0.3, channels: int = 1) -> np.ndarray:
    """(T, C) float64."""
    return level * np.random.default_rng(seed).uniform(-1, 1, (num_samples, channels))


def make(root: Path, files: Sequence[tuple[str, str, np.ndarray, int]]) -> Manifest:
    """Write (name, split, audio, rate) as float WAV and list them."""
    items = []
    for name, split, audio, rate in files:
        soundfile.write(root / name, audio, rate, subtype="FLOAT")
        items.append(Item(path=name, split=split, speaker=name[0], licence="CC0" if name < "c" else "CC BY 4.0"))
    return Manifest(root, tuple(items))


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    source = tmp_path / "source"
    source.mkdir()
    return make(
        source,
        [
            ("a.wav", "train", noise(4000, 1), 8000),
            ("b.wav", "valid", noise(3001, 2, channels=2), 8000),
            ("c.wav", "train", noise(9999, 3), 11025),
            ("d.wav", "train", noise(1, 4), 16000),
        ],
    )


def expected(path: Path) -> np.ndarray:
    """The mono file at RATE, float64 (T,)."""
    audio, rate = read_audio(path)
    return resample(mix_down(audio), rate, RATE)[0].double().numpy()


def test_a_pack_holds_the_resampled_mono_files_as_int16(manifest: Manifest, tmp_path: Path) -> None:
    report = write_packs(manifest, tmp_path / "packs", sample_rate=RATE)
    assert report.written and report.dropped == ()
    for split, names in (("train", ("a.wav", "c.wav", "d.wav")), ("valid", ("b.wav",))):
        packed = PackedAudio(tmp_path / "packs", split)
        assert packed.names == names
        assert packed.sample_rate == RATE
        for index, name in enumerate(names):
            clip = packed.clip(index)
            assert clip.dtype == np.int16
            reference = expected(manifest.root / name)
            assert len(clip) == len(reference)
            assert np.abs(clip - reference * 32768).max() <= 0.5 + 1e-3
            assert packed.clips[index].gain == 1.0
        packed.verify()


def test_sixteen_bit_files_at_the_same_rate_go_through_bit_for_bit(tmp_path: Path) -> None:
    samples = np.random.default_rng(0).integers(-32768, 32768, 5000).astype(np.int16)
    samples[:2] = (-32768, 32767)
    soundfile.write(tmp_path / "a.flac", samples, RATE)
    write_packs(Manifest(tmp_path, (Item(path="a.flac", split="train"),)), tmp_path / "packs", sample_rate=RATE)
    assert np.array_equal(PackedAudio(tmp_path / "packs", "train").clip(0), samples)


@pytest.mark.parametrize(("sign", "bound"), [(1.0, 32767), (-1.0, -32768)])
def test_a_peak_above_full_scale_is_scaled_down_and_the_gain_is_recorded(
    tmp_path: Path, sign: float, bound: int
) -> None:
    audio = noise(3000, 1)
    audio[1500] = sign * 1.5
    manifest = make(tmp_path, [("a.wav", "train", audio, RATE), ("b.wav", "train", noise(100), RATE)])
    write_packs(manifest, tmp_path / "packs", sample_rate=RATE)
    packed = PackedAudio(tmp_path / "packs", "train")
    clip, gain = packed.clip(0), packed.clips[0].gain
    assert clip[1500] == bound
    assert gain == pytest.approx(1 / 1.5, rel=1e-4)
    assert np.abs(clip - audio[:, 0] * gain * 32768).max() <= 0.5 + 1e-2
    assert packed.clips[1].gain == 1.0


@given(lengths=st.lists(st.integers(1, 400), min_size=1, max_size=6), part_samples=st.integers(9, 250))
def test_no_sample_is_lost_or_doubled_whatever_the_part_size(
    lengths: list[int], part_samples: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("packs")
    files = [(f"{n}.wav", "train", noise(length, n), RATE) for n, length in enumerate(lengths)]
    index = write_packs(make(root, files), root / "p", sample_rate=RATE, max_part_bytes=2 * part_samples + 1).index
    assert all(part.num_bytes <= 2 * part_samples for part in index.parts)
    assert 2 * sum(clip.num_samples for clip in index.clips) == sum(part.num_bytes for part in index.parts)
    packed = PackedAudio(root / "p", "train")
    assert len(set(packed.names)) == len(packed)
    for number, (name, _, audio, _) in enumerate(files):
        pieces = [n for n, clip in enumerate(packed.clips) if clip.item == number]
        assert packed.clips[pieces[0]].has_file_start and packed.clips[pieces[-1]].has_file_end
        assert sum(packed.clips[n].has_file_start for n in pieces) == 1
        assert sum(packed.clips[n].has_file_end for n in pieces) == 1
        assert all(packed.clips[n].path == name for n in pieces)
        whole = np.concatenate([packed.clip(n) for n in pieces])
        assert np.array_equal(whole, np.rint(audio[:, 0].astype(np.float32) * 32768))
        if len(audio) <= part_samples:
            assert len(pieces) == 1  # only what is longer than a part is cut


def test_totals_licences_and_ranges(manifest: Manifest, tmp_path: Path) -> None:
    write_packs(manifest, tmp_path / "packs", sample_rate=RATE)
    packed = PackedAudio(tmp_path / "packs", "train")
    lengths = [len(packed.clip(n)) for n in range(3)]
    assert lengths == [4000, 7256, 1]  # ceil(9999 * 8000 / 11025), ceil(1 / 2)
    assert packed.seconds == sum(lengths) / RATE
    assert packed.licences == {"CC BY 4.0": 7257 / RATE, "CC0": 4000 / RATE}
    assert np.array_equal(packed.read(1, 10, 20), packed.clip(1)[10:20])
    with pytest.raises(ValueError, match=r"c\.wav: samples 10 to 7257 of 7256"):
        packed.read(1, 10, 7257)


def test_a_file_that_cannot_be_read_is_reported_and_the_rest_packed(manifest: Manifest, tmp_path: Path) -> None:
    path = manifest.root / "a.wav"
    path.write_bytes(path.read_bytes()[:5000])
    report = write_packs(manifest, tmp_path / "packs", sample_rate=RATE)
    assert [(entry.path, entry.cause) for entry in report.dropped] == [("a.wav", "unreadable")]
    assert PackedAudio(tmp_path / "packs", "train").names == ("c.wav", "d.wav")
    assert [clip.item for clip in report.index.clips] == [2, 3, 1]


def test_packing_again_changes_nothing_and_other_inputs_are_refused(manifest: Manifest, tmp_path: Path) -> None:
    out = tmp_path / "packs"
    first = write_packs(manifest, out, sample_rate=RATE)
    before = {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in out.iterdir()}
    again = write_packs(manifest, out, sample_rate=RATE)
    assert not again.written and again.index == first.index
    fewer = Manifest(manifest.root, manifest.items[:2])
    for other, rate in ((manifest, 4000), (fewer, RATE)):
        with pytest.raises(PackError, match="already holds packs of other files or options"):
            write_packs(other, out, sample_rate=rate)
    assert {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in out.iterdir()} == before


def test_an_interrupted_run_is_taken_up_and_gives_the_same_bytes(manifest: Manifest, tmp_path: Path) -> None:
    out = tmp_path / "packs"
    write_packs(manifest, out, sample_rate=RATE, max_part_bytes=10000)
    whole = {path.name: path.read_bytes() for path in out.iterdir()}
    (out / "packs.json").unlink()
    (out / "valid-00000.bin").unlink()
    write_packs(manifest, out, sample_rate=RATE, max_part_bytes=10000)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == whole


def test_a_foreign_part_is_never_overwritten(manifest: Manifest, tmp_path: Path) -> None:
    out = tmp_path / "packs"
    out.mkdir()
    (out / "train-00000.bin").write_bytes(b"precious")
    with pytest.raises(PackError, match=r"train-00000\.bin: is there already with other content"):
        write_packs(manifest, out, sample_rate=RATE)
    assert [path.name for path in out.iterdir()] == ["train-00000.bin"]
    assert (out / "train-00000.bin").read_bytes() == b"precious"


def test_an_error_on_the_way_leaves_no_pack_and_no_partial_file(manifest: Manifest, tmp_path: Path) -> None:
    def stop(done: int, total: int, what: str) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_packs(manifest, tmp_path / "packs", sample_rate=RATE, progress=stop)
    assert list((tmp_path / "packs").iterdir()) == []
    with pytest.raises(PackError, match="not a complete pack folder"):
        PackedAudio(tmp_path / "packs", "train")


def test_damage_is_noticed(manifest: Manifest, tmp_path: Path) -> None:
    out = tmp_path / "packs"
    write_packs(manifest, out, sample_rate=RATE)
    part = out / "train-00000.bin"
    good = part.read_bytes()
    part.write_bytes(good[:1000] + bytes([good[1000] ^ 1]) + good[1001:])
    with pytest.raises(PackError, match=r"train-00000\.bin: damaged"):
        PackedAudio(out, "train").verify()
    part.write_bytes(good[:-1])
    with pytest.raises(PackError, match=rf"train-00000\.bin: should have {len(good)} bytes, it has {len(good) - 1}"):
        PackedAudio(out, "train")
    with pytest.raises(PackError, match="should have"):
        write_packs(manifest, out, sample_rate=RATE)
    part.unlink()
    with pytest.raises(PackError, match="it is missing"):
        PackedAudio(out, "train")
    assert PackedAudio(out, "valid").names == ("b.wav",)  # the other split is whole


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "not the index of a pack folder"),
        ({"version": 2}, "written in version 2; this program reads 1"),
        ({"clips": [{"part": 0}]}, "damaged, a field is missing"),
        ({"parts": []}, r"damaged, clip a\.wav lies outside its part"),
        ({"parts": 3}, "damaged, a field is missing, unknown or of another type"),
    ],
)
def test_a_foreign_or_damaged_index_is_refused(
    manifest: Manifest, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    write_packs(manifest, tmp_path / "packs", sample_rate=RATE)
    path = tmp_path / "packs" / "packs.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | change))
    with pytest.raises(PackError, match=message):
        PackedAudio(tmp_path / "packs", "train")
    path.write_text(json.dumps(content)[:-20])
    with pytest.raises(PackError, match=r"packs\.json: damaged, not JSON"):
        PackedAudio(tmp_path / "packs", "train")


def test_an_unknown_split_and_an_item_without_one_are_refused(manifest: Manifest, tmp_path: Path) -> None:
    write_packs(manifest, tmp_path / "packs", sample_rate=RATE)
    with pytest.raises(PackError, match=r"no split 'test' in these packs; they have train, valid"):
        PackedAudio(tmp_path / "packs", "test")
    unsplit = Manifest(manifest.root, (replace(manifest.items[0], split=""),))
    with pytest.raises(PackError, match=r"a\.wav: has no split"):
        write_packs(unsplit, tmp_path / "more", sample_rate=RATE)


def test_a_pickled_pack_maps_the_files_again(manifest: Manifest, tmp_path: Path) -> None:
    write_packs(manifest, tmp_path / "packs", sample_rate=RATE)
    packed = PackedAudio(tmp_path / "packs", "train")
    frozen = pickle.dumps(packed)
    assert len(frozen) < 1000
    again = pickle.loads(frozen)
    assert again.names == packed.names
    assert np.array_equal(again.clip(1), packed.clip(1))


def test_a_long_file_gives_the_same_clip_as_one_block(tmp_path: Path) -> None:
    """Longer than a block of reading and a block of copying, at another rate."""
    manifest = make(tmp_path, [("a.wav", "train", noise(700_000, 1), 16000)])
    write_packs(manifest, tmp_path / "packs", sample_rate=RATE)
    clip = torch.from_numpy(PackedAudio(tmp_path / "packs", "train").clip(0)).double()
    assert len(clip) == 350_000
    assert float((clip - 32768 * torch.from_numpy(expected(tmp_path / "a.wav"))).abs().max()) <= 0.5 + 1e-2
