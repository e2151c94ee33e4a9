"""VolumeSource: the one seam between training data and whatever makes volumes."""

from __future__ import annotations

from abc import ABC
from abc import abstractmethod
from collections import Counter
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from dataclasses import fields
from types import TracebackType
from typing import TYPE_CHECKING
from typing import Any
from typing import Self
from typing import final

from .card import VariantCard
from .crop import Crop
from .crop import CropRule
from .spec import VolumeSpec
from .volume import SyntheticVolume

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@final
@dataclass(frozen=True, slots=True)
class SourceStats:
    """What a source has done so far.

    Args:
        fetched: Volumes or crops handed out.
        generated: Volumes made by the model.
        decoded: Volumes decoded again from a stored latent.
        crops: Crops decoded alone from a stored latent.
        hits: Fetches answered from the cache.
        joined: Fetches that waited for a generation already under way.
        waiting: Requests in the queue now.
        seconds_generating: Time the model was busy.
        failures: Requests that ended in an error.
        unsaved: Volumes or masks that the cache could not keep.
        rejected: How often something was wrong with a volume that was then made again or refused,
            by reason.
    """

    fetched: int = 0
    generated: int = 0
    decoded: int = 0
    hits: int = 0
    joined: int = 0
    waiting: int = 0
    seconds_generating: float = 0.0
    failures: int = 0
    unsaved: int = 0
    crops: int = 0
    rejected: Mapping[str, int] = field(default_factory=dict)

    @property
    def seconds_per_volume(self) -> float:
        """Mean time of one generation, or 0 before the first."""
        return self.seconds_generating / self.generated if self.generated else 0.0

    def __add__(self, other: SourceStats) -> SourceStats:
        """What two generators have done so far together."""
        names = [each.name for each in fields(self) if each.name != "rejected"]
        sums: dict[str, Any] = {name: getattr(self, name) + getattr(other, name) for name in names}
        return SourceStats(**sums, rejected=dict(Counter(self.rejected) + Counter(other.rejected)))


class VolumeSource(ABC):
    """Something that answers a spec with a volume.

    Transforms and datasets know nothing else. A source is an engine in this
    process, a client of a resident server, or one of these behind a cache. An
    implementation has `__slots__` and refers to nothing that refers back, because
    MONAI walks every `__dict__` it can reach.
    """

    __slots__ = ()

    @property
    @abstractmethod
    def card(self) -> VariantCard:
        """What is known of the variant behind this source."""

    def resolve(self, spec: VolumeSpec) -> VolumeSpec:
        """The spec with the variant's defaults filled in, and a mask where there is a bank of them.

        Raises:
            SpecError: if the variant cannot make it, or no mask of the bank fits.
        """
        return self.card.resolve(spec)

    @abstractmethod
    def fetch(self, spec: VolumeSpec, crop: Crop | CropRule | None = None) -> SyntheticVolume:
        """The volume of a spec, or a part of it; made now if nobody has made it yet.

        Args:
            spec: What is wanted; it is resolved first.
            crop: A box, a rule that chooses one, or `None` for the whole volume.

        Raises:
            SpecError: if the variant cannot make it, or the crop leaves the volume.
            GenerationError: if the generator failed.
            SourceError: if the source cannot answer.
        """

    @abstractmethod
    def put(self, array: NDArray[np.generic], affine: NDArray[np.float64]) -> str:
        """Hand over an array of the caller, such as a label or an image to condition on.

        Returns:
            Its digest, for `VolumeSpec.mask` or `VolumeSpec.image`.
        """

    def prefetch(self, specs: Sequence[VolumeSpec]) -> None:
        """Say what will be fetched next; a source may begin, and never waits."""

    @abstractmethod
    def stats(self) -> SourceStats:
        """What the source has done so far."""

    def close(self) -> None:
        """Let go of connections, threads and files; a second call does nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
