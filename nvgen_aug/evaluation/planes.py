"""View: three planes through a volume, turned, windowed and coloured for the eye."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from typing import TypeAlias
from typing import final

import numpy as np
from PIL import Image
from scipy import ndimage

if TYPE_CHECKING:
    from numpy.typing import NDArray

Colour: TypeAlias = tuple[int, int, int]

# Name, axis across the plane, axes shown as (left to right, top to bottom), edges (left, up).
# In axes towards R, A, S all of them are shown from their high end to their low end.
_PLANES = (
    ("axial", 2, (0, 1), ("R", "A")),
    ("coronal", 1, (0, 2), ("R", "S")),
    ("sagittal", 0, (1, 2), ("A", "S")),
)
_RARE = 0.05  # a label below this share of the labelled voxels is what one wants to see
_FINE = 2  # drawn this much larger, then reduced: contours without stairs
_TINT = 0.22
_TINT_LAST = 0.45  # the last label is drawn on top, and is most often what one looks for


@final
@dataclass(frozen=True, slots=True, eq=False)
class Plane:
    """One plane of a volume, as it is to be looked at.

    Args:
        name: `"axial"`, `"coronal"` or `"sagittal"`.
        grey: `[rows, columns]` float in [0, 1].
        label: `[rows, columns]` ids, or `None`.
        millimetres: Height and width.
        left, up: Letters of the patient's side at the left and upper edge.
    """

    name: str
    grey: NDArray[np.float32]
    label: NDArray[np.int32] | None
    millimetres: tuple[float, float]
    left: str
    up: str

    def drawn(self, pixels_per_mm: float, colours: Mapping[int, Colour]) -> Image.Image:
        """The plane at a scale, its label tinted and outlined in the colours given."""
        tall, wide = (max(1, round(mm * pixels_per_mm)) for mm in self.millimetres)
        fine = (wide * _FINE, tall * _FINE)
        grey = np.clip(_resized(self.grey, fine), 0, 1) * 255
        rgb = np.repeat(grey[..., None], 3, axis=2)
        if self.label is not None and colours:
            _paint(rgb, _smooth(self.label, fine), colours)
        picture = Image.fromarray(np.rint(rgb).astype(np.uint8), "RGB")
        return picture.resize((wide, tall), Image.Resampling.LANCZOS)


@final
@dataclass(frozen=True, slots=True, eq=False)
class View:
    """Three planes through one point of a volume, cut to what is not background."""

    planes: tuple[Plane, Plane, Plane]

    @classmethod
    def of(
        cls,
        image: NDArray[np.generic],
        label: NDArray[np.generic] | None,
        spacing: tuple[float, float, float],
        focus: tuple[int, int, int] | None = None,
    ) -> View:
        """The planes of a volume.

        Args:
            image: `[X, Y, Z]` or `[1, X, Y, Z]`, axes towards R, A and S.
            label: Ids of the same shape, or `None`.
            spacing: mm per voxel.
            focus: Voxel through which they go; `None` chooses one.
        """
        voxels = np.nan_to_num(np.asarray(image, dtype=np.float32)).reshape(image.shape[-3:])
        ids = None if label is None else np.asarray(label).astype(np.int32).reshape(voxels.shape)
        foreground = _foreground(voxels)
        shown = foreground if ids is None else foreground | (ids > 0)
        point = focus if focus is not None else _focus(ids, shown)
        low, high = _window(voxels, foreground)
        box = _box(shown)
        grey = (voxels - low) / (high - low)
        x, y, z = (_plane(entry, grey, ids, box, point, spacing) for entry in _PLANES)
        return cls((x, y, z))


def _plane(
    entry: tuple[str, int, tuple[int, int], tuple[str, str]],
    grey: NDArray[np.float32],
    label: NDArray[np.int32] | None,
    box: tuple[slice, ...],
    point: tuple[int, int, int],
    spacing: tuple[float, float, float],
) -> Plane:
    name, across, (columns, rows), (left, up) = entry
    index: list[int | slice] = list(box)
    index[across] = int(np.clip(point[across], 0, grey.shape[across] - 1))

    # What is left has its axes in ascending order, which is (columns, rows).
    plane = np.ascontiguousarray(grey[tuple(index)].T[::-1, ::-1])
    return Plane(
        name,
        plane,
        None if label is None else label[tuple(index)].T[::-1, ::-1],
        (plane.shape[0] * spacing[rows], plane.shape[1] * spacing[columns]),
        left,
        up,
    )


def _foreground(voxels: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Voxels that differ from the corners, which are air in a scan and zero in a cut-out brain."""
    corners = voxels[:: max(1, voxels.shape[0] - 1), :: max(1, voxels.shape[1] - 1)]
    air = float(np.median(corners[..., :: max(1, voxels.shape[2] - 1)]))
    least, most = np.percentile(voxels, (0.5, 99.5))
    found = np.abs(voxels - air) > 0.06 * max(float(most - least), 1e-6)
    return found if found.any() else np.ones(voxels.shape, dtype=bool)


