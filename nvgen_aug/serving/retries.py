"""Retries: asking once more when a server died on the way, or said that it cannot just now.

Every question may be asked twice: a volume is a pure function of its spec and is
stored under its key once, an array under its digest.
"""

from __future__ import annotations

from collections.abc import Callable
from random import SystemRandom
from time import monotonic
from time import sleep
from typing import TypeVar

from ..errors import FetchTimeout
from ..errors import ServerDied
from ..errors import ServerUnavailable

T = TypeVar("T")

# A request during which this many processes died is more likely the cause than the victim.
MOST_DEATHS = 3
MOST_HANG_UPS = 5
SECONDS_TO_COME_AGAIN = 0.1

# The caller's generators are not touched, and forked workers do not share this one's numbers.
_chance = SystemRandom()


class TryLater(Exception):
    """Not an answer yet. Never leaves this package.

    Args:
        seconds: When to ask again.
        why: What the server said.
    """

    def __init__(self, seconds: float, why: str) -> None:
        super().__init__(why)
        self.seconds = seconds
        self.why = why


class HungUp(ServerUnavailable):
    """Somebody was there and hung up before a word. Never leaves this package."""


class Broken(ServerDied):
    """The connection broke after the question. Never leaves this package."""


def persistently(ask: Callable[[float], T], timeout: float, what: str, address: str) -> T:
    """The answer to a question, asked again for as long as that makes sense.

    Args:
        ask: Asks once, within so many seconds.
        timeout: Seconds for all of it.
        what: What is asked for, for the text of an error.
        address: Of the server.

    Raises:
        FetchTimeout: if there was no answer in time.
        ServerDied: if several processes died on it, or none takes the place of the last.
        ServerUnavailable: if nobody is there.
    """
    deadline = monotonic() + timeout
    deaths = hang_ups = 0
    death = ""
    while True:
        try:
            return ask(deadline - monotonic())
        except TryLater as later:
            seconds, why = later.seconds, later.why
        except Broken as error:
            deaths, death = deaths + 1, str(error)
            if deaths == MOST_DEATHS:
                msg = f"{error}; it was asked {MOST_DEATHS} times and died each time"
                raise ServerDied(msg) from error
            seconds, why = SECONDS_TO_COME_AGAIN, death
        except ServerUnavailable as error:
            if death:  # it died, and nobody brings it back
                raise ServerDied(death) from error
            hang_ups += 1
            if not isinstance(error, HungUp) or hang_ups == MOST_HANG_UPS:
                raise ServerUnavailable(str(error)) from error.__cause__
            seconds, why = SECONDS_TO_COME_AGAIN, str(error)
        # Those who were turned away together must not all come back together.
        pause = seconds * _chance.uniform(0.5, 1.5)
        if deadline - monotonic() <= pause:
            msg = (
                f"no answer from {address} within {timeout:g} s for {what}; at the last try: {why}"
            )
            raise FetchTimeout(msg)
        sleep(pause)
