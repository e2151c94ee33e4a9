"""Envelope: which sizes and fields of view a model has seen in training, and what is nearest."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from typing import final

Triple = tuple[float, float, float]


@final
@dataclass(frozen=True, slots=True)
class FieldOfView:
    """One row of the table of what a model was trained on.

    Args:
        name: What was scanned, such as `"chest+abdomen"`.
        extent: Median edges of the scans in mm (x, y, z).
        modalities: Contrasts that it stands for; empty for all.
    """

    name: str
    extent: Triple
    modalities: tuple[str, ...] = ()

    def text(self) -> str:
        """The row as an error names it."""
        return f"{self.name} ({_mm(self.extent)})"


@final
@dataclass(frozen=True, slots=True)
class Verdict:
    """Why a volume lies outside, and what lies inside and nearest to it.

    Args:
        reasons: What is outside, each in a few words.
        row: The row of the table that it was compared with, or `None` if none has its contrast.
        size, spacing: The nearest legal volume, or `None` if no contrast of the table was asked.
    """

    reasons: tuple[str, ...]
    row: FieldOfView | None
    size: tuple[int, int, int] | None
    spacing: Triple | None


@final
@dataclass(frozen=True, slots=True)
class Envelope:
    """What a model may be asked for without leaving what it was trained on.

    Sizes and spacings are those that NV-Generate's own checks accept. They accept fields of view
    that no scan in training had, so the table of medians is compared as well: each edge must be
    within a factor of `reach` of the nearest row's.

    Args:
        sizes: Voxels (x, y, z), each combination that is legal.
        spacings: Least and greatest mm per voxel, for each axis.
        rows: The table.
        least_width: Least edge along x and y in mm.
        is_square: Whether spacing must be the same along x and y.
        reach: Greatest factor between an edge and that of the row.
    """

    sizes: tuple[tuple[int, int, int], ...]
    spacings: tuple[tuple[float, float], tuple[float, float], tuple[float, float]]
    rows: tuple[FieldOfView, ...]
    least_width: float = 0.0
    is_square: bool = False
    reach: float = 2.0

    def judge(self, size: tuple[int, int, int], spacing: Triple, modality: str) -> Verdict | None:
        """Why a volume lies outside; `None` if it does not."""
        rows = [row for row in self.rows if not row.modalities or modality in row.modalities]
        if not rows:
            known = sorted({name for row in self.rows for name in row.modalities})
            reason = f"no scan of `{modality}` is in its table, which has {', '.join(known)}"
            return Verdict((reason,), None, None, None)
        extent = _extent(size, spacing)
        # By its farthest edge: then no other row is within reach if this one is not.
        row = min(rows, key=lambda row: max(_factors(row.extent, extent)))
        reasons = self._reasons(size, spacing, row)
        if not reasons:
            return None
        return Verdict(reasons, row, *self._nearest(size, spacing, rows))

    def _reasons(
        self, size: tuple[int, int, int], spacing: Triple, row: FieldOfView
    ) -> tuple[str, ...]:
        extent = _extent(size, spacing)
        reasons = []
        if size not in self.sizes:
            reasons.append(f"size {size} is none that it was trained for")
        for axis, (low, high), mm in zip("xyz", self.spacings, spacing, strict=True):
            if not low <= mm <= high:
                reasons.append(f"spacing along {axis} is {mm:g}, not in [{low:g}, {high:g}] mm")
        if self.is_square and spacing[0] != spacing[1]:
            reasons.append(f"spacing differs along x and y, {spacing[0]:g} and {spacing[1]:g} mm")
        if min(extent[:2]) < self.least_width:
            reasons.append(f"it is {_mm(extent)}, less than {self.least_width:g} mm wide")
        far = [
            axis
            for axis, mine, its in zip("xyz", extent, row.extent, strict=True)
            if not 1 / self.reach <= mine / its <= self.reach
        ]
        if far:
            reasons.append(
                f"its field of view {_mm(extent)} is more than {self.reach:g} times "
                f"off along {', '.join(far)}"
            )
        return tuple(reasons)

    def _nearest(
        self, size: tuple[int, int, int], spacing: Triple, rows: Iterable[FieldOfView]
    ) -> tuple[tuple[int, int, int], Triple]:
        """The legal volume that differs least in voxels and in mm, each counted as a factor."""
        wanted = _extent(size, spacing)
        found = []
        for legal, row in itertools.product(self.sizes, rows):
            near = self._fitted(legal, wanted, row)
            if near is not None and not self._reasons(legal, near, row):
                distance = sum(_factors(legal, size)) + sum(_factors(_extent(legal, near), wanted))
                found.append((distance, legal, near))
        assert found, "an envelope has a legal volume for each of its rows"
        _, best, best_spacing = min(found)
        return best, best_spacing

    def _fitted(
        self, size: tuple[int, int, int], wanted: Triple, row: FieldOfView
    ) -> Triple | None:
        """The spacing at which a size comes nearest to the wanted edges and fits the row."""
        spacing = []
        for axis, n in enumerate(size):
            least = self.least_width if axis < 2 else 0.0
            low = max(self.spacings[axis][0], row.extent[axis] / self.reach / n, least / n)
            high = min(self.spacings[axis][1], row.extent[axis] * self.reach / n)
            # Rounded inwards, to what a person would type.
            low, high = math.ceil(low * 100 - 1e-9) / 100, math.floor(high * 100 + 1e-9) / 100
            if low > high:
                return None
            spacing.append(min(max(round(wanted[axis] / n, 2), low), high))
        x, y, z = spacing
        return (max(x, y), max(x, y), z) if self.is_square else (x, y, z)

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Envelope:
        """The envelope of its fields as JSON has them."""
        found = {name: _tuples(value) for name, value in values.items()}
        rows = ({name: _tuples(value) for name, value in row.items()} for row in values["rows"])
        return cls(**{**found, "rows": tuple(FieldOfView(**row) for row in rows)})


def _extent(size: tuple[int, int, int], spacing: Triple) -> Triple:
    x, y, z = (n * mm for n, mm in zip(size, spacing, strict=True))
    return x, y, z


def _factors(one: Iterable[float], other: Iterable[float]) -> list[float]:
    return [abs(math.log(a / b)) for a, b in zip(one, other, strict=True)]


def _mm(extent: Triple) -> str:
    return " × ".join(f"{mm:.0f}" for mm in extent) + " mm"


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
