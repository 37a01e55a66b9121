"""The same conditions for every block, whatever the caller has set: one torch thread, float32, no autograd or autocast.

On two threads the matrix products of a codec are split, and rounded, otherwise than on one; TF32 and bfloat16 round
their inputs. So a block runs in a thread of its own, where torch has one thread, and with both switched off.
"""

import atexit
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any

import torch
from torch import Tensor


class Worker:
    """A thread with one torch thread that makes calls one after the other."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._ended = False
        self._thread = threading.Thread(target=self._work, name="vqaudio", daemon=True)
        self._thread.start()
        _workers.append(self)
        with _starting:
            num_threads = torch.get_num_threads()
            call(self, _use_one_thread)
            # That was for the worker alone, but is now also what new threads begin with. Under the lock, because a
            # second caller would take it for its own setting.
            torch.set_num_threads(num_threads)

    def _work(self) -> None:
        while not self._ended:
            self._calls.get()()

    def submit(self, function: Callable[[], None]) -> None:
        """`function` is called in the thread after those before it; it must not raise."""
        self._calls.put(function)

    def end(self) -> None:
        """What is being computed is finished, what was submitted after it is dropped, and the thread ends."""
        self._ended = True
        self._calls.put(lambda: None)  # for a thread that waits
        self._thread.join(timeout=_LONGEST_CALL)


def call(worker: Worker, function: Callable[[], Any]) -> Any:
    """What `function` returns or raises, called in a worker's thread.

    Not concurrent.futures: an interrupt (Ctrl-C) in its wait for a result can come out as another error.
    """
    results: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()

    def run() -> None:
        try:
            results.put((function(), None))
        except BaseException as error:  # goes to whoever waits
            results.put((None, error))

    worker.submit(run)
    result, error = results.get()
    if error is not None:
        raise error
    return result


def _use_one_thread() -> None:
    torch.get_num_threads()  # at its first look a thread takes over the process's number: let that lie behind us
    torch.set_num_threads(1)


# A forked process has lost the threads that OpenMP had in its parent, and what it shares out among them would wait for
# ever. One thread needs no others, and is what torch leaves the processes of its own DataLoader.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))

# A thread that comes back from torch to an interpreter that is gone takes the process down with it (SIGABRT), for
# instance when Ctrl-C leaves blocks under way. So the interpreter waits for its workers.
_LONGEST_CALL = 10.0  # seconds; a block takes less than one
_workers: list[Worker] = []


@atexit.register
def _end_workers() -> None:
    for worker in _workers:
        worker.end()


_starting = threading.Lock()
_idle: list[tuple[int, Worker]] = []  # with the process each belongs to: a fork keeps the list, not the threads


@contextmanager
def borrowed_workers(count: int) -> Iterator[list[Worker]]:
    """So many workers for the time being. Starting one takes part of a frame of live audio, so they are kept."""
    workers: list[Worker] = []
    while _idle and len(workers) < count:
        try:
            process, worker = _idle.pop()
        except IndexError:  # another thread was faster
            break
        if process == os.getpid():
            workers.append(worker)
    workers += [Worker() for _ in range(count - len(workers))]
    try:
        yield workers
    finally:  # what they may still be doing comes before what the next borrower submits
        _idle.extend((os.getpid(), worker) for worker in workers)


@contextmanager
def exact_arithmetic(device: torch.device) -> Iterator[None]:
    """Float32 without gradients, for a worker: its thread is outside autocast by itself."""
    with torch.inference_mode(), _full_float32.held(device.type):
        yield


def run_apart(function: Callable[[], Tensor], device: torch.device) -> Tensor:
    """A computation of a codec that is no block, under the same conditions as its blocks."""

    def run() -> Tensor:
        with exact_arithmetic(device):
            return function()

    with borrowed_workers(1) as (worker,):
        result: Tensor = call(worker, run)
    return result.clone()  # now a normal tensor: autograd refuses to work with those of inference mode


class _FullFloat32:
    """Keeps convolutions and matrix products of a kind of device from rounding their inputs to TF32 or bfloat16.

    These settings belong to the process: the first that enters changes them, the last that leaves restores them.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._num_inside: dict[str, int] = {}
        self._found: dict[str, list[tuple[Any, str]]] = {}

    @contextmanager
    def held(self, device_type: str) -> Iterator[None]:
        with self._lock:
            if self._num_inside.setdefault(device_type, 0) == 0:
                self._found[device_type] = [
                    (operation, operation.fp32_precision)
                    for operation in _operations(device_type)
                    if operation.fp32_precision not in ("ieee", "none")
                ]
                for operation, _ in self._found[device_type]:
                    operation.fp32_precision = "ieee"
            self._num_inside[device_type] += 1
        try:
            yield
        finally:
            with self._lock:
                self._num_inside[device_type] -= 1
                if self._num_inside[device_type] == 0:
                    for operation, value in self._found[device_type]:
                        operation.fp32_precision = value


def _operations(device_type: str) -> tuple[Any, ...]:
    backends: Any = torch.backends  # its modules are replaced by objects that mypy does not see
    if device_type == "cpu":
        return backends.mkldnn.matmul, backends.mkldnn.conv
    if device_type == "cuda":
        return backends.cuda.matmul, backends.cudnn.conv
    return ()


_full_float32 = _FullFloat32()
