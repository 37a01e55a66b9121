"""Units of work over processes. One that takes its process down with it costs itself alone."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import torch

from vqaudio.evaluation.measures import Measure
from vqaudio.evaluation.recordings import Recording
from vqaudio.evaluation.systems import System
from vqaudio.evaluation.unit import Unit, evaluate_unit

Job = tuple[Recording, System]
Work = Callable[[Recording, System, int, Sequence[Measure]], Unit]


def over_processes(
    jobs: Sequence[Job],
    scoring_rate: int,
    measures: Sequence[Measure],
    *,
    workers: int,
    work: Work = evaluate_unit,
) -> Iterator[tuple[int, Unit]]:
    """(number of the job, its unit), as they get done. `workers` = 0 works in this process, one after the other."""
    if workers == 0:
        for number, (recording, system) in enumerate(jobs):
            yield number, work(recording, system, scoring_rate, measures)
        return
    waiting = list(reversed(range(len(jobs))))
    suspects: list[int] = []  # at work when a process died: they go on one by one, to find out which it was
    while waiting or suspects:
        alone = bool(suspects)
        at_work: dict[Future[Unit], int] = {}
        pool = _pool(1 if alone else workers)
        try:
            while at_work or (suspects if alone else waiting):
                queue = suspects if alone else waiting
                while queue and len(at_work) < (1 if alone else 2 * workers):
                    number = queue.pop()
                    recording, system = jobs[number]
                    at_work[pool.submit(work, recording, system, scoring_rate, measures)] = number
                for future in wait(at_work, return_when=FIRST_COMPLETED).done:
                    unit = future.result()
                    number = at_work.pop(future)
                    yield number, unit
        except BrokenProcessPool:
            left = sorted(at_work.values(), reverse=True)
            if alone:
                recording, system = jobs[left[0]]
                reason = "the process that scored it was ended by the system: out of memory, or a crash in a library"
                yield left[0], Unit(system=system.name, path=recording.path, failed=reason)
            else:
                suspects = left
        finally:
            _end(pool)


def _pool(workers: int) -> ProcessPoolExecutor:
    context: Any = multiprocessing.get_context("spawn")  # a fork would inherit torch's threads, but not run them
    return ProcessPoolExecutor(workers, mp_context=context, initializer=_begin)


def _begin() -> None:
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process: the first one ends the others
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A first process that is killed cannot end the others, and they would wait for work for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _end(pool: ProcessPoolExecutor) -> None:
    """Without waiting for what is at work, which nobody wants any more if there is any."""
    processes = list((pool._processes or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.terminate()
