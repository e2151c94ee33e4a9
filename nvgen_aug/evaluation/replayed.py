"""Replayed: a volume that was made again, compared with the one of the record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from typing import final

import numpy as np

from ..volume import SyntheticVolume

if TYPE_CHECKING:
    from numpy.typing import NDArray

# What another machine or backend may differ by, as docs/provenance.md promises.
ROUNDING = 1  # units of the int16 image
ROUNDED_SHARE = 0.001  # of the voxels

SAME = "same"
ROUNDED = "same within rounding"
DIFFERENT = "different"


@final
@dataclass(frozen=True, slots=True)
class Replayed:
    """How a volume that was made again agrees with the one of its record.

    Args:
        voxels: Voxels of the image, all channels.
        differing: Voxels of the image that differ; −1 if that cannot be told.
        largest: By how many units at most.
        labels: Voxels of the label that differ.
        remark: What else is to be said, or nothing.
    """

    voxels: int
    differing: int = 0
    largest: int = 0
    labels: int = 0
    remark: str = ""

    @property
    def verdict(self) -> str:
        """`"same"`, `"same within rounding"` or `"different"`."""
        if self.differing == 0 and not self.labels and not self.remark:
            return SAME
        is_near = 0 <= self.differing <= ROUNDED_SHARE * self.voxels and self.largest <= ROUNDING
        return ROUNDED if is_near and not self.labels and not self.remark else DIFFERENT

    def __str__(self) -> str:
        parts = []
        if self.differing > 0:
            share = self.differing / max(1, self.voxels)
            parts.append(f"{self.differing} differ ({share:.2%}), by {self.largest} at most")
        if self.labels:
            parts.append(f"{self.labels} voxels of the label differ")
        if self.remark:
            parts.append(self.remark)
        return f"{self.verdict}: {self.voxels} voxels" + "".join(f"; {part}" for part in parts)


def compare(
    made: SyntheticVolume,
    image: NDArray[np.generic],
    label: NDArray[np.generic] | None,
    affine: NDArray[np.float64] | None = None,
) -> Replayed:
    """Compare voxel by voxel.

    Args:
        made: The volume that was made again.
        image: `[C, X, Y, Z]` of the record.
        label: `[1, X, Y, Z]` of the record, or `None`.
        affine: `[4, 4]` of the record, or `None` if it is not known.
    """
    voxels = int(made.image.size)
    if image.shape != made.image.shape:
        return Replayed(voxels, -1, remark=f"the record has {list(image.shape)} voxels")
    if (label is None) != (made.label is None):
        return Replayed(voxels, -1, remark="a label is on one side only")
    # int16 wraps round: 32767 and −32768 are not one apart.
    apart = np.abs(made.image.astype(np.int64) - image.astype(np.int64))
    labels = 0
    if label is not None and made.label is not None:
        labels = int((made.label != label.reshape(made.label.shape)).sum())
    is_moved = affine is not None and not np.allclose(made.affine, affine, atol=1e-4)
    return Replayed(
        voxels,
        int((apart > 0).sum()),
        int(apart.max(initial=0)),
        labels,
        "it lies elsewhere: the affines differ" if is_moved else "",
    )


def compare_digest(made: SyntheticVolume, content: str) -> Replayed:
    """Compare with the SHA-256 in a record, which cannot tell rounding from another volume.

    Args:
        made: The volume that was made again.
        content: `content` of its provenance.
    """
    if made.digest() == content:
        return Replayed(int(made.image.size))
    return Replayed(
        int(made.image.size),
        -1,
        remark="its SHA-256 is another one, and without the voxels nobody can tell by how much; "
        "--cache names a folder that may hold them",
    )
