"""Manifests, the scan of folders and manifests, and the splits it assigns."""

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings, strategies as st

from vqaudio.data import Item, Manifest, ManifestError, assign_splits, read_manifest, scan, write_manifest

RATE = 8000


def noise(seconds: float, seed: int = 0, level: float = 0.1, channels: int = 1) -> np.ndarray:
    """(T, C) float64."""
    generator = np.random.default_rng(seed)
    return level * generator.uniform(-1, 1, (round(seconds * RATE), channels))


def write(path: Path, audio: np.ndarray, subtype: str = "PCM_16") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, audio, RATE, subtype=subtype)
    return path


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Three good files of two speakers, and one of every kind of bad file."""
    root = tmp_path / "corpus"
    write(root / "anna" / "1.wav", noise(1.0, 1))
    write(root / "anna" / "2.flac", noise(0.75, 2, channels=2))
    write(root / "bert" / "1.wav", noise(1.25, 3))
    shutil.copy(root / "bert" / "1.wav", root / "bert" / "copy.wav")
    write(root / "bad" / "short.wav", noise(0.1, 4))
    write(root / "bad" / "silent.wav", noise(1.0, 5, level=1e-4))
    write(root / "bad" / "zeros.wav", np.zeros((RATE, 1)))
    write(root / "bad" / "antiphase.wav", noise(1.0, 6) * np.array([[1.0, -1.0]]))
    broken = noise(1.0, 7)
    broken[4321] = np.nan
    write(root / "bad" / "nan.wav", broken, "FLOAT")
    whole = write(root / "bad" / "cut.flac", noise(2.0, 8)).read_bytes()
    (root / "bad" / "cut.flac").write_bytes(whole[: len(whole) // 2])
    (root / "bad" / "empty.wav").write_bytes(b"")
    (root / "bad" / "text.mp3").write_text("this is no audio at all\n" * 40)
    (root / "bad" / "dangling.wav").symlink_to(root / "nowhere.wav")
    (root / "bad" / "folder.wav").mkdir()
    (root / "bad" / "notes.txt").write_text("not even a candidate")
    return root


def test_scan_keeps_what_is_good_and_measures_it(corpus: Path) -> None:
    items = {item.path: item for item in scan(corpus).items}
    assert sorted(items) == ["anna/1.wav", "anna/2.flac", "bert/1.wav"]
    stereo = items["anna/2.flac"]
    assert (stereo.sample_rate, stereo.num_samples, stereo.channels) == (RATE, 6000, 2)
    assert stereo.seconds == 0.75
    assert stereo.speaker == "anna"
    assert {item.split for item in items.values()} == {"train", "valid"}


def test_scan_says_why_each_bad_file_is_dropped(corpus: Path) -> None:
    dropped = {entry.path: (entry.cause, entry.reason) for entry in scan(corpus).dropped}
    assert {path: cause for path, (cause, _) in dropped.items()} == {
        "bert/copy.wav": "duplicate",
        "bad/short.wav": "too short",
        "bad/silent.wav": "silent",
        "bad/zeros.wav": "silent",
        "bad/antiphase.wav": "silent",
        "bad/nan.wav": "unreadable",
        "bad/cut.flac": "unreadable",
        "bad/empty.wav": "unreadable",
        "bad/text.mp3": "unreadable",
        "bad/dangling.wav": "missing",
    }
    assert "bert/1.wav" in dropped["bert/copy.wav"][1]
    assert "4321" in dropped["bad/nan.wav"][1]
    assert "cut.flac" in dropped["bad/cut.flac"][1]
    assert "0.100 s" in dropped["bad/short.wav"][1]


def test_the_copy_of_a_dropped_file_is_judged_by_itself(tmp_path: Path) -> None:
    shutil.copy(write(tmp_path / "a.wav", noise(0.1)), tmp_path / "b.wav")
    assert [entry.cause for entry in scan(tmp_path, min_seconds=0.2).dropped] == ["too short", "too short"]
    assert [entry.cause for entry in scan(tmp_path, min_seconds=0.05).dropped] == ["duplicate"]


def test_recordings_of_narrow_bands_are_left_out_by_their_own_rate(tmp_path: Path) -> None:
    for rate in (8_000, 16_000, 24_000):
        soundfile.write(tmp_path / f"{rate}.wav", noise(0.6), rate)
    result = scan(tmp_path, min_seconds=0.1, min_sample_rate=16_000)
    assert [item.path for item in result.items] == ["16000.wav", "24000.wav"]
    assert [(entry.cause, entry.reason) for entry in result.dropped] == [("narrow band", "at 8000 Hz, below 16000")]


def test_scan_survives_arbitrary_bytes(tmp_path: Path) -> None:
    """Headers damaged at random, in every container, never raise."""
    generator = np.random.default_rng(0)
    extensions = ("wav", "flac", "ogg", "mp3", "aiff")
    for extension in extensions:
        subtype = {"ogg": "VORBIS", "mp3": "MPEG_LAYER_III"}.get(extension, "PCM_16")
        good = bytearray(write(tmp_path / f"good.{extension}", noise(0.5), subtype).read_bytes())
        for number in range(8):
            damaged = bytearray(good)
            for place in generator.integers(0, min(len(good), 64), 4):
                damaged[place] = generator.integers(256)
            (tmp_path / f"{number}.{extension}").write_bytes(damaged[: generator.integers(1, len(good))])
    result = scan(tmp_path, min_seconds=0.01)
    assert len(result.items) + len(result.dropped) == 45
    assert {f"good.{extension}" for extension in extensions} <= {item.path for item in result.items}


def test_kinds_and_licences_filter_before_any_file_is_opened(tmp_path: Path) -> None:
    rows = [("a.wav", "speech-read", "CC0"), ("b.wav", "music", "CC0"), ("c.wav", "speech", "CC BY-SA 4.0")]
    rows += [("d.wav", "speechless", "CC0")]
    lines = ["path\tkind\tlicence", *("\t".join(row) for row in rows)]
    (tmp_path / "list.tsv").write_text("\n".join(lines) + "\n")
    result = scan(tmp_path / "list.tsv", kinds=("Speech",), exclude_licences=("-sa",))
    assert [(entry.path, entry.cause) for entry in result.dropped] == [
        ("a.wav", "missing"),
        ("b.wav", "kind"),
        ("c.wav", "licence"),
        ("d.wav", "kind"),
    ]


def test_a_manifest_in_the_folder_is_used_and_its_splits_are_kept(corpus: Path) -> None:
    table = 'path\tsplit\ttext\tmd5\nanna/1.wav\ttest\the said "hello\tx\n\nbert/1.wav\tdev\t\ty\n'
    (corpus / "manifest.tsv").write_text(table)
    result = scan(corpus)
    assert [(item.path, item.split, item.text) for item in result.items] == [
        ("anna/1.wav", "test", 'he said "hello'),
        ("bert/1.wav", "dev", ""),
    ]


def test_progress_reaches_the_total(corpus: Path) -> None:
    calls: list[tuple[int, int]] = []
    result = scan(corpus, progress=lambda done, total, _: calls.append((done, total)))
    total = len(result.items) + len(result.dropped)
    assert calls == [(done, total) for done in range(total + 1)]


def test_written_manifests_point_at_the_same_files_from_any_folder(corpus: Path, tmp_path: Path) -> None:
    manifest = scan(corpus).manifest
    (tmp_path / "some" / "where").mkdir(parents=True)
    path = tmp_path / "some" / "where" / "m.jsonl"
    write_manifest(manifest, path)
    again = read_manifest(path)
    assert [again.locate(item).resolve() for item in again.items] == [
        manifest.locate(item).resolve() for item in manifest.items
    ]
    again_scanned = scan(path)
    assert [item.hash for item in again_scanned.items] == [item.hash for item in manifest.items]
    assert [item.split for item in again_scanned.items] == [item.split for item in manifest.items]


names = st.text(st.characters(exclude_characters="\0/", codec="utf-8"), min_size=1).filter(lambda name: name.strip("."))
texts = st.text(st.characters(codec="utf-8"))
items_strategy = st.lists(
    st.builds(
        Item,
        path=names,
        sample_rate=st.none() | st.integers(1, 10**6),
        num_samples=st.none() | st.integers(0, 10**12),
        split=st.sampled_from(["train", "valid", ""]),
        speaker=texts,
        text=texts,
        licence=texts,
    ),
    max_size=6,
)


@settings(max_examples=40)
@given(items=items_strategy)
def test_reading_what_was_written_gives_the_same_items(
    items: list[Item], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Quotes, line separators, tabs and any language included."""
    root = tmp_path_factory.getbasetemp().resolve()
    manifest = Manifest(root, tuple(items))
    write_manifest(manifest, root / "manifest.jsonl")
    assert read_manifest(root / "manifest.jsonl") == manifest


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m.jsonl", '{"path": "a.wav"}\n{"path": ', "line 2: not JSON"),
        ("m.jsonl", '["a.wav"]\n', "line 1: expected a JSON object, got list"),
        ("m.jsonl", '{"text": "a"}\n', "line 1: path must name a file"),
        ("m.jsonl", '{"path": "a.wav", "sample_rate": "fast"}\n', "line 1: sample_rate must be a whole number"),
        ("m.jsonl", '{"path": "a.wav", "split": "../train"}\n', "line 1: split must be"),
        ("m.jsonl", '{"path": "a.wav", "speaker": 7}\n', "line 1: speaker must be a string"),
        ("m.tsv", "name\tsplit\na.wav\ttrain\n", "must name the columns"),
        ("m.tsv", "path\tsplit\na.wav\ttrain\tmore\n", "line 2: 3 cells under 2"),
        ("m.csv", "path,split\n", r"ends in \.jsonl or \.tsv, got '\.csv'"),
    ],
)
def test_a_bad_manifest_is_refused_with_file_and_line(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(ManifestError, match=message) as caught:
        read_manifest(tmp_path / name)
    assert name in str(caught.value)


def test_missing_sources_and_binary_manifests_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="no such folder or manifest"):
        scan(tmp_path / "nowhere")
    with pytest.raises(ManifestError, match="no audio file below"):
        scan(tmp_path)
    (tmp_path / "binary.tsv").write_bytes(b"path\n\xff\xfe\n")
    with pytest.raises(ManifestError, match=r"binary.tsv: not UTF-8"):
        read_manifest(tmp_path / "binary.tsv")
    with pytest.raises(ManifestError, match=r"a.wav: its length is not in the manifest"):
        _ = Item(path="a.wav").seconds


