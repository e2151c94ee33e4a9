"""ServedSource: a volume source whose generator lives in a process of its own."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING
from typing import Any
from typing import final

from ..card import VariantCard
from ..crop import Crop
from ..crop import CropRule
from ..errors import SourceError
from ..source import SourceStats
from ..source import VolumeSource
from ..spec import VolumeSpec
from ..volume import SyntheticVolume
from .client import Client
from .lifecycle import Resident

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SECONDS_TO_LAST_FIGURES = 2.0


@final
class ServedSource(VolumeSource):
    """A volume source whose generator lives in a process of its own.

    A pickled copy, and a forked one, reach the same process; only the process that
    started it stops it.

    Args:
        resident: The process.
        source: How to reach it.
    """

    __slots__ = ("_figures", "_resident", "_source")

    def __init__(self, resident: Resident, source: VolumeSource) -> None:
        self._resident = resident
        self._source = source
        self._figures: SourceStats | None = None

    @property
    def pid(self) -> int:
        """Process id of the server: of the supervisor, whose child is the generator."""
        return self._resident.pid

    @property
    def address(self) -> str:
        """Where other processes reach it: `open_source(address)`."""
        return self._resident.address

    @property
    def card(self) -> VariantCard:
        """What is known of the variant."""
        return self._source.card

    def resolve(self, spec: VolumeSpec) -> VolumeSpec:
        """The spec with the variant's defaults filled in."""
        return self._source.resolve(spec)

    def fetch(self, spec: VolumeSpec, crop: Crop | CropRule | None = None) -> SyntheticVolume:
        """The volume of a spec, or a part of it."""
        return self._source.fetch(spec, crop)

    def put(self, array: NDArray[np.generic], affine: NDArray[np.float64]) -> str:
        """Hand over an array of the caller."""
        return self._source.put(array, affine)

    def prefetch(self, specs: Sequence[VolumeSpec]) -> None:
        """Say what will be fetched next."""
        self._source.prefetch(specs)

    def stats(self) -> SourceStats:
        """What the server has done so far, or had done when it was closed."""
        return self._figures or self._source.stats()

    def close(self) -> None:
        """Hang up, and stop the server if this process started it."""
        if self._figures is None:
            # Asked by another client first: a server that hangs must not delay its own end.
            with suppress(SourceError), Client(self.address, SECONDS_TO_LAST_FIGURES) as client:
                client.stats()
                self._figures = self._source.stats()
        self._source.close()
        self._resident.close()

    def __copy__(self) -> ServedSource:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> ServedSource:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _as_it_is, (self._source,)


def _as_it_is(source: VolumeSource) -> VolumeSource:
    return source
