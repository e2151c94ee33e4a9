"""Likeness: what an item looks like, in the terms in which real and synthetic ones must agree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from typing import final

import nibabel
import numpy as np
import torch
from monai.data import MetaTensor

from .schema import IMAGE
from .schema import LABEL

SPACING_TOLERANCE = 0.05  # of the larger one
UNKNOWN = "unknown"
_BYTE = 256


@final
@dataclass(frozen=True, slots=True)
class Likeness:
    """Grid and label ids of an item before augmentation.

    Args:
        spacing: mm per voxel, or `None` where it is not known.
        orientation: Such as `"RAS"`, or `"unknown"`.
        ids: Label ids but 0, or `None` without a label.
    """

    spacing: tuple[float, ...] | None
    orientation: str
    ids: frozenset[int] | None

    @classmethod
    def of(cls, item: dict[str, Any]) -> Likeness:
        """That of one item `{"image": [C, X, Y, Z], "label": …}`."""
        affine = _affine(item.get(IMAGE))
        ids = ids_of(item[LABEL]) if isinstance(item.get(LABEL), torch.Tensor) else None
        if affine is None:
            return cls(None, UNKNOWN, ids)
        spacing = np.linalg.norm(affine[:3, :3], axis=0)
        untyped: Any = nibabel
        axes = untyped.aff2axcodes(affine)
        return cls(tuple(map(float, spacing)), "".join(str(axis) for axis in axes), ids)

    def differing(self, other: Likeness) -> list[tuple[str, str, str]]:
        """Rows of name, this one's and the other's value, for what is known and disagrees."""
        rows = []
        if self.spacing is not None and other.spacing is not None:
            pairs = zip(self.spacing, other.spacing, strict=True)
            if any(abs(a - b) > SPACING_TOLERANCE * max(a, b) for a, b in pairs):
                rows.append(("spacing", _millimetres(self.spacing), _millimetres(other.spacing)))
        if UNKNOWN not in (self.orientation, other.orientation) and (
            self.orientation != other.orientation
        ):
            rows.append(("orientation", self.orientation, other.orientation))
        return rows


def ids_of(label: torch.Tensor) -> frozenset[int]:
    """All ids of a label but 0; about 2 ms per million voxels."""
    plain = label.as_tensor() if isinstance(label, MetaTensor) else label
    if plain.numel() == 0:
        return frozenset()
    low, high = (float(v) for v in torch.aminmax(plain))
    if low < 0 or high >= _BYTE:
        found = torch.unique(plain)
    else:
        found = torch.bincount(plain.flatten().to(torch.uint8)).nonzero()
    return frozenset(int(i) for i in found.flatten()) - {0}


def _affine(image: Any) -> np.ndarray[Any, np.dtype[np.float64]] | None:
    """The affine, where it says something."""
    if not isinstance(image, MetaTensor):
        return None
    affine = np.asarray(image.affine, dtype=np.float64)
    # Arrays without an affine get this one, see `real_item`.
    if np.array_equal(affine, np.eye(4)):
        return None
    # Turned or stretched by chance, in a chain of the caller that augments already.
    if any(str(step.get("class", "")).startswith("Rand") for step in image.applied_operations):
        return None
    return affine


def _millimetres(spacing: tuple[float, ...]) -> str:
    return " × ".join(f"{mm:.4g}" for mm in spacing) + " mm"
