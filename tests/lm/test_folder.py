"""A folder of codes by its index, and what is said of one that is not whole."""

import json
import pickle
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from tests.lm.code_folders import ANOTHER, random_codes, write_folder
from vqaudio.code_index import INDEX_NAME, IndexEntry, Journal, read_index, write_index
from vqaudio.codes import CodesError
from vqaudio.layouts import Flat, TokenSpace
from vqaudio.lm import CodeFolder

SIZES = (5, 3)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    told = {
        "anna/2": {"split": "train", "speaker": "anna", "text": "zwei"},
        "anna/1": {"split": "valid", "speaker": "anna"},
        "bert.x": {"split": "train", "speaker": "bert", "licence": "CC0"},
    }
    codes = {name: random_codes(SIZES, number, channels=2) for number, name in enumerate(told, start=3)}
    write_folder(tmp_path, codes, told)
    return tmp_path


def names(folder: CodeFolder) -> list[str]:
    return [item.name for item in folder.items]


def test_a_folder_knows_its_recordings_and_their_tokenizer(folder: Path) -> None:
    found = CodeFolder(folder)
    assert names(found) == ["anna/1", "anna/2", "bert.x"] and len(found) == 3
    first = found.items[1]
    assert (first.num_frames, first.split, first.speaker, first.text) == (3, "train", "anna", "zwei")
    assert found.items[0].text is None and found.items[2].licence == "CC0"
    assert found.num_frames == 2 * (3 + 4 + 5)
    assert found.seconds == pytest.approx(2 * (3 * 20 - 7 + 4 * 20 - 7 + 5 * 20 - 7) / 1_600)
    assert found.codes(1) == random_codes(SIZES, 3, channels=2)
    assert TokenSpace.of(found, Flat(codebook_sizes=SIZES)) == TokenSpace.of(found.codes(0), Flat(codebook_sizes=SIZES))
    assert names(pickle.loads(pickle.dumps(found))) == names(found)


def test_a_selection_is_a_folder_of_some(folder: Path) -> None:
    found = CodeFolder(folder)
    assert names(found.select(split="train")) == ["anna/2", "bert.x"]
    assert names(found.select(split="train", speakers=["anna"])) == ["anna/2"]
    assert names(found.select(where=lambda item: item.num_frames > 3)) == ["anna/1", "bert.x"]
    assert names(CodeFolder(folder, found.items[1:])) == ["anna/2", "bert.x"]
    assert found.select(split="valid").codes(0) == random_codes(SIZES, 4, channels=2)
    assert len(found) == 3


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"split": "test"}, "no recording has split 'test'; there are train, valid"),
        ({"speakers": ["anna", "carl"]}, "no recording has speaker 'carl'; there are anna, bert"),
        ({"speakers": "anna"}, r"wanted is a collection of names, such as \['anna'\]"),
        ({"where": lambda item: False}, "`where` leaves none of 3 recordings"),
        ({"split": "valid", "speakers": ["bert"]}, "no recording has speaker 'bert'; there are anna"),
    ],
)
def test_a_selection_of_none_is_refused_with_what_there_is(folder: Path, asked: dict[str, Any], message: str) -> None:
    with pytest.raises(CodesError, match=message):
        CodeFolder(folder).select(**asked)


def test_a_folder_without_an_index_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(CodesError, match=re.escape(f"`vqaudio encode RECORDINGS --out {tmp_path}` writes it")):
        CodeFolder(tmp_path)


def test_codes_of_two_tokenizers_are_told_by_name(tmp_path: Path) -> None:
    recordings = {name: random_codes(SIZES, 2) for name in "abc"}
    write_folder(tmp_path, {**recordings, "b": random_codes(SIZES, 2, fingerprint=ANOTHER)})
    with pytest.raises(CodesError, match=f"different tokenizers: token_fingerprint is {ANOTHER} of b, and aaa"):
        CodeFolder(tmp_path)


