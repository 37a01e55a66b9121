"""Ctrl-C that is not lost: an exception raised within a callback from C is printed and forgotten there."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

AGAIN_SECONDS = 0.01  # by then the callback, which reads or writes a few kilobytes of a file, has mostly returned


@contextmanager
def interruptible() -> Iterator[None]:
    """Within, Ctrl-C raises KeyboardInterrupt in the main thread, as by default, but never inside a file callback.

    libsndfile reads and writes through Python callbacks of soundfile, and cffi swallows what is raised in one: the
    command would go on as if nothing had been pressed. A signal that comes there is sent again a moment later.
    """
    main_thread = threading.current_thread() is threading.main_thread()
    if not main_thread or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _interrupt(number: int, frame: FrameType | None) -> None:
    if not _in_file_callback(frame):
        raise KeyboardInterrupt
    again = threading.Timer(AGAIN_SECONDS, os.kill, (os.getpid(), number))
    again.daemon = True
    again.start()


def _in_file_callback(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_name.startswith("vio_"):  # as soundfile names them
            return True
        frame = frame.f_back
    return False
