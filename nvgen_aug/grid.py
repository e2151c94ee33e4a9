"""Grid: every combination of named factors, on the same draws, for stress cohorts."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import fields
from dataclasses import replace
from itertools import product
from numbers import Real
from typing import TYPE_CHECKING
from typing import Any
from typing import final
from typing import overload

from .errors import SpecError
from .errors import did_you_mean
from .spec import VolumeSpec

if TYPE_CHECKING:
    from .card import VariantCard

FIELD_OF_VIEW = "field_of_view"
PATHOLOGY = "pathology."
_TRIPLES = ("size", "spacing", FIELD_OF_VIEW)
_FIXED = ("variant", "seed", "pathology")
_SAFE = re.compile(r"[^A-Za-z0-9]+")


@final
@dataclass(frozen=True, slots=True)
class GridCell:
    """One volume of a grid.

    Args:
        base: Number of the draw, from 0; cells of one draw differ in their factors alone.
        factors: Value of each factor.
        spec: What is to be made.
    """

    base: int
    factors: Mapping[str, Any]
    spec: VolumeSpec

    @property
    def texts(self) -> dict[str, str]:
        """The value of each factor as a person reads it, such as `1x1x3` for a spacing."""
        return {name: value_text(value) for name, value in self.factors.items()}

    @property
    def slug(self) -> str:
        """The factors in letters, digits, `-` and `_`, for the name of a file."""
        words = []
        for name, text in self.texts.items():
            plain = text.replace(".", "p")
            words.append(f"{_slug(name.removeprefix(PATHOLOGY))}-{_slug(plain)}")
        return "_".join(words)

    def __str__(self) -> str:
        return ", ".join(f"{name}={text}" for name, text in self.texts.items())


@final
class Grid(Sequence[GridCell]):
    """The cross product of factors on some draws: all else is the same, to the seed.

        grid = recipe.grid({"modality": ["bright", "dark"], "pathology.lesion": [0, 6, 12]})
        len(grid)  # 6, and nothing is generated yet
        grid.check(source.card)
        for cell in grid:
            volume = source.fetch(cell.spec)

    A factor is a field of `VolumeSpec`, such as `modality`, `size`, `spacing`, `guidance`,
    `steps` or `mask`, or one of

    - `field_of_view`: edges in mm, at the same number of voxels: it sets the spacing;
    - `pathology.<label>`: diameter in mm of the lesions of a label; 0 takes them away, and
      a draw that has none gets one.

    A number stands for three equal ones in `size`, `spacing` and `field_of_view`. The last
    factor changes fastest, the draw slowest.

    Args:
        bases: What is varied, one spec for each draw.
        factors: Values of each factor.

    Raises:
        SpecError: for a factor that is none, with close matches; for one without values, or
            with the same value twice; for a value that no spec can have.
    """

    def __init__(self, bases: Sequence[VolumeSpec], factors: Mapping[str, Sequence[Any]]) -> None:
        given: Any = factors
        if not isinstance(given, Mapping) or not given:
            msg = f'a grid needs factors, such as {{"spacing": [1, 2]}}, got {factors!r}'
            raise SpecError(msg)
        if not bases:
            msg = "a grid needs at least one draw, got none"
            raise SpecError(msg)
        self.bases = tuple(bases)
        self.factors = {str(name): _values(str(name), given[name]) for name in given}
        if FIELD_OF_VIEW in self.factors and "spacing" in self.factors:
            msg = (
                f"`{FIELD_OF_VIEW}` sets the spacing, so both cannot vary; vary `size` and "
                "`spacing`, or `size` and `field_of_view`"
            )
            raise SpecError(msg)
        self._combinations = tuple(product(*self.factors.values()))
        for number in range(len(self._combinations)):
            self[number]  # a value that no spec can have is said now

    @property
    def shape(self) -> tuple[int, ...]:
        """How many draws, and how many values of each factor."""
        return (len(self.bases), *(len(values) for values in self.factors.values()))

    def __len__(self) -> int:
        return math.prod(self.shape)

    @overload
    def __getitem__(self, number: int) -> GridCell: ...
    @overload
    def __getitem__(self, number: slice) -> list[GridCell]: ...
    def __getitem__(self, number: int | slice) -> GridCell | list[GridCell]:
        if isinstance(number, slice):
            return [self[place] for place in range(*number.indices(len(self)))]
        if not -len(self) <= number < len(self):
            msg = f"volume {number} of a grid of {len(self)}"
            raise IndexError(msg)
        base, place = divmod(number % len(self), len(self._combinations))
        values = dict(zip(self.factors, self._combinations[place], strict=True))
        try:
            spec = _varied(self.bases[base], values)
        except SpecError as error:
            told = ", ".join(f"{name}={value_text(value)}" for name, value in values.items())
            msg = f"the grid at {told}: {error}"
            raise SpecError(msg) from error
        return GridCell(base, values, spec)

    def __iter__(self) -> Iterator[GridCell]:
        return (self[number] for number in range(len(self)))

    def resolved(self, card: VariantCard) -> list[GridCell]:
        """All cells with their defaults filled in, each checked before the first is made.

        Raises:
            SpecError: for the first that the card's variant cannot make, with its factors.
        """
        cells = []
        for cell in self:
            try:
                spec = _at_defaults(cell, card)
                cells.append(replace(cell, spec=card.resolve(spec)))
            except SpecError as error:
                msg = f"the grid at {cell}: {error}"
                raise SpecError(msg) from error
        return cells

    def check(self, card: VariantCard) -> None:
        """Raise `SpecError` now for a cell that the card's variant can never make."""
        self.resolved(card)

    def __str__(self) -> str:
        parts = [f"{len(values)} {name}" for name, values in self.factors.items()]
        parts.append(f"{len(self.bases)} {'draw' if len(self.bases) == 1 else 'draws'}")
        return f"{' × '.join(parts)} = {len(self)} volumes"


