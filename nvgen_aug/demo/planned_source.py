"""PlannedSource: a source for a run whose end is known."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence
from typing import TYPE_CHECKING
from typing import final

from ..card import VariantCard
from ..crop import Crop
from ..crop import CropRule
from ..source import SourceStats
from ..source import VolumeSource
from ..spec import VolumeSpec
from ..volume import SyntheticVolume

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@final
class PlannedSource(VolumeSource):
    """Another source, told ahead only of what the run will really fetch.

    A sampler announces the volumes that a longer run would need; without this, the
    generator would be busy with them when the demo ends.

    Args:
        source: Who makes the volumes; it stays the caller's to close.
        planned: Resolved specs of the run.
    """

    __slots__ = ("_planned", "_source")

    def __init__(self, source: VolumeSource, planned: Iterable[VolumeSpec]) -> None:
        self._source = source
        self._planned = frozenset(planned)

    @property
    def card(self) -> VariantCard:
        """The card of the source behind."""
        return self._source.card

    def fetch(self, spec: VolumeSpec, crop: Crop | CropRule | None = None) -> SyntheticVolume:
        """The volume of a spec, planned or not."""
        return self._source.fetch(spec, crop)

    def put(self, array: NDArray[np.generic], affine: NDArray[np.float64]) -> str:
        """Hand an array on."""
        return self._source.put(array, affine)

    def prefetch(self, specs: Sequence[VolumeSpec]) -> None:
        """Hand on what the run will fetch."""
        known = [spec for spec in specs if self.resolve(spec) in self._planned]
        if known:
            self._source.prefetch(known)

    def stats(self) -> SourceStats:
        """What the source behind has done."""
        return self._source.stats()
