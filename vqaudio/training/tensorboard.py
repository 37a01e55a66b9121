"""A run's log as TensorBoard event files, for those who follow runs there: the extra `vqaudio[tensorboard]`.

The log stays the truth: `RUN/tensorboard/` is made from it, and made anew when the log takes lines back, as that of a
resumed run does. Tags: `train/loss`, `validation/loss`, `validation/perplexity/1` for the first codebook, `samples/0`;
stages, resumes, skipped batches and what looks wrong are text. Times are the run's own seconds of training, counted
back from when the log was last written.
"""

import re
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from vqaudio.training.health import Finding, HealthCheck
from vqaudio.training.history import Entry, flat, parse_line, read_log
from vqaudio.training.log import LOG_NAME
from vqaudio.training.page_samples import SAMPLES_NAME, read_sound

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

FOLDER_NAME = "tensorboard"


def events(run_folder: str | Path) -> Path:
    """Write all of the log, and the samples, into `RUN/tensorboard`; what was there before is replaced."""
    with _Events(Path(run_folder)) as writing:
        writing.catch_up()
    return writing.folder


def follow(run_folder: str | Path, *, poll_seconds: float = 5.0, keep_on: Callable[[], bool] = lambda: True) -> Path:
    """As `events`, and then on and on as the log grows, until the run has ended or `keep_on` says no."""
    with _Events(Path(run_folder)) as writing:
        while not writing.catch_up() and keep_on():
            time.sleep(poll_seconds)
    return writing.folder


@dataclass(frozen=True)
class _Place:
    """How far a log has been read, and which file that was."""

    inode: int
    offset: int


class _Events:
    """The event files of one run, and how far into its log they reach."""

    def __init__(self, run_folder: Path) -> None:
        self.run_folder, self.folder = run_folder, run_folder / FOLDER_NAME
        self.make_writer = _summary_writer()
        read_log(run_folder)  # refuses what is no run
        self.written: set[Path] = set()  # samples

    def __enter__(self) -> Self:
        self._begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.writer.close()

    def _begin(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.writer: SummaryWriter = self.make_writer(str(self.folder))
        self.place = _Place((self.run_folder / LOG_NAME).stat().st_ino, 0)
        self.check = HealthCheck(())
        self.began: float | None = None  # as a time of day
        self.seconds = 0.0
        self.written.clear()

    def catch_up(self) -> bool:
        """Write what the log has since the last call; whether the run has ended."""
        path = self.run_folder / LOG_NAME
        found = path.stat()
        if found.st_ino != self.place.inode or found.st_size < self.place.offset:
            self.writer.close()
            self._begin()
        with open(path, "rb") as file:
            file.seek(self.place.offset)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]  # a line that is being written is left for the next time
        self.place = _Place(self.place.inode, self.place.offset + len(whole))
        lines = whole.decode("utf-8", errors="replace").splitlines()
        entries = [entry for line in lines if (entry := parse_line(line)) is not None]
        if self.began is None:
            spent = [entry["seconds"] for entry in entries if isinstance(entry.get("seconds"), int | float)]
            self.began = found.st_mtime - (spent[-1] if spent else 0.0)
        for entry in entries:
            self._write(entry, self.began)
        self._samples(self.began)
        self.writer.flush()
        return any(entry["kind"] == "end" for entry in entries)

    def _write(self, entry: Entry, began: float) -> None:
        kind, step = entry["kind"], entry["step"]
        if isinstance(entry.get("seconds"), int | float):
            self.seconds = float(entry["seconds"])
        at = began + self.seconds
        if kind == "start" and isinstance(entry.get("recipe"), dict):
            self.check = HealthCheck.of(entry["recipe"])
            self._say("settings", "\n".join(f"    {key}: {value}" for key, value in flat(entry["recipe"])), step, at)
        elif kind == "stage":
            self._say("stage", str(entry.get("name", "")), step, at)
        elif kind == "resume":
            self._say("resume", f"resumed from step {step}", step, at)
        elif kind == "skipped":
            self._say("skipped", f"{entry.get('reason', '')}: {entry.get('names', '')}", step, at)
            self._findings(self.check.skipped(step), step, at)
        elif kind not in ("budget", "end", "warning"):
            for name, value in entry.items():
                self._numbers(f"{kind}/{name}", value, step, at)
            if kind == "train":
                self._findings(self.check.training(step, entry), step, at)
            elif kind == "validation":
                self._findings(self.check.validation(step, entry), step, at)

    def _numbers(self, tag: str, value: Any, step: int, at: float) -> None:
        if tag.endswith(("/step", "/seconds")) or isinstance(value, bool):
            return
        if isinstance(value, int | float):
            self.writer.add_scalar(tag, value, step, walltime=at)
        elif isinstance(value, list):
            for number, item in enumerate(value, 1):
                if isinstance(item, int | float) and not isinstance(item, bool):
                    self.writer.add_scalar(f"{tag}/{number}", item, step, walltime=at)

    def _findings(self, findings: list[Finding], step: int, at: float) -> None:
        for finding in findings:
            self._say(f"warning/{finding.name}", f"{finding.message}\n\n{finding.remedy}", step, at)

    def _say(self, tag: str, text: str, step: int, at: float) -> None:
        self.writer.add_text(tag, text, step, walltime=at)

    def _samples(self, began: float) -> None:
        for path in sorted((self.run_folder / SAMPLES_NAME).glob("*.wav")):
            match = re.fullmatch(r"(\d+)-(original|step-(\d+))\.wav", path.name)
            if match is None or path in self.written:
                continue
            self.written.add(path)
            try:
                sound = read_sound(path)
            except (OSError, EOFError, ValueError):
                continue
            tag = f"samples/{match[1]}" + ("/original" if match[3] is None else "")
            at = began + self.seconds
            self.writer.add_audio(tag, sound.samples[None], int(match[3] or 0), sound.sample_rate, walltime=at)


def _summary_writer() -> "type[SummaryWriter]":
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ValueError(
            f"event files need a package that is not installed ({error}): pip install 'vqaudio[tensorboard]'"
        ) from error
    return SummaryWriter
