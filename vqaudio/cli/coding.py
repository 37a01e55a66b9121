"""vqaudio encode, decode, reconstruct."""

import threading
import time
from argparse import Namespace
from collections.abc import Callable
from contextlib import ExitStack
from math import inf
from pathlib import Path
from typing import Any

from vqaudio.cli.files import Plan, Task, normal, plan
from vqaudio.cli.indexing import IndexedWriter, indexed_writer, manifest_of, plan_manifest
from vqaudio.cli.reporting import Progress, in_one_sentence, note, run_tasks, say
from vqaudio.cli.tokens import TokenWriter, recordings, space_for, token_writer, unusable
from vqaudio.code_index import CODES_EXTENSION
from vqaudio.codes import Codes
from vqaudio.data.manifest import Item
from vqaudio.engine import Crew
from vqaudio.io import AUDIO_EXTENSIONS, AudioWriter
from vqaudio.layouts.files import TOKEN_EXTENSIONS
from vqaudio.layouts.space import SPACE_NAME
from vqaudio.tokenizer import AudioTokenizer


class UsageError(ValueError):
    """An option that makes no sense with the model at hand."""


class Totals:
    """What has been done since it was made; files may be added from several threads."""

    def __init__(self) -> None:
        self.files = 0
        self.seconds = 0.0  # of audio
        self.there = 0  # files that need not be done again
        self._started = time.perf_counter()
        self._lock = threading.Lock()

    def add(self, seconds: float) -> None:
        with self._lock:
            self.files += 1
            self.seconds += seconds

    def skip(self) -> None:
        with self._lock:
            self.there += 1

    def line(self, out: Path) -> str:
        there = f", {self.there} there already" if self.there else ""
        if not self.files:
            return f"nothing to do{there} -> {out}"
        files = f"{self.files} file{'s' * (self.files != 1)}"
        times = _times(self.seconds, time.perf_counter() - self._started)
        return f"{files}, {self.seconds:.1f} s of audio, {times} times real time{there} -> {out}"


def encode(options: Namespace) -> int:
    """Audio files -> code files, or token files."""
    if why := unusable(options):
        raise UsageError(why)
    suffix = CODES_EXTENSION if options.layout is None else f".{options.format or 'jsonl'}"
    items: dict[Path, Item] = {}
    if options.manifest is None:
        todo = plan(options.files, options.out, extensions=AUDIO_EXTENSIONS, suffixes=[suffix])
    else:
        todo, items = plan_manifest(manifest_of(options), options.out, suffix)
    tokenizer, num_codebooks = load_tokenizer(options)
    with ExitStack() as stack:
        crew = stack.enter_context(tokenizer.crew("encode", options.workers, num_codebooks=num_codebooks))
        totals = Totals()
        writer: TokenWriter | IndexedWriter
        if options.layout is None:
            writer = stack.enter_context(indexed_writer(tokenizer, num_codebooks, items, options))
        else:
            space = space_for(options, tokenizer, num_codebooks)
            writer = stack.enter_context(token_writer(space, options.out, items, options))
        numbers = {task: number for number, task in enumerate(todo.tasks)}

        def work(task: Task, progress: Progress) -> None:
            if writer.has(task):
                totals.skip()
                return
            try:
                codes = tokenizer.encode(
                    task.source,
                    num_codebooks=num_codebooks,
                    channels=options.channels,
                    workers=crew,
                    progress=progress,
                    **_excerpt(options),
                )
                writer.write(numbers[task], task, codes)
            except Exception:
                writer.skip(numbers[task])
                raise
            totals.add(codes.seconds)

        return _run(todo, work, totals, options.out, at_once=crew.capacity)


def decode(options: Namespace) -> int:
    """Code files, or token files, -> audio files."""
    extensions = {CODES_EXTENSION}
    if any((Path(name) / SPACE_NAME).is_file() for name in options.files):
        extensions |= {*TOKEN_EXTENSIONS}
    todo = plan(options.files, options.out, extensions=extensions, suffixes=[_audio_extension(options)])
    tokenizer, num_codebooks = load_tokenizer(options)
    if any(task.source.suffix in (".npy", ".txt") for task in todo.tasks):
        note("token files .npy and .txt hold no lengths: their audio is whole frames, at the model's rate")
    todo = _without_originals(todo)
    owners = {task.outputs[0]: task.source for task in todo.tasks if task.source.suffix != ".jsonl"}
    lock = threading.Lock()
    with tokenizer.crew("decode", options.workers) as crew:
        totals = Totals()

        def write(codes: Codes, path: Path, progress: Progress) -> None:
            if num_codebooks is not None:
                codes = codes.prefix(num_codebooks)
            totals.add(_write(tokenizer, codes, path, options, progress, workers=crew))

        def work(task: Task, progress: Progress) -> None:
            if task.source.suffix not in TOKEN_EXTENSIONS:
                write(Codes.load(task.source), task.outputs[0], progress)
                return
            failures = []
            for found, place in recordings(task.source, task.outputs[0], tokenizer):
                try:
                    codes = found()
                    with lock:
                        owner = owners.setdefault(place, task.source)
                    if owner != task.source:
                        raise ValueError(f"{task.source}: its output {place} is that of {owner} too")
                    write(codes, place, progress)
                except Exception as error:  # one line must not cost the others their turn
                    failures.append(in_one_sentence(error))
            if failures:
                raise ValueError("; ".join(failures))

        return _run(todo, work, totals, options.out, at_once=crew.capacity)


