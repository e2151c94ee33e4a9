"""Fitting: a label map on a grid of another size and spacing, about the same centre."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ....spec import VolumeSpec

_SPACING_TOLERANCE: Final = 0.01


def fitted(
    label: NDArray[np.uint8],
    affine: NDArray[np.float64],
    size: tuple[int, int, int],
    spacing: tuple[float, float, float],
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Each voxel is the nearest of the old ones; what was not seen before is background.

    The middle stays the middle, as where NV-Generate resamples a stored mask to the voxels asked
    for and then pads or crops it. Axes stay, so that each is looked up alone.

    Args:
        label: `[X, Y, Z]`.
        affine: `[4, 4]`, voxel to world in mm.
        size: Voxels of the new grid.
        spacing: Its voxel edges in mm.

    Returns:
        The label map on the new grid, and its affine.
    """
    old = np.linalg.norm(affine[:3, :3], axis=0)
    ratio = np.asarray(spacing) / old
    middle = (np.asarray(label.shape) - 1) / 2
    first = middle - ratio * (np.asarray(size) - 1) / 2  # where voxel 0 lies among the old ones
    places = [
        start + step * np.arange(count)
        for start, step, count in zip(first, ratio, size, strict=True)
    ]
    new = looked_up(label, places)
    moved = affine.copy()
    moved[:3, :3] = affine[:3, :3] * ratio
    moved[:3, 3] = affine[:3, :3] @ first + affine[:3, 3]
    return new, moved


def looked_up(label: NDArray[np.uint8], places: Sequence[NDArray[np.float64]]) -> NDArray[np.uint8]:
    """The voxel nearest to each place; background where there is none.

    Args:
        label: `[X, Y, Z]`.
        places: For each axis where to look, in voxels.
    """
    # Half a voxel goes up: rounded to even, every other voxel would be seen twice.
    nearest = [
        np.clip(np.floor(place + 0.5).astype(np.intp), -1, there)
        for place, there in zip(places, label.shape, strict=True)
    ]
    return np.ascontiguousarray(np.pad(label, 1)[np.ix_(*(axis + 1 for axis in nearest))])


def spacing_of(affine: NDArray[np.float64]) -> tuple[float, float, float]:
    """Voxel edges in mm, to a tenth of a micrometre."""
    x, y, z = (round(float(mm), 4) for mm in np.linalg.norm(affine[:3, :3], axis=0))
    return x, y, z


def has_grid(size: Sequence[int], spacing: Sequence[float], spec: VolumeSpec) -> bool:
    """Whether a mask has the size and spacing of a resolved spec, to 1 % of the spacing."""
    assert spec.spacing is not None
    if tuple(size) != spec.size:
        return False
    pairs = zip(spacing, spec.spacing, strict=True)
    return all(abs(mm - asked) <= _SPACING_TOLERANCE * asked for mm, asked in pairs)
