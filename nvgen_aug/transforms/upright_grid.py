"""UprightGrid: a grid turned towards right, front and head, and the way back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from typing import final

import nibabel.orientations as orientations
import numpy as np
from numpy.typing import NDArray

from ..errors import DataError


@final
@dataclass(frozen=True, slots=True, eq=False)
class UprightGrid:
    """A grid, and the way to the same grid with its axes towards right, front and head.

    Args:
        affine: `[4, 4]` float64, voxel to world in mm.
        upright_affine: Of the upright grid.
        turn: `[3, 2]`, as `nibabel.orientations` has it.
    """

    affine: NDArray[np.float64]
    upright_affine: NDArray[np.float64]
    turn: NDArray[np.float64]

    @classmethod
    def of(
        cls,
        affine: NDArray[np.float64] | None,
        shape: Sequence[int],
        spacing: tuple[float, float, float] | None,
        name: str,
    ) -> UprightGrid:
        """The grid of a label.

        Args:
            affine: `[4, 4]`, voxel to world in mm, if the label has one.
            shape: Of the label, `[1, X, Y, Z]`.
            spacing: mm per voxel of a label that has no affine.
            name: What errors call it.

        Raises:
            DataError: if there is neither an affine nor a spacing.
        """
        if affine is None and spacing is None:
            msg = (
                f"the label of `{name}` has no affine, so its spacing is not known; load it with "
                "LoadImaged, or say recipe=Recipe(spacing=(x, y, z)) in mm"
            )
            raise DataError(msg)
        placed = np.diag([*(spacing or ()), 1.0]) if affine is None else affine
        untyped: Any = orientations
        turn = untyped.io_orientation(placed)
        return cls(placed, placed @ untyped.inv_ornt_aff(turn, tuple(shape[1:])), turn)

    @property
    def spacing(self) -> tuple[float, float, float]:
        """mm per voxel of the upright grid."""
        edges = np.linalg.norm(self.upright_affine[:3, :3], axis=0)
        x, y, z = (round(float(mm), 4) for mm in edges)
        return x, y, z

    def upright(self, voxels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """`[X, Y, Z]` of this grid, on the upright one."""
        untyped: Any = orientations
        return np.ascontiguousarray(untyped.apply_orientation(voxels, self.turn))

    def back(self, image: NDArray[np.int16]) -> NDArray[np.int16]:
        """`[C, X, Y, Z]` of the upright grid, on this one."""
        untyped: Any = orientations
        upright = np.array([[0.0, 1.0], [1.0, 1.0], [2.0, 1.0]])
        turn = untyped.ornt_transform(upright, self.turn)
        return np.stack([untyped.apply_orientation(channel, turn) for channel in image])
