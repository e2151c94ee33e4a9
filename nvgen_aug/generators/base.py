"""Generator: a loaded variant."""

from __future__ import annotations

from abc import ABC
from abc import abstractmethod

from ..card import VariantCard
from ..crop import Crop
from ..spec import VolumeSpec
from ..volume import Blob
from ..volume import Generated
from ..volume import Latent
from ..volume import SyntheticVolume


class Generator(ABC):
    """A loaded variant, called from one thread, which never looks in a cache.

    Given the same resolved spec it gives the same bytes, whatever it made before.
    """

    @property
    @abstractmethod
    def card(self) -> VariantCard:
        """What the outside may know of this generator."""

    @abstractmethod
    def latent(self, spec: VolumeSpec, mask: Blob | None = None) -> Latent:
        """The compact form of a volume.

        Args:
            spec: What is wanted; resolved first if it is not.
            mask: The array that `spec.mask` names, uint8 `[X, Y, Z]`, if it names one.

        Raises:
            SpecError: if the variant cannot make it.
            GenerationError: if the model failed, for instance with a NaN.
        """

    @abstractmethod
    def decode(self, latent: Latent, crop: Crop | None = None) -> SyntheticVolume:
        """The voxels of a latent, or of a box of it, equal to the same box of the whole."""

    @abstractmethod
    def generate(self, spec: VolumeSpec, mask: Blob | None = None) -> Generated:
        """Latent and whole volume in one job; the latent has the decoder's statistics."""

    def close(self) -> None:
        """Free the model's memory; a second call does nothing."""
