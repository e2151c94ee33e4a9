"""Lock: one writer at a time among all threads and processes, and a count of what they changed."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import final

from ..errors import CacheError
from .layout import Layout
from .layout import explained


@final
class Lock:
    """The lock file while it is held. It holds one number: how often the directory has changed."""

    __slots__ = ("_handle", "changes")

    def __init__(self, handle: int) -> None:
        self._handle = handle
        text = os.pread(handle, 32, 0)
        self.changes = int(text) if text.isdigit() else 0

    def count_change(self) -> int:
        """Tell other processes that their totals are out of date; gives the new count."""
        self.changes += 1
        # Never shorter than before, so a kill cannot leave a tail of an older number.
        os.pwrite(self._handle, b"%020d" % self.changes, 0)
        return self.changes


@contextmanager
def locked(layout: Layout) -> Iterator[Lock]:
    """Hold the cache's lock among all threads and processes.

    Raises:
        CacheError: if the lock file cannot be opened, or the file system has no locks.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    with explained(layout.root):
        handle = os.open(layout.lock, flags, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError as error:
            msg = (
                f"the file system of cache {layout.root} has no file locks ({error.strerror}); "
                "name a directory on a local disk"
            )
            raise CacheError(msg) from error
        try:
            yield Lock(handle)
        finally:
            # Said aloud: a child forked meanwhile would hold the lock after our close.
            fcntl.flock(handle, fcntl.LOCK_UN)
    finally:
        os.close(handle)
