"""LabelMap: names of a vocabulary to the ids of the caller's task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from typing import final

import numpy as np

from .card import VariantCard
from .errors import LabelError
from .errors import did_you_mean

if TYPE_CHECKING:
    from numpy.typing import NDArray

OTHERS = ("background", "ignore", "error")
_UNMAPPED = -1


@final
@dataclass(frozen=True, slots=True)
class LabelMap:
    """Which task id each label name becomes, and what happens to all other labels.

    Several names may share one id. Background is 0 on both sides unless it is named.

    Args:
        names: Label names of the generator's vocabulary and ids of the task (0 to 255).
        others: What a voxel with any other label becomes: `"background"` (0),
            `"ignore"` (`ignore_index`), or `"error"`. There is no default, because a
            silent choice has cost people weeks.
        ignore_index: Id for `others="ignore"`.

    Raises:
        LabelError: for an id that does not fit in uint8, or an unknown policy.
    """

    names: Mapping[str, int]
    others: str
    ignore_index: int = 255

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", {str(name): value for name, value in self.names.items()})
        for name, value in self.names.items():
            if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 255:
                msg = f"label `{name}` must map to an integer in [0, 255], got {value!r}"
                raise LabelError(msg)
        index = self.ignore_index
        # -1 would read as "not mapped", and 300 would wrap round to the id 44.
        if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index <= 255:
            msg = (
                f"ignore_index must be an integer in [0, 255], got {index!r}; labels are uint8, so "
                "map 255 to the index of your loss after loading"
            )
            raise LabelError(msg)
        if not self.names:
            msg = "a LabelMap needs at least one name, got none"
            raise LabelError(msg)
        if self.others not in OTHERS:
            msg = f"others must be one of {OTHERS}, got {self.others!r}"
            raise LabelError(msg)

    @property
    def ids(self) -> frozenset[int]:
        """Ids of the task that it gives, and 0."""
        return frozenset({*self.names.values(), 0})

    def bind(self, card: VariantCard) -> BoundLabelMap:
        """The map for the vocabulary on a card.

        Raises:
            LabelError: if there are no labels to map, or the vocabulary lacks a name;
            then with close matches.
        """
        if not card.has_labels:
            msg = (
                f"`{card.name}` makes images without labels, but `labels` was given; use a "
                "variant with labels, or leave `labels` out to use images alone"
            )
            raise LabelError(msg)
        for name in self.names:
            if card.canonical(name) not in card.vocabulary:
                known = [*card.vocabulary, *card.aliases]
                msg = f"`{card.name}` has no label `{name}`; {did_you_mean(name, known)}"
                raise LabelError(msg)
        fill = {"background": 0, "ignore": self.ignore_index, "error": _UNMAPPED}[self.others]
        table = np.full(256, fill, dtype=np.int16)
        table[0] = 0
        for name, value in self.names.items():
            table[card.vocabulary[card.canonical(name)]] = value
        return BoundLabelMap(table, {value: name for name, value in card.vocabulary.items()})

    def inverse(self, card: VariantCard) -> InverseLabelMap:
        """The way back: labels of the task in ids of the vocabulary on a card.

        Raises:
            LabelError: as `bind` does, and for an id of the task that stands for several names.
        """
        self.bind(card)
        found: dict[int, list[str]] = {}
        for name, value in self.names.items():
            if value:  # 0 is background, whatever else was mapped to it
                found.setdefault(value, []).append(card.canonical(name))
        for value, names in sorted(found.items()):
            if len(set(names)) > 1:
                listed = " and ".join(f"`{name}`" for name in sorted(set(names)))
                msg = (
                    f"the id {value} of the task stands for {listed}, so a label cannot say which "
                    "of them it shows; pass a LabelMap that has one name for each id"
                )
                raise LabelError(msg)
        table = np.full(256, _UNMAPPED, dtype=np.int16)
        table[0] = 0
        for value, names in found.items():
            table[value] = card.vocabulary[names[0]]
        return InverseLabelMap(table, {value: names[0] for value, names in found.items()})


@final
@dataclass(frozen=True, slots=True, eq=False)
class InverseLabelMap:
    """A LabelMap turned round for one vocabulary: a table of 256 entries."""

    table: NDArray[np.int16]
    names: Mapping[int, str]

    def __call__(self, label: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The label in ids of the vocabulary.

        Args:
            label: Any shape, uint8, ids of the task.

        Raises:
            LabelError: for an id that stands for no name, with the number of its voxels.
        """
        ids = self.table[label]
        if (ids == _UNMAPPED).any():
            strange, voxels = np.unique(label[ids == _UNMAPPED], return_counts=True)
            told = ", ".join(f"{i} ({n} voxels)" for i, n in zip(strange, voxels, strict=True))
            known = ", ".join(f"{value} `{name}`" for value, name in self.names.items())
            msg = f"the label has the ids {told}, and the LabelMap knows {known}; name them in it"
            raise LabelError(msg)
        return ids.astype(np.uint8)


@final
@dataclass(frozen=True, slots=True, eq=False)
class BoundLabelMap:
    """A LabelMap bound to one vocabulary: a table of 256 entries."""

    table: NDArray[np.int16]
    vocabulary: Mapping[int, str]

    def __call__(self, label: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The label in ids of the task.

        Args:
            label: Any shape, uint8, ids of the vocabulary.

        Raises:
            LabelError: if `others="error"` and a label is not mapped.
        """
        mapped = self.table[label]
        if (mapped == _UNMAPPED).any():
            ids = np.unique(label[mapped == _UNMAPPED]).tolist()
            names = ", ".join(
                f"{i} (`{self.vocabulary.get(i, 'not in the vocabulary')}`)" for i in ids
            )
            msg = (
                f"labels {names} are not in the LabelMap; name them, "
                'or pass others="background" or others="ignore"'
            )
            raise LabelError(msg)
        return mapped.astype(np.uint8)
