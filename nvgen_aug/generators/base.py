"""Generator: a loaded variant."""

from __future__ import annotations

from abc import ABC
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ..card import VariantCard
from ..crop import Crop
from ..errors import SpecError
from ..spec import VolumeSpec
from ..volume import Blob
from ..volume import Generated
from ..volume import Latent
from ..volume import SyntheticVolume

if TYPE_CHECKING:
    from numpy.typing import NDArray


def _new_image(shape: tuple[int, ...]) -> NDArray[np.int16]:
    return np.empty(shape, np.int16)


class Generator(ABC):
    """A loaded variant, called from one thread, which never looks in a cache.

    Given the same resolved spec it gives the same bytes, whatever it made before.
    """

    on_progress: Callable[[], None] = staticmethod(lambda: None)
    """Called by a generator between steps of its work; long silence is taken for a hang."""

    new_image: Callable[[tuple[int, ...]], NDArray[np.int16]] = staticmethod(_new_image)
    """Gives a generator the memory for a whole image `[1, X, Y, Z]`, C-contiguous.

    Behind a server it is memory that clients see, so that a volume is not copied there. It
    belongs to the volume alone. A generator that does not ask makes volumes all the same.
    """

    @property
    @abstractmethod
    def card(self) -> VariantCard:
        """What the outside may know of this generator."""

    @abstractmethod
    def latent(
        self, spec: VolumeSpec, mask: Blob | None = None, image: Blob | None = None
    ) -> Latent:
        """The compact form of a volume.

        Args:
            spec: What is wanted; resolved first if it is not.
            mask: The array that `spec.mask` names, uint8 `[X, Y, Z]`, if it names one.
            image: The array that `spec.image` names, `[X, Y, Z]`, if it names one.

        Raises:
            SpecError: if the variant cannot make it.
            GenerationError: if the model failed, for instance with a NaN.
        """

    @abstractmethod
    def decode(self, latent: Latent, crop: Crop | None = None) -> SyntheticVolume:
        """The voxels of a latent, or of a box of it, equal to the same box of the whole.

        To rounding: where a box is decoded alone, one voxel in a thousand may differ by one unit.
        """

    def crop_share(self, latent: Latent, crop: Crop) -> float:
        """Work of decoding a crop, as a part of the work of decoding all: 1 if that is needed."""
        return 1.0

    @abstractmethod
    def generate(
        self, spec: VolumeSpec, mask: Blob | None = None, image: Blob | None = None
    ) -> Generated:
        """Latent and whole volume in one job; the latent has the decoder's statistics."""

    def prove(self) -> None:
        """Show that anything can be made: the smallest volume, in one step, kept by nobody.

        Raises:
            GenerationError: if it cannot.
        """
        x, y, z = (min(sizes) for sizes in self.card.legal_sizes)
        spec = VolumeSpec(
            self.card.name,
            seed=0,
            size=(x, y, z),
            steps=1,
            image_only=self.card.has_images_alone,  # a mask in one step would be noise
        )
        try:
            spec = self.card.resolve(spec)
        except SpecError:  # too small a field of view at the default spacing
            spec = self.card.resolve(replace(spec, size=None))
        self.generate(spec)

    def use_less_memory(self) -> bool:
        """Go over to a plan that needs less memory and gives the same volumes.

        Called after `OutOfMemory`, before the same volume is asked for again.

        Returns:
            Whether there was such a plan.
        """
        return False

    def pin(self, memory: NDArray[np.uint8]) -> None:
        """Hear of memory that `new_image` will give parts of, so that a device can write there."""

    def close(self) -> None:
        """Free the model's memory; a second call does nothing."""