@given(speakers=st.dictionaries(texts, st.integers(1, 4), min_size=2, max_size=40))
def test_splits_by_speaker(speakers: dict[str, int]) -> None:
    """No speaker on two sides, train and valid never empty, order of the items without effect."""
    items = [Item(path=f"{n}/{i}", speaker=name) for n, name in enumerate(speakers) for i in range(speakers[name])]
    split = {item.path: item.split for item in assign_splits(items)}
    sides: dict[str, set[str]] = {}
    for item in items:
        sides.setdefault(item.speaker, set()).add(split[item.path])
    assert all(len(side) == 1 for side in sides.values())
    assert {"train", "valid"} <= set(split.values()) <= {"train", "valid", "test"}
    assert {item.path: item.split for item in assign_splits(items[::-1])} == split


def test_many_speakers_are_split_about_90_5_5_and_stay_when_more_come() -> None:
    items = [Item(path=str(n), speaker=f"speaker {n}") for n in range(2000)]
    split = assign_splits(items)
    counts = Counter(item.split for item in split)
    assert 1740 < counts["train"] < 1860
    assert 60 < counts["valid"] < 140
    assert 60 < counts["test"] < 140
    assert assign_splits(items[:1000]) == split[:1000]


@given(number=st.integers(2, 60))
def test_one_speaker_is_split_by_file(number: int) -> None:
    split = assign_splits([Item(path=f"{n}.wav", speaker="anna") for n in range(number)])
    assert {"train", "valid"} <= {item.split for item in split}


