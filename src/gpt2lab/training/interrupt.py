"""Ctrl-C and SIGTERM ask for a stop after the current step; a second Ctrl-C stops at once."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from gpt2lab.base.errors import speaks


class StopRequest:
    """Whether someone asked the run to stop."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def __bool__(self) -> bool:
        return self.signal is not None


@contextmanager
def stop_on_signal() -> Iterator[StopRequest]:
    """Yield a request that SIGINT or SIGTERM (what cluster schedulers send first) turns true."""
    request = StopRequest()

    def note(number: int, frame: FrameType | None) -> None:
        if request and number == signal.SIGINT:
            raise KeyboardInterrupt
        request.signal = number
        # Not print(): the handler may run while the interpreter is inside a print of its own.
        if speaks():
            os.write(
                2, b"\nstopping after the step at hand, which is then saved; Ctrl-C again stops at once\n"
            )

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
