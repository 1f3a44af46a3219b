"""Progress of long work: a bar with an ETA on a terminal, a plain line every few seconds elsewhere.

Everything goes to standard error, so that standard output stays clean for results.
"""

import sys
import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self, TypeVar

T = TypeVar("T")

_LINE_EVERY_S = 5.0  # plain lines: often enough to see life, rarely enough to keep logs short


def format_duration(seconds: float) -> str:
    """Seconds as people say them: ``"48 s"``, ``"3 min 05 s"``, ``"2 h 10 min"``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def format_bytes(n_bytes: float) -> str:
    """Bytes in decimal units, as disks are sold: ``"1.5 GB"``."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n_bytes >= size:
            return f"{n_bytes / size:,.1f} {unit}"
    return f"{n_bytes:,.0f} bytes"


class Progress:
    """Counts work done and shows how much is left.

    Args:
        total: how many units there are; ``None`` if unknown, then no ETA is shown.
        description: what is being done: ``"tokenising"``.
        unit: what is counted: ``"documents"``.
    """

    def __init__(self, total: int | None, description: str, unit: str = "") -> None:
        self.total = total
        self.description = description
        self.unit = unit
        self.done = 0
        self._terminal = sys.stderr.isatty()

    def __enter__(self) -> Self:
        self._started = self._last_line = time.monotonic()
        if self._terminal:
            from rich import progress as rich_progress
            from rich.console import Console

            self._bar = rich_progress.Progress(
                rich_progress.TextColumn("{task.description}"),
                rich_progress.BarColumn(),
                rich_progress.TextColumn("{task.completed:,.0f}/{task.total:,.0f} " + self.unit)
                if self.total
                else rich_progress.TextColumn("{task.completed:,.0f} " + self.unit),
                rich_progress.TimeElapsedColumn(),
                *(
                    [rich_progress.TextColumn("left:"), rich_progress.TimeRemainingColumn()]
                    if self.total
                    else []
                ),
                console=Console(stderr=True),
                transient=True,
            )
            self._task = self._bar.add_task(self.description, total=self.total)
            self._bar.start()
        return self

    def advance(self, n: int = 1) -> None:
        """Report `n` more units done."""
        self.done += n
        if self._terminal:
            self._bar.advance(self._task, n)
        elif time.monotonic() - self._last_line >= _LINE_EVERY_S:
            self._last_line = time.monotonic()
            print(self._line(), file=sys.stderr, flush=True)

    def _line(self) -> str:
        elapsed = time.monotonic() - self._started
        if not self.total:
            return f"{self.description}: {self.done:,} {self.unit} in {format_duration(elapsed)}"
        left = elapsed * (self.total - self.done) / max(self.done, 1)
        share = 100 * self.done / self.total
        return f"{self.description}: {share:.0f}% of {self.total:,} {self.unit}, {format_duration(left)} left"

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._terminal:
            self._bar.stop()


def track(iterable: Iterable[T], description: str, total: int | None = None, unit: str = "") -> Iterator[T]:
    """Yield from `iterable` while showing progress, one unit an item."""
    with Progress(total, description, unit) as progress:
        for item in iterable:
            yield item
            progress.advance()
