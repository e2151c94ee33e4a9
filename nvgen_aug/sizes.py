"""SizeLaw: how lesion sizes are distributed, and ranges of sizes as a person writes them."""

from __future__ import annotations

import math
import re
from bisect import bisect_left
from bisect import bisect_right
from dataclasses import dataclass
from typing import final

import numpy as np

from .errors import SpecError

_EDGE = r"(?:p(?:100|\d{1,2}(?:\.\d+)?)|\d+(?:\.\d+)?)"
_RANGE = re.compile(
    rf"<\s*(?P<below>{_EDGE})|(?:>=|≥)\s*(?P<least>{_EDGE})|(?P<low>{_EDGE})\s*[-–]\s*(?P<high>{_EDGE})"
)
FORMS = "`< p30`, `p30-p60`, `>= p60`, `< 10 mm`, `10-20 mm` or `>= 20 mm`"


@final
@dataclass(frozen=True, slots=True)
class SizeShare:
    """A range of diameters, and the share of the lesions that have one in it.

    Args:
        least: Least diameter in mm.
        below: Diameter in mm that is too large already.
        share: Share of the lesions.
    """

    least: float
    below: float
    share: float

    @property
    def tenths(self) -> tuple[float, float]:
        """Least and greatest diameter of the range in whole tenths of a millimetre."""
        return tenth_from(self.least), tenth_below(self.below)


@final
@dataclass(frozen=True, slots=True)
class SizeLaw:
    """A law of diameters: that of a sample, or uniform in the logarithm.

    Args:
        diameter: Least and greatest diameter in mm that is drawn.
        measured: Diameters in mm, smallest first; between two neighbours all sizes are as
            likely. `None` is uniform in the logarithm over `diameter`.
    """

    diameter: tuple[float, float]
    measured: tuple[float, ...] | None = None

    def quantile(self, part: float) -> float:
        """The diameter in mm that this part of all lesions does not reach."""
        if self.measured is not None:
            # As numpy's linear quantile, which is fifty times slower for one number.
            place = min(max(part, 0.0), 1.0) * (len(self.measured) - 1)
            first = min(int(place), len(self.measured) - 2)
            before, after = self.measured[first : first + 2]
            return before + (place - first) * (after - before)
        low, high = np.log(self.diameter)
        return float(np.exp(low + part * (high - low)))

    def rank(self, diameter: float, *, is_included: bool = False) -> float:
        """Which part of all lesions is smaller, or also as large: the inverse of `quantile`."""
        if self.measured is None:
            low, high = np.log(self.diameter)
            part = (math.log(diameter) - low) / (high - low) if high > low and diameter else 0.0
            return float(min(max(part, 0.0), 1.0))
        find = bisect_right if is_included else bisect_left
        place = find(self.measured, diameter)
        if place in (0, len(self.measured)):
            return float(place > 0)
        before, after = self.measured[place - 1 : place + 1]
        step = (diameter - before) / (after - before)
        return (place - 1 + step) / (len(self.measured) - 1)

    def ends(self, least: float, below: float) -> tuple[float, float]:
        """A range, cut by `diameter`, as parts of all lesions."""
        first, last = self.diameter
        # The greatest diameter itself is legal.
        end = self.rank(below) if below <= last else self.rank(last, is_included=True)
        return self.rank(max(least, first)), end

    def part(self, least: float, below: float) -> float:
        """Which part of all lesions lies in a range, cut by `diameter`."""
        low, high = self.ends(least, below)
        # A law on a single diameter has all its weight there.
        return 1.0 if self.diameter[0] == self.diameter[1] else max(0.0, high - low)

    def edges(self, text: str) -> tuple[float, float]:
        """Least diameter and the one that is too large, in mm, of a range as a text.

        Raises:
            SpecError: for a text of another form.
        """
        plain = text.strip()
        is_mm = plain.endswith("mm")
        match = _RANGE.fullmatch(plain.removesuffix("mm").strip())
        edges = [edge for edge in match.groups() if edge] if match else []
        if match is None or any(edge.startswith("p") is is_mm for edge in edges):
            msg = f"a size is written {FORMS}, got `{text}`"
            raise SpecError(msg)
        mm = [
            self.quantile(float(edge[1:]) / 100) if edge.startswith("p") else float(edge)
            for edge in edges
        ]
        if match["below"]:
            return 0.0, mm[0]
        return mm[0], math.inf if match["least"] else mm[1]


def tenth_from(diameter: float) -> float:
    """The least whole tenth of a millimetre that is not smaller."""
    return math.ceil(round(10 * diameter, 6)) / 10


def tenth_below(diameter: float) -> float:
    """The greatest whole tenth of a millimetre that is smaller."""
    return math.ceil(round(10 * diameter, 6) - 1) / 10 if diameter < math.inf else math.inf
