"""Restarts: when a process that died is started again, and when it is left alone for a while."""

from __future__ import annotations

import json
import math
from collections import deque
from dataclasses import asdict
from dataclasses import dataclass
from dataclasses import fields
from typing import final

from ..errors import SourceError


@final
@dataclass(frozen=True, slots=True)
class Patience:
    """How much is borne of a generator's process before something is done.

    Args:
        first_delay: Seconds before the first restart; each further one waits twice as long.
        most_delay: Most seconds before a restart.
        crashes: So many of them ...
        within: ... in so many seconds open the breaker: clients get an error at once ...
        rest: ... until the next try, so many seconds later.
        silence: Seconds without a sign of life after which the process is taken for dead;
            at most `hang`, and at least a few of these signs.
        hang: Seconds that one job may make no progress. A job that reports none, because its
            generator cannot, has to end within them, or within five times the longest job
            so far if that is more.
        start: Seconds until a started process must be ready.
    """

    first_delay: float = 0.1
    most_delay: float = 10.0
    crashes: int = 5
    within: float = 60.0
    rest: float = 60.0
    silence: float = 120.0
    hang: float = 600.0
    start: float = 600.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                msg = f"patience: {field.name} must be a number, got {value!r}"
                raise SourceError(msg)
            if not 0 < value < math.inf:
                msg = f"patience: {field.name} must be > 0 and finite, got {value!r}"
                raise SourceError(msg)

    def to_json(self) -> str:
        """As JSON, for another process."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Patience:
        """What `to_json` wrote.

        Raises:
            SourceError: if it is anything else.
        """
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError) as error:
            msg = f"not a patience: {text[:60]!r}"
            raise SourceError(msg) from error


@final
class Restarts:
    """The crashes of one process and what follows from them.

    The delay is a function of the crashes of the last minute alone, so a process that
    dies once a day is back at once each time.
    """

    __slots__ = ("_patience", "_recent", "count", "is_broken", "last_error")

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._recent: deque[float] = deque(maxlen=int(patience.crashes))
        self.count = 0
        self.last_error = ""
        self.is_broken = False

    def crashed(self, now: float, why: str) -> float:
        """Note a crash at a time of a monotonic clock; in how many seconds to start again."""
        patience = self._patience
        self.count += 1
        self.last_error = why
        self._recent.append(now)
        while self._recent[0] < now - patience.within:
            self._recent.popleft()
        self.is_broken = len(self._recent) >= patience.crashes
        if self.is_broken:
            return patience.rest
        return min(patience.first_delay * 2.0 ** (len(self._recent) - 1), patience.most_delay)
