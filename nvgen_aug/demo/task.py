"""Task: what the demo's segmenter learns, in the words of both the generator and the data."""

from __future__ import annotations

import re
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from ..card import VariantCard
from ..errors import LabelError
from ..errors import SpecError
from ..errors import did_you_mean
from .dataset_folder import DatasetFolder

BACKGROUND = "background"


@final
@dataclass(frozen=True, slots=True)
class Task:
    """Classes 1 to K with their names, on one grid and in one contrast.

    Args:
        names: Names of the classes 1 to K.
        synthetic: The class of each name of the generator's vocabulary that counts.
        real: The class of each id in the real labels that counts; all else is background.
        size: Voxels (x, y, z).
        spacing: mm per voxel.
        modality: Contrast of the synthetic volumes.
    """

    names: tuple[str, ...]
    synthetic: Mapping[str, int]
    real: Mapping[int, int]
    size: tuple[int, int, int]
    spacing: tuple[float, float, float]
    modality: str

    @property
    def classes(self) -> dict[int, str]:
        """Names by class, background left out."""
        return dict(enumerate(self.names, start=1))

    @classmethod
    def of_card(cls, card: VariantCard, modality: str | None = None) -> Task:
        """All labels of a generator, for data that use its own ids."""
        named = sorted((i, name) for name, i in card.vocabulary.items() if i != 0)
        return cls(
            names=tuple(name for _, name in named),
            synthetic={name: place for place, (_, name) in enumerate(named, start=1)},
            real={i: place for place, (i, _) in enumerate(named, start=1)},
            size=card.default_size,
            spacing=card.default_spacing,
            modality=_modality(card, modality),
        )

    @classmethod
    def of_folder(
        cls,
        card: VariantCard,
        folder: DatasetFolder,
        labels: Sequence[str] = (),
        modality: str | None = None,
    ) -> Task:
        """The labels that a generator and a dataset share.

        Args:
            card: What the generator knows.
            folder: What the dataset says.
            labels: `NAME=ID` for names of the vocabulary, where one name may stand for
                several ids and several names for one; none: those that have the same
                name in both. The phantom stands for any anatomy: without names, its
                labels are dealt out to the dataset's ids in order.
            modality: Contrast of the synthetic volumes.

        Raises:
            LabelError: for a name or an id that is not there, or if nothing is shared.
        """
        if labels:
            pairs = [_pair(text, card, folder) for text in labels]
        elif card.name == "phantom":
            known = [name for name, _ in sorted(card.vocabulary.items(), key=lambda p: p[1])]
            foreground = [name for name in known if name != BACKGROUND]
            pairs = list(zip(foreground, sorted(folder.ids), strict=False))
        else:
            pairs = _same_names(card, folder)
        if not pairs:
            msg = (
                f"none of the dataset's labels ({_listing(folder.labels)}) is one of "
                f"`{card.name}`, which knows {_listing(card.vocabulary)}; map them with "
                "`--labels NAME=ID` if they are the same tissue, or use `--variant phantom` "
                "for other anatomy"
            )
            raise LabelError(msg)
        classes = _classes(pairs)
        return cls(
            names=tuple(" + ".join(names) for names, _ in classes),
            synthetic={name: k for k, (names, _) in enumerate(classes, start=1) for name in names},
            real={i: k for k, (_, ids) in enumerate(classes, start=1) for i in ids},
            size=card.default_size,
            spacing=card.default_spacing,
            modality=_modality(card, modality),
        )


def _classes(pairs: Sequence[tuple[str, int]]) -> list[tuple[list[str], list[int]]]:
    """Names and ids of each class, by least id: what shares a name or an id is one class."""
    classes: list[tuple[list[str], list[int]]] = []
    for name, i in sorted(pairs, key=lambda pair: pair[1]):
        same = [found for found in classes if name in found[0] or i in found[1]]
        names = [known for found in same for known in found[0]]
        ids = [known for found in same for known in found[1]]
        place = classes.index(same[0]) if same else len(classes)
        classes = [found for found in classes if found not in same]
        classes.insert(place, (list(dict.fromkeys([*names, name])), list(dict.fromkeys([*ids, i]))))
    return classes


def _pair(text: str, card: VariantCard, folder: DatasetFolder) -> tuple[str, int]:
    name, equals, number = (part.strip() for part in text.rpartition("="))
    if not equals or not name or not number.isdecimal():
        msg = f"--labels must be NAME=ID, such as `lesion=1`, got {text!r}"
        raise LabelError(msg)
    if name not in card.vocabulary or card.vocabulary[name] == 0:
        known = [known for known, i in card.vocabulary.items() if i != 0]
        msg = f"--labels {text}: `{card.name}` has no label `{name}`; {did_you_mean(name, known)}"
        raise LabelError(msg)
    if int(number) not in folder.ids:
        msg = (
            f"--labels {text}: the dataset has no label {number}, "
            f"expected one of {sorted(folder.ids)} ({_listing(folder.labels)})"
        )
        raise LabelError(msg)
    return name, int(number)


def _same_names(card: VariantCard, folder: DatasetFolder) -> list[tuple[str, int]]:
    known = {_plain(name): name for name, i in card.vocabulary.items() if i != 0}
    shared = [(known.get(_plain(name)), i) for name, i in folder.labels.items()]
    return [(name, i) for name, i in shared if name is not None]


def _plain(name: str) -> str:
    """A name without case, spaces and signs; American grey is British grey."""
    return re.sub(r"[^a-z0-9]", "", name.lower()).replace("gray", "grey")


def _listing(names: Mapping[str, int]) -> str:
    return ", ".join(f"`{name}`={i}" for name, i in names.items() if i != 0) or "none"


def _modality(card: VariantCard, modality: str | None) -> str:
    chosen = modality or card.default_modality
    if chosen not in card.modalities:
        msg = (
            f"--modality: `{card.name}` has no modality `{chosen}`; "
            f"{did_you_mean(chosen, card.modalities)}"
        )
        raise SpecError(msg)
    return chosen
