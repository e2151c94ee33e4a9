"""CachedSource: a volume source that looks on the disk before it asks another one."""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING
from typing import Any
from typing import Final
from typing import final

import numpy as np

from ..card import VariantCard
from ..crop import Crop
from ..crop import CropRule
from ..errors import SourceError
from ..source import SourceStats
from ..source import VolumeSource
from ..spec import VolumeSpec
from ..volume import SyntheticVolume
from .volume_cache import VolumeCache

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ROWS: Final = 1021  # a prime, so that neighbours rarely meet


@final
class CachedSource(VolumeSource):
    """A source in front of which stored volumes are read, in this very process.

    It never writes: whoever generates does. It can be pickled if the source
    can; the copy counts its hits from 0. A forked worker, as loaders on Linux
    have them, counts its hits here too.

    Args:
        source: Asked for what is not stored.
        cache: Where to look; a read-only view is made of it.
    """

    __slots__ = ("_cache", "_hits", "_source")

    def __init__(self, source: VolumeSource, cache: VolumeCache) -> None:
        self._source = source
        self._cache = cache if cache.read_only else cache.reader()
        # Memory without a name, which forked workers share: each counts in the row of its id.
        self._hits = np.frombuffer(mmap.mmap(-1, 8 * _ROWS), dtype=np.int64)

    @property
    def card(self) -> VariantCard:
        """The card of the source behind."""
        return self._source.card

    def resolve(self, spec: VolumeSpec) -> VolumeSpec:
        """As the source behind resolves it."""
        return self._source.resolve(spec)

    def fetch(self, spec: VolumeSpec, crop: Crop | CropRule | None = None) -> SyntheticVolume:
        """The stored volume or crop, or else what the source behind gives."""
        resolved = self._source.resolve(spec)
        card = self._source.card
        volume = self._cache.get_volume(card.volume_key(resolved), crop, card.vocabulary)
        if volume is None:
            return self._source.fetch(resolved, crop)
        self._hits[os.getpid() % _ROWS] += 1
        return volume

    def put(self, array: NDArray[np.generic], affine: NDArray[np.float64]) -> str:
        """Handed to the source behind."""
        return self._source.put(array, affine)

    def prefetch(self, specs: Sequence[VolumeSpec]) -> None:
        """Passed on to the source behind, less what is stored already."""
        card = self._source.card
        wanted = [
            resolved
            for resolved in map(self._source.resolve, specs)
            if not self._cache.has_volume(card.volume_key(resolved))
        ]
        if wanted:
            self._source.prefetch(wanted)

    def stats(self) -> SourceStats:
        """The source's figures with the hits here added; those alone if it cannot answer."""
        try:
            behind = self._source.stats()
        except SourceError:
            behind = SourceStats()
        hits = int(self._hits.sum())
        return replace(behind, fetched=behind.fetched + hits, hits=behind.hits + hits)

    def close(self) -> None:
        """Close the source behind and forget opened entries."""
        self._source.close()
        self._cache.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return CachedSource, (self._source, self._cache)
