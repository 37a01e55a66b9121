"""recipes/carry.py: a carried run goes on as one that stayed, and a pack that is not whole is refused by name."""

import dataclasses
import io
import json
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.training.scripts import RECIPES, script
from tests.training.test_loop import tensors, tiny_recipe
from vqaudio.checkpoint import load_codec
from vqaudio.training.loop import Run, train

carry = script("carry")
PART_BYTES = 20_000


def cut_off(packs: Path, out: Path, *, seed: int = 7) -> Path:
    """A run of 12 steps that crashed in step 9: checkpoints of steps 3 and 6, a log up to step 8."""
    step = Run._step

    def cut(self: Run, batch: Any, state: Any) -> Any:
        if state.step == 8:
            raise KeyboardInterrupt
        return step(self, batch, state)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "_step", cut)
        with pytest.raises(KeyboardInterrupt):
            train(dataclasses.replace(tiny_recipe(), seed=seed), packs, out)
    return out


@pytest.fixture(scope="module")
def cut(packs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cut_off(packs, tmp_path_factory.mktemp("run") / "cut")


@pytest.fixture(scope="module")
def packed(cut: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("packed") / "parts"
    carry.pack(cut, out, part_bytes=PART_BYTES)
    return out


@pytest.fixture(scope="module")
def finished(packs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "whole"
    train(tiny_recipe(), packs, out)
    return out


@pytest.fixture
def parts(packed: Path, tmp_path: Path) -> Path:
    """A copy of the pack, to be spoilt."""
    return Path(shutil.copytree(packed, tmp_path / "parts"))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# ---- there and on


def test_a_run_carried_and_resumed_ends_in_the_bits_of_one_that_stayed(
    packs: Path, packed: Path, finished: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    carry.unpack(packed, elsewhere)
    train(tiny_recipe(), packs, elsewhere, resume="auto")
    assert tensors(elsewhere) == tensors(finished)
    for name in ("model", "best"):
        assert (elsewhere / name / "model.safetensors").read_bytes() == (
            finished / name / "model.safetensors"
        ).read_bytes()
    steps = [json.loads(line)["step"] for line in (elsewhere / "log.jsonl").read_text().splitlines()]
    assert steps == sorted(steps) and steps[-1] == 12
    with pytest.raises(
        carry.CarryError, match=r"elsewhere/\S+: is at step \d+, past the \d of .*parts; choose another"
    ):
        carry.unpack(packed, elsewhere)  # what is older never replaces what is newer
    assert tensors(elsewhere) == tensors(finished)


def test_a_pack_is_whole_in_small_parts_and_the_same_each_time(cut: Path, packed: Path, tmp_path: Path) -> None:
    parts = sorted(packed.glob("*.part"))
    assert len(parts) > 3
    assert all(path.stat().st_size == PART_BYTES for path in parts[:-1])
    assert 0 < parts[-1].stat().st_size <= PART_BYTES
    carry.pack(cut, tmp_path / "again", part_bytes=PART_BYTES)
    assert contents(tmp_path / "again") == contents(packed)


def test_all_comes_out_as_it_went_in(cut: Path, packed: Path, tmp_path: Path) -> None:
    carry.unpack(packed, tmp_path / "run")
    out, came = contents(cut), contents(tmp_path / "run")
    assert {name.split("/")[0] for name in came} == {"best", "checkpoint-00000006", "log.jsonl"}
    assert came == {name: data for name, data in out.items() if not name.startswith("checkpoint-00000003")}


def test_the_pack_opens_without_the_script(packed: Path) -> None:
    stream = io.BytesIO(b"".join(path.read_bytes() for path in sorted(packed.glob("*.part"))))
    with tarfile.open(fileobj=stream) as tar:
        entries = tar.getmembers()
    assert "log.jsonl" in [entry.name for entry in entries]
    assert {(entry.mtime, entry.uid, entry.uname, entry.mode) for entry in entries} == {(0, 0, "", 0o644)}


def test_weights_of_a_finished_run_are_its_model_as_it_is(finished: Path, tmp_path: Path) -> None:
    index = carry.pack(finished, tmp_path / "parts", what="weights")
    assert (index.what, index.step, len(index.parts)) == ("weights", 12, 1)
    carry.unpack(tmp_path / "parts", tmp_path / "run")
    assert contents(tmp_path / "run") == {f"model/{name}": data for name, data in contents(finished / "model").items()}
    assert load_codec(tmp_path / "run/model")[1] == load_codec(finished / "model")[1]


def test_of_samples_the_originals_and_the_newest_go_along(finished: Path, tmp_path: Path) -> None:
    run = shutil.copytree(finished, tmp_path / "run")
    (run / "samples/0-step-000002.wav").write_bytes(b"older")
    (run / "background").mkdir()
    (run / "background/output.txt").write_bytes(b"what it printed")
    index = carry.pack(run, tmp_path / "parts", what="log")
    names = ["background/output.txt", "log.jsonl", "samples/0-original.wav", "samples/0-step-000010.wav"]
    assert [file.name for file in index.files] == names


def test_of_checkpoints_the_newest_whole_one_goes(cut: Path, tmp_path: Path) -> None:
    run = shutil.copytree(cut, tmp_path / "run")
    data = bytearray((run / "checkpoint-00000006/codec.safetensors").read_bytes())
    data[-1] ^= 1
    (run / "checkpoint-00000006/codec.safetensors").write_bytes(data)
    index = carry.pack(run, tmp_path / "parts", what="checkpoint")
    assert index.step == 3
    assert {file.name.split("/")[0] for file in index.files} == {"checkpoint-00000003"}


def test_a_line_that_is_being_written_stays_behind(cut: Path, tmp_path: Path) -> None:
    run = shutil.copytree(cut, tmp_path / "run")
    with open(run / "log.jsonl", "a") as log:
        log.write('{"kind": "train", "st')
    assert carry.snapshot_of(run, "log").files["log.jsonl"] == (cut / "log.jsonl").read_bytes()


def test_a_run_that_is_replaced_while_it_is_read_is_read_again(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = shutil.copytree(finished, tmp_path / "run")
    read, calls = carry._folder, []

    def replaced(folder: Path) -> dict[str, bytes]:
        files = read(folder)
        calls.append(folder.name)
        if len(calls) == 1:
            folder.rename(tmp_path / "before")
            shutil.copytree(tmp_path / "before", folder)
            (folder / "card.md").write_text("newer")
        return dict(files)

    monkeypatch.setattr(carry, "_folder", replaced)
    assert carry.snapshot_of(run, "weights").files["model/card.md"] == b"newer"
    assert calls == ["model", "model"]


# ---- twice


def test_packing_and_unpacking_twice_changes_nothing(cut: Path, packed: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert len(carry.unpack(packed, run)) == len(contents(run))
    inodes = {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in [*run.rglob("*"), *packed.rglob("*")]}
    assert carry.unpack(packed, run) == []
    carry.pack(cut, packed, part_bytes=PART_BYTES)
    assert inodes == {
        path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in [*run.rglob("*"), *packed.rglob("*")]
    }
    assert not list(run.glob(".*"))


def test_what_was_lost_of_a_run_comes_back_and_a_log_that_has_grown_stays(packed: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    carry.unpack(packed, run)
    (run / "best/card.md").unlink()
    (run / "checkpoint-00000006/state.json").write_text("{}")
    with open(run / "log.jsonl", "a") as log:
        log.write('{"kind": "resume", "step": 8}\n')
    assert sorted(carry.unpack(packed, run)) == ["best/card.md", "checkpoint-00000006/state.json"]
    assert (run / "log.jsonl").read_text().endswith('{"kind": "resume", "step": 8}\n')
    assert not list(run.glob(".*"))


def test_a_later_pack_of_the_same_run_is_added(packed: Path, finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    carry.unpack(packed, run)
    carry.pack(finished, tmp_path / "later")
    carry.unpack(tmp_path / "later", run)
    assert (run / "log.jsonl").read_bytes() == (finished / "log.jsonl").read_bytes()
    assert {path.name for path in run.iterdir()} == {
        "best", "model", "samples", "log.jsonl", "checkpoint-00000006", "checkpoint-00000012",
    }  # fmt: skip


# ---- what is refused


def test_lost_parts_are_named(parts: Path, tmp_path: Path) -> None:
    first, second, *_ = sorted(parts.glob("*.part"))
    first.unlink()
    second.unlink()
    with pytest.raises(carry.CarryError, match=f"{first.name} is missing; {second.name} is missing"):
        carry.unpack(parts, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("spoil", ["a byte", "cut", "longer"])
def test_an_altered_part_is_named(parts: Path, tmp_path: Path, spoil: str) -> None:
    part = sorted(parts.glob("*.part"))[2]
    data = bytearray(part.read_bytes())
    data[100] ^= spoil == "a byte"
    part.write_bytes(data[:-1] if spoil == "cut" else data + b"\0" * (spoil == "longer"))
    with pytest.raises(carry.CarryError, match=rf"parts: {part.name} was altered on the way$"):
        carry.unpack(parts, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_parts_of_two_runs_are_told_apart(packs: Path, packed: Path, parts: Path, tmp_path: Path) -> None:
    other = cut_off(packs, tmp_path / "other", seed=8)
    carry.pack(other, tmp_path / "others", part_bytes=PART_BYTES)
    ours, theirs = sorted(parts.glob("*.part")), sorted((tmp_path / "others").glob("*.part"))
    shutil.copy(theirs[1], parts)
    with pytest.raises(carry.CarryError, match=rf"parts: {theirs[1].name} belongs to another pack$"):
        carry.unpack(parts, tmp_path / "run")
    (parts / theirs[1].name).rename(ours[1])  # under the name of ours
    with pytest.raises(carry.CarryError, match=rf"{ours[1].name} was altered"):
        carry.unpack(parts, tmp_path / "run")
    shutil.copy(tmp_path / "others/index.json", parts)  # the other's index among our parts
    with pytest.raises(
        carry.CarryError, match=rf"{ours[0].name} belongs to another pack; .*{theirs[0].name} is missing"
    ):
        carry.unpack(parts, tmp_path / "run")
    with pytest.raises(carry.CarryError, match=r"others: already holds another pack \(index\.json, "):
        carry.pack(tmp_path / "other", tmp_path / "others", what="log")
    carry.unpack(tmp_path / "others", tmp_path / "run")
    with pytest.raises(carry.CarryError, match=r"run: holds another run \(tiny\)"):
        carry.unpack(packed, tmp_path / "run")


def test_an_altered_or_absent_index_is_refused(parts: Path, tmp_path: Path) -> None:
    text = (parts / "index.json").read_text()
    for altered in (text.replace('"step": 8', '"step": 9'), text[:-20], text.replace("vqaudio-carry", "other"), "[]"):
        assert altered != text
        (parts / "index.json").write_text(altered)
        with pytest.raises(carry.CarryError, match=r"index\.json: (altered|not the index)"):
            carry.unpack(parts, tmp_path / "run")
    (parts / "index.json").unlink()
    with pytest.raises(carry.CarryError, match=r"parts: there is no index\.json in it"):
        carry.unpack(parts, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "name", ["../evil", "/evil", "model/../../evil", "model/..", "samples/.x.wav", "evil", "model/a/b"]
)
def test_nothing_leads_out_of_the_run(tmp_path: Path, name: str) -> None:
    snapshot = carry.Snapshot("all", {"name": "x", "settings": "y"}, 1, {name: b"evil"})
    carry.write_pack(snapshot, tmp_path / "parts", part_bytes=1000)
    with pytest.raises(carry.CarryError, match=r"index\.json: names what no pack holds"):
        carry.unpack(tmp_path / "parts", tmp_path / "deep/run")
    assert [path.name for path in tmp_path.iterdir()] == ["parts"]


@pytest.mark.parametrize(("kind", "name"), [(tarfile.SYMTYPE, "log.jsonl"), (tarfile.REGTYPE, "../evil")])
def test_a_stream_that_is_not_what_the_index_says_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: bytes, name: str
) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, "/etc/passwd"
    monkeypatch.setattr(carry.Snapshot, "stream", lambda self: entry.tobuf() + bytes(1024))
    snapshot = carry.Snapshot("log", {"name": "x", "settings": "y"}, 1, {"log.jsonl": b""})
    carry.write_pack(snapshot, tmp_path / "parts", part_bytes=1000)
    with pytest.raises(carry.CarryError, match=r"the parts do not hold log\.jsonl where the index says"):
        carry.unpack(tmp_path / "parts", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(carry.CarryError, match=r"there is no log\.jsonl in it; name the folder that vqaudio train had"):
        carry.pack(tmp_path, tmp_path / "parts")
    (tmp_path / "log.jsonl").write_text('{"kind": "start", "step": 0}\n')
    with pytest.raises(carry.CarryError, match="it has no weights yet"):
        carry.pack(tmp_path, tmp_path / "parts", what="weights")
    with pytest.raises(carry.CarryError, match="nothing in it says which recipe it is of"):
        carry.pack(tmp_path, tmp_path / "parts", what="log")
    assert not (tmp_path / "parts").exists()


# ---- the command


def test_the_command_needs_nothing_but_the_standard_library(cut: Path, tmp_path: Path) -> None:
    def run(*arguments: object) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-I", "-S", str(RECIPES / "carry.py"), *map(str, arguments)]  # -S: no packages
        return subprocess.run(command, capture_output=True, text=True, check=False)

    done = run("pack", cut, "--out", tmp_path / "parts", "--megabytes", "0.02", "--what", "checkpoint")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{tmp_path}/parts: step 6, ")
    done = run("unpack", tmp_path / "parts", "--out", tmp_path / "run")
    assert (done.returncode, done.stdout) == (0, f"{tmp_path}/run: checkpoint-00000006\n")
    done = run("unpack", tmp_path / "parts", "--out", tmp_path / "run")
    assert done.stdout == f"{tmp_path}/run: all of it was there already\n"
    next((tmp_path / "parts").glob("*-00001.part")).unlink()
    done = run("unpack", tmp_path / "parts", "--out", tmp_path / "run")
    assert done.returncode == 1
    assert done.stderr.startswith("carry: ") and done.stderr.endswith("-00001.part is missing\n")
