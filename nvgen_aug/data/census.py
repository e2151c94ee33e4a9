"""Census: which classes and lesions the real cases show, and how large they are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import final

import numpy as np

from ..ball import equivalent_diameter
from ..condition import Condition
from ..errors import DataError
from ..errors import did_you_mean
from ..whole_file import replacing

VERSION = 1


@final
@dataclass(frozen=True, slots=True)
class CaseCount:
    """What one case shows.

    Args:
        name: File of the label, or `case 7`.
        identity: What the case is known by: see `counting.census`.
        volumes: For each class its connected regions in mm³, largest first.
        columns: Values of the columns, as texts.
    """

    name: str
    identity: str
    volumes: Mapping[str, tuple[float, ...]]
    columns: Mapping[str, str]

    @property
    def diameters(self) -> dict[str, tuple[float, ...]]:
        """Equivalent diameters in mm of the regions of each class."""
        return {
            name: tuple(equivalent_diameter(volume) for volume in volumes)
            for name, volumes in self.volumes.items()
        }


@final
@dataclass(frozen=True, slots=True)
class Census:
    """Counts of the real cases, in their order.

    `print(census)` shows for each class how many cases and regions have it, and how
    large these are; `share` answers any condition.

    Args:
        labels: Class names and ids that were counted.
        columns: Columns that were noted.
        cases: One count for each real case.
    """

    labels: Mapping[str, int]
    columns: tuple[str, ...]
    cases: tuple[CaseCount, ...]

    def __len__(self) -> int:
        return len(self.cases)

    def holds(self, condition: Condition | str) -> tuple[bool, ...]:
        """Whether each case fulfils a condition, such as `"lesion < 10 mm"`.

        Raises:
            DataError: if class or column was not counted.
        """
        if isinstance(condition, str):
            condition = Condition.parse(condition)
        known = self.columns if condition.is_column else tuple(self.labels)
        if condition.name not in known:
            kind = "column" if condition.is_column else "class"
            hint = did_you_mean(condition.name, known) if known else "none was counted"
            msg = f"the census has no {kind} `{condition.name}`; {hint}"
            raise DataError(msg)
        return tuple(condition.holds(case.diameters, case.columns) for case in self.cases)

    def share(self, condition: Condition | str) -> Fraction:
        """The share of the cases that fulfil a condition."""
        return Fraction(sum(self.holds(condition)), max(1, len(self.cases)))

    def diameters(self, name: str) -> tuple[float, ...]:
        """Equivalent diameters in mm of all regions of a class, smallest first.

        For a recipe: `Lesions(measured=census.diameters("lesion"), sizes={"< p30": 0.5, …})`.

        Raises:
            DataError: if the class was not counted, or no case shows it.
        """
        if not any(self.holds(Condition(name))):
            msg = f"none of the {len(self.cases)} cases shows `{name}`, so it has no sizes"
            raise DataError(msg)
        return tuple(sorted(size for case in self.cases for size in case.diameters.get(name, ())))

    def rows(self) -> list[tuple[str, ...]]:
        """A table: a heading, then one line for each class; sizes in mm."""
        head = ("class", "cases", "share", "regions", "per case", "smallest", "median", "largest")
        return [head, *(self._row(name) for name in self.labels)]

    def _row(self, name: str) -> tuple[str, ...]:
        regions = [size for case in self.cases for size in case.diameters.get(name, ())]
        cases = sum(bool(case.volumes.get(name)) for case in self.cases)
        sizes = ["-"] * 3
        if regions:
            sizes = [f"{np.quantile(regions, at):.1f}" for at in (0, 0.5, 1)]
        each = f"{len(regions) / cases:.1f}" if cases else "-"
        return name, str(cases), f"{float(self.share(name)):.0%}", str(len(regions)), each, *sizes

    def __str__(self) -> str:
        rows = self.rows()
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(
                word.ljust(width) if place == 0 else word.rjust(width)
                for place, (word, width) in enumerate(zip(row, widths, strict=True))
            )
            for row in rows
        ]
        return "\n".join([*lines, f"{len(self.cases)} cases; sizes are equivalent diameters in mm"])

    def save(self, path: str | Path) -> None:
        """Write the census as JSON; the file appears whole or not at all."""
        values = {"version": VERSION, **asdict(self)}
        with replacing(Path(path)) as partial:
            partial.write_text(json.dumps(values, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> Census:
        """The census that `save` wrote.

        Raises:
            DataError: if the file cannot be read or is no census of this version.
        """
        try:
            values = json.loads(Path(path).read_text(encoding="utf-8"))
            if values["version"] != VERSION:
                msg = f"{path} is a census of version {values['version']}, expected {VERSION}; "
                msg += "count anew with `nvgen-aug census`"
                raise DataError(msg)
            cases = tuple(
                CaseCount(
                    str(case["name"]),
                    str(case["identity"]),
                    {name: tuple(map(float, volumes)) for name, volumes in case["volumes"].items()},
                    {name: str(value) for name, value in case["columns"].items()},
                )
                for case in values["cases"]
            )
            labels = {str(name): int(number) for name, number in values["labels"].items()}
            return cls(labels, tuple(values["columns"]), cases)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            if isinstance(error, DataError):
                raise
            msg = f"{path} cannot be read as a census ({error}); make one with `nvgen-aug census`"
            raise DataError(msg) from error
