"""Crop and CropRule: which part of a volume is wanted, and how that part is chosen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import replace
from operator import index as as_index
from typing import TYPE_CHECKING
from typing import Any
from typing import final

import numpy as np

from .errors import LabelError
from .errors import SpecError
from .errors import did_you_mean

if TYPE_CHECKING:
    from numpy.typing import NDArray


@final
@dataclass(frozen=True, slots=True)
class Crop:
    """A box of voxels (x, y, z) on the generator's grid.

    Args:
        start: First voxel of the box.
        size: Voxels of the box.
    """

    start: tuple[int, int, int]
    size: tuple[int, int, int]

    def __post_init__(self) -> None:
        object.__setattr__(self, "start", _triple("crop start", self.start, 0))
        object.__setattr__(self, "size", _triple("crop size", self.size, 1))

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """The box as slices of the three spatial axes."""
        x, y, z = (
            slice(begin, begin + extent)
            for begin, extent in zip(self.start, self.size, strict=True)
        )
        return x, y, z

    def check_inside(self, shape: tuple[int, ...]) -> None:
        """Raise `SpecError` unless the box lies inside a volume of this shape."""
        for begin, extent, whole in zip(self.start, self.size, shape[-3:], strict=True):
            if begin + extent > whole:
                msg = (
                    f"crop {self.start}+{self.size} leaves the volume of {tuple(shape[-3:])} voxels"
                )
                raise SpecError(msg)

    def moved(self, affine: NDArray[np.float64]) -> NDArray[np.float64]:
        """The affine of the box, given the affine of the volume."""
        result = np.array(affine, dtype=np.float64)
        result[:3, 3] += result[:3, :3] @ np.asarray(self.start, dtype=np.float64)
        return result


@final
@dataclass(frozen=True, slots=True)
class CropRule:
    """A way to choose a crop, resolved by the source, where the label is.

    Args:
        size: Voxels of the crop (x, y, z).
        centre: Label names with weights: the crop is centred on a voxel of a
            class drawn by weight among those present (moved inwards at the
            border). `None`, or none of them present: any place alike.
        seed: Where the choice comes from; a dataset sets it anew for each view.
    """

    size: tuple[int, int, int]
    centre: tuple[tuple[str, float], ...] | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", _triple("crop size", self.size, 1))
        if self.centre is not None:
            pairs: Any = self.centre
            pairs = pairs.items() if isinstance(pairs, Mapping) else pairs
            weights = tuple(sorted((str(name), float(weight)) for name, weight in pairs))
            if any(not weight > 0 for _, weight in weights):
                msg = f"centre weights must be > 0, got {dict(weights)}"
                raise SpecError(msg)
            object.__setattr__(self, "centre", weights)

    def seeded(self, seed: int) -> CropRule:
        """The same rule with another seed."""
        return replace(self, seed=seed)

    def check_names(self, vocabulary: Mapping[str, int]) -> None:
        """Raise `LabelError` if a centre is named that the vocabulary lacks."""
        for name, _ in self.centre or ():
            if name not in vocabulary:
                msg = f"crop centre `{name}` is not a label; {did_you_mean(name, vocabulary)}"
                raise LabelError(msg)

    def resolve(
        self,
        shape: tuple[int, int, int],
        label: NDArray[np.uint8] | None,
        vocabulary: Mapping[str, int],
    ) -> Crop:
        """The crop for a volume of this shape.

        Args:
            shape: Voxels of the volume (x, y, z).
            label: Label `[1, X, Y, Z]`, or `None` for an image-only variant.
            vocabulary: Ids of the label names.

        Raises:
            SpecError: if the crop is larger than the volume.
        """
        if any(want > have for want, have in zip(self.size, shape, strict=True)):
            msg = f"crop size {self.size} is larger than the volume of {shape} voxels"
            raise SpecError(msg)
        self.check_names(vocabulary)
        rng = np.random.default_rng(np.random.SeedSequence([self.seed, 0xC209]))
        present = []
        if label is not None:
            # One pass for all classes; a volume has few of them.
            found = set(np.unique(label).tolist())
            present = [(n, w) for n, w in self.centre or () if vocabulary[n] in found]
        if label is not None and present:
            total = sum(weight for _, weight in present)
            pick = rng.choice(len(present), p=[weight / total for _, weight in present])
            voxels = np.flatnonzero(label[0] == vocabulary[present[int(pick)][0]])
            middle = np.unravel_index(int(rng.choice(voxels)), shape)
            wanted = [int(m) - extent // 2 for m, extent in zip(middle, self.size, strict=True)]
        else:
            wanted = [
                int(rng.integers(0, have - want + 1))
                for want, have in zip(self.size, shape, strict=True)
            ]
        x, y, z = (
            min(max(begin, 0), have - want)
            for begin, want, have in zip(wanted, self.size, shape, strict=True)
        )
        return Crop((x, y, z), self.size)


def _triple(name: str, value: Any, low: int) -> tuple[int, int, int]:
    try:
        x, y, z = (as_index(v) for v in value)
    except (TypeError, ValueError) as error:
        msg = f"{name} must be three integers (x, y, z), got {value!r}"
        raise SpecError(msg) from error
    if min(x, y, z) < low:
        msg = f"{name} must be ≥ {low} along each axis, got {value!r}"
        raise SpecError(msg)
    return x, y, z


def crop_text(crop: Crop) -> str:
    """A crop as provenance writes it: `x,y,z+sx,sy,sz`."""
    return ",".join(map(str, crop.start)) + "+" + ",".join(map(str, crop.size))


def crop_from_text(text: str) -> Crop:
    """The crop that `crop_text` wrote.

    Raises:
        SpecError: for any other text.
    """
    try:
        start, size = (tuple(map(int, part.split(","))) for part in text.split("+"))
        return Crop(start, size)  # type: ignore[arg-type]  # a Crop looks at their length
    except (TypeError, ValueError) as error:
        msg = f"a crop must be written x,y,z+sx,sy,sz, got {text!r}"
        raise SpecError(msg) from error