def _window(voxels: NDArray[np.float32], foreground: NDArray[np.bool_]) -> tuple[float, float]:
    low, high = (float(v) for v in np.percentile(voxels[foreground], (0.5, 99.7)))
    return low, max(high, low + 1e-6)


def _focus(label: NDArray[np.int32] | None, shown: NDArray[np.bool_]) -> tuple[int, int, int]:
    if label is not None and (label > 0).any():
        ids, counts = np.unique(label[label > 0], return_counts=True)
        rarest = int(np.argmin(counts))
        if counts[rarest] < _RARE * counts.sum():
            parts, number = ndimage.label(label == ids[rarest])
            sizes = np.bincount(parts.ravel(), minlength=number + 1)[1:]
            voxels = np.argwhere(parts == int(np.argmax(sizes)) + 1)
            # A bent part does not contain its own centre: take its voxel nearest to it.
            near = ((voxels - voxels.mean(axis=0)) ** 2).sum(axis=1).argmin()
            x, y, z = (int(v) for v in voxels[near])
            return x, y, z
        shown = label > 0
    x, y, z = ((part.start + part.stop) // 2 for part in _box(shown, margin=0.0))
    return x, y, z


def _box(mask: NDArray[np.bool_], margin: float = 0.04) -> tuple[slice, slice, slice]:
    parts = []
    for axis, length in enumerate(mask.shape):
        others = tuple(other for other in range(3) if other != axis)
        inside = np.flatnonzero(mask.any(axis=others))
        spare = round(margin * length)
        parts.append(slice(max(0, inside[0] - spare), min(length, inside[-1] + 1 + spare)))
    x, y, z = parts
    return x, y, z


def _resized(plane: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    picture = Image.fromarray(plane, "F")
    return np.asarray(picture.resize(size, Image.Resampling.BICUBIC), dtype=np.float32)


def _smooth(label: NDArray[np.int32], size: tuple[int, int]) -> NDArray[np.int32]:
    """The label at a finer grid, each edge as smooth as the image is."""
    ids = np.unique(label)
    shares = [_resized((label == value).astype(np.float32), size) for value in ids]
    chosen: NDArray[np.int32] = ids[np.argmax(shares, axis=0)]
    return chosen


def _paint(
    rgb: NDArray[np.float32], label: NDArray[np.int32], colours: Mapping[int, Colour]
) -> None:
    for place, (value, colour) in enumerate(colours.items(), start=1):
        inside = label == value
        if not inside.any():
            continue
        tint = _TINT_LAST if place == len(colours) > 1 else _TINT
        ink = np.asarray(colour, dtype=np.float32)
        edge = inside & ~ndimage.binary_erosion(inside, iterations=_FINE, border_value=1)
        rgb[inside] = (1 - tint) * rgb[inside] + tint * ink
        rgb[edge] = 0.25 * rgb[edge] + 0.75 * ink
