"""Talk: how the demo tells what it is doing, without knowing where the words go."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from contextlib import AbstractContextManager
from contextlib import contextmanager
from typing import Protocol
from typing import final

Advance = Callable[[str], None]


class Talk(Protocol):
    """Somebody who listens; the command line shows lines and bars, a test keeps them."""

    def say(self, text: str) -> None:
        """Show one line."""

    def track(self, title: str, total: int) -> AbstractContextManager[Advance]:
        """A bar of `total` steps; call what it gives once a step, with a short note."""


@final
class KeptTalk:
    """Keeps every line, for tests and for callers who want silence."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        """Keep one line."""
        self.lines.append(text)

    @contextmanager
    def track(self, title: str, total: int) -> Iterator[Advance]:
        """Keep the title and the number of steps made."""
        done = 0

        def advance(note: str = "") -> None:
            nonlocal done
            done += 1

        yield advance
        self.lines.append(f"{title}: {done} of {total}")
