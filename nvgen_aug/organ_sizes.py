"""Organ sizes: how large the organs and tumours of a drawn label map are to be."""

from __future__ import annotations

import math
from collections.abc import Iterable
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from typing import Final
from typing import final

import numpy as np

from .errors import SpecError

ABSENT: Final = -1.0


@final
@dataclass(frozen=True, slots=True)
class SizeRange:
    """The sizes that a recipe draws from, evenly: 0 to 1, or both ends -1 for an absent organ.

    Args:
        low, high: Least and greatest.
    """

    low: float
    high: float

    def draw(self, rng: np.random.Generator) -> float:
        """A size in thousandths: specs stay readable, and lose nothing."""
        # Rounding must not leave the range.
        drawn = round(float(rng.uniform(self.low, self.high)), 3)
        return min(max(drawn, self.low), self.high)


def sizes_of(value: Any) -> tuple[tuple[str, float], ...]:
    """Pairs of name and size, checked, each name once.

    Raises:
        SpecError: naming what came.
    """
    pairs: Any = value.items() if isinstance(value, Mapping) else value
    if isinstance(pairs, str) or not isinstance(pairs, Iterable):
        raise SpecError(_not_pairs(value))
    sizes: dict[str, float] = {}
    for pair in pairs:
        try:
            name, size = pair
        except (TypeError, ValueError) as error:
            raise SpecError(_not_pairs(pair)) from error
        if str(name) in sizes:
            msg = f"organ_sizes names `{name}` twice; give it one size"
            raise SpecError(msg)
        sizes[str(name)] = _size(str(name), size)
    return tuple(sizes.items())


def size_ranges(value: Any) -> dict[str, SizeRange]:
    """What a recipe draws from, by name: of a size, or of a pair of the least and the greatest.

    Raises:
        SpecError: naming what came.
    """
    if not isinstance(value, Mapping):
        msg = f"organ_sizes must map names to a size or to [least, greatest], got {value!r}"
        raise SpecError(msg)
    return {str(name): _range(str(name), given) for name, given in value.items()}


def sizes_in(texts: Iterable[str]) -> dict[str, float | list[float]]:
    """What a command line says: `liver=0.5`, or `liver=0.2:0.6` for the least and the greatest.

    Raises:
        SpecError: for a text of another form.
    """
    found: dict[str, float | list[float]] = {}
    for text in texts:
        name, _, numbers = text.rpartition("=")
        try:
            ends = [float(number) for number in numbers.split(":")]
        except ValueError:
            ends = []
        if not name.strip() or len(ends) not in (1, 2):
            msg = f"an organ size must be NAME=SIZE or NAME=LEAST:GREATEST, got {text!r}"
            raise SpecError(msg)
        found[name.strip()] = ends[0] if len(ends) == 1 else ends
    return found


def _range(name: str, value: Any) -> SizeRange:
    if isinstance(value, SizeRange):
        return value
    if isinstance(value, str) or not isinstance(value, Iterable):
        size = _size(name, value)
        return SizeRange(size, size)
    ends = [_size(name, end) for end in value]
    if len(ends) != 2 or not 0 <= ends[0] <= ends[1]:
        msg = f"organ_sizes of `{name}` must be [least, greatest] in [0, 1], got {value!r}"
        raise SpecError(msg)
    return SizeRange(ends[0], ends[1])


def _size(name: str, value: Any) -> float:
    try:
        size = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        size = math.nan
    if size != ABSENT and not 0 <= size <= 1:
        msg = (
            f"organ_sizes of `{name}` must lie in [0, 1], a share of all patients, or be -1 for "
            f"absent, got {value!r}"
        )
        raise SpecError(msg)
    return size


def _not_pairs(value: Any) -> str:
    return f"organ_sizes must be pairs (name, size in 0 to 1), got {value!r}"
