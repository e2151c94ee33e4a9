"""Upkeep: what a cache needs between runs: damage found, refuse taken away, room made."""

from __future__ import annotations

import os
from collections.abc import Iterator
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import final

from ..errors import CacheError
from ..volume import SyntheticVolume
from . import eviction
from . import pins
from .audit import faults_of
from .contents import read_volume
from .entry import Damaged
from .entry import Entry
from .eviction import CacheStats
from .eviction import Held
from .eviction import KindStats
from .layout import explained
from .layout import open_layout
from .lock import locked


@final
@dataclass(frozen=True, slots=True)
class Checked:
    """One entry after an audit.

    Args:
        held: Which entry.
        faults: What is wrong with it, a sentence for each file; empty if it is whole.
        is_aside: Whether it was moved into quarantine.
    """

    held: Held
    faults: tuple[str, ...] = ()
    is_aside: bool = False


@final
@dataclass(frozen=True, slots=True)
class Collected:
    """What was taken out of a cache, or would be.

    Args:
        quarantined: Damaged entries.
        partial: What writers that are gone have left.
        evicted: Entries that went for the bound, for each kind.
        spared: Partial entries that stay: of writers at work, or of less than a day ago
            on another machine.
        left: Bytes of the entries that are still held.
        excess: Bytes of these above the bound: blobs that may be in use.
    """

    quarantined: KindStats
    partial: KindStats
    evicted: Mapping[str, KindStats]
    spared: KindStats
    left: int
    excess: int = 0


@final
class Upkeep:
    """A cache as its keeper sees it. Reading here counts as no use of an entry.

    Every change is a rename under the cache's lock, so training may go on meanwhile.

    Args:
        path: The directory of a cache that is there already.
        read_only: Only look.

    Raises:
        CacheError: if it is no cache, or cannot be used.
    """

    __slots__ = ("_layout", "read_only")

    def __init__(self, path: str | os.PathLike[str], *, read_only: bool = False) -> None:
        self._layout = open_layout(path, read_only=True)
        if not read_only:
            # Only now, because it makes a cache of what is none.
            self._layout = open_layout(path, read_only=False)
        self.read_only = read_only

    @property
    def path(self) -> Path:
        """The directory, absolute."""
        return self._layout.root

    def stats(self) -> CacheStats:
        """What is on disk now."""
        return eviction.summary(self._layout, None, 0)

    def entries(self) -> list[Held]:
        """Every entry on disk, volumes first."""
        return list(eviction.scan(self._layout))

    def pins(self) -> list[str]:
        """Every name that keeps entries from being evicted."""
        return pins.names(self._layout)

    def unpin(self, name: str) -> bool:
        """Let what a name pinned be evicted again; false if it pinned nothing.

        Raises:
            CacheError: if the name is none, or the cache cannot be changed.
        """
        with locked(self._layout):
            return pins.unpin(self._layout, name)

    def verify(self, *, fast: bool = False) -> Iterator[Checked]:
        """Read every entry whole, and set those aside that are not what was written.

        An entry that is evicted meanwhile is passed over.

        Args:
            fast: Compare names and sizes alone: what is missing or cut short is
                found at once, a flipped bit is not.

        Raises:
            CacheError: if the cache cannot be read or changed.
        """
        for held in self.entries():
            place = self._layout.entry(held.kind, held.key)
            if not os.path.lexists(place):
                continue
            faults = faults_of(place, held.kind, held.key, fast=fast)
            if faults and not self.read_only:
                yield self._set_aside(held, fast)
            else:
                # A second look: it may have been evicted and stored again under our eyes.
                faults = faults and faults_of(place, held.kind, held.key, fast=fast)
                yield Checked(held, tuple(faults))

    def collect(self, max_bytes: int | str | None = None, *, dry_run: bool = False) -> Collected:
        """Take away what nobody needs, and evict what exceeds a bound.

        Args:
            max_bytes: Most bytes of entries to keep, as `VolumeCache` takes it; `None`
                evicts nothing. Blobs that were used within the hour stay all the same.
            dry_run: Only say what would go.

        Raises:
            CacheError: if the bound is no size, or the cache cannot be changed.
        """
        bound = None if max_bytes is None else eviction.byte_bound(max_bytes, self._layout)
        if dry_run:
            return self._collect(bound, dry_run=True)
        if self.read_only:
            msg = f"cache {self.path} was opened read-only; open it with read_only=False to collect"
            raise CacheError(msg)
        with locked(self._layout) as lock, explained(self.path):
            lock.count_change()
            return self._collect(bound, dry_run=False)

    def volume(self, key: str) -> SyntheticVolume | None:
        """A stored volume, whole; `None` if it is not there.

        Raises:
            CacheError: if it is damaged.
        """
        place = self._layout.entry("volumes", key)
        try:
            entry = Entry(place, "volumes", key)
            volume = read_volume(entry, None, {})
        except FileNotFoundError:
            return None
        except Damaged as error:
            if not os.path.lexists(place):
                return None  # evicted while we read
            msg = f"{error}; run `nvgen-aug cache verify {self.path}` to set it aside"
            raise CacheError(msg) from error
        # What was read while the entry went away may have holes: only this tells.
        return volume if entry.is_current() else None

    def _set_aside(self, held: Held, fast: bool) -> Checked:
        place = self._layout.entry(held.kind, held.key)
        with locked(self._layout) as lock, explained(self.path):
            # Under the lock nobody publishes or evicts: is this still the damaged one?
            faults = faults_of(place, held.kind, held.key, fast=fast)
            if faults:
                lock.count_change()
                eviction.set_aside(self._layout, place)
        return Checked(held, tuple(faults), is_aside=bool(faults))

    def _collect(self, bound: int | None, *, dry_run: bool) -> Collected:
        layout = self._layout
        quarantined = eviction.below(layout, layout.quarantine)
        with explained(self.path):
            abandoned = layout.abandoned_partials()
        partial = KindStats(len(abandoned), sum(map(eviction.size_of, abandoned)))
        held = self.entries()
        total = sum(entry.bytes for entry in held)
        # Of blobs, which are the dearest kind, so that anything may go.
        going = [] if bound is None else eviction.chosen(held, total - bound, "blobs")
        if not dry_run:
            eviction.empty(layout.quarantine)
            for path in abandoned:
                eviction.discard(path)
            for entry in going:
                eviction.remove(layout, entry.kind, entry.key)
        left = total - sum(entry.bytes for entry in going)
        everything = eviction.below(layout, layout.partials)
        spared = everything if not dry_run else _less(everything, partial)
        return Collected(
            quarantined=quarantined,
            partial=partial,
            evicted=eviction.count_by_kind(going),
            spared=spared,
            left=left,
            excess=0 if bound is None else max(0, left - bound),
        )


def _less(all_of_them: KindStats, those: KindStats) -> KindStats:
    return KindStats(all_of_them.entries - those.entries, all_of_them.bytes - those.bytes)
