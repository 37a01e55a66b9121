"""What a run over many files says: a progress bar, notes, and the failures at its end."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

from vqaudio.cli.files import Task
from vqaudio.engine import side_by_side

Progress = Callable[[float], None]  # told which part of a file is done, 0 to 1


def in_one_sentence(error: BaseException, path: Path | str | None = None) -> str:
    """An error as one line, that names the file if there is one."""
    if isinstance(error, OSError) and error.strerror:
        message = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    elif isinstance(error, ValueError):
        message = str(error)
    else:  # nothing we foresaw, so its kind says more than its text
        message = f"{type(error).__name__}: {error}"
    message = " ".join(message.split())
    return message if path is None or str(path) in message else f"{path}: {message}"


def say(text: str) -> None:
    """A line on standard output, above the progress bar if one is shown."""
    if sys.stdout is not None:  # a shell may have closed it
        tqdm.write(text, file=sys.stdout)
        sys.stdout.flush()


def note(text: str) -> None:
    """A line on standard error, likewise."""
    if sys.stderr is not None:
        tqdm.write(text, file=sys.stderr)


@contextmanager
def progress_bar(total: float, unit: str) -> Iterator[tqdm]:
    """On a terminal, and there after one second."""
    form = "{percentage:3.0f}% |{bar}| {n:.1f} of {total:g} {unit} [{elapsed}, {remaining} to go] {desc}"
    with tqdm(total=total, unit=unit, delay=1, disable=None, leave=False, bar_format=form, file=sys.stderr) as bar:
        yield bar


def show(bar: tqdm, done: float, total: float, text: str) -> None:
    """Set a bar to `done` of `total`; the next thing that is counted may begin at 0 again."""
    bar.total = total
    bar.set_description_str(text, refresh=False)
    bar.update(done - bar.n)


def run_tasks(
    tasks: Sequence[Task],
    failures: Sequence[str],
    work: Callable[[Task, Progress], None],
    *,
    at_once: int = 1,
) -> int:
    """`work` on every task, whatever happens to the others, `at_once` side by side. Returns the exit status.

    Failures are listed at the end, in the order of the tasks.
    """
    found: dict[int, str] = {}
    parts = [0.0] * len(tasks)
    with progress_bar(len(tasks), "files") as bar:

        def do(number: int) -> None:
            task = tasks[number]

            def progress(part: float) -> None:
                parts[number] = part
                bar.update(sum(parts) - bar.n)

            bar.set_description_str(task.source.name, refresh=False)
            try:
                work(task, progress)
            except Exception as error:  # one file must not cost the others their turn
                found[number] = in_one_sentence(error, task.source)
            progress(1.0)

        side_by_side(do, range(len(tasks)), min(at_once, max(1, len(tasks))))
    failures = [*failures, *(found[number] for number in sorted(found))]
    if failures:
        count = len(failures)
        note(f"{count} failure{'s' * (count > 1)}:" if count > 1 else "1 failure:")
        for failure in failures:
            note(f"  {failure}")
    return 1 if failures else 0
