"""Quality: what a generated image must satisfy before anyone sees it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from ...errors import QualityError
from ...spec import VolumeSpec
from .checks import Checks
from .checks import Contrast
from .variants import Variant

# Fewer voxels than these have no median worth the name.
_FEWEST: Final = 10
# How far around a lesion its surroundings reach, in voxels, and how near they begin: what touches
# it shares its voxels' volume with it.
_RIM: Final = (1, 4)
_PLANES_AT_ONCE: Final = 16


@final
@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong with a volume.

    Attributes:
        reason: What is counted, such as `"lesion contrast"`.
        text: A sentence with numbers.
    """

    reason: str
    text: str


def check_finite(values: torch.Tensor, what: str, seed: int) -> None:
    """Refuse NaN and infinity.

    Raises:
        QualityError: Naming what is not finite, where, and for which seed.
    """
    if not bool(torch.isfinite(values).all()):
        refuse_unless_finite(int((~torch.isfinite(values)).sum()), values.numel(), what, seed)


def refuse_unless_finite(bad: int, count: int, what: str, seed: int) -> None:
    """As `check_finite`, for values that have been counted already.

    Raises:
        QualityError: if any of them is bad.
    """
    if bad:
        msg = (
            f"{bad} of {count} values of the {what} for seed {seed} are not finite; "
            "draw another seed, and report this one with its spec"
        )
        raise QualityError(msg)


def missing_labels(label: NDArray[np.uint8], spec: VolumeSpec, variant: Variant) -> list[Fault]:
    """Which labels that the spec asks for are not in the label `[X, Y, Z]`."""
    asked = dict.fromkeys([*spec.anatomy, *(name for name, _ in spec.pathology)])
    if not asked:
        return []
    present = set(np.unique(label).tolist())
    return [
        Fault("label missing", f"the label has no `{name}`")
        for name in asked
        if variant.labels[name] not in present
    ]


def faults_of(
    image: NDArray[np.int16], label: NDArray[np.uint8] | None, spec: VolumeSpec, variant: Variant
) -> list[Fault]:
    """What is wrong with a whole volume, `[X, Y, Z]` both; nothing for most.

    Medians are exact: they are read from a histogram for each label, made slab by slab.
    """
    low, high = int(image.min()), int(image.max())
    if low == high:
        return [Fault("constant", f"all voxels are {low}")]
    if label is None:
        return []
    found = missing_labels(label, spec, variant)
    checks = variant.checks
    if not (checks.ranges or checks.orders or checks.contrasts):
        return found
    histograms = _Histograms(image, label, low, high)
    found += _out_of_range(histograms, checks, variant)
    found += _out_of_order(histograms, checks, variant, spec)
    for contrast in checks.contrasts:
        found += _without_contrast(image, label, contrast, variant, spec)
    return found


@final
class _Histograms:
    """How often each voxel value occurs under each label."""

    def __init__(
        self, image: NDArray[np.int16], label: NDArray[np.uint8], low: int, high: int
    ) -> None:
        self._low = low
        values = high - low + 1
        self._counts = np.zeros((256, values), np.int64)
        for start in range(0, image.shape[0], _PLANES_AT_ONCE):
            part = slice(start, start + _PLANES_AT_ONCE)
            known = label[part] > 0
            cells = label[part][known].astype(np.int64) * values + (
                image[part][known].astype(np.int64) - low
            )
            counts = np.bincount(cells, minlength=self._counts.size)
            self._counts += counts.reshape(self._counts.shape)

    def median(self, ids: Sequence[int]) -> float | None:
        """Of all voxels under some labels; `None` if they are too few."""
        counts = self._counts[list(ids)].sum(axis=0)
        total = int(counts.sum())
        if total < _FEWEST:
            return None
        return self._low + int(np.searchsorted(np.cumsum(counts), (total + 1) // 2))


def _out_of_range(found: _Histograms, checks: Checks, variant: Variant) -> Iterator[Fault]:
    for rule in checks.ranges:
        median = found.median([variant.labels[name] for name in rule.labels])
        if median is not None and not rule.low <= median <= rule.high:
            yield Fault(
                f"intensity of {rule.name}",
                f"the median of {rule.name} is {median:g}, expected {rule.low:g} to {rule.high:g}",
            )


def _out_of_order(
    found: _Histograms, checks: Checks, variant: Variant, spec: VolumeSpec
) -> Iterator[Fault]:
    names = checks.orders.get(spec.modality or "", ())
    medians = {name: found.median([variant.labels[name]]) for name in names}
    known = [(name, median) for name, median in medians.items() if median is not None]
    for (dark, low), (bright, high) in itertools.pairwise(known):
        if high - low < checks.step:
            yield Fault(
                "tissue contrast",
                f"{bright} ({high:g}) must be brighter than {dark} ({low:g}) by {checks.step:g}",
            )


def _without_contrast(
    image: NDArray[np.int16],
    label: NDArray[np.uint8],
    rule: Contrast,
    variant: Variant,
    spec: VolumeSpec,
) -> Iterator[Fault]:
    is_lesion = label == variant.labels[rule.lesion]
    boxes = ndimage.find_objects(is_lesion.astype(np.uint8))
    if not boxes or int(is_lesion.sum()) < rule.fewest:
        return
    near, far = _RIM
    box = tuple(slice(max(0, s.start - far), s.stop + far) for s in boxes[0])
    inside, around = is_lesion[box], label[box]
    hosts = np.isin(around, [variant.labels[name] for name in rule.hosts])
    distance = ndimage.distance_transform_cdt(~inside, metric="chessboard")
    rim = hosts & (distance > near) & (distance <= far)
    if int(rim.sum()) < _FEWEST:
        return
    difference = float(np.median(image[box][inside]) - np.median(image[box][rim]))
    side = rule.sides.get(spec.modality or "", 0)
    if (side * difference if side else abs(difference)) < rule.least:
        kind = {1: "brighter", -1: "darker", 0: "brighter or darker"}[side]
        yield Fault(
            "lesion contrast",
            f"`{rule.lesion}` must be {kind} than what is around it by {rule.least:g}, and differs "
            f"by {difference:g}",
        )