def value_text(value: Any) -> str:
    """A value of a factor as a person reads it; no commas, so that tables can hold it."""
    if value is None:
        return "default"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Real):
        return f"{float(value):g}"
    if isinstance(value, str):
        # A digest is named by its first digits.
        return value[:12] if re.fullmatch(r"[0-9a-f]{64}", value) else value
    if isinstance(value, Iterable):
        parts = [value_text(part) for part in value]
        return parts[0] if len(parts) == 3 and len(set(parts)) == 1 else "x".join(parts)
    return str(value)


def factor_names(bases: Sequence[VolumeSpec] = ()) -> list[str]:
    """Names of the factors that can vary, for completion and errors."""
    names = [field.name for field in fields(VolumeSpec) if field.name not in _FIXED]
    labels = sorted({name for base in bases for name, _ in base.pathology})
    return [*names, FIELD_OF_VIEW, *(f"{PATHOLOGY}{label}" for label in labels or ["<label>"])]


def _values(name: str, given: Any) -> tuple[Any, ...]:
    if not (name.startswith(PATHOLOGY) and len(name) > len(PATHOLOGY)) and name not in (
        names := factor_names()
    ):
        msg = f"a grid cannot vary `{name}`; {did_you_mean(name, names)}"
        raise SpecError(msg)
    if isinstance(given, str) or not isinstance(given, Iterable):
        msg = f"factor `{name}` must be a list of values, got {given!r}"
        raise SpecError(msg)
    values = tuple(_value(name, value) for value in given)
    if not values:
        msg = f"factor `{name}` must have at least one value, got an empty list"
        raise SpecError(msg)
    texts = [value_text(value) for value in values]
    twice = sorted({text for text in texts if texts.count(text) > 1})
    if twice:
        msg = f"factor `{name}` has the value {', '.join(twice)} twice; leave one out"
        raise SpecError(msg)
    return values


def _value(name: str, value: Any) -> Any:
    if name.startswith(PATHOLOGY):
        is_number = isinstance(value, Real) and not isinstance(value, bool)
        if not is_number or not 0 <= float(value) < math.inf:
            msg = f"factor `{name}` must have diameters in mm, or 0 for none, got {value!r}"
            raise SpecError(msg)
        return float(value)
    if name in _TRIPLES and isinstance(value, Real):
        value = (value,) * 3
    if isinstance(value, list):
        value = tuple(tuple(part) if isinstance(part, list) else part for part in value)
    if name == FIELD_OF_VIEW and not (
        isinstance(value, tuple)
        and len(value) == 3
        and all(isinstance(mm, Real) and 0 < float(mm) < math.inf for mm in value)
    ):
        msg = f"factor `{name}` must have one or three edges in mm, got {value!r}"
        raise SpecError(msg)
    return value


def _varied(base: VolumeSpec, values: Mapping[str, Any]) -> VolumeSpec:
    """A draw with the factors at these values, and nothing else changed."""
    changes = {
        name: value
        for name, value in values.items()
        if name != FIELD_OF_VIEW and not name.startswith(PATHOLOGY)
    }
    lesions = list(base.pathology)
    for name, diameter in values.items():
        if not name.startswith(PATHOLOGY):
            continue
        label = name.removeprefix(PATHOLOGY)
        number = sum(one == label for one, _ in lesions) or 1
        rest = [lesion for lesion in lesions if lesion[0] != label]
        lesions = sorted(
            rest + [(label, diameter)] * (number if diameter else 0), key=lambda one: one[0]
        )
    spec = replace(base, **changes, pathology=tuple(lesions))
    extent = values.get(FIELD_OF_VIEW)
    return _stretched(spec, spec.size, extent) if extent and spec.size else spec


def _at_defaults(cell: GridCell, card: VariantCard) -> VolumeSpec:
    """The spec of a cell, whose field of view may need the variant's own size."""
    extent = cell.factors.get(FIELD_OF_VIEW)
    if extent is None or cell.spec.size is not None:
        return cell.spec
    return _stretched(cell.spec, card.default_size, extent)


def _stretched(
    spec: VolumeSpec, size: tuple[int, int, int], extent: tuple[float, float, float]
) -> VolumeSpec:
    x, y, z = (round(float(mm) / n, 6) for mm, n in zip(extent, size, strict=True))
    return replace(spec, spacing=(x, y, z))


def _slug(text: str) -> str:
    return _SAFE.sub("-", text).strip("-") or "x"