def test_recordings_with_fewer_codebooks_leave_those_that_all_have(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a": random_codes((5, 3, 4), 2), "b": random_codes((5, 3), 2)})
    folder = CodeFolder(tmp_path)
    assert folder.codebook_sizes == (5, 3) and folder.codes(0).num_codebooks == 3
    write_folder(tmp_path, {"a": random_codes((5, 3, 4), 2), "b": random_codes((5, 4), 2)})
    with pytest.raises(CodesError, match=r"a has codebooks of \(5, 3, 4\) codes, and others \(5, 4\)"):
        CodeFolder(tmp_path)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda path: path.unlink(), "cannot be opened"),
        (lambda path: path.write_bytes(path.read_bytes()[:-3]), "truncated"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1] + b"\7"), "altered|outside"),
        (lambda path: random_codes(SIZES, 9, channels=2).save(path), "num_frames is 9 in the file and 3 in the index"),
        (lambda path: random_codes(SIZES, 3).save(path), "channels is 1 in the file and 2 in the index"),
        (lambda path: random_codes(SIZES, 3, channels=2, fingerprint=ANOTHER).save(path), "token_fingerprint is bbb"),
    ],
)
def test_a_file_that_is_not_what_the_index_says_is_named_when_read(
    folder: Path, harm: Callable[[Path], None], message: str
) -> None:
    found = CodeFolder(folder)
    harm(folder / "anna/2.vqt")
    assert found.codes(0).num_frames == 4
    with pytest.raises(CodesError, match=f"{re.escape(str(folder / 'anna/2.vqt'))}: .*({message})"):
        found.codes(1)


# ---- the index by itself


@given(st.text(min_size=1).filter(lambda text: "\0" not in text and text.strip("./")), st.text() | st.none())
def test_an_entry_comes_back_from_its_line(name: str, text: str | None) -> None:
    name = name.strip("/").replace("..", "x")
    entry = IndexEntry.of(name, random_codes(SIZES, 3), "c" * 64, text=text, made_of={"file": name, "end": None})
    with tempfile.TemporaryDirectory() as place:
        (Path(place) / INDEX_NAME).write_text(entry.line, encoding="ascii")
        assert entry.line.count("\n") == 1
        assert read_index(place) == {name: entry}


def test_lines_of_files_that_are_gone_are_left_out(folder: Path) -> None:
    entries = read_index(folder)
    (folder / "anna/1.vqt").unlink()
    write_index(folder, entries.values())
    assert list(read_index(folder)) == ["anna/2", "bert.x"]


def test_two_that_code_into_one_folder_have_one_index(tmp_path: Path) -> None:
    one, two = Journal(tmp_path), Journal(tmp_path)
    for name in "abc":
        random_codes(SIZES, 3).save(tmp_path / f"{name}.vqt")
    entries = {name: IndexEntry.of(name, random_codes(SIZES, 3), "c" * 64) for name in "abc"}
    with one:
        one.add(entries["a"])
        with two:
            two.add(entries["b"])
        one.add(entries["c"])
    assert read_index(tmp_path) == entries
    with Journal(tmp_path) as three:
        three.drop("b")
    assert list(read_index(tmp_path)) == ["a", "c"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda row: row.pop("num_frames"), "line 2: is no recording of an index: num_frames is missing"),
        (lambda row: row.update(num_frames=-1), "line 2: num_frames is -1; it is a whole number of at least 0"),
        (lambda row: row.update(hop_length=True), "line 2: hop_length is True"),
        (lambda row: row.update(name="../x"), "line 2: name is '../x'; it is a relative path"),
        (lambda row: row.update(name="anna/1"), "line 2: name 'anna/1' was there before"),
        (lambda row: row.update(codebook_sizes=[]), r"line 2: codebook_sizes is \[\]"),
        (lambda row: row.update(text=3), "line 2: text is 3; it is text"),
        (lambda row: row.update(made_of="x"), "line 2: made_of is 'x'"),
    ],
)
def test_a_line_that_makes_no_sense_is_named(folder: Path, change: Callable[[Any], Any], message: str) -> None:
    path = folder / INDEX_NAME
    lines = path.read_text(encoding="ascii").splitlines(keepends=True)
    row = json.loads(lines[1])
    change(row)
    path.write_text("".join([lines[0], json.dumps(row) + "\n", lines[2]]), encoding="ascii")
    with pytest.raises(CodesError, match=f"{re.escape(str(path))}, {message}"):
        CodeFolder(folder)
    path.write_text("[1]\n", encoding="ascii")
    with pytest.raises(CodesError, match="line 1: is no recording of an index, which are JSON objects"):
        CodeFolder(folder)
