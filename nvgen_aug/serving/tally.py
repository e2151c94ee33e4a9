"""Tally: what an engine has done so far, and what it does now."""

from __future__ import annotations

from collections import Counter
from collections import deque
from collections.abc import Callable
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
from threading import Lock
from time import monotonic
from typing import final

from ..source import SourceStats

SECONDS_OF_RATE = 300.0
# A proof that a generator works is good for so long.
SECONDS_OF_PROOF = 60.0


@final
@dataclass(frozen=True, slots=True)
class Health:
    """How a generator does at a moment.

    Args:
        volumes_per_minute: Made or decoded again, over the last five minutes.
        is_busy: Whether the generator works.
        silent: Seconds since the job under way last made progress; 0 without one.
        longest: Seconds that the longest job so far took.
        is_ready: Whether the last job succeeded, and less than a minute ago.
        error: Why the last job failed, or empty.
        steps_down: How often it went over to a plan with less memory.
        longest_wait: Seconds that the longest fetch so far waited for its volume.
    """

    volumes_per_minute: float
    is_busy: bool
    silent: float
    longest: float
    is_ready: bool
    error: str
    steps_down: int
    longest_wait: float


@final
class Tally:
    """Counters that many threads add to.

    Args:
        clock: A monotonic clock, in seconds.
    """

    __slots__ = (
        "_began",
        "_clock",
        "_done",
        "_error",
        "_lock",
        "_longest",
        "_longest_wait",
        "_progress",
        "_proof",
        "_start",
        "_stats",
        "_steps_down",
    )

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._lock = Lock()
        self._stats = SourceStats()
        self._start = clock()
        self._done: deque[float] = deque(maxlen=10_000)
        self._began: float | None = None
        self._progress = 0.0
        self._longest = 0.0
        self._longest_wait = 0.0
        self._proof: float | None = None
        self._error = ""
        self._steps_down = 0

    def count(self, *, seconds_generating: float = 0.0, **numbers: int) -> None:
        """Add to the figures."""
        with self._lock:
            changed = {name: getattr(self._stats, name) + n for name, n in numbers.items()}
            seconds = self._stats.seconds_generating + seconds_generating
            self._stats = replace(self._stats, seconds_generating=seconds, **changed)

    def rejected(self, reasons: Sequence[str]) -> None:
        """Volumes were not fit to be handed out, for these reasons."""
        with self._lock:
            counts = Counter(self._stats.rejected)
            counts.update(reasons)
            self._stats = replace(self._stats, rejected=dict(counts))

    def begin(self) -> None:
        """The generator begins a job."""
        with self._lock:
            self._began = self._progress = self._clock()

    def progress(self) -> None:
        """The job has come further."""
        self._progress = self._clock()

    def end(self, error: str = "", *, is_volume: bool = True) -> None:
        """The job is done, or failed with an error; a canary is no volume."""
        with self._lock:
            now = self._clock()
            if self._began is not None and not error:
                self._longest = max(self._longest, now - self._began)
                self._proof = now
                if is_volume:
                    self._done.append(now)
            self._began = None
            self._error = error

    def step_down(self) -> None:
        """The generator went over to a plan with less memory."""
        with self._lock:
            self._steps_down += 1

    def waited(self, seconds: float) -> None:
        """A fetch was answered after so many seconds."""
        with self._lock:
            self._longest_wait = max(self._longest_wait, seconds)

    @property
    def stats(self) -> SourceStats:
        """The figures until now."""
        with self._lock:
            return self._stats

    def health(self) -> Health:
        """How the generator does now."""
        with self._lock:
            now = self._clock()
            span = min(max(now - self._start, 1e-9), SECONDS_OF_RATE)
            made = sum(now - at <= SECONDS_OF_RATE for at in self._done)
            proven = self._proof is not None and now - self._proof <= SECONDS_OF_PROOF
            return Health(
                volumes_per_minute=60.0 * made / span,
                is_busy=self._began is not None,
                silent=0.0 if self._began is None else now - self._progress,
                longest=self._longest,
                is_ready=proven and not self._error,
                error=self._error,
                steps_down=self._steps_down,
                longest_wait=self._longest_wait,
            )
