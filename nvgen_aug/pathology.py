"""Lesions: how many of a kind a recipe draws, and how large."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from typing import final

import numpy as np

from .errors import SpecError


@final
@dataclass(frozen=True, slots=True)
class Lesions:
    """How many lesions of a kind are drawn, and how large.

    Args:
        count: Least and greatest number of lesions, each number alike.
        diameter: Least and greatest diameter in mm, uniform in the logarithm,
            so that small lesions are as common as they are in patients.
    """

    count: tuple[int, int] = (1, 1)
    diameter: tuple[float, float] = (6.0, 16.0)

    def __post_init__(self) -> None:
        count = _pair("lesion count", self.count)
        diameter = _pair("lesion diameter", self.diameter)
        if count != tuple(int(n) for n in count) or not 0 <= count[0] <= count[1]:
            msg = f"lesion count must be two integers 0 ≤ least ≤ greatest, got {self.count!r}"
            raise SpecError(msg)
        if not 0 < diameter[0] <= diameter[1]:
            msg = f"lesion diameter must be 0 < least ≤ greatest mm, got {self.diameter!r}"
            raise SpecError(msg)
        object.__setattr__(self, "count", (int(count[0]), int(count[1])))
        object.__setattr__(self, "diameter", (float(diameter[0]), float(diameter[1])))

    def draw(self, rng: np.random.Generator) -> list[float]:
        """Diameters in mm, largest first."""
        number = int(rng.integers(self.count[0], self.count[1] + 1))
        low, high = np.log(self.diameter)
        # Tenths of a millimetre: specs stay readable, and lose nothing.
        diameters = [round(float(np.exp(rng.uniform(low, high))), 1) for _ in range(number)]
        return sorted(diameters, reverse=True)

    def between(self, least: float = 0.0, below: float = math.inf) -> Lesions | None:
        """At least one of these lesions, and only of these sizes; `None` if none is so large.

        Args:
            least: Least diameter in mm.
            below: Diameter in mm that is too large already.
        """
        # Diameters are drawn in tenths of a millimetre.
        low = math.ceil(round(10 * max(self.diameter[0], least), 6)) / 10
        high = min(
            self.diameter[1],
            math.ceil(round(10 * below, 6) - 1) / 10 if below < math.inf else below,
        )
        if low > high or self.count[1] == 0:
            return None
        return Lesions((max(1, self.count[0]), self.count[1]), (low, high))


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
    if not isinstance(value, Mapping) or not set(value) <= {"count", "diameter"}:
        msg = (
            f"pathology `{name}` must be Lesions(count, diameter) or a mapping with "
            f"`count` and `diameter`, got {value!r}"
        )
        raise SpecError(msg)
    return Lesions(**value)


def _pair(name: str, value: Any) -> tuple[float, float]:
    try:
        low, high = value
        return float(low), float(high)
    except (TypeError, ValueError) as error:
        msg = f"{name} must be two numbers (least, greatest), got {value!r}"
        raise SpecError(msg) from error
