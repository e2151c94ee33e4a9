"""Tier: one directory of entries as a process reads it, each opened once and checked."""

from __future__ import annotations

import errno
import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar
from typing import final

from ..errors import CacheError
from .entry import Damaged
from .entry import Entry
from .layout import Kind
from .layout import Layout
from .publisher import Publisher
from .publisher import has_entry
from .publisher import touch

_Value = TypeVar("_Value")

# Opened entries to keep: each is a few kilobytes of metadata and no open file.
KEPT_OPEN = 64


@final
class Tier:
    """The reading half of a cache directory. What is damaged is a miss.

    It may be used in any process; after a fork nothing of the parent is touched.

    Args:
        layout: The directory.
        publisher: Its writing half, which sets aside what is damaged; `None` for a
            directory that is only read.
        thorough: Whether an entry's SHA-256 digests are compared when this process
            first opens it; else its CRC-32s. A server that adopts an entry and readers
            of what somebody else wrote want the first, a data loader's worker the second.
    """

    __slots__ = ("_local", "_publisher", "_thorough", "layout")

    def __init__(self, layout: Layout, publisher: Publisher | None, *, thorough: bool) -> None:
        self.layout = layout
        self._publisher = publisher
        self._thorough = thorough
        self._local = _Local()

    @property
    def damaged(self) -> int:
        """Entries that this process met and found damaged."""
        return self._here().damaged

    def has(self, kind: Kind, key: str) -> bool:
        """Whether an entry is there, by its commit file alone."""
        return has_entry(self.layout, kind, key)

    def get(self, kind: Kind, key: str, build: Callable[[Entry], _Value]) -> _Value | None:
        """What `build` makes of an entry, or `None` if there is none that is whole.

        Raises:
            CacheError: if too many files are open.
        """
        # A second try, because an entry may be evicted and stored again under our eyes.
        for _ in range(2):
            entry = self._opened(kind, key)
            if entry is None:
                return None
            try:
                value = build(entry)
            except Damaged as error:
                _check_open_files(error)
                if entry.is_current():
                    self._set_aside(kind, key)
                    return None
                value = None
            # What was read while the entry went away may have holes: only this tells.
            if value is not None and entry.is_current():
                touch(entry.directory)
                return value
            self._here().forget(entry)
        return None

    def close(self) -> None:
        """Forget opened entries; the tier stays usable."""
        self._here().opened.clear()

    def _here(self) -> _Local:
        if self._local.pid != os.getpid():
            # The parent's handles are kept but never touched: to free them could
            # wait for threads that the fork did not copy.
            self._local = _Local(abandoned=self._local)
        return self._local

    def _opened(self, kind: Kind, key: str) -> Entry | None:
        directory = self.layout.entry(kind, key)
        here = self._here()
        entry = here.get(directory)
        if entry is not None and entry.is_current():
            return entry
        stamp = _stamp(directory)
        if stamp is None:
            return None
        try:
            entry = Entry(directory, kind, key, thorough=self._thorough)
        except (FileNotFoundError, Damaged) as error:
            _check_open_files(error)
            # Files also go missing because the entry was evicted under our eyes.
            if _stamp(directory) == stamp:
                self._set_aside(kind, key)
            return None
        here.keep(directory, entry)
        return entry

    def _set_aside(self, kind: Kind, key: str) -> None:
        """Count a damaged entry, and move it out of the way if this tier is written."""
        directory = self.layout.entry(kind, key)
        here = self._here()
        here.damaged += 1
        with here.lock:
            here.opened.pop(directory, None)
        if self._publisher is not None:
            self._publisher.set_aside(kind, key)


@final
class _Local:
    """What one process knows of a tier: entries that it has opened, and damage met."""

    __slots__ = ("abandoned", "damaged", "lock", "opened", "pid")

    def __init__(self, abandoned: _Local | None = None) -> None:
        self.pid = os.getpid()
        self.lock = threading.Lock()
        self.opened: OrderedDict[Path, Entry] = OrderedDict()
        self.damaged = 0
        self.abandoned = abandoned

    def get(self, directory: Path) -> Entry | None:
        with self.lock:
            entry = self.opened.get(directory)
            if entry is not None:
                self.opened.move_to_end(directory)
            return entry

    def keep(self, directory: Path, entry: Entry) -> None:
        with self.lock:
            self.opened[directory] = entry
            self.opened.move_to_end(directory)
            while len(self.opened) > KEPT_OPEN:
                self.opened.popitem(last=False)

    def forget(self, entry: Entry) -> None:
        with self.lock:
            if self.opened.get(entry.directory) is entry:
                del self.opened[entry.directory]


def _stamp(directory: Path) -> tuple[int, int] | None:
    """What tells a directory from a later one of the same name; `None` if there is none."""
    try:
        facts = os.lstat(directory)
    except OSError:
        return None
    return facts.st_ino, facts.st_mtime_ns


def _check_open_files(error: Exception) -> None:
    cause = error.__cause__
    text = str(cause)
    few = isinstance(cause, OSError) and cause.errno in (errno.EMFILE, errno.ENFILE)
    if few or "os error 24" in text:
        msg = "too many files are open to read the cache; raise the limit with `ulimit -n`"
        raise CacheError(msg) from error
