"""Terminal: how the command line talks. Talk goes to stderr, data to stdout."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence
from contextlib import contextmanager

import typer
from rich.console import Console
from rich.progress import BarColumn
from rich.progress import MofNCompleteColumn
from rich.progress import Progress
from rich.progress import SpinnerColumn
from rich.progress import TextColumn
from rich.progress import TimeElapsedColumn
from rich.progress import TimeRemainingColumn

INTERRUPTED = 130  # what a shell reports for Ctrl-C


def console() -> Console:
    """A console on stderr that leaves colours out where nobody would see them."""
    return Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)


def say(text: str) -> None:
    """A line of talk."""
    console().print(text, markup=False)


def hint(text: str) -> None:
    """What to do next, on a line of its own."""
    console().print(f"hint: {text}", style="cyan", markup=False)


def fail(text: str) -> None:
    """What went wrong."""
    console().print(f"error: {text}", style="bold red", markup=False)


def answer(lines: Sequence[str]) -> None:
    """Data, for a person or the next program in a pipe."""
    for line in lines:
        print(line)


def progress() -> Progress:
    """A bar with the time left; nothing at all where stderr is not a terminal."""
    terminal = console()
    return Progress(
        SpinnerColumn(),
        # A path or a case may hold brackets, which are no markup.
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=terminal,
        disable=not terminal.is_terminal,
        transient=True,
    )


@contextmanager
def interruptible(safe: str) -> Iterator[None]:
    """Turn Ctrl-C into one line that says what is safe and how to go on.

    Args:
        safe: That line.

    Raises:
        typer.Exit: with status 130.
    """
    try:
        yield
    except KeyboardInterrupt:
        say(f"stopped; {safe}")
        raise typer.Exit(INTERRUPTED) from None
