"""Given mask: a label map of the caller's, checked and made ready to steer an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from typing import Final
from typing import TypeVar
from typing import final

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import ConvexHull
from scipy.spatial import QhullError

from ....errors import SpecError
from ....spec import VolumeSpec
from ....volume import Blob
from ..variants import Variant
from ..vocabulary import BODY_ID
from ..vocabulary import CT_LABELS
from .fitting import fitted
from .fitting import has_grid
from .fitting import spacing_of

Number = TypeVar("Number", bound=np.generic)

# Skin and fat around what is labelled in a slice.
BODY_MARGIN_MM: Final = 10.0

# Labels that say that a region of the body is in the volume, from head to foot.
_REGION_LABELS: Final = (
    ("head", ("brain", "skull")),
    (
        "chest",
        (
            "left lung upper lobe",
            "left lung lower lobe",
            "right lung upper lobe",
            "right lung middle lobe",
            "right lung lower lobe",
        ),
    ),
    ("abdomen", ("liver", "dummy1", "spleen", "pancreas", "right kidney", "left kidney")),
    ("lower", ("left femur", "right femur")),
)


@final
@dataclass(frozen=True, slots=True, eq=False)
class GivenMask:
    """A mask on the generator's grid.

    Attributes:
        label: `[X, Y, Z]` uint8, axes towards right, front and head (RAS+).
        affine: `[4, 4]`, voxel to world in mm.
        has_drawn_body: Whether the body around the labels was added here.
        is_fitted: Whether it was resampled to the spec's size and spacing.
    """

    label: NDArray[np.uint8]
    affine: NDArray[np.float64]
    has_drawn_body: bool
    is_fitted: bool = False


def given_mask(mask: Blob | None, spec: VolumeSpec, variant: Variant) -> GivenMask:
    """The mask that a spec names, in the order of axes that the networks know.

    Raises:
        SpecError: It did not come along, does not fit the spec, or holds what no label is.
    """
    if mask is None:
        msg = f"the spec names mask {spec.mask}, but no mask came with it; `put` it first"
        raise SpecError(msg)
    label, affine = upright(as_labels(mask.array), np.asarray(mask.affine, np.float64))
    check_ids(label, variant)
    assert spec.size is not None
    assert spec.spacing is not None
    is_fitted = spec.fit_mask and not has_grid(label.shape, spacing_of(affine), spec)
    if is_fitted:
        label, affine = fitted(label, affine, spec.size, spec.spacing)
    check_grid(label, affine, spec)
    has_body = variant.body is None or bool((label == variant.labels[variant.body]).any())
    if not has_body:
        label = with_body(label, spec.spacing[:2])
    return GivenMask(label, affine, has_drawn_body=not has_body, is_fitted=is_fitted)


def as_labels(array: NDArray[np.generic]) -> NDArray[np.uint8]:
    if array.ndim != 3:
        msg = f"a mask must be [X, Y, Z], got {array.dtype} {array.shape}"
        raise SpecError(msg)
    if array.dtype.kind not in "uifb":
        msg = f"a mask must hold numbers, got {array.dtype}"
        raise SpecError(msg)
    values: NDArray[Any] = array
    if array.dtype.kind == "f":
        if bool(np.isnan(values).any()):
            msg = f"the mask has {int(np.isnan(values).sum())} voxels that are NaN; set them to 0"
            raise SpecError(msg)
        if bool((values != np.round(values)).any()):
            odd = float(values[values != np.round(values)].flat[0])
            msg = (
                f"the mask has values that are no whole numbers, such as {odd:g}; resample label "
                "maps to the nearest voxel, never in between"
            )
            raise SpecError(msg)
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 255:
        msg = f"ids of a mask lie in 0 to 255, got {low} to {high}; map yours to the vocabulary"
        raise SpecError(msg)
    if high == 0:
        msg = "the mask is empty, all its voxels are 0; give one with labels"
        raise SpecError(msg)
    return values.astype(np.uint8)


def upright(
    array: NDArray[Number], affine: NDArray[np.float64]
) -> tuple[NDArray[Number], NDArray[np.float64]]:
    """The same voxels with axes along right, front and head."""
    image = nib.Nifti1Image(array, affine)  # type: ignore[no-untyped-call]
    turned: Any = nib.as_closest_canonical(image)  # type: ignore[no-untyped-call]
    return np.ascontiguousarray(turned.dataobj), np.asarray(turned.affine, np.float64)


def check_grid(
    array: NDArray[np.generic],
    affine: NDArray[np.float64],
    spec: VolumeSpec,
    what: str = "mask",
    way_out: str = "fit_mask=True, which resamples the mask",
) -> None:
    """Refuse an array of the caller's on another grid than the spec's.

    Raises:
        SpecError: Naming its size or spacing, the spec's, and the way out.
    """
    x, y, z = (int(n) for n in array.shape)
    if (x, y, z) != spec.size:
        msg = (
            f"the {what} has {array.shape} voxels (x, y, z), but the spec asks size {spec.size}; "
            f"ask size={x, y, z}, or {way_out}"
        )
        raise SpecError(msg)
    spacing = spacing_of(affine)
    if not has_grid(array.shape, spacing, spec):
        msg = (
            f"the {what}'s voxels are {spacing} mm, but the spec asks spacing {spec.spacing}; "
            f"ask spacing={spacing}, or {way_out}"
        )
        raise SpecError(msg)


def check_ids(label: NDArray[np.uint8], variant: Variant) -> None:
    ids, counts = np.unique(label, return_counts=True)
    known = set(variant.labels.values())
    unknown = {int(i): int(n) for i, n in zip(ids, counts, strict=True) if int(i) not in known}
    if unknown:
        found = ", ".join(f"{i} ({n} voxels)" for i, n in list(unknown.items())[:8])
        few = {name: i for name, i in variant.labels.items() if not name.startswith("dummy")}
        some = ", ".join(f"{i} {name}" for name, i in list(few.items())[:6])
        table = dict.fromkeys(unknown, 0)
        msg = (
            f"the mask has ids that `{variant.name}` lacks: {found}; it knows {some} and "
            f"{max(0, len(few) - 6)} more, so map yours to these, beginning with "
            f"for old, new in {table}.items(): mask[mask == old] = new"
        )
        raise SpecError(msg)


def with_body(label: NDArray[np.uint8], spacing: tuple[float, ...]) -> NDArray[np.uint8]:
    """A mask whose organs lie in a body.

    The networks know a voxel of no organ as body or as air, so a mask without body is one of
    organs in the air. Where the scan is at hand, its threshold says more; from labels alone the
    body is, in each axial slice, the convex hull of what is labelled, 10 mm wider.

    Args:
        label: `[X, Y, Z]`.
        spacing: mm along x and y.
    """
    whole = label.copy()
    for z in range(label.shape[2]):
        part = label[:, :, z] > 0
        if part.any():
            inside = _hull(part)
            near = ndimage.distance_transform_edt(~inside, sampling=spacing) <= BODY_MARGIN_MM
            whole[:, :, z][near & ~part] = BODY_ID
    return whole


def _hull(part: NDArray[np.bool_]) -> NDArray[np.bool_]:
    points = np.argwhere(part)
    try:
        hull = ConvexHull(points)
    except (QhullError, ValueError):
        return part  # fewer than three voxels, or all on one line
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in part.shape), indexing="ij"), axis=-1)
    inside = np.ones(part.shape, bool)
    for *normal, offset in hull.equations:
        inside &= grid @ np.asarray(normal) + offset <= 1e-9
    return inside


def body_region(label: NDArray[np.uint8]) -> tuple[str, str]:
    """First and last region of the body that a mask shows.

    Raises:
        SpecError: It shows none.
    """
    ids = set(np.unique(label).tolist())
    shown = [
        region for region, names in _REGION_LABELS if ids & {CT_LABELS[name] for name in names}
    ]
    if not shown:
        msg = (
            "the mask shows no region of the body: no brain, lung, liver, kidney or femur; "
            "say which it is, such as body_region=('chest', 'abdomen')"
        )
        raise SpecError(msg)
    return shown[0], shown[-1]
