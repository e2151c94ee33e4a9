"""SyntheticVolume and Latent: what a generator makes, as voxels and in compact form."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from dataclasses import replace
from typing import TYPE_CHECKING
from typing import final

import numpy as np

from .crop import Crop
from .crop import crop_text
from .errors import GenerationError
from .provenance import Provenance
from .spec import VolumeSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray


@final
@dataclass(frozen=True, slots=True, eq=False)
class SyntheticVolume:
    """Image and label on one grid.

    Args:
        image: `[C, X, Y, Z]` int16: HU for CT, network value × 1000 for MR.
        label: `[1, X, Y, Z]` uint8 ids of the card's vocabulary, or `None` for
            an image-only variant.
        affine: `[4, 4]` float64, voxel to world in mm (RAS).
        provenance: Where the volume came from.
        crop: The box that was cut from the whole volume, or `None` for all of it;
            the affine has moved with it.
    """

    image: NDArray[np.int16]
    label: NDArray[np.uint8] | None
    affine: NDArray[np.float64]
    provenance: Provenance
    crop: Crop | None = None

    def __post_init__(self) -> None:
        if self.image.ndim != 4 or self.image.dtype != np.int16:
            msg = f"image must be int16 [C, X, Y, Z], got {_shape(self.image)}"
            raise GenerationError(msg)
        if self.label is not None and (
            self.label.dtype != np.uint8 or self.label.shape != (1, *self.image.shape[1:])
        ):
            msg = (
                f"label must be uint8 {(1, *self.image.shape[1:])} like the image, "
                f"got {_shape(self.label)}"
            )
            raise GenerationError(msg)
        if self.affine.shape != (4, 4):
            msg = f"affine must be [4, 4], got {self.affine.shape}"
            raise GenerationError(msg)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels (x, y, z)."""
        x, y, z = self.image.shape[1:]
        return x, y, z

    @property
    def nbytes(self) -> int:
        """Bytes of image and label together."""
        return self.image.nbytes + (0 if self.label is None else self.label.nbytes)

    def cropped(self, crop: Crop | None) -> SyntheticVolume:
        """The part inside a box of this whole volume, copied, its affine moved along."""
        if crop is None:
            return self
        crop.check_inside(self.shape)
        return SyntheticVolume(
            image=np.ascontiguousarray(self.image[(slice(None), *crop.slices)]),
            label=None
            if self.label is None
            else np.ascontiguousarray(self.label[(slice(None), *crop.slices)]),
            affine=crop.moved(self.affine),
            provenance=self.provenance.with_(crop=crop_text(crop)),
            crop=crop,
        )

    def digest(self) -> str:
        """SHA-256 of dtypes, shapes, affine and voxels, as 64 hex digits."""
        parts: list[NDArray[np.generic]] = [self.image]
        if self.label is not None:
            parts.append(self.label)
        sha = hashlib.sha256(np.ascontiguousarray(self.affine, dtype="<f8").tobytes())
        for part in parts:
            sha.update(f"{part.dtype.str} {part.shape}\n".encode())
            sha.update(np.ascontiguousarray(part).data)
        return sha.hexdigest()

    def __repr__(self) -> str:
        label = "no label" if self.label is None else f"{np.unique(self.label).size} label ids"
        return f"SyntheticVolume(image={_shape(self.image)}, {label}, {self.provenance.uid[:12]})"


@final
@dataclass(frozen=True, slots=True, eq=False)
class Latent:
    """The compact form of a volume, from which the voxels can be decoded at any later time.

    Args:
        spec: The resolved spec.
        tensor: `[C, X/4, Y/4, Z/4]` float16. Rounded before its first decode, so
            that a stored latent gives the same voxels as a fresh one.
        label: `[1, X, Y, Z]` uint8, or `None`. It cannot be had back from the latent.
        affine: `[4, 4]` float64 of the whole volume.
        provenance: Where the volume comes from.
        statistics: `[norms, groups, 2]` float32 mean and variance of the decoder's
            group norms over the whole volume, or `None` before the first decode
            and for generators without group norms.
    """

    spec: VolumeSpec
    tensor: NDArray[np.float16]
    label: NDArray[np.uint8] | None
    affine: NDArray[np.float64]
    provenance: Provenance
    statistics: NDArray[np.float32] | None = None

    def with_statistics(self, statistics: NDArray[np.float32]) -> Latent:
        """The same latent with the decoder's statistics beside it."""
        return replace(self, statistics=statistics)


@final
@dataclass(frozen=True, slots=True, eq=False)
class Generated:
    """What one generation gives: the latent with its statistics, and the voxels.

    Args:
        latent: With statistics.
        volume: Its voxels.
        rejected: Why earlier tries were thrown away, a reason for each thing that was wrong.
    """

    latent: Latent
    volume: SyntheticVolume
    rejected: tuple[str, ...] = ()


@final
@dataclass(frozen=True, slots=True, eq=False)
class Blob:
    """An array of the caller, named by its content.

    Args:
        array: `[X, Y, Z]`, such as a uint8 label to condition on.
        affine: `[4, 4]` float64, voxel to world in mm.
    """

    array: NDArray[np.generic]
    affine: NDArray[np.float64]

    def digest(self) -> str:
        """SHA-256 of dtype, shape, affine and bytes, as 64 hex digits."""
        array = np.ascontiguousarray(self.array)
        sha = hashlib.sha256()
        sha.update(f"{array.dtype.str} {array.shape}\n".encode())
        sha.update(np.ascontiguousarray(self.affine, dtype="<f8").tobytes())
        sha.update(array.tobytes())
        return sha.hexdigest()


def _shape(array: NDArray[np.generic]) -> str:
    return f"{array.dtype} {list(array.shape)}"
