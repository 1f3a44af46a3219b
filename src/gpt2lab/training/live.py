"""What a person sees of a run: three lines that move on a terminal (80 columns do), plain lines in a log."""

import sys
import time
from types import TracebackType
from typing import Any, Self

from gpt2lab.base.errors import speaks
from gpt2lab.base.progress import format_bytes, format_duration

_PLAIN_EVERY_S = 10.0


def say(text: str) -> None:
    """Print a line about a run that has no `LiveView` yet; of several processes only the first does."""
    if speaks():
        print(text, file=sys.stderr, flush=True)


class LiveView:
    """Shows rows of metrics as they come.

    Args:
        first_step: steps already done when this process began.
        steps: steps in all.
    """

    def __init__(self, first_step: int, steps: int) -> None:
        self._steps = steps
        self._first_step = first_step
        self._terminal = speaks() and sys.stderr.isatty()
        self._validation = ""
        self._last_plain = 0.0

    def __enter__(self) -> Self:
        self._started = time.monotonic()
        if self._terminal:
            from rich import progress
            from rich.console import Console, Group
            from rich.live import Live
            from rich.text import Text

            self._bar = progress.Progress(
                progress.TextColumn("step {task.completed:,.0f}/{task.total:,.0f}"),
                progress.BarColumn(bar_width=20),
                progress.TextColumn("{task.description}"),
            )
            self._task = self._bar.add_task("", total=self._steps, completed=self._first_step)
            self._numbers = Text("", no_wrap=True, overflow="ellipsis")
            self._live = Live(Group(self._bar, self._numbers), console=Console(stderr=True))
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._terminal:
            self._live.stop()

    def step_done(self, step: int) -> None:
        """Move the bar, where there is one."""
        if self._terminal:
            self._bar.update(self._task, completed=step)

    def logged(self, row: dict[str, Any]) -> None:
        """Show a row of kind ``train``."""
        done = row["step"] - self._first_step
        left = (time.monotonic() - self._started) / done * (self._steps - row["step"])
        loss = f"loss {row['loss']:.3f}{self._validation}"
        speed = f"{row['tokens_per_s']:,.0f} tokens/s  {format_bytes(row['memory_bytes'])}"
        health = f"|g| {row['grad_norm']:.2g}  update {row['update_ratio']:.0e}  MFU {row['mfu']:.0%}"
        rate, ahead = f"lr {row['lr']:.1e}", f"{format_duration(left)} left"
        if self._terminal:
            self._bar.update(self._task, description=f"{rate}  {ahead}")
            self._numbers.plain = f"{loss}  {speed}\n{health}"
        elif time.monotonic() - self._last_plain >= _PLAIN_EVERY_S or row["step"] == self._steps:
            self._last_plain = time.monotonic()
            self.say(f"step {row['step']:,}/{self._steps:,}  {loss}  {rate}  {speed}  {health}  {ahead}")

    def validated(self, row: dict[str, Any]) -> None:
        """Show a row of kind ``validation``."""
        bits = f", {row['bits_per_byte']:.3f} bits/byte" if row["bits_per_byte"] is not None else ""
        self._validation = f"  held-out {row['loss']:.3f}{bits}"
        verdict = row.get("verdict") or ""
        if verdict:
            verdict = f", {verdict} {row['expected_low']:.3f} to {row['expected_high']:.3f}"
        if not self._terminal or (verdict and row["verdict"] != "inside the band"):
            self.say(
                f"step {row['step']:,}/{self._steps:,}  held-out loss {row['loss']:.3f} nats/token"
                f"{bits}{verdict}"
            )

    def say(self, text: str) -> None:
        """Print a line that stays."""
        if self._terminal:
            self._live.console.print(text, markup=False, highlight=False)
        else:
            say(text)
