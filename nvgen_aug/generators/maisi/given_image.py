"""Given image: a scan of the caller's, checked and made ready to be shown in another contrast."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from typing import final

import numpy as np
from numpy.typing import NDArray

from ...errors import SpecError
from ...spec import VolumeSpec
from ...volume import Blob
from .masks.given_mask import check_grid
from .masks.given_mask import upright
from .variants import Variant

# Scanners have no common unit. An image whose bright voxels (a percentile of those above 0) are as
# bright as those of the variant, in parts of its unit, is taken as it is: stand-ins lie between
# 0.63 and 1.13. Any other is scaled to what is usual.
BRIGHTNESS: Final = (0.5, 1.4)
USUAL_BRIGHTNESS: Final = 0.9
PERCENTILE: Final = 99.0

# Outside the head or the brain there is nothing, in every volume of the family.
_MOST_INSIDE: Final = 0.9


@final
@dataclass(frozen=True, slots=True, eq=False)
class GivenImage:
    """An image on the generator's grid.

    Attributes:
        values: `[X, Y, Z]` float32 in network units, axes towards right, front and head (RAS+).
        affine: `[4, 4]`, voxel to world in mm.
        factor: What it was multiplied by, to have the brightness that the networks know.
    """

    values: NDArray[np.float32]
    affine: NDArray[np.float64]
    factor: float = 1.0

    def source(self, digest: str) -> str:
        """What `Provenance.image_source` says."""
        return digest if self.factor == 1.0 else f"{digest} x {self.factor:g}"


def given_image(image: Blob | None, spec: VolumeSpec, variant: Variant) -> GivenImage:
    """The image that a spec names, as the networks know images.

    Raises:
        SpecError: It did not come along, does not fit the spec, or cannot be a scan.
    """
    if image is None:
        msg = f"the spec names image {spec.image}, but no image came with it; `put` it first"
        raise SpecError(msg)
    values = _as_values(image.array)
    values, affine = upright(values, np.asarray(image.affine, np.float64))
    check_grid(values, affine, spec, "image", "resample the image")
    rule = variant.intensity
    factor = _factor(values, variant)
    scaled = ((values * factor).clip(rule.lowest, rule.highest) - rule.shift) / rule.scale
    return GivenImage(np.ascontiguousarray(scaled, np.float32), affine, factor)


def _as_values(array: NDArray[np.generic]) -> NDArray[np.float32]:
    if array.ndim != 3:
        msg = f"an image to follow must be [X, Y, Z], got {array.dtype} {array.shape}"
        raise SpecError(msg)
    if array.dtype.kind not in "uif":
        msg = f"an image to follow must hold numbers, got {array.dtype}"
        raise SpecError(msg)
    values = array.astype(np.float32)
    bad = int((~np.isfinite(values)).sum())
    if bad:
        msg = f"the image to follow has {bad} voxels that are not finite; set them to 0"
        raise SpecError(msg)
    if values.min() == values.max():
        msg = (
            f"the image to follow is constant, all its voxels are {values.flat[0]:g}; give the "
            "scan of a subject"
        )
        raise SpecError(msg)
    return values


def _factor(values: NDArray[np.float32], variant: Variant) -> float:
    """What brings an image to the units of the variant; 1 if it has them."""
    inside = values[values > 0]
    if not 0 < inside.size <= _MOST_INSIDE * values.size:
        msg = (
            f"{inside.size / values.size:.0%} of the voxels of the image to follow are above 0; "
            f"`{variant.name}` knows scans that are 0 outside the subject, and only there"
        )
        raise SpecError(msg)
    bright = float(np.percentile(inside, PERCENTILE)) / variant.intensity.scale
    low, high = BRIGHTNESS
    # Few digits, since they stand in the provenance.
    return 1.0 if low <= bright <= high else float(f"{USUAL_BRIGHTNESS / bright:.4g}")
