"""From a folder to packs in one call."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from vqaudio.data import ManifestError, PackedAudio, PackError, prepare, read_manifest

RATE = 8000


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = tmp_path / "source"
    generator = np.random.default_rng(0)
    for name in ("anna/1", "anna/2", "anna/3", "bert/1"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(root / f"{name}.wav", 0.1 * generator.uniform(-1, 1, RATE), RATE)
    soundfile.write(root / "anna" / "silent.wav", np.zeros(RATE), RATE)
    (root / "bert" / "no.wav").write_bytes(b"no audio")
    return root


def test_prepare_writes_manifest_dropped_and_packs(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "packs"
    report = prepare(source, out, sample_rate=4000)
    assert report.written
    assert report.causes == {"silent": 1, "unreadable": 1}
    assert sum(report.clips.values()) == 4
    assert sum(report.seconds.values()) == 4.0
    manifest = read_manifest(out / "manifest.jsonl")
    assert [manifest.locate(item).is_file() for item in manifest.items] == [True] * 4
    lines = [json.loads(line) for line in (out / "dropped.jsonl").read_text().splitlines()]
    assert [(line["path"], line["cause"]) for line in lines] == [
        ("anna/silent.wav", "silent"),
        ("bert/no.wav", "unreadable"),
    ]
    for split, clips in report.clips.items():
        packed = PackedAudio(out, split)
        packed.verify()
        assert len(packed) == clips
        assert packed.seconds == report.seconds[split]
        for clip in packed.clips:
            assert manifest.items[clip.item].split == split
            assert manifest.locate(manifest.items[clip.item]).resolve() == (source / clip.path).resolve()


def test_prepare_again_does_nothing_and_gives_the_same_report(source: Path, tmp_path: Path) -> None:
    first = prepare(source, tmp_path / "packs", sample_rate=4000)
    kept = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "packs").iterdir() if "dropped" not in path.name}
    again = prepare(source, tmp_path / "packs", sample_rate=4000)
    assert not again.written
    assert (again.clips, again.seconds, again.dropped) == (first.clips, first.seconds, first.dropped)
    for name, time in kept.items():
        assert (tmp_path / "packs" / name).stat().st_mtime_ns == time


def test_prepare_refuses_a_folder_that_holds_something_else(source: Path, tmp_path: Path) -> None:
    prepare(source, tmp_path / "packs", sample_rate=4000)
    before = {path.name: path.read_bytes() for path in (tmp_path / "packs").iterdir()}
    with pytest.raises(PackError, match="already holds packs of other files or options"):
        prepare(source, tmp_path / "packs", sample_rate=RATE)
    assert {path.name: path.read_bytes() for path in (tmp_path / "packs").iterdir()} == before
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "manifest.jsonl").write_text('{"path": "mine.wav"}\n')
    with pytest.raises(ManifestError, match=r"manifest\.jsonl: lists other recordings"):
        prepare(source, tmp_path / "own", sample_rate=RATE)
    assert (tmp_path / "own" / "manifest.jsonl").read_text() == '{"path": "mine.wav"}\n'
    with pytest.raises(ManifestError, match="a folder of their own"):
        prepare(source, source)


def test_nothing_left_is_an_error_with_the_counts(source: Path, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"nothing is left to pack \(6 kind\)"):
        prepare(source, tmp_path / "packs", kinds=("speech",))
    assert len((tmp_path / "packs" / "dropped.jsonl").read_text().splitlines()) == 6


def test_progress_tells_what_is_being_done(source: Path, tmp_path: Path) -> None:
    said: list[str] = []
    prepare(source, tmp_path / "packs", progress=lambda done, total, what: said.append(f"{done}/{total} {what}"))
    assert "0/6 checking anna/1.wav" in said
    assert "6/6 checked" in said
    assert said[-1] == "4/4 packed"
