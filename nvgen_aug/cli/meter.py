"""Meter: how far a long job is, how fast it goes, and how much longer it takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self
from typing import final

from rich.progress import BarColumn
from rich.progress import Progress
from rich.progress import SpinnerColumn
from rich.progress import TextColumn

from .terminal import console
from .terminal import say

LINE_SECONDS = 30.0  # between two lines where nobody watches a bar
_SIZES = ("B", "kB", "MB", "GB", "TB")


@final
@dataclass(frozen=True, slots=True)
class Pace:
    """Where a job stands.

    Args:
        total: All of the work.
        done: What was worked off.
        skipped: What was done already; it took no time, so it says nothing of the rate.
        seconds: Time that `done` took.
    """

    total: float
    done: float
    skipped: float
    seconds: float

    @property
    def rate(self) -> float:
        """Work for each second; 0 before there was any."""
        return self.done / self.seconds if self.seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Time that the rest takes at this rate; `None` before one can tell."""
        left = max(0.0, self.total - self.done - self.skipped)
        if not left:
            return 0.0
        return left / self.rate if self.rate else None


@final
class Meter:
    """A bar with rate and time left on a terminal, and a line now and then elsewhere.

    The lines are for the log of a batch job, which shows no bar.

    Args:
        what: The job, in a few words.
        total: All of the work: bytes, or a number of things.
        unit: Name of one thing, such as `"volume"`; `None` for bytes.
        clock: Seconds that only rise.
    """

    def __init__(
        self,
        what: str,
        total: float,
        unit: str | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        terminal = console()
        self._what = what
        self._unit = unit
        self._clock = clock
        self._total = total
        self._done = 0.0
        self._skipped = 0.0
        self._began = self._spoke = clock()
        self._is_watched = terminal.is_terminal
        self._bar = Progress(
            SpinnerColumn(),
            # A path may hold brackets, which are no markup.
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[pace]}", markup=False),
            console=terminal,
            disable=not terminal.is_terminal,
            transient=True,
        )
        self._task = self._bar.add_task(what, total=total, pace="")

    def advance(self, work: float = 1.0) -> None:
        """So much more was worked off."""
        self._done += work
        self._show()

    def skip(self, work: float = 1.0) -> None:
        """So much more was done already."""
        self._skipped += work
        self._show()

    @property
    def pace(self) -> Pace:
        """Where the job stands now."""
        return Pace(self._total, self._done, self._skipped, self._clock() - self._began)

    def text(self) -> str:
        """Where the job stands, such as `12/100, 3.1 volumes/min, 28:12 left`."""
        pace = self.pace
        left = pace.seconds_left
        parts = [self._share(), self._rate(pace.rate) if pace.rate else ""]
        parts.append("" if left is None else f"{_minutes(left)} left")
        return ", ".join(filter(None, parts))

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def _show(self) -> None:
        if self._is_watched:
            self._bar.update(self._task, completed=self._done + self._skipped, pace=self.text())
        elif self._clock() - self._spoke >= LINE_SECONDS:
            self._spoke = self._clock()
            say(f"{self._what}: {self.text()}")

    def _share(self) -> str:
        reached = self._done + self._skipped
        if self._unit is None:
            return f"{in_bytes(reached)} of {in_bytes(self._total)}"
        return f"{reached:g}/{self._total:g}"

    def _rate(self, rate: float) -> str:
        if self._unit is None:
            return f"{in_bytes(rate)}/s"
        return f"{rate:.1f} {self._unit}s/s" if rate >= 1 else f"{60 * rate:.1f} {self._unit}s/min"


def in_bytes(number: float) -> str:
    """A number of bytes as people say it: `3.4 MB`."""
    power = 0
    while number >= 999.5 and power < len(_SIZES) - 1:
        number /= 1000
        power += 1
    return f"{number:.0f} B" if power == 0 else f"{number:.1f} {_SIZES[power]}"


def _minutes(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
