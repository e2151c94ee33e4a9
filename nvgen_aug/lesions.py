"""Lesion sizes: the connected regions of a class in a label, in mm."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from numpy.typing import NDArray

_TOUCHING = np.ones((3, 3, 3), dtype=bool)  # voxels that share a corner are one lesion


def region_volumes(
    label: NDArray[np.generic], ids: Iterable[int], spacing: tuple[float, float, float]
) -> dict[int, tuple[float, ...]]:
    """The connected regions of each class, as volumes in mm³, largest first.

    Voxels that share a face, an edge or a corner are connected (26 neighbours), as
    lesion-wise scores count them. An id that is absent has an empty tuple.

    Args:
        label: `[X, Y, Z]` ids.
        ids: Ids to look for.
        spacing: Voxel edge in mm (x, y, z).
    """
    voxel = math.prod(spacing)
    found: dict[int, tuple[float, ...]] = {}
    for number in ids:
        is_class = label == number
        box = _box(is_class)
        if box is None:
            found[number] = ()
            continue
        # Lesions are small: labelling their bounding box costs a fraction of the volume.
        regions, _ = ndimage.label(is_class[box], structure=_TOUCHING)
        sizes = np.bincount(regions.ravel())[1:]
        found[number] = tuple(float(size * voxel) for size in sorted(sizes.tolist(), reverse=True))
    return found


def _box(is_class: NDArray[np.bool_]) -> tuple[slice, ...] | None:
    box = []
    for axis in range(is_class.ndim):
        others = tuple(a for a in range(is_class.ndim) if a != axis)
        inside = np.flatnonzero(is_class.any(axis=others))
        if not inside.size:
            return None
        box.append(slice(int(inside[0]), int(inside[-1]) + 1))
    return tuple(box)