def test_a_single_file_trains() -> None:
    for number in range(40):
        (item,) = assign_splits([Item(path=f"{number}.wav")])
        assert item.split == "train"


def test_of_two_speakers_the_larger_trains_unless_its_name_says_otherwise() -> None:
    large_trains = 0
    for number in range(40):
        items = [Item(path=f"a{i}", speaker=f"large {number}") for i in range(9)]
        sizes = Counter(item.split for item in assign_splits([*items, Item(path="b", speaker=f"small {number}")]))
        large_trains += sizes["train"] == 9
    assert large_trains >= 30


def test_some_with_a_split_and_some_without_is_refused() -> None:
    with pytest.raises(ManifestError, match=r"b.wav: has no split though others have"):
        assign_splits([Item(path="a.wav", split="train"), Item(path="b.wav")])


def test_lines_are_plain_json_without_unmeasured_fields(tmp_path: Path) -> None:
    write_manifest(Manifest(tmp_path, (Item(path="ä\u2028.wav", text="日本"),)), tmp_path / "m.jsonl")
    (line,) = (tmp_path / "m.jsonl").read_text(encoding="ascii").splitlines()
    assert json.loads(line) == {
        "path": "ä\u2028.wav",
        "split": "",
        "speaker": "",
        "text": "日本",
        "licence": "",
        "kind": "",
    }
