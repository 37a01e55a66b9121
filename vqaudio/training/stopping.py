"""Ending a run from outside: SIGTERM and Ctrl-C are noted, and acted upon between two steps."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class RunStoppedError(RuntimeError):
    """A run that was asked to stop, and has saved what it had. `signal_number` says by what."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.signal_number = signal_number


class RunFailedError(RuntimeError):
    """A run that gave up, since what it trains has gone; its checkpoints are from before."""


class StopRequest:
    """`signal_number` is 0 until a signal comes. A second Ctrl-C interrupts at once, as it would without this."""

    def __init__(self) -> None:
        self.signal_number = 0

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Signals reach only a main thread; in any other nothing is listened to."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.signal_number and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal_number = number
