"""Publisher: how an entry comes into the cache, whole, within the bound, and once."""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any
from typing import final

import numpy as np

from ..errors import CacheError
from . import eviction
from .arrays import StoredArray
from .arrays import write_group
from .entry import Damaged
from .entry import Entry
from .entry import read_commit
from .entry import seal
from .layout import COMMIT_FILE
from .layout import Kind
from .layout import Layout
from .layout import explained
from .layout import fsync_directory
from .lock import locked

if TYPE_CHECKING:
    from .object_store import ObjectStore

TOUCH_SECONDS = 60.0
_log = logging.getLogger(__name__)
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@final
class Publisher:
    """The writing half of a cache.

    All that changes the directory, a rename at a time, happens under the lock
    file, which counts the changes; arrays are written before it is taken.

    Args:
        layout: The directory.
        bound: Most bytes that it may hold.
    """

    __slots__ = ("_changes", "_held", "_layout", "bound", "differing")

    def __init__(self, layout: Layout, bound: int) -> None:
        self.bound = bound
        self.differing = 0  # entries that were made a second time with other values
        self._layout = layout
        self._held = 0
        self._changes = -1  # no count of changes yet: the first look is at the disk

    def put(
        self,
        kind: Kind,
        key: str,
        attributes: Mapping[str, Any],
        arrays: Mapping[str, StoredArray],
    ) -> bool:
        """Store an entry; false if it is there already or does not fit.

        Raises:
            CacheError: if the disk is full even after eviction, or cannot be written.
        """
        place = self._layout.entry(kind, key)
        if has_entry(self._layout, kind, key):
            touch(place)
            self._compare(kind, key, arrays)
            return False
        try:
            return self._write(kind, key, attributes, arrays)
        except (OSError, RuntimeError) as error:
            if not _is_no_room(error):
                msg = f"nothing can be stored in cache {self._layout.root}: {error}"
                raise CacheError(msg) from error
        # Twice the voxels, because what is compressed badly also needs its directory.
        need = 2 * sum(stored.array.nbytes for stored in arrays.values())
        self._make_room(kind, need)
        try:
            return self._write(kind, key, attributes, arrays)
        except (OSError, RuntimeError) as error:
            msg = (
                f"cache {self._layout.root} has no room: up to {need} bytes are needed and "
                f"{_free_bytes(self._layout.root)} bytes are free ({error}); "
                "free some space or name another directory"
            )
            raise CacheError(msg) from error

    def adopt(self, kind: Kind, key: str, remote: ObjectStore) -> bool:
        """Bring an entry here from a bucket; false if it has none that is whole and fits.

        Raises:
            CacheError: if the disk cannot be written.
        """
        partial = self._layout.new_partial(key)
        try:
            with explained(self._layout.root):
                partial.mkdir(mode=0o700)
                said = remote.fetch(kind, key, partial)
                if said is None:
                    return False
                commit = seal(partial, kind, key)
                if commit != said:
                    remote.discard(kind, key)
                    return False
                fits = commit.total_bytes <= self.bound
                return fits and self._publish(partial, kind, key, commit.total_bytes)
        finally:
            eviction.discard(partial)

    def send(self, kind: Kind, key: str, remote: ObjectStore) -> None:
        """Store an entry of this cache in a bucket, too, if it is not there yet."""
        place = self._layout.entry(kind, key)
        try:
            commit = read_commit(place, kind, key)
        except (FileNotFoundError, Damaged):
            return  # evicted meanwhile
        remote.send(place, commit, kind, key)

    def set_aside(self, kind: Kind, key: str) -> None:
        """Move a damaged entry into quarantine, of which the last few are kept.

        Raises:
            CacheError: if the directory cannot be changed.
        """
        place = self._layout.entry(kind, key)
        with locked(self._layout) as lock, explained(self._layout.root):
            try:
                # Under the lock nobody publishes or evicts: is this still the damaged one?
                Entry(place, kind, key, thorough=True)
            except (FileNotFoundError, Damaged):
                if os.path.lexists(place):
                    lock.count_change()
                    eviction.set_aside(self._layout, place)

    def sweep(self) -> None:
        """Delete what writers that are gone have left.

        Raises:
            CacheError: if the directory cannot be read.
        """
        with explained(self._layout.root):
            eviction.sweep(self._layout)

    def _write(
        self,
        kind: Kind,
        key: str,
        attributes: Mapping[str, Any],
        arrays: Mapping[str, StoredArray],
    ) -> bool:
        partial = self._layout.new_partial(key)
        try:
            partial.mkdir(mode=0o700)
            write_group(partial, attributes, arrays)
            size = seal(partial, kind, key).total_bytes
            if size > self.bound:
                return False
            is_first = self._publish(partial, kind, key, size)
            if not is_first:
                self._compare(kind, key, arrays)
            return is_first
        finally:
            eviction.discard(partial)

    def _publish(self, partial: Path, kind: Kind, key: str, size: int) -> bool:
        place = self._layout.entry(kind, key)
        with locked(self._layout) as lock:
            if has_entry(self._layout, kind, key):
                return False
            if self._changes != lock.changes:
                # Another process has stored or evicted since: only the disk knows.
                self._held = eviction.total_bytes(self._layout)
            if self._held + size > self.bound:
                held = list(eviction.scan(self._layout))
                excess = sum(entry.bytes for entry in held) + size - self.bound
                freed = eviction.evict(self._layout, held, excess, kind)
                self._held = sum(entry.bytes for entry in held) - freed
                self._changes = lock.count_change()
                if freed < excess:
                    return False
            place.parent.mkdir(mode=0o700, exist_ok=True)
            if os.path.lexists(place):
                eviction.set_aside(self._layout, place)  # it has no valid commit file
            # The change is counted first: killed in between, others look once too often.
            self._changes = lock.count_change()
            partial.rename(place)
            self._held += size
            fsync_directory(place.parent)
        return True

    def _compare(self, kind: Kind, key: str, arrays: Mapping[str, StoredArray]) -> None:
        """Say so if what is stored differs from what somebody made a second time.

        The first one stays: it is whole, and samples were made of it. But whoever
        relies on equal bytes must hear that a generator gave others.
        """
        try:
            stored = Entry(self._layout.entry(kind, key), kind, key)
            differing = [
                name
                for name, made in arrays.items()
                if not np.array_equal(stored.read(name), made.array, equal_nan=True)
            ]
        except (FileNotFoundError, Damaged):
            return  # evicted meanwhile, or damaged: the next reader finds out
        if differing:
            self.differing += 1
            _log.warning(
                "%s/%s was made twice with other values of %s; the first stays in cache %s",
                kind,
                key[:12],
                " and ".join(differing),
                self._layout.root,
            )

    def _make_room(self, kind: Kind, need: int) -> None:
        with locked(self._layout) as lock:
            held = list(eviction.scan(self._layout))
            most = sum(entry.bytes for entry in eviction.evictable(held, kind))
            eviction.evict(self._layout, held, min(need, most), kind)
            lock.count_change()


def has_entry(layout: Layout, kind: Kind, key: str) -> bool:
    """Whether an entry is there, by its commit file alone."""
    try:
        read_commit(layout.entry(kind, key), kind, key)
    except (FileNotFoundError, Damaged):
        return False
    return True


def touch(place: Path) -> None:
    """Mark an entry as used, at most once a minute; nobody fails for it."""
    commit_file = place / COMMIT_FILE
    try:
        if time.time() - commit_file.stat().st_mtime > TOUCH_SECONDS:
            os.utime(commit_file)
    except OSError:
        return


def _is_no_room(error: BaseException) -> bool:
    # zarrs reports what the system said as text.
    return (isinstance(error, OSError) and error.errno in _NO_ROOM) or any(
        f"os error {number}" in str(error) for number in _NO_ROOM
    )


def _free_bytes(path: Path) -> int:
    facts = os.statvfs(path)
    return facts.f_bavail * facts.f_frsize
