"""The readers of public corpora, on generated trees with the layout of each: what is listed, what is left out."""

import json
import os
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from tests.data.trees import TREES, Tree
from vqaudio.cli import main
from vqaudio.data import ManifestError, PackedAudio, prepare
from vqaudio.data.sources import CORPORA, Listing, SourceError
from vqaudio.data.sources.musdb import VALIDATION_SONGS
from vqaudio.data.sources.tree import find_corpus
from vqaudio.io import AUDIO_EXTENSIONS

Captured = pytest.CaptureFixture[str]
NAMES = sorted(TREES)
BY_SPEAKER = ("librispeech", "libritts", "vctk", "common-voice")


def audio_in(tree: Tree, corpus: Path) -> list[str]:
    """Every audio file in the folders where the corpus keeps audio."""
    found = [path for folder in tree.audio for path in (corpus / folder).rglob("*")]
    return sorted(
        path.relative_to(corpus).as_posix()
        for path in found
        if path.suffix.lower() in AUDIO_EXTENSIONS and path.is_file()
    )


def listed(listing: Listing) -> list[str]:
    return [item.path for item in listing.manifest.items] + [entry.path for entry in listing.dropped]


def state(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*")}


def test_there_is_a_tree_for_every_corpus() -> None:
    assert set(TREES) == set(CORPORA)


@pytest.mark.parametrize("name", NAMES)
def test_what_a_corpus_holds_and_what_is_left_out_of_it(name: str, tmp_path: Path) -> None:
    tree = TREES[name]
    corpus = tree.write(tmp_path)
    listing = CORPORA[name].lister(tmp_path)
    assert listing.manifest.root == corpus
    assert {item.path: (item.split, item.speaker, item.text) for item in listing.manifest.items} == tree.items
    assert {entry.path: entry.cause for entry in listing.dropped} == tree.dropped
    assert len(listed(listing)) == len(tree.items) + len(tree.dropped)
    assert {(item.licence, item.kind) for item in listing.manifest.items} == {(tree.licence, tree.kind)}
    assert CORPORA[name].licence == tree.licence


@pytest.mark.parametrize("name", NAMES)
def test_the_corpus_folder_does_as_well_as_the_one_that_holds_it(name: str, tmp_path: Path) -> None:
    corpus = TREES[name].write(tmp_path)
    assert CORPORA[name].lister(corpus) == CORPORA[name].lister(tmp_path)
    renamed = corpus.rename(tmp_path / "any name")
    assert CORPORA[name].lister(tmp_path) == CORPORA[name].lister(renamed)


@pytest.mark.parametrize("name", NAMES)
def test_other_folders_are_refused_with_what_was_looked_for(name: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for other in NAMES:
        if other != name:
            TREES[other].write(tmp_path / "others")
    for place in (tmp_path / "empty", tmp_path / "others"):
        with pytest.raises(SourceError, match=r"Looked here and one folder down for .*; found here: ") as caught:
            CORPORA[name].lister(place)
        there = "nothing" if place.name == "empty" else TREES[next(each for each in NAMES if each != name)].folder
        assert str(place) in str(caught.value) and there in str(caught.value)
    with pytest.raises(SourceError, match="there is no such folder"):
        CORPORA[name].lister(tmp_path / "nowhere")


def test_a_corpus_that_is_there_twice_is_asked_about(tmp_path: Path) -> None:
    shutil.copytree(TREES["libritts"].write(tmp_path), tmp_path / "LibriTTS")
    with pytest.raises(SourceError, match=r"more than once \(LibriTTS, LibriTTS_R\)"):
        CORPORA["libritts"].lister(tmp_path)


def test_folders_that_nobody_may_read_do_not_hide_the_corpus(tmp_path: Path) -> None:
    """A disk of its own has a lost+found; tests may run as a user who can read it."""

    def is_corpus(place: Path) -> bool:
        if place.name == "lost+found":
            raise PermissionError
        return place.name == "corpus"

    (tmp_path / "lost+found").mkdir()
    (tmp_path / "corpus").mkdir()
    assert find_corpus(tmp_path, title="x", wanted="y", is_corpus=is_corpus) == tmp_path / "corpus"


def test_a_common_voice_release_may_lie_one_folder_down(tmp_path: Path) -> None:
    corpus = TREES["common-voice"].write(tmp_path)
    german = CORPORA["common-voice"].lister(corpus / "de")
    assert [(item.path, item.split) for item in german.manifest.items] == [("clips/d1.mp3", "test")]
    assert [entry.path for entry in german.dropped] == ["clips/d2.mp3"]


# What can go wrong with any file: (kind of damage, which file, a number to draw details from).
damage = st.lists(
    st.tuples(
        st.sampled_from(["remove", "empty", "rename", "move", "bytes", "cut", "copy", "folder"]),
        st.integers(0, 1000),
        st.integers(0, 2**32),
    ),
    max_size=8,
)


def apply(root: Path, kind: str, which: int, seed: int) -> None:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    if not files:
        return
    path, draw = files[which % len(files)], random.Random(seed)
    others = sorted(folder for folder in root.rglob("*") if folder.is_dir())
    new = draw.choice(["x", "19-198-0000.flac", "p225_001_mic1.flac", "é\u2028.wav", ".mp3", "1_2_3_4.wav", "a:1.wav"])
    if kind == "remove":
        path.unlink()
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "rename" and not (path.parent / new).exists():
        path.rename(path.parent / new)
    elif kind in ("move", "copy"):
        target = draw.choice(others) / path.name
        if not target.exists():
            shutil.move(path, target) if kind == "move" else shutil.copy(path, target)
    elif kind == "bytes":
        content = bytearray(path.read_bytes())
        for place in range(len(content)):
            if draw.random() < 0.1:
                content[place] = draw.choice([draw.randrange(256), 0, 9, 10, 32, 124])
        path.write_bytes(content)
    elif kind == "cut":
        path.write_bytes(path.read_bytes()[: draw.randrange(20)])
    elif kind == "folder":
        path.unlink()
        path.mkdir()


@pytest.mark.parametrize("name", NAMES)
@given(damages=damage)
def test_each_audio_file_is_listed_once_whatever_is_wrong_with_the_corpus(
    name: str, damages: list[tuple[str, int, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Nothing raises, nothing is touched, speakers stay apart."""
    tree = TREES[name]
    root = tmp_path_factory.mktemp("corpus")
    corpus = tree.write(root)
    for kind, which, seed in damages:
        apply(corpus, kind, which, seed)
    before = state(root)
    try:
        listing = CORPORA[name].lister(corpus)
    except SourceError:  # too little is left of it to be known
        return
    finally:
        assert state(root) == before
    audio = audio_in(tree, corpus)
    assert sorted(path for path in listed(listing) if path in audio) == audio
    assert all((corpus / item.path).is_file() and item.split for item in listing.manifest.items)
    assert CORPORA[name].lister(corpus) == listing
    speakers = {item.speaker for item in listing.manifest.items}
    if name in BY_SPEAKER and len(speakers) > 1:  # a single one of VCTK is split by file
        sides = {(item.speaker, item.split) for item in listing.manifest.items}
        assert len(sides) == len(speakers)
    shutil.rmtree(root)


@pytest.mark.parametrize("name", NAMES)
def test_the_order_in_which_a_disk_lists_files_has_no_effect(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    TREES[name].write(tmp_path)
    expected = CORPORA[name].lister(tmp_path)
    listdir, scandir = os.listdir, os.scandir

    class Backwards(list[os.DirEntry[str]]):
        """What `os.scandir` gives, from the last name to the first; `pop` takes from the end."""

        def __enter__(self) -> "Backwards":
            return self

        def __exit__(self, *exception: object) -> None: ...

        def __next__(self) -> os.DirEntry[str]:
            if not self:
                raise StopIteration
            return self.pop()

        close = list.clear

    def scan_backwards(path: Any = ".") -> Backwards:
        with scandir(path) as entries:
            return Backwards(sorted(entries, key=lambda entry: entry.name))

    monkeypatch.setattr(os, "listdir", lambda path=".": sorted(listdir(path), reverse=True))
    monkeypatch.setattr(os, "scandir", scan_backwards)
    assert CORPORA[name].lister(tmp_path) == expected


def test_linked_folders_are_followed_and_circles_are_not(tmp_path: Path) -> None:
    """A corpus may be spread over several disks."""
    expected = {
        item.path for item in CORPORA["librispeech"].lister(TREES["librispeech"].write(tmp_path)).manifest.items
    }
    corpus = tmp_path / "LibriSpeech"
    (corpus / "train-clean-100").rename(tmp_path / "elsewhere")
    (corpus / "train-clean-100").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "19" / "circle").symlink_to(tmp_path / "elsewhere")
    listing = CORPORA["librispeech"].lister(corpus)
    assert {item.path for item in listing.manifest.items} == expected
    (corpus / "dev-clean" / "53" / "7" / "53-7-0000.flac").unlink()
    (corpus / "dev-clean" / "53" / "7" / "53-7-0000.flac").symlink_to(tmp_path / "nowhere")
    causes = {entry.path: entry.cause for entry in CORPORA["librispeech"].lister(corpus).dropped}
    assert causes["dev-clean/53/7/53-7-0000.flac"] == "missing"


def test_parts_can_be_chosen(tmp_path: Path) -> None:
    listing = CORPORA["librispeech"].lister(TREES["librispeech"].write(tmp_path)).of_parts(["dev-clean", "test-other"])
    assert [item.path for item in listing.manifest.items] == [
        "dev-clean/53/7/53-7-0000.flac",
        "test-other/84/122/84-122-0000.flac",
    ]
    assert listing.dropped == ()


def test_the_validation_songs_of_musdb_are_fourteen() -> None:
    assert len(VALIDATION_SONGS) == 14


def test_every_default_part_can_be_fetched() -> None:
    for name, corpus in CORPORA.items():
        assert set(corpus.default_parts) <= set(corpus.parts), name
        assert bool(corpus.default_parts) == bool(corpus.archives), name
        for archive in corpus.archives:
            assert archive.sha256 is not None and len(archive.sha256) == 64
            assert archive.md5 is None or len(archive.md5) == 32
            assert archive.url.startswith("https://")


# ---- from a corpus to packs


@pytest.mark.parametrize("name", NAMES)
def test_a_corpus_becomes_packs_and_a_list_of_what_was_dropped(name: str, tmp_path: Path, capsys: Captured) -> None:
    tree = TREES[name]
    tree.write(tmp_path / "root", real=True)
    out = tmp_path / "packs"
    arguments = ["prepare", name, str(tmp_path / "root"), "--out", str(out), "--sample-rate", "4000"]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert f"licence: {tree.licence}" in said
    assert f"dropped: {len(tree.dropped)} (" in said
    lines = [json.loads(line) for line in (out / "dropped.jsonl").read_text().splitlines()]
    assert {line["path"]: line["cause"] for line in lines} == tree.dropped
    packed = {clip.path: split for split in ("train", "valid", "test") for clip in clips(out, split)}
    assert packed == {path: split for path, (split, _, _) in tree.items.items()}
    assert main(arguments) == 0
    assert "nothing to do" in capsys.readouterr().out


def clips(out: Path, split: str) -> Any:
    return PackedAudio(out, split).clips if any(out.glob(f"{split}-*.bin")) else ()


def test_recordings_that_cannot_be_decoded_join_the_list(tmp_path: Path) -> None:
    tree = TREES["ljspeech"]
    corpus = tree.write(tmp_path, real=True)
    (corpus / "wavs" / "LJ001-0001.wav").write_bytes(b"no audio")
    listing = CORPORA["ljspeech"].lister(corpus)
    report = prepare(listing.manifest, tmp_path / "packs", dropped=listing.dropped, sample_rate=4000)
    assert report.causes["unreadable"] == 1
    assert len(report.dropped) == len(tree.dropped) + 1
    assert sum(report.clips.values()) == len(tree.items) - 1
    (tmp_path / "nothing").mkdir()
    with pytest.raises(ManifestError, match=r"LJSpeech-1\.1: nothing is left to pack \(4 kind, "):
        prepare(listing.manifest, tmp_path / "nothing", dropped=listing.dropped, kinds=("music",))
    with pytest.raises(ManifestError, match="a folder of their own"):
        prepare(listing.manifest, corpus)


def test_folder_is_the_name_of_any_folder(tmp_path: Path) -> None:
    TREES["ljspeech"].write(tmp_path / "in", real=True)
    for out, words in (("a", ["folder", str(tmp_path / "in")]), ("b", [str(tmp_path / "in")])):
        assert main(["prepare", *words, "--out", str(tmp_path / out), "--sample-rate", "4000"]) == 0
    for name in ("packs.json", "manifest.jsonl", "dropped.jsonl"):
        assert (tmp_path / "a" / name).read_text() == (tmp_path / "b" / name).read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["librispeech"], "librispeech is a corpus; say where it is or should go: prepare librispeech ROOT"),
        (["vctk"], "for the folder of that name: prepare ./vctk"),
        (["LibriSpeach"], "there is no such folder or manifest; did you mean librispeech?"),
        (["musdb18", "in"], "musdb18 is not a corpus; did you mean musdb18-hq? Known: librispeech, "),
        (["xyz", "in"], "xyz is not a corpus. Known: "),
        (["in", "--download"], "--download and --part go with a corpus"),
        (["folder", "in", "--part", "a"], "--download and --part go with a corpus"),
        (["librispeech", "in", "--part", "train-clean-10"], "did you mean train-clean-100?"),
        (["common-voice", "in", "--part", "en"], "common-voice has no parts to choose from"),
        (["common-voice", "in", "--download"], "agree to its terms, so it cannot be downloaded here"),
    ],
)
def test_wrong_command_lines_are_answered_with_the_right_ones(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "vctk").mkdir()
    (tmp_path / "in").mkdir()
    with pytest.raises(SystemExit, match="2"):
        main(["prepare", *words, "--out", "packs"])
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "packs").exists()


def test_parts_of_the_command_line_choose_what_is_packed(tmp_path: Path, capsys: Captured) -> None:
    TREES["librispeech"].write(tmp_path / "in", real=True)
    words = ["prepare", "librispeech", str(tmp_path / "in"), "--sample-rate", "4000", "--out", str(tmp_path / "packs")]
    assert main([*words, "--part", "dev-other"]) == 1
    assert "has nothing of dev-other; --download fetches it" in capsys.readouterr().err
    assert main([*words, "--part", "dev-clean", "--part", "test-other"]) == 0
    assert [len(clips(tmp_path / "packs", split)) for split in ("train", "valid", "test")] == [0, 1, 1]
