"""Strata: what training is to see how often, and which recipes give it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from fractions import Fraction
from itertools import product
from typing import TYPE_CHECKING
from typing import final

from ..condition import Condition
from ..errors import DataError
from ..errors import SpecError
from ..recipe import Recipe
from ..share import Share
from ..share import share as as_share
from .axis import Axis
from .census import Census
from .quota import Quota
from .quota_run import Quotas

if TYPE_CHECKING:
    from ..card import VariantCard

FILLS = ("synthetic", "real")


@final
@dataclass(frozen=True, slots=True)
class Strata:
    """What exposure is wanted: shares of all samples, real and synthetic together.

        Strata(goal={"lesion": 0.4, "lesion < 10 mm": 0.2}, census=census)

    wants a lesion in 40 % of the samples and one below 10 mm in 20 %. The plan knows
    what the real cases show and when, and gives synthetic draws the kind that lacks.
    Real cases keep their order, so nothing but the kinds of synthetic draws changes.

    A condition is a class (`lesion`), a class in a size (`lesion < 10 mm`,
    `lesion 10-20 mm`, `lesion >= 20 mm`: at least one such connected region), or a
    value in a column of the census (`scanner=GE`). Sizes of one class must not overlap.

    Args:
        goal: Share of the samples that are to fulfil each condition.
        census: What the real cases show, in their order: see `census`.
        fill: What fills the gap: `"synthetic"` draws, or, for the fair control, `"real"`
            cases that show what lacks, repeated, at the same places of the same run.
            No generator is then needed.
        recipes: Recipes of your own for some conditions; a value in a column needs one,
            but for `modality=…`, which is known.

    Raises:
        DataError: for a goal that contradicts itself or the census.
        RatioError: for a share that is not a number in [0, 1].
    """

    goal: Mapping[str, Share]
    census: Census
    fill: str = "synthetic"
    recipes: Mapping[str, Recipe] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.goal, Mapping) or not self.goal:
            msg = (
                f"goal must map conditions to shares, got {self.goal!r}; such as {{'lesion': 0.4}}"
            )
            raise DataError(msg)
        if self.fill not in FILLS:
            msg = f"fill must be one of {FILLS}, got {self.fill!r}"
            raise DataError(msg)
        goal = {
            Condition.parse(text): as_share(value, f"goal `{text}`")
            for text, value in self.goal.items()
        }
        object.__setattr__(self, "goal", {str(asked): value for asked, value in goal.items()})
        recipes = {str(Condition.parse(text)): recipe for text, recipe in self.recipes.items()}
        object.__setattr__(self, "recipes", recipes)
        strange = sorted(set(recipes) - set(self.goal))
        if strange:
            msg = f"recipes must be of conditions of the goal {list(self.goal)}, got {strange}"
            raise DataError(msg)
        for asked in goal:
            self.census.holds(asked)
        for axis in self.axes:
            axis.check()

    @property
    def axes(self) -> tuple[Axis, ...]:
        """The goal by class and by column, in the order of the goal."""
        goal = [(Condition.parse(text), Fraction(value)) for text, value in self.goal.items()]
        names = dict.fromkeys((asked.name, asked.is_column) for asked, _ in goal)
        return tuple(
            Axis(
                name,
                tuple(pair for pair in goal if (pair[0].name, pair[0].is_column) == (name, column)),
            )
            for name, column in names
        )

    @property
    def fills_with_real(self) -> bool:
        """Whether real cases, repeated, stand where synthetic ones would."""
        return self.fill == "real"

    def quotas(self, recipe: Recipe | None = None, *, cases: int | None = None) -> Quotas:
        """What the plan has to know.

        Args:
            recipe: What synthetic volumes are wanted; `None` takes everything for
                possible.
            cases: How many real cases there are, to be compared with the census.

        Raises:
            DataError: if the census is of another number of cases.
            SpecError: if the recipe draws none of what is asked.
        """
        if cases is not None and cases != len(self.census):
            msg = (
                f"the census of the strata counts {len(self.census)} cases, and the real dataset "
                f"has {cases}; count this very dataset with `census(real, ...)`"
            )
            raise DataError(msg)
        quotas = []
        for axis in self.axes:
            marks = tuple(self.census.holds(part) for part, _ in axis.parts)
            whole = self._marks_of_whole(axis, marks)
            quotas.append(
                Quota(
                    name=axis.name,
                    kinds=axis.kinds,
                    parts=tuple(value for _, value in axis.parts),
                    whole=axis.whole,
                    real_parts=marks,
                    real_whole=whole,
                    possible=self._possible(axis, marks, whole, recipe),
                )
            )
        return Quotas(tuple(quotas), self.fills_with_real)

    def strata(self, recipe: Recipe, card: VariantCard) -> dict[str, Stratum]:
        """The recipe of every stratum, by name.

        Raises:
            SpecError: for a condition that the recipe, or the variant, cannot fulfil.
        """
        quotas = self.quotas(recipe)
        found = {}
        for kinds in product(*(range(len(axis.kinds)) for axis in self.axes)):
            possible = [
                kind > quota.other or kind in quota.shown_kinds
                for kind, quota in zip(kinds, quotas.quotas, strict=True)
            ]
            if all(possible):
                stratum = self._stratum(recipe, kinds, card)
                stratum.recipe.check(card)
                found[quotas.stratum(kinds)] = stratum
        return found

    def _marks_of_whole(self, axis: Axis, marks: tuple[tuple[bool, ...], ...]) -> tuple[bool, ...]:
        if not axis.is_column:
            return self.census.holds(Condition(axis.name))
        return tuple(any(case) for case in zip(*marks, strict=True))

    def _possible(
        self,
        axis: Axis,
        marks: tuple[tuple[bool, ...], ...],
        whole: tuple[bool, ...],
        recipe: Recipe | None,
    ) -> tuple[bool, ...]:
        if self.fills_with_real:
            others = [has and not any(case) for has, *case in zip(whole, *marks, strict=True)]
            return (*(any(mark) for mark in marks), any(others))
        can_other = not axis.is_column and (
            recipe is None or axis.name in self.recipes or axis.other(recipe) is not None
        )
        if axis.whole is not None and not can_other and axis.whole > axis.of_parts:
            msg = (
                f"goal `{axis.name}` asks for {axis.whole}, and its sizes for {axis.of_parts} "
                "together, but the recipe draws no other size; widen its `pathology`"
            )
            raise SpecError(msg)
        return (True,) * len(axis.parts) + (can_other,)

    def _stratum(self, recipe: Recipe, kinds: tuple[int, ...], card: VariantCard) -> Stratum:
        axes = self.axes
        given = [
            self.recipes[axis.kinds[kind]]
            for axis, kind in zip(axes, kinds, strict=True)
            if axis.kinds[kind] in self.recipes
        ]
        if len(given) > 1:
            msg = f"one recipe can stand for a stratum, but {sorted(self.recipes)} meet in one; "
            msg += "give recipes for the conditions of one class or column alone"
            raise DataError(msg)
        result = given[0] if given else recipe
        shown: list[str] = []
        promised: list[str] = []
        for axis, kind in zip(axes, kinds, strict=True):
            if kind <= len(axis.parts) and not axis.is_column:
                shown.append(axis.name)
                promised += [axis.name] if axis.whole is not None else []
            if kind < len(axis.parts):
                promised.append(axis.kinds[kind])
            if axis.kinds[kind] not in self.recipes:
                result = axis.applied(kind, result, card)
        return Stratum(result, tuple(shown), tuple(promised))


@final
@dataclass(frozen=True, slots=True)
class Stratum:
    """How a kind of volume is made.

    Args:
        recipe: What is drawn.
        shown: Classes that such volumes show, on which crops are centred.
        promised: Conditions of the goal that they fulfil.
    """

    recipe: Recipe
    shown: tuple[str, ...]
    promised: tuple[str, ...]
