"""Eviction: how much a cache may hold, what it holds, and what goes first."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
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
from .layout import explained
from .pins import pinned

DEFAULT_MOST = 50 * 10**9
QUARANTINED = 8  # damaged entries that are kept for a look
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
        unsealed: Those of `entries` that have no valid commit file.
        quarantined: Damaged entries that were set aside; within the bound, not in `bytes`.
        partial: Entries that are being written or removed; beside the bound, not in `bytes`.
        pinned: Those of `entries` that are never evicted, because somebody needs them.
    """

    entries: int
    bytes: int
    by_kind: Mapping[str, KindStats]
    bound: int | None
    damaged: int = 0
    unsealed: KindStats = KindStats()
    quarantined: KindStats = KindStats()
    partial: KindStats = KindStats()
    pinned: KindStats = KindStats()


@final
@dataclass(frozen=True, slots=True)
class Held:
    """An entry on disk, as eviction sees it.

    Args:
        kind: Its folder.
        key: Its key.
        bytes: Its bytes, the commit file included.
        used: When it was last read or written, seconds since 1970; 0 if it has
            no valid commit file, so that it goes first.
        is_sealed: Whether it has one.
        is_pinned: Whether somebody has said that it is needed.
    """

    kind: Kind
    key: str
    bytes: int
    used: float
    is_sealed: bool = True
    is_pinned: bool = False


def byte_bound(max_bytes: int | str | None, layout: Layout) -> int:
    """The bound in bytes: a number, a text such as `"200 GB"`, or the default.

    The default is half of what is free or held by this cache, at most 50 GB.

    Raises:
        CacheError: if it is neither a size nor above 0.
    """
    if max_bytes is None:
        held = total_bytes(layout)
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
    """Every entry on disk, by its commit file.

    Raises:
        CacheError: if a folder of the cache cannot be read.
    """
    needed = pinned(layout)
    with explained(layout.root):
        for kind in KINDS:
            for folder in _folders(layout.root / kind):
                for directory in _folders(folder):
                    if not DIGEST.fullmatch(directory.name):
                        continue
                    held = _look(directory, kind)
                    if held is not None:
                        is_pinned = held.is_sealed and (kind, held.key) in needed
                        yield replace(held, is_pinned=is_pinned)


def total_bytes(layout: Layout) -> int:
    """What counts against the bound: all entries, and what lies in quarantine."""
    return sum(entry.bytes for entry in scan(layout)) + below(layout, layout.quarantine).bytes


def below(layout: Layout, folder: Path) -> KindStats:
    """What lies in quarantine or among the partial entries.

    Raises:
        CacheError: if it cannot be read.
    """
    with explained(layout.root):
        try:
            sizes = [size_of(path) for path in folder.iterdir()]
        except FileNotFoundError:  # a reader does not make what is missing
            sizes = []
    return KindStats(len(sizes), sum(sizes))


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files below a folder; 0 if it is gone."""
    try:
        total = 0 if path.is_dir() and not path.is_symlink() else path.lstat().st_size
    except FileNotFoundError:
        return 0
    for folder, _, names in os.walk(path):
        for name in names:
            try:
                total += os.lstat(os.path.join(folder, name)).st_size
            except FileNotFoundError:
                continue
    return total


def summary(layout: Layout, bound: int | None, damaged: int) -> CacheStats:
    """What a cache holds now.

    Raises:
        CacheError: if it cannot be read.
    """
    held = list(scan(layout))
    return CacheStats(
        entries=len(held),
        bytes=sum(entry.bytes for entry in held),
        by_kind=count_by_kind(held),
        bound=bound,
        damaged=damaged,
        unsealed=_count([entry for entry in held if not entry.is_sealed]),
        quarantined=below(layout, layout.quarantine),
        partial=below(layout, layout.partials),
        pinned=_count([entry for entry in held if entry.is_pinned]),
    )


def count_by_kind(held: Sequence[Held]) -> dict[str, KindStats]:
    """Number and bytes of these entries, for each kind."""
    return {kind: _count([entry for entry in held if entry.kind == kind]) for kind in KINDS}


def evictable(held: list[Held], kind: Kind) -> list[Held]:
    """What may go for an entry of this kind, in this order.

    Volumes go before latents and latents before blobs, each by last use. For
    an entry of one kind nothing of a dearer kind is removed: latents are not
    traded for voxels that can be decoded from them. A blob stays while it may
    be in use, and so does what is pinned.
    """
    allowed = KINDS[: KINDS.index(kind) + 1]
    rested = time.time() - BLOB_REST_SECONDS
    candidates = [
        entry
        for entry in held
        if entry.kind in allowed
        and not entry.is_pinned
        and (entry.kind != "blobs" or entry.used < rested)
    ]
    return sorted(candidates, key=lambda e: (KINDS.index(e.kind), e.used, e.key))


def chosen(held: list[Held], need: int, kind: Kind) -> list[Held]:
    """The entries that go for `need` bytes; all that may go, if those are fewer."""
    going, freed = [], 0
    for entry in evictable(held, kind):
        if freed >= need:
            break
        going.append(entry)
        freed += entry.bytes
    return going


def evict(layout: Layout, held: list[Held], need: int, kind: Kind) -> int:
    """Remove entries until `need` bytes are gone, or none if that cannot be had.

    What is damaged or was left by writers that are gone goes before all entries.
    The caller holds the lock. Gives the bytes of the entries that went.
    """
    empty(layout.quarantine)
    sweep(layout)
    going = chosen(held, need, kind)
    freed = sum(entry.bytes for entry in going)
    if freed < need:
        return 0
    for entry in going:
        remove(layout, entry.kind, entry.key)
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


def set_aside(layout: Layout, place: Path) -> None:
    """Move a damaged entry into quarantine, of which the last few are kept.

    The caller holds the lock.
    """
    aside = layout.quarantine / layout.new_partial(place.name).name
    try:
        place.rename(aside)
    except FileNotFoundError:
        return
    kept = sorted(layout.quarantine.iterdir(), key=lambda path: path.lstat().st_ctime_ns)
    for path in kept[:-QUARANTINED]:
        discard(path)


def sweep(layout: Layout) -> None:
    """Delete what writers that are gone have left."""
    for partial in layout.abandoned_partials():
        discard(partial)


def empty(folder: Path) -> None:
    """Delete everything in a folder."""
    for path in list(folder.iterdir()):
        discard(path)


def _folders(path: Path) -> list[Path]:
    try:
        with os.scandir(path) as found:
            return sorted(Path(f.path) for f in found if f.is_dir(follow_symlinks=False))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _look(directory: Path, kind: Kind) -> Held | None:
    """An entry by its commit file; `None` if it was evicted meanwhile."""
    key = directory.name
    try:
        used = (directory / COMMIT_FILE).lstat().st_mtime
        return Held(kind, key, read_commit(directory, kind, key).total_bytes, used)
    except FileNotFoundError:
        if not directory.exists():
            return None
    except Damaged:
        pass
    return Held(kind, key, size_of(directory), 0.0, is_sealed=False)


def _count(held: Sequence[Held]) -> KindStats:
    return KindStats(len(held), sum(entry.bytes for entry in held))
