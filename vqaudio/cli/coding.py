"""vqaudio encode, decode, reconstruct."""

import time
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vqaudio.cli.files import Plan, Task, plan
from vqaudio.cli.reporting import Progress, note, run_tasks, say
from vqaudio.codes import Codes
from vqaudio.io import AUDIO_EXTENSIONS, AudioWriter
from vqaudio.tokenizer import AudioTokenizer

CODES_EXTENSION = ".vqt"


class UsageError(ValueError):
    """An option that makes no sense with the model at hand."""


@dataclass
class Totals:
    files: int = 0
    seconds: float = 0.0  # of audio
    elapsed: float = 0.0

    def add(self, codes: Codes, elapsed: float) -> None:
        self.files += 1
        self.seconds += codes.seconds
        self.elapsed += elapsed

    def line(self, out: Path) -> str:
        files = f"{self.files} file{'s' * (self.files != 1)}"
        return f"{files}, {self.seconds:.1f} s of audio, {_times(self.seconds, self.elapsed)} times real time -> {out}"


def encode(options: Namespace) -> int:
    """Audio files -> code files."""
    todo = plan(options.files, options.out, extensions=AUDIO_EXTENSIONS, suffixes=[CODES_EXTENSION])
    tokenizer, num_codebooks = _tokenizer(options)
    totals = Totals()

    def work(task: Task, progress: Progress) -> None:
        started = time.perf_counter()
        codes = tokenizer.encode(task.source, num_codebooks=num_codebooks, channels=options.channels, progress=progress)
        _save(codes, task.outputs[0])
        totals.add(codes, time.perf_counter() - started)

    return _run(todo, work, totals, options.out)


def decode(options: Namespace) -> int:
    """Code files -> audio files."""
    todo = plan(options.files, options.out, extensions={CODES_EXTENSION}, suffixes=[f".{options.format}"])
    tokenizer, num_codebooks = _tokenizer(options)
    totals = Totals()

    def work(task: Task, progress: Progress) -> None:
        started = time.perf_counter()
        codes = Codes.load(task.source)
        if num_codebooks is not None:
            codes = codes.prefix(num_codebooks)
        _write(tokenizer, codes, task.outputs[0], options.sample_rate, progress)
        totals.add(codes, time.perf_counter() - started)

    return _run(todo, work, totals, options.out)


def reconstruct(options: Namespace) -> int:
    """Audio files -> code files and what they decode to, with a line of figures for each."""
    suffixes = [CODES_EXTENSION, f".{options.format}"]
    todo = plan(options.files, options.out, extensions=AUDIO_EXTENSIONS, suffixes=suffixes)
    tokenizer, num_codebooks = _tokenizer(options)
    totals = Totals()
    width = max([4, *(len(task.source.name) for task in todo.tasks)])
    if todo.tasks:
        say(f"{'':{width}}  {'':>8} {'':>7} {'':>9} {'':>6}  times real time")
        say(f"{'file':{width}}  {'seconds':>8} {'frames':>7} {'codebooks':>9} {'kbps':>6}  encode  decode")

    def work(task: Task, progress: Progress) -> None:
        started = time.perf_counter()
        codes = tokenizer.encode(
            task.source,
            num_codebooks=num_codebooks,
            channels=options.channels,
            progress=lambda part: progress(part / 2),
        )
        _save(codes, task.outputs[0])
        encoded = time.perf_counter()
        _write(tokenizer, codes, task.outputs[1], options.sample_rate, lambda part: progress(0.5 + part / 2))
        decoded = time.perf_counter()
        totals.add(codes, decoded - started)
        counts = f"{codes.seconds:8.2f} {codes.num_frames:7} {codes.num_codebooks:9} {_kbps(codes):6.2f}"
        speeds = f"{_times(codes.seconds, encoded - started):>6}  {_times(codes.seconds, decoded - encoded):>6}"
        say(f"{task.source.name:{width}}  {counts}  {speeds}")

    return _run(todo, work, totals, options.out)


def _run(todo: Plan, work: Callable[[Task, Progress], None], totals: Totals, out: Path) -> int:
    out.mkdir(parents=True, exist_ok=True)
    status = run_tasks(todo.tasks, todo.failures, work)
    if totals.files:
        say(totals.line(out))
    return status


def _tokenizer(options: Namespace) -> tuple[AudioTokenizer, int | None]:
    """The model, and how many codebooks --codebooks or --kbps mean; None for all there are."""
    tokenizer = AudioTokenizer.from_pretrained(options.model, device=options.device)
    if options.codebooks is not None and not 1 <= options.codebooks <= tokenizer.num_codebooks:
        raise UsageError(
            f"--codebooks is {options.codebooks}; {tokenizer.info.name} has {tokenizer.num_codebooks} codebooks"
        )
    if options.kbps is None:
        return tokenizer, options.codebooks
    rates = tokenizer.bitrates()
    within = [number for number, rate in rates.items() if rate <= options.kbps * 1000]
    if not within:
        least = f"{rates[1] / 1000:g} kbps"
        raise UsageError(f"--kbps is {options.kbps:g}; one codebook of {tokenizer.info.name} takes {least}")
    return tokenizer, max(within)


def _save(codes: Codes, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    codes.save(path)


def _write(
    tokenizer: AudioTokenizer,
    codes: Codes,
    path: Path,
    sample_rate: int | Literal["source"] | None,
    progress: Progress,
) -> None:
    """Decode into a file block by block."""
    blocks = tokenizer.decode_blocks(codes, sample_rate=sample_rate)
    rate = tokenizer.output_rate(codes, sample_rate)
    path.parent.mkdir(parents=True, exist_ok=True)
    with AudioWriter(path, rate, codes.channels) as writer:
        for block in blocks:
            writer.write(block)
            progress(writer.num_samples / rate / max(codes.seconds, 1 / rate))
    if writer.num_clipped:
        count = f"{writer.num_clipped} sample{'s' * (writer.num_clipped > 1)}"
        note(f"{path}: {count} beyond full scale clipped")


def _kbps(codes: Codes) -> float:
    """Of all channels together."""
    return codes.bitrate * codes.channels / 1000


def _times(seconds: float, elapsed: float) -> str:
    return f"{seconds / elapsed:.3g}" if elapsed else "-"
