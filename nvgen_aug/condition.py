"""Condition: what a sample may show: a class, a lesion of some size, or a value in a column."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from .errors import DataError

_NUMBER = r"\d+(?:\.\d+)?"
_BELOW = re.compile(rf"(?P<name>.+?)\s*<\s*(?P<below>{_NUMBER})\s*mm")
_LEAST = re.compile(rf"(?P<name>.+?)\s*(?:>=|≥)\s*(?P<least>{_NUMBER})\s*mm")
_RANGE = re.compile(rf"(?P<name>.+?)\s+(?P<least>{_NUMBER})\s*(?:-|–)\s*(?P<below>{_NUMBER})\s*mm")
_COLUMN = re.compile(r"(?P<name>[^=<>]+?)\s*=\s*(?P<value>[^=<>]+)")
FORMS = "`lesion`, `lesion < 10 mm`, `lesion 10-20 mm`, `lesion >= 20 mm` or `column=value`"


@final
@dataclass(frozen=True, slots=True)
class Condition:
    """A question about a sample that census, plan and report ask alike.

    Args:
        name: Name of a class, or of a column.
        least: Least equivalent diameter in mm.
        below: Diameter in mm that is too large already.
        value: Value of the column; `None` for a class.
    """

    name: str
    least: float = 0.0
    below: float = math.inf
    value: str | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.least < self.below:
            msg = f"`{self.name}` must have a size of least < greatest mm, got {self}"
            raise DataError(msg)

    @classmethod
    def parse(cls, text: str) -> Condition:
        """The condition that a text means; `Condition.parse(str(condition)) == condition`.

        `lesion` holds where there is any voxel of the class, `lesion < 10 mm` where
        at least one of its connected regions has an equivalent diameter below 10 mm;
        `lesion 10-20 mm` includes 10 and excludes 20.

        Raises:
            DataError: for a text of another form.
        """
        text = text.strip()
        for form in (_BELOW, _LEAST, _RANGE):
            match = form.fullmatch(text)
            if match:
                part = match.groupdict()
                least, below = part.get("least", 0.0), part.get("below", math.inf)
                return cls(part["name"].strip(), float(least), float(below))
        match = _COLUMN.fullmatch(text)
        if match:
            return cls(match["name"].strip(), value=match["value"].strip())
        if not text or re.search(r"[<>≥≤=]|\bmm$", text):
            msg = f"a condition is written {FORMS}, got `{text}`"
            raise DataError(msg)
        return cls(text)

    @property
    def is_column(self) -> bool:
        """Whether it asks for a value in a column, not for a class."""
        return self.value is not None

    @property
    def is_sized(self) -> bool:
        """Whether it asks for a size."""
        return self.least > 0 or self.below < math.inf

    def overlaps(self, other: Condition) -> bool:
        """Whether one region could fulfil both sizes."""
        return self.least < other.below and other.least < self.below

    def holds(self, diameters: Mapping[str, Sequence[float]], columns: Mapping[str, str]) -> bool:
        """Whether a sample fulfils it.

        Args:
            diameters: Equivalent diameters in mm of the regions of each class.
            columns: Values of the columns.
        """
        if self.is_column:
            return columns.get(self.name) == self.value
        return any(self.least <= size < self.below for size in diameters.get(self.name, ()))

    def __str__(self) -> str:
        if self.is_column:
            return f"{self.name}={self.value}"
        if not self.is_sized:
            return self.name
        if self.below == math.inf:
            return f"{self.name} >= {self.least:g} mm"
        if not self.least:
            return f"{self.name} < {self.below:g} mm"
        return f"{self.name} {self.least:g}-{self.below:g} mm"
