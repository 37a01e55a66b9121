"""A log as TensorBoard events, read back by TensorBoard's own reader."""

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from vqaudio.cli import main
from vqaudio.training.history import read_log
from vqaudio.training.log import write_sample
from vqaudio.training.tensorboard import events, follow

LOGS = Path(__file__).parent / "logs"
LINES = (LOGS / "recovers.jsonl").read_text().splitlines(keepends=True)  # a start line and 25 training lines among them


def written(folder: Path) -> Any:
    """TensorBoard's reader over the event files in a folder."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = accumulator.EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0, "audio": 0})
    found.Reload()
    return found


def scalars(folder: Path, tag: str) -> list[tuple[int, float]]:
    """(step, value) of one tag; nothing if it is not there."""
    found = written(folder)
    return [(event.step, event.value) for event in found.Scalars(tag)] if tag in found.Tags()["scalars"] else []


@pytest.fixture
def run(tmp_path: Path) -> Path:
    pytest.importorskip("tensorboard", reason="pip install 'vqaudio[tensorboard]'")
    shutil.copy(LOGS / "recovers.jsonl", tmp_path / "log.jsonl")
    return tmp_path


def test_events_hold_the_numbers_of_the_log(run: Path) -> None:
    folder = events(run)
    assert folder == run / "tensorboard"
    found, history = written(folder), read_log(run)
    for kind in ("train", "validation"):
        for name, series in history.scalars(kind).items():
            if name != "seconds":
                numbers = found.Scalars(f"{kind}/{name}")
                assert [event.step for event in numbers] == series.steps
                assert [event.value for event in numbers] == pytest.approx(series.values, rel=1e-6)
        for name, rows in history.lists(kind).items():
            for number, series in enumerate(rows, 1):
                values = [event.value for event in found.Scalars(f"{kind}/{name}/{number}")]
                assert values == pytest.approx(series.values, rel=1e-6)
    assert "train/seconds" not in found.Tags()["scalars"]
    (settings,) = found.Tensors("settings/text_summary")
    assert b"codec.quantizer.codebook_size: 512" in settings.tensor_proto.string_val[0]


def test_times_are_those_of_the_training(run: Path) -> None:
    os.utime(run / "log.jsonl", (2_000_000_000, 2_000_000_000))
    losses = written(events(run)).Scalars("train/loss")
    seconds = read_log(run).scalars("train")["seconds"].values
    end = read_log(run).of_kind("end")[-1]["seconds"]
    assert [event.wall_time for event in losses] == pytest.approx([2_000_000_000 - end + s for s in seconds], abs=1e-3)


def test_writing_again_replaces_what_was_there(run: Path) -> None:
    events(run)
    assert len(scalars(events(run), "validation/loss")) == len(read_log(run).of_kind("validation")) == 10


def test_sounds_and_what_looks_wrong_are_there_too(run: Path) -> None:
    shutil.copy(LOGS / "collapsed.jsonl", run / "log.jsonl")
    (run / "samples").mkdir()
    audio = 0.1 * torch.randn(1, 4_000, generator=torch.Generator().manual_seed(0))
    for name in ("0-original", "0-step-000200", "0-step-000400"):
        write_sample(run / f"samples/{name}.wav", audio, 16_000)
    (run / "samples/1-original.wav").write_bytes(b"RIFF")
    found = written(events(run))
    assert found.Tags()["audio"] == ["samples/0/original", "samples/0"]
    assert [event.step for event in found.Audio("samples/0")] == [200, 400]
    assert found.Audio("samples/0")[0].sample_rate == 16_000
    (warning,) = found.Tensors("warning/codebook collapse/text_summary")
    assert warning.step == 300
    assert b"perplexity 2.5 of 512" in warning.tensor_proto.string_val[0]


def test_following_writes_what_is_added_and_waits_for_the_end_of_a_line(run: Path) -> None:
    log = run / "log.jsonl"
    log.write_text("".join(LINES[:3]) + LINES[3][:50])
    seen: list[int] = []

    def go_on() -> bool:
        """Between two looks at the log: finish the line, add some, and see how many are written so far."""
        seen.append(len(scalars(run / "tensorboard", "train/loss")))
        text = {1: LINES[3][50:], 2: LINES[4], 3: "".join(LINES[5:])}.get(len(seen), "")
        with open(log, "a") as file:
            file.write(text)
        return len(seen) < 9

    folder = follow(run, poll_seconds=0.0, keep_on=go_on)
    assert seen == [2, 2, 3]  # a start line, two of training, one of validation, training; after the end none is asked
    assert [step for step, _ in scalars(folder, "train/loss")] == read_log(run).scalars("train")["loss"].steps


def test_following_ends_when_it_is_told_to(run: Path) -> None:
    (run / "log.jsonl").write_text("".join(LINES[:3]))
    assert len(scalars(follow(run, poll_seconds=0.0, keep_on=lambda: False), "train/loss")) == 2


def test_a_resumed_run_takes_back_what_it_does_again(run: Path) -> None:
    def entry(step: int, loss: float) -> str:
        return json.dumps({"kind": "train", "step": step, "loss": loss}) + "\n"

    log = run / "log.jsonl"
    log.write_text("".join(entry(step, 1.0) for step in (1, 2, 3)))
    looks = iter(range(10))

    def go_on() -> bool:
        if next(looks) == 0:  # as RunLog does it: written aside, then renamed
            aside = run / "log.partial"
            aside.write_text(entry(1, 1.0) + "".join(entry(step, 5.0) for step in (2, 3, 4)))
            os.replace(aside, log)
            return True
        return False

    assert scalars(follow(run, poll_seconds=0.0, keep_on=go_on), "train/loss") == [
        (1, 1.0),
        (2, 5.0),
        (3, 5.0),
        (4, 5.0),
    ]


def test_the_command_writes_the_page_and_the_events(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(run), "--tensorboard", "--follow"]) == 0  # the run has ended, so it does not wait
    said = capsys.readouterr().out
    assert f"TensorBoard events are in {run / 'tensorboard'}" in said
    assert (run / "report.html").is_file()
    assert scalars(run / "tensorboard", "validation/loss")


def test_without_the_package_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(LOGS / "recovers.jsonl", tmp_path / "log.jsonl")
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ValueError, match=r"pip install 'vqaudio\[tensorboard\]'"):
        events(tmp_path)
    assert main(["report", str(tmp_path), "--tensorboard"]) == 1
    assert "pip install 'vqaudio[tensorboard]'" in capsys.readouterr().err
    assert not (tmp_path / "tensorboard").exists()


def test_what_is_no_run_leaves_no_events(run: Path) -> None:
    (run / "log.jsonl").write_text("")
    with pytest.raises(ValueError, match="there is no entry in it yet"):
        events(run)
    assert not (run / "tensorboard").exists()
