"""Live progress on standard error: a bar on a terminal, a line now and then elsewhere. Changes no byte."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from types import TracebackType

_REDRAW = 0.2
_LINE_EVERY = 30.0
_WIDTH = 24
_NARROW = 8


class Progress:
    """Counts, rate and time left.

    Args:
        style: `auto` (a bar where standard error is a terminal, else lines), `bar`, `lines` or `none`.
        total: Samples of the whole run.
        done: Samples that an earlier run finished; they do not count for the rate, and neither does the first one
            of this run with everything that was loaded before it.
    """

    def __init__(self, style: str, total: int, done: int = 0) -> None:
        self._style = ("bar" if sys.stderr.isatty() else "lines") if style == "auto" else style
        self._total, self._before = total, done
        self._counts = {"written": 0, "rejected": 0, "failed": 0}
        self._shown = time.monotonic()
        self._first: tuple[float, int] | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._style != "none" and self._seen():
            self._show(last=True)

    def settled(self, kind: str, number: int) -> None:
        """Notes the end of samples; any thread."""
        with self._lock:
            self._counts[kind] += number
            now = time.monotonic()
            # The clock starts with the first samples: what comes before them (models, photos) says nothing of the rest.
            self._first = self._first or (now, self._seen())
            if self._style != "none" and now - self._shown > (_REDRAW if self._style == "bar" else _LINE_EVERY):
                self._shown = now
                self._show()

    def _seen(self) -> int:
        return sum(self._counts.values())

    def _show(self, *, last: bool = False) -> None:
        seen, (begun, already) = self._seen(), self._first or (time.monotonic(), 0)
        finished, rate = self._before + seen, (seen - already) / max(time.monotonic() - begun, 1e-6)
        left = clock((self._total - finished) / rate) if rate else "-:--:--"
        counts = ", ".join(f"{kind} {n}" for kind, n in self._counts.items())
        text = f"{finished}/{self._total}  {counts}  {f'{rate:.1f}' if rate else '-'}/s  ETA {left}"
        if self._style == "bar":
            text = f"\r{self._drawn(finished, text)}\x1b[K"
        print(text, file=sys.stderr, end="\n" if last or self._style == "lines" else "", flush=True)

    def _drawn(self, finished: int, text: str) -> str:
        """The text behind a bar, no wider than the terminal: a line that wraps cannot be drawn over."""
        columns = shutil.get_terminal_size().columns - 1
        width = min(_WIDTH, columns - len(text) - len("[] "))
        if width < _NARROW:
            return text[:columns]
        filled = int(width * finished / max(self._total, 1))
        return f"[{'#' * filled}{'.' * (width - filled)}] {text}"


def clock(seconds: float) -> str:
    """h:mm:ss."""
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"
