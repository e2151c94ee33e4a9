"""Stratified volumes: one synthetic dataset for each stratum, and what their labels really show."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING
from typing import final

import torch

from ..ball import equivalent_diameter
from ..condition import Condition
from ..errors import SourceError
from ..lesions import region_volumes
from ..source import SourceStats
from .exposure import Held
from .failures import ROWS
from .plan import SampleKey
from .report import FailureCount
from .strata import Strata

if TYPE_CHECKING:
    from ..volume import SyntheticVolume
    from .synthetic import SyntheticDataset


@final
class Watch:
    """Counts what labels show, in all workers of a loader together.

    Args:
        conditions: What is looked for: classes and their sizes.
        vocabulary: Ids of the generator by label name.
    """

    __slots__ = ("_conditions", "_counts", "_vocabulary")

    def __init__(self, conditions: Iterable[Condition], vocabulary: dict[str, int]) -> None:
        self._conditions = tuple(c for c in conditions if c.name in vocabulary)
        self._vocabulary = vocabulary
        # One row a process: nothing here is locked, and += is not atomic.
        self._counts = torch.zeros((ROWS, len(self._conditions), 4), dtype=torch.int64)
        self._counts.share_memory_()  # type: ignore[no-untyped-call]

    def note(self, volume: SyntheticVolume, promised: Iterable[str]) -> None:
        """Look at the label of a volume that was made to fulfil some conditions."""
        if volume.label is None or not self._conditions:
            return
        row = os.getpid() % ROWS
        ids = {name: self._vocabulary[name] for name in {c.name for c in self._conditions}}
        x, y, z = (math.dist((0, 0, 0), edge) for edge in volume.affine[:3, :3].T.tolist())
        regions = region_volumes(volume.label[0], ids.values(), (x, y, z))
        diameters = {
            name: [equivalent_diameter(size) for size in regions[number]]
            for name, number in ids.items()
        }
        kept = set(promised)
        for place, condition in enumerate(self._conditions):
            first = 0 if str(condition) in kept else 2
            self._counts[row, place, first] += 1
            self._counts[row, place, first + 1] += condition.holds(diameters, {})

    def held(self) -> dict[str, Held]:
        """What was seen so far, by condition."""
        sums = self._counts.sum(dim=0).tolist()
        pairs = zip(self._conditions, sums, strict=True)
        return {str(condition): Held(*numbers) for condition, numbers in pairs}


@final
class Stratified:
    """The synthetic datasets that the keys of a plan name by their stratum.

    Args:
        synthetic: What is drawn from where there are no strata.
        strata: What is wanted, or `None`.

    Raises:
        SpecError: for a condition that recipe or variant cannot fulfil.
    """

    __slots__ = ("_parts", "_recipes", "_watch")

    def __init__(self, synthetic: SyntheticDataset, strata: Strata | None) -> None:
        self._parts = {"": synthetic}
        self._watch: Watch | None = None
        self._recipes = {} if strata is None else dict(strata.recipes)
        if strata is None:
            return
        card = synthetic.source.card
        if card.has_labels:
            conditions = [Condition.parse(text) for text in strata.goal]
            classes = (c for c in conditions if not c.is_column)
            self._watch = Watch(classes, dict(card.vocabulary))
        for name, stratum in strata.strata(synthetic.recipe, card).items():
            self._parts[name] = synthetic.narrowed(name, stratum, self._watch)

    @property
    def names(self) -> tuple[str, ...]:
        """Every stratum that there is; without a goal only the unnamed one."""
        return tuple(name for name in self._parts if name) or ("",)

    def of(self, stratum: str) -> SyntheticDataset:
        """The dataset of a stratum."""
        return self._parts[stratum]

    def identity(self) -> dict[str, str]:
        """What names the volumes of all strata, as texts that can be read and compared."""
        own = {f"recipe of `{name}`": repr(recipe) for name, recipe in self._recipes.items()}
        return self.of("").identity() | own

    def announce(self, keys: Iterable[SampleKey]) -> None:
        """Tell the source which planned volumes come next; it never waits."""
        specs = dict.fromkeys(
            self.of(key.stratum).spec(key.index) for key in keys if key.is_synthetic
        )
        if specs:
            self.of("").source.prefetch(list(specs))

    @property
    def failures(self) -> FailureCount:
        """Volumes that failed so far, of all strata, and what stood in."""
        return self.of("").failures

    def stats(self) -> SourceStats | None:
        """What the source has done so far, or `None` if it is gone."""
        with suppress(SourceError):
            return self.of("").source.stats()
        return None

    def held(self) -> dict[str, Held]:
        """What the labels of loaded samples show, by condition; empty without strata."""
        return {} if self._watch is None else self._watch.held()
