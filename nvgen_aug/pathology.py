"""Lesions: how many of a kind a recipe draws, and how large."""

from __future__ import annotations

import hashlib
import math
from bisect import bisect_right
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import fields
from dataclasses import replace
from itertools import accumulate
from itertools import pairwise
from numbers import Real
from typing import Any
from typing import final

import numpy as np

from .errors import SpecError
from .sizes import FORMS
from .sizes import SizeLaw
from .sizes import SizeShare
from .sizes import tenth_below
from .sizes import tenth_from

_USUAL = (6.0, 16.0)


@final
@dataclass(frozen=True, slots=True, repr=False)
class Lesions:
    """How many lesions of a kind are drawn, and how large.

    Sizes follow a uniform law in the logarithm of the diameter, so that small lesions are
    as common as they are in patients; or, with `measured`, the lesions of your patients.
    `sizes` then moves weight between ranges, each lesion on its own:

        Lesions(measured=diameters, sizes={"< p30": 0.5, ">= p30": 0.5})

    draws every second lesion below the 30th percentile of the measured diameters.

    Args:
        count: Least and greatest number of lesions, each number alike.
        diameter: Least and greatest diameter in mm; left out, 6 to 16 mm, or those of
            `measured`. It cuts `measured`, whose percentiles stay those of the whole.
        measured: Diameters in mm of real lesions, two or more, in any order, such as
            `Census.diameters` has them; between two neighbours all sizes are as likely.
        sizes: Share of the lesions in each range of sizes: `"< p30"`, `"p30-p60"` and
            `">= p60"` in percentiles, or `"< 10 mm"`, `"10-20 mm"` and `">= 20 mm"`; a range
            includes its least diameter and excludes its greatest. They must not overlap
            and sum to 1. Within a range the law is as without `sizes`.

    Raises:
        SpecError: for a range without lesions, shares that do not sum to 1, or a field of
            the wrong kind.
    """

    count: tuple[int, int] = (1, 1)
    diameter: tuple[float, float] = None  # type: ignore[assignment]  # never None once made
    measured: Sequence[float] | None = None
    sizes: Mapping[str, float] | Sequence[SizeShare] | None = None

    def __post_init__(self) -> None:
        def put(name: str, value: Any) -> None:
            object.__setattr__(self, name, value)

        count = _pair("lesion count", self.count)
        if count != tuple(int(n) for n in count) or not 0 <= count[0] <= count[1]:
            msg = f"lesion count must be two integers 0 ≤ least ≤ greatest, got {self.count!r}"
            raise SpecError(msg)
        put("count", (int(count[0]), int(count[1])))
        if self.measured is not None:
            put("measured", _sample(self.measured))
        given: Any = self.diameter
        if given is None:
            given = _USUAL if self.measured is None else (self.measured[0], self.measured[-1])
        diameter = _pair("lesion diameter", given)
        if not 0 < diameter[0] <= diameter[1] < math.inf:
            msg = f"lesion diameter must be 0 < least ≤ greatest mm, got {self.diameter!r}"
            raise SpecError(msg)
        put("diameter", diameter)
        if self.sizes is not None:
            put("sizes", self._shares(self.sizes))
            least, below = self.ranges[0].least, self.ranges[-1].below
            put("diameter", (max(diameter[0], least), min(diameter[1], tenth_below(below))))
        elif self.measured is not None:
            self._check_range("diameter", 0.0, math.inf)

    def draw(self, rng: np.random.Generator) -> list[float]:
        """Diameters in mm, largest first."""
        number = int(rng.integers(self.count[0], self.count[1] + 1))
        # Tenths of a millimetre: specs stay readable, and lose nothing.
        if self.measured is None and self.sizes is None:
            low, high = np.log(self.diameter)
            diameters = [round(float(np.exp(rng.uniform(low, high))), 1) for _ in range(number)]
        else:
            diameters = [self._at(float(rng.random())) for _ in range(number)]
        return sorted(diameters, reverse=True)

    def between(self, least: float = 0.0, below: float = math.inf) -> Lesions | None:
        """At least one of these lesions, and only of these sizes; `None` if none is so large.

        Args:
            least: Least diameter in mm.
            below: Diameter in mm that is too large already.
        """
        low = tenth_from(max(self.diameter[0], least))
        high = min(self.diameter[1], tenth_below(below))
        if low > high or self.count[1] == 0:
            return None
        count = (max(1, self.count[0]), self.count[1])
        if self.measured is None and self.sizes is None:
            return Lesions(count, (low, high))
        law = self._law
        parts = [
            (part, max(part.least, least), min(part.below, below))
            for part in self.ranges
            if max(part.tenths[0], low) <= min(part.tenths[1], high)
        ]
        # What is left of a range keeps its weight against what is left of the others.
        weights = [
            part.share * law.part(start, end) / law.part(part.least, part.below)
            for part, start, end in parts
        ]
        if not sum(weights):  # a single diameter, the least or the greatest
            weights = [part.share for part, _, _ in parts]
        sizes = [
            SizeShare(start, end, weight / sum(weights))
            for (_, start, end), weight in zip(parts, weights, strict=True)
            if weight
        ]
        return replace(self, count=count, diameter=(low, high), sizes=sizes) if sizes else None

    def percentile(self, percent: float) -> float:
        """The diameter in mm that this percentage of the lesions does not reach.

        Of `measured`, or else of the law over `diameter`; `sizes` do not change it.

        Args:
            percent: 0 to 100.
        """
        return self._law.quantile(percent / 100)

    @property
    def ranges(self) -> tuple[SizeShare, ...]:
        """Ranges of diameters with their shares, smallest first; one for all if none were given."""
        if self.sizes is None:
            return (SizeShare(self.diameter[0], math.inf, 1.0),)
        return tuple(self.sizes)  # type: ignore[arg-type]  # made one by __post_init__

    def __repr__(self) -> str:
        parts = [f"count={self.count!r}", f"diameter={self.diameter!r}"]
        if self.measured is not None:
            # Thousands of numbers in every message would hide the rest.
            digest = hashlib.sha256(np.asarray(self.measured, "<f8").tobytes()).hexdigest()
            parts.append(f"measured=<{len(self.measured)} diameters, {digest[:12]}>")
        if self.sizes is not None:
            parts.append(f"sizes={self.sizes!r}")
        return f"Lesions({', '.join(parts)})"

    @property
    def _law(self) -> SizeLaw:
        return SizeLaw(self.diameter, self.measured)  # type: ignore[arg-type]  # a tuple once made

    def _shares(self, given: Any) -> tuple[SizeShare, ...]:
        is_list = isinstance(given, Sequence) and all(isinstance(v, SizeShare) for v in given)
        if not isinstance(given, Mapping) and not is_list:
            msg = f"sizes must map ranges such as {FORMS} to shares, got {given!r}"
            raise SpecError(msg)
        if isinstance(given, Mapping):
            edges = {str(text): self._law.edges(str(text)) for text in given}
            named = [(str(text), SizeShare(*edges[str(text)], v)) for text, v in given.items()]
        else:
            named = [(f"{part.least:g}-{part.below:g} mm", part) for part in given]
        if not named:
            msg = f"sizes must name at least one range, such as {FORMS}, got none"
            raise SpecError(msg)
        for text, part in named:
            share: Any = part.share
            is_number = isinstance(share, Real) and not isinstance(share, bool)
            if not is_number or not 0 < share <= 1:
                msg = f"the share of size `{text}` must lie in (0, 1], got {share!r}"
                raise SpecError(msg)
            self._check_range(f"size `{text}`", part.least, part.below)
        named.sort(key=lambda one: one[1].least)
        for (one, first), (other, second) in pairwise(named):
            if first.below > second.least:
                msg = f"sizes must not overlap, got `{one}` and `{other}`"
                raise SpecError(msg)
        total = sum(part.share for _, part in named)
        if not math.isclose(total, 1, abs_tol=1e-6):
            msg = (
                f"the shares of sizes must sum to 1, got {total:g} for "
                f"{', '.join(f'`{text}`' for text, _ in named)}; name a range for the rest"
            )
            raise SpecError(msg)
        return tuple(replace(part, share=float(part.share / total)) for _, part in named)

    def _check_range(self, what: str, least: float, below: float) -> None:
        """Raise unless there are diameters to draw in a range."""
        low, high = self.diameter
        first = tenth_from(max(least, low))
        if first <= min(tenth_below(below), high) + 1e-9 and self._law.part(least, below):
            return
        where = f"{what} has no lesions: diameters are {low:g} to {high:g} mm"
        if self.measured is not None:
            where += f", measured ones {self.measured[0]:g} to {self.measured[-1]:g} mm"
        msg = f"{where}, in steps of 0.1 mm; choose another range"
        raise SpecError(msg)

    def _at(self, chance: float) -> float:
        """The diameter in mm below which this part of the draws falls."""
        ranges, law = self.ranges, self._law
        starts = [0.0, *accumulate(part.share for part in ranges)]
        place = min(bisect_right(starts, chance), len(ranges)) - 1
        part = ranges[place]
        inside = min(1.0, (chance - starts[place]) / part.share)
        low, high = law.ends(part.least, part.below)
        diameter = round(law.quantile(low + inside * (high - low)), 1)
        # A rounded diameter must not leave its range.
        least, most = part.tenths
        most = min(most, math.floor(round(10 * self.diameter[1], 6)) / 10)
        return min(max(diameter, least), most)


