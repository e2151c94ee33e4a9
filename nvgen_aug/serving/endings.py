"""Endings: what tells a process to stop, as descriptors that can be polled."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from contextlib import suppress
from pathlib import Path
from threading import Thread
from threading import current_thread
from threading import main_thread
from time import sleep

from ..errors import SourceError

PR_SET_PDEATHSIG = 1  # of <sys/prctl.h>


@contextmanager
def stop_signals() -> Iterator[int]:
    """A descriptor that can be read once SIGINT or SIGTERM came."""
    read, write = os.pipe()
    before = {}
    try:
        if current_thread() is main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                before[number] = signal.signal(number, lambda *_: _poke(write))
        yield read
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(read)
        os.close(write)


def watched(owner: int, *, is_parent: bool = True) -> int:
    """A descriptor that can be read once an owner is gone.

    Not the end of file of a pipe: forked workers of the owner would hold that open.

    Args:
        owner: Process id.
        is_parent: Whether it is our parent, or some process that speaks with us just now.

    Raises:
        SourceError: if it is gone already.
    """
    try:
        fd = os.pidfd_open(owner)
    except OSError:  # a sandbox that forbids it, or the owner is gone already
        fd, write = os.pipe()
        Thread(target=_watch, args=(owner, is_parent, write), daemon=True).start()
        return fd
    # Gone before we looked, and its number may be somebody else's.
    if is_parent and os.getppid() != owner:
        os.close(fd)
        msg = f"the owner, process {owner}, is gone"
        raise SourceError(msg)
    return fd


def wake_when_orphaned() -> None:
    """Have the kernel let this process go on, should it be stopped when its parent dies.

    A stopped process sees nothing, so it would outlive its parent for ever, and its clients
    would wait in the queue of a socket that nobody accepts from. Of the parent's thread that
    started this process, so it may come early, when it does no harm. See prctl(2).
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGCONT)


def _watch(owner: int, is_parent: bool, write: int) -> None:
    while os.getppid() == owner if is_parent else Path(f"/proc/{owner}").exists():
        sleep(0.5)
    _poke(write)


def _poke(write: int) -> None:
    with suppress(OSError):
        os.write(write, b"!")
