"""Axis: what is wanted of one class or one column, and recipes for each kind of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING
from typing import final

from ..condition import Condition
from ..errors import DataError
from ..errors import SpecError
from ..pathology import Lesions
from ..recipe import Recipe

if TYPE_CHECKING:
    from ..card import VariantCard


@final
@dataclass(frozen=True, slots=True)
class Axis:
    """All conditions of one class, or of one column, with their shares."""

    name: str
    goal: tuple[tuple[Condition, Fraction], ...]

    @property
    def is_column(self) -> bool:
        return self.goal[0][0].is_column

    @property
    def whole(self) -> Fraction | None:
        """Share that is to show the class in any size, if that was asked."""
        whole = [value for asked, value in self.goal if not asked.is_column and not asked.is_sized]
        return whole[0] if whole else None

    @property
    def parts(self) -> tuple[tuple[Condition, Fraction], ...]:
        """Sizes of the class, or values of the column."""
        return tuple(pair for pair in self.goal if pair[0].is_column or pair[0].is_sized)

    @property
    def of_parts(self) -> Fraction:
        return sum((value for _, value in self.parts), Fraction(0))

    @property
    def kinds(self) -> tuple[str, ...]:
        """Names of the kinds of draws, see `Quota`."""
        rest = f"no {self.name}" if self.whole is not None else f"any other {self.name}"
        return (*(str(part) for part, _ in self.parts), self.name, rest)

    def check(self) -> None:
        most = 1 if self.whole is None else self.whole
        if self.of_parts > most:
            msg = (
                f"the shares of {', '.join(f'`{part}`' for part, _ in self.parts)} sum to "
                f"{float(self.of_parts):g}, more than the {float(most):g} of `{self.name}`; lower "
                "them, or raise it"
            )
            raise DataError(msg)
        parts = [part for part, _ in self.parts]
        for place, one in enumerate(parts):
            for other in parts[:place]:
                if not self.is_column and one.overlaps(other):
                    msg = f"sizes must not overlap, got `{other}` and `{one}`; "
                    msg += f"write for instance `{self.name} < 10 mm` and `{self.name} 10-20 mm`"
                    raise DataError(msg)

    def applied(self, kind: int, recipe: Recipe, card: VariantCard) -> Recipe:
        """The recipe narrowed to a kind."""
        if self.is_column:
            return self._of_column(kind, recipe, card)
        if kind < len(self.parts):
            part, _ = self.parts[kind]
            return recipe.having(self.name, part.least, part.below)
        other = self.other(recipe)
        if kind == len(self.parts):
            assert other is not None, "a kind that is not possible has no stratum"
            return other
        if self.whole is not None or other is None:
            return recipe.lacking(self.name)
        return replace(
            other,
            pathology={
                **(other.pathology or {}),
                self.name: replace(
                    _lesions(other, self.name), count=_lesions(recipe, self.name).count
                ),
            },
            pathology_share=recipe.pathology_share,
        )

    def other(self, recipe: Recipe) -> Recipe | None:
        """The recipe for the class in none of the asked sizes, the widest range of the rest."""
        if not self.parts:
            return recipe.having(self.name)
        if self.name not in (recipe.pathology or {}):
            return None
        ranges = _gaps([(part.least, part.below) for part, _ in self.parts])
        lesions = _lesions(recipe, self.name)
        found = [gap for gap in ranges if lesions.between(*gap) is not None]
        if not found:
            return None
        widest = max(found, key=lambda gap: _ratio(lesions.between(*gap)))
        return recipe.having(self.name, *widest)

    def _of_column(self, kind: int, recipe: Recipe, card: VariantCard) -> Recipe:
        values = [part.value for part, _ in self.parts]
        if self.name != "modality":
            if kind > len(values):
                return recipe
            msg = (
                f"nothing says how to make `{self.kinds[kind]}`; pass Strata(recipes="
                f'{{"{self.kinds[kind]}": Recipe(...)}}), or fill="real"'
            )
            raise SpecError(msg)
        if kind < len(values):
            return replace(recipe, modality=values[kind])
        wanted = recipe.modality or card.default_modality
        choices = (wanted,) if isinstance(wanted, str) else tuple(wanted)
        rest = tuple(choice for choice in choices if choice not in values)
        if not rest:
            msg = (
                f"the recipe makes {list(choices)} alone, all of them named by the goal; name one "
                "more `modality`, for the draws that the goal leaves over"
            )
            raise SpecError(msg)
        return replace(recipe, modality=rest)


def _lesions(recipe: Recipe, name: str) -> Lesions:
    lesions = (recipe.pathology or {})[name]
    assert isinstance(lesions, Lesions), "made one by Recipe"
    return lesions


def _gaps(ranges: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """What lies between and beside these ranges, from 0 on."""
    gaps = []
    begin = 0.0
    for least, below in sorted(ranges):
        if least > begin:
            gaps.append((begin, least))
        begin = below
    return gaps if begin == float("inf") else [*gaps, (begin, float("inf"))]


def _ratio(lesions: Lesions | None) -> float:
    assert lesions is not None
    return lesions.diameter[1] / lesions.diameter[0]
