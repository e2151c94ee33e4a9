"""LesionCount: which lesions of a mask were found, and what was found that is none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

SMALLEST = 10
FOUND_SHARE = 0.25
_TOUCHING = np.ones((3, 3, 3), bool)


@final
@dataclass(frozen=True, slots=True)
class LesionCount:
    """Lesions of at least 10 voxels, neighbours over faces, edges and corners.

    Attributes:
        promised: Lesions of the mask.
        found: Those of which a quarter of the voxels was found.
        false: Found ones that touch no lesion of the mask, however small.
    """

    promised: int
    found: int
    false: int

    @classmethod
    def of(cls, truth: NDArray[np.bool_], found: NDArray[np.bool_]) -> LesionCount:
        """Compare two lesion masks `[X, Y, Z]`."""
        promised = [part for part in _parts(truth) if len(part) >= SMALLEST]
        covered = [found.reshape(-1)[part].mean() >= FOUND_SHARE for part in promised]
        alone = [
            part
            for part in _parts(found)
            if len(part) >= SMALLEST and not truth.reshape(-1)[part].any()
        ]
        return cls(len(promised), sum(map(bool, covered)), len(alone))


def _parts(mask: NDArray[np.bool_]) -> list[NDArray[np.int64]]:
    """Flat indices of each connected part."""
    numbered, count = ndimage.label(mask, structure=_TOUCHING)
    flat = numbered.reshape(-1)
    inside = np.flatnonzero(flat)
    order = inside[np.argsort(flat[inside], kind="stable")]
    ends = np.cumsum(np.bincount(flat[inside], minlength=count + 1)[1:])
    return np.split(order, ends[:-1]) if count else []
