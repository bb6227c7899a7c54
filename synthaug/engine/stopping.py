"""What SIGTERM and Ctrl-C do to a run."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Generator
from types import FrameType

from synthaug.errors import Interrupted

ENDED = 130


class _Terminated(BaseException):
    """SIGTERM outside the loop. No `Exception`, so that no reader takes it for a fault of a file."""


class Stopping:
    """How the process answers. Between plan and finalise it stops at the next safe point, everywhere else at once.

    Attributes:
        asked: Set when the run shall end.
    """

    def __init__(self) -> None:
        self.asked = threading.Event()
        self._gentle = False

    @contextlib.contextmanager
    def between_samples(self) -> Generator[None]:
        """Within it a signal only sets `asked`, so that what is under way can be laid down."""
        self._gentle = True
        try:
            yield
        finally:
            self._gentle = False

    def signalled(self, number: int, _: FrameType | None) -> None:
        """The handler: the second Ctrl-C ends the process where it stands, which loses nothing published."""
        if number == signal.SIGINT and self.asked.is_set():
            os._exit(ENDED)
        self.asked.set()
        if not self._gentle:
            raise KeyboardInterrupt if number == signal.SIGINT else _Terminated


@contextlib.contextmanager
def stopping() -> Generator[Stopping]:
    """Installs the handlers, in the main thread alone, and takes them away again.

    Raises:
        KeyboardInterrupt: Ctrl-C while planning or finalising.
        Interrupted: SIGTERM then.
    """
    stop = Stopping()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, stop.signalled) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    except _Terminated:
        raise Interrupted("stopped; run the same command again to go on") from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
