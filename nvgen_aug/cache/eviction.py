"""Eviction: how much a cache may hold, what it holds, and what goes first."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import time
from collections.abc import Iterator
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import final

from ..errors import CacheError
from ..spec import DIGEST
from .entry import Damaged
from .entry import read_commit
from .layout import COMMIT_FILE
from .layout import KINDS
from .layout import Kind
from .layout import Layout

DEFAULT_MOST = 50 * 10**9
# An array that the caller handed over cannot be made again: not while it may be in use.
BLOB_REST_SECONDS = 3600.0

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(?:([KMGT]?)B)?\s*", re.IGNORECASE)


@final
@dataclass(frozen=True, slots=True)
class KindStats:
    """Entries of one kind and their bytes."""

    entries: int = 0
    bytes: int = 0


@final
@dataclass(frozen=True, slots=True)
class CacheStats:
    """What a cache holds.

    Args:
        entries: Entries of all kinds.
        bytes: Their bytes, commit files included.
        by_kind: The same for `"volumes"`, `"latents"` and `"blobs"`.
        bound: Most bytes that it may hold, or `None` for a reader, which never adds.
        damaged: Entries that this process met and found damaged.
    """

    entries: int
    bytes: int
    by_kind: Mapping[str, KindStats]
    bound: int | None
    damaged: int = 0


@final
@dataclass(frozen=True, slots=True)
class Held:
    """An entry on disk, as eviction sees it.

    Args:
        kind: Its folder.
        key: Its key.
        bytes: Its bytes, the commit file included.
        used: When it was last read or written, seconds since 1970; 0 if it is
            damaged, so that it goes first.
    """

    kind: Kind
    key: str
    bytes: int
    used: float


def byte_bound(max_bytes: int | str | None, layout: Layout) -> int:
    """The bound in bytes: a number, a text such as `"200 GB"`, or the default.

    The default is half of what is free or held by this cache, at most 50 GB.

    Raises:
        CacheError: if it is neither a size nor above 0.
    """
    if max_bytes is None:
        held = sum(entry.bytes for entry in scan(layout))
        return min(DEFAULT_MOST, (shutil.disk_usage(layout.root).free + held) // 2)
    match = _SIZE.fullmatch(str(max_bytes))
    if isinstance(max_bytes, bool) or match is None:
        msg = f'max_bytes must be a number of bytes or a text like "200 GB", got {max_bytes!r}'
        raise CacheError(msg)
    bound = int(float(match[1]) * _UNITS[(match[2] or "").upper()])
    if bound < 1:
        msg = f"max_bytes must be above 0, got {max_bytes!r}; leave the cache out to store nothing"
        raise CacheError(msg)
    return bound


def scan(layout: Layout) -> Iterator[Held]:
    """Every entry on disk, by its commit file."""
    for kind in KINDS:
        for folder in _folders(layout.root / kind):
            for directory in _folders(folder):
                if not DIGEST.fullmatch(directory.name):
                    continue
                try:
                    used = (directory / COMMIT_FILE).lstat().st_mtime
                    size = read_commit(directory, kind, directory.name).total_bytes
                except FileNotFoundError:
                    if not directory.exists():
                        continue  # evicted meanwhile
                    used, size = 0.0, _bytes_below(directory)
                except Damaged:
                    used, size = 0.0, _bytes_below(directory)
                yield Held(kind, directory.name, size, used)


def summary(held: list[Held], bound: int | None, damaged: int) -> CacheStats:
    """The statistics of these entries."""
    by_kind: dict[str, KindStats] = {}
    for kind in KINDS:
        sizes = [entry.bytes for entry in held if entry.kind == kind]
        by_kind[kind] = KindStats(len(sizes), sum(sizes))
    return CacheStats(len(held), sum(e.bytes for e in held), by_kind, bound, damaged)


def evictable(held: list[Held], kind: Kind) -> list[Held]:
    """What may go for an entry of this kind, in this order.

    Volumes go before latents and latents before blobs, each by last use. For
    an entry of one kind nothing of a dearer kind is removed: latents are not
    traded for voxels that can be decoded from them. A blob stays while it may
    be in use.
    """
    allowed = KINDS[: KINDS.index(kind) + 1]
    rested = time.time() - BLOB_REST_SECONDS
    candidates = [
        entry
        for entry in held
        if entry.kind in allowed and (entry.kind != "blobs" or entry.used < rested)
    ]
    return sorted(candidates, key=lambda e: (KINDS.index(e.kind), e.used, e.key))


def evict(layout: Layout, held: list[Held], need: int, kind: Kind) -> int:
    """Remove entries until `need` bytes are gone, or none if that cannot be had.

    The caller holds the lock. Gives the bytes that went.
    """
    empty(layout.quarantine)
    candidates = evictable(held, kind)
    if sum(entry.bytes for entry in candidates) < need:
        return 0
    freed = 0
    for entry in candidates:
        if freed >= need:
            break
        remove(layout, entry.kind, entry.key)
        freed += entry.bytes
    return freed


def remove(layout: Layout, kind: Kind, key: str) -> None:
    """Take an entry away at once, then delete it, so that no reader sees half of it."""
    partial = layout.new_partial(key)
    try:
        layout.entry(kind, key).rename(partial)
    except FileNotFoundError:
        return
    discard(partial)


def discard(path: Path) -> None:
    """Delete a file or a folder that nobody else looks at; what is gone already is fine."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def empty(folder: Path) -> None:
    """Delete everything in a folder."""
    for path in list(folder.iterdir()):
        discard(path)


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
        CacheError: if the file system has no locks.
    """
    handle = os.open(layout.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
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


def _folders(path: Path) -> list[Path]:
    try:
        with os.scandir(path) as found:
            return sorted(Path(f.path) for f in found if f.is_dir(follow_symlinks=False))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _bytes_below(directory: Path) -> int:
    total = 0
    for folder, _, names in os.walk(directory):
        for name in names:
            try:
                total += os.lstat(os.path.join(folder, name)).st_size
            except FileNotFoundError:
                continue
    return total