def _without_originals(todo: Plan) -> Plan:
    """Leave out what would replace a file beside its code file that is older, and so no result of decoding it."""
    tasks, failures = [], [*todo.failures]
    for task in todo.tasks:
        (output,) = task.outputs
        try:
            older = output.stat().st_mtime_ns < task.source.stat().st_mtime_ns
        except OSError:
            older = False  # one of them is not there, which is for others to say
        if older and normal(output.parent) == normal(task.source.parent):
            failures.append(f"{task.source}: {output} is older, and so no result of it; choose another --out")
        else:
            tasks.append(task)
    return Plan(tuple(tasks), tuple(failures))


def reconstruct(options: Namespace) -> int:
    """Audio files -> code files and what they decode to, with a line of figures for each."""
    suffixes = [CODES_EXTENSION, _audio_extension(options)]
    todo = plan(options.files, options.out, extensions=AUDIO_EXTENSIONS, suffixes=suffixes)
    tokenizer, num_codebooks = load_tokenizer(options)
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
            workers=options.workers,
            progress=lambda part: progress(part / 2),
            **_excerpt(options),
        )
        _save(codes, task.outputs[0])
        encoded = time.perf_counter()
        whole = Namespace(sample_rate=options.sample_rate, start=None, end=None)  # what was encoded
        _write(tokenizer, codes, task.outputs[1], whole, lambda part: progress(0.5 + part / 2), workers=options.workers)
        decoded = time.perf_counter()
        totals.add(codes.seconds)
        counts = f"{codes.seconds:8.2f} {codes.num_frames:7} {codes.num_codebooks:9} {_kbps(codes):6.2f}"
        speeds = f"{_times(codes.seconds, encoded - started):>6}  {_times(codes.seconds, decoded - encoded):>6}"
        say(f"{task.source.name:{width}}  {counts}  {speeds}")

    # One file after the other, each with all workers, so that the figures are those of the file.
    return _run(todo, work, totals, options.out, at_once=1)


def _run(todo: Plan, work: Callable[[Task, Progress], None], totals: Totals, out: Path, *, at_once: int) -> int:
    out.mkdir(parents=True, exist_ok=True)
    status = run_tasks(todo.tasks, todo.failures, work, at_once=at_once)
    if totals.files or totals.there:
        say(totals.line(out))
    return status


def load_tokenizer(options: Namespace) -> tuple[AudioTokenizer, int | None]:
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


def _audio_extension(options: Namespace) -> str:
    return f".{options.format or 'wav'}"


def _excerpt(options: Namespace) -> dict[str, Any]:
    return {"start": options.start or 0, "end": options.end}


def _write(
    tokenizer: AudioTokenizer,
    codes: Codes,
    path: Path,
    options: Namespace,
    progress: Progress,
    *,
    workers: int | Crew | None,
) -> float:
    """Decode into a file block by block; how many seconds that were."""
    blocks = tokenizer.decode_blocks(codes, sample_rate=options.sample_rate, workers=workers, **_excerpt(options))
    rate = tokenizer.output_rate(codes, options.sample_rate)
    wanted = min(codes.seconds, inf if options.end is None else options.end) - min(options.start or 0, codes.seconds)
    path.parent.mkdir(parents=True, exist_ok=True)
    with AudioWriter(path, rate, codes.channels) as writer:
        for block in blocks:
            writer.write(block)
            progress(min(1.0, writer.num_samples / rate / max(float(wanted), 1 / rate)))
    if writer.num_clipped:
        count = f"{writer.num_clipped} sample{'s' * (writer.num_clipped > 1)}"
        note(f"{path}: {count} beyond full scale clipped")
    return writer.num_samples / rate


def _kbps(codes: Codes) -> float:
    """Of all channels together."""
    return codes.bitrate * codes.channels / 1000


def _times(seconds: float, elapsed: float) -> str:
    return f"{seconds / elapsed:.3g}" if elapsed else "-"