def lesions_of(name: str, value: Lesions | Mapping[str, Any]) -> Lesions:
    """Lesions as a recipe has them: as they are, or as a file writes them.

    Args:
        name: Label name, for the error.
        value: Lesions, or a mapping with their arguments.

    Raises:
        SpecError: for anything else.
    """
    if isinstance(value, Lesions):
        return value
    known = [field.name for field in fields(Lesions)]
    if not isinstance(value, Mapping) or not set(value) <= set(known):
        msg = (
            f"pathology `{name}` must be Lesions({', '.join(known)}) or a mapping with some of "
            f"these, got {value!r}"
        )
        raise SpecError(msg)
    try:
        return Lesions(**value)
    except SpecError as error:
        msg = f"pathology `{name}`: {error}"
        raise SpecError(msg) from error


def _sample(given: Any) -> tuple[float, ...]:
    is_list = isinstance(given, Iterable) and not isinstance(given, (str, Mapping))
    try:
        sample = sorted(float(diameter) for diameter in given) if is_list else []
    except (TypeError, ValueError):
        sample = []
    if len(sample) < 2 or not all(0 < diameter < math.inf for diameter in sample):
        msg = f"measured must be two or more diameters in mm, each above 0, got {given!r:.80}"
        raise SpecError(msg)
    return tuple(sample)


def _pair(name: str, value: Any) -> tuple[float, float]:
    try:
        low, high = value
        return float(low), float(high)
    except (TypeError, ValueError) as error:
        msg = f"{name} must be two numbers (least, greatest), got {value!r}"
        raise SpecError(msg) from error
