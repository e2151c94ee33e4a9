"""ReadyVolume: a generator that has its one volume already, so that only its transport costs."""

from __future__ import annotations

from dataclasses import replace
from typing import final

import numpy as np
from numpy.typing import NDArray

from nvgen_aug.card import VariantCard
from nvgen_aug.crop import Crop
from nvgen_aug.generators.base import Generator
from nvgen_aug.generators.phantom import PhantomGenerator
from nvgen_aug.provenance import Provenance
from nvgen_aug.spec import VolumeSpec
from nvgen_aug.volume import Blob
from nvgen_aug.volume import Generated
from nvgen_aug.volume import Latent
from nvgen_aug.volume import SyntheticVolume


@final
class ReadyVolume(Generator):
    """Answers every spec with the same noise, image alone; to decode is to copy it.

    Args:
        edge: Voxels along each axis.
    """

    def __init__(self, edge: int) -> None:
        rng = np.random.default_rng(0)
        self.image: NDArray[np.int16] = rng.integers(
            -1000, 1000, (1, edge, edge, edge), dtype=np.int16
        )
        self._edge = edge
        self._card = replace(
            PhantomGenerator().card, default_size=(edge, edge, edge), has_labels=False
        )

    @property
    def card(self) -> VariantCard:
        """The phantom's, without labels and with this size."""
        return self._card

    def latent(
        self, spec: VolumeSpec, mask: Blob | None = None, image: Blob | None = None
    ) -> Latent:
        """A latent that nobody decodes."""
        return Latent(
            spec=spec,
            tensor=np.zeros((1, 1, 1, 1), np.float16),
            label=None,
            affine=np.eye(4),
            provenance=Provenance(source="synthetic", uid=self._card.volume_key(spec)),
        )

    def decode(self, latent: Latent, crop: Crop | None = None) -> SyntheticVolume:
        """The volume, written where whole images are wanted."""
        image = self.new_image(self.image.shape)
        np.copyto(image, self.image)
        return SyntheticVolume(image, None, latent.affine, latent.provenance).cropped(crop)

    def generate(
        self, spec: VolumeSpec, mask: Blob | None = None, image: Blob | None = None
    ) -> Generated:
        """The volume and its latent."""
        latent = self.latent(self._card.resolve(spec), mask)
        return Generated(latent, self.decode(latent))
