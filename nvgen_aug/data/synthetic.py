"""SyntheticDataset: synthetic volumes as items of a dataset, numbered without end."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from copy import copy
from dataclasses import replace
from operator import index as as_index
from typing import TYPE_CHECKING
from typing import Any
from typing import final

import numpy as np
from torch.utils.data import Dataset

from ..crop import Crop
from ..crop import CropRule
from ..errors import DataError
from ..errors import GenerationError
from ..errors import LabelError
from ..labels import LabelMap
from ..recipe import Recipe
from ..source import VolumeSource
from ..spec import VolumeSpec
from ..volume import SyntheticVolume
from .chance import Chance
from .chance import Transform
from .chance import as_transform
from .failures import Failures
from .plan import as_integer
from .probe import check_voxelwise
from .report import FailureCount
from .schema import Item
from .schema import synthetic_item
from .schema import uniform
from .seeds import derived_seed
from .seeds import volume_seed_of

if TYPE_CHECKING:
    from .strata import Stratum
    from .stratified import Watch

ON_FAILURE = ("reuse", "real", "raise")


@final
class SyntheticDataset(Dataset[Item]):
    """Synthetic volumes by number: item `v` is a pure function of `(seed, v)`.

    An item is what `LoadImaged` and `EnsureChannelFirstd` would have left of a
    file: `image` `[C, X, Y, Z]` and `label` `[1, X, Y, Z]` as float32 MetaTensors,
    then `transform`, and with them `synthetic` (1) and `provenance` (one JSON string).

    Args:
        source: Where volumes come from.
        recipe: Which volumes are wanted.
        labels: Ids of the task by label name; `None` keeps the ids of the
            generator's vocabulary.
        transform: Deterministic preprocessing, that of the real cases after
            loading; random steps are seeded from the view.
        crop: A part of each volume, cut before `transform`, which then must act on
            each voxel alone (the first item of a process proves it); a `CropRule`
            chooses a new part for each view. `None` gives whole volumes.
        max_reuse: How often a `SyntheticRealDataset` uses each volume.
        on_failure: When the generator fails on a volume: `"reuse"` takes the
            previous volume, then the next; `"real"` lets a `SyntheticRealDataset`
            put a real case there, which lowers the share; `"raise"`. A substitute
            says so in its provenance (`status`), counts in `failures`, and the first
            one in a process is a `SubstituteWarning`.
        failure_tolerance: Volumes in a row that may fail in one process; one more is
            an error with the text of the last.
        seed: Where all volumes come from.
        length: What `len` says, for a loop over this dataset alone; a
            `SyntheticRealDataset` draws as many volumes as it needs.

    Raises:
        SpecError: if the source can never make what the recipe wants.
        LabelError: if the vocabulary lacks a name of `labels` or `crop`, or the
            source makes images without labels and `labels` is given.
        DataError: for an argument out of range.
    """

    def __init__(
        self,
        source: VolumeSource,
        recipe: Recipe,
        *,
        labels: LabelMap | None = None,
        transform: Transform = None,
        crop: Crop | CropRule | None = None,
        max_reuse: int = 1,
        on_failure: str = "reuse",
        failure_tolerance: int = 5,
        seed: int = 0,
        length: int | None = None,
    ) -> None:
        card = source.card
        recipe.check(card)
        self.source = source
        self.recipe = recipe
        self.crop = crop
        self.max_reuse = as_integer("max_reuse", max_reuse, 1)
        self.seed = as_integer("seed", seed, 0)
        self.length = None if length is None else as_integer("length", length, 1)
        if on_failure not in ON_FAILURE:
            msg = f"on_failure must be one of {ON_FAILURE}, got {on_failure!r}"
            raise DataError(msg)
        self.on_failure = on_failure
        self._failures = Failures(as_integer("failure_tolerance", failure_tolerance, 0))
        self.labels = labels
        self._bound = None if labels is None else labels.bind(card)
        if labels is not None:
            self.check_labels("`labels` maps them")
        if isinstance(crop, CropRule):
            if crop.centre is not None:
                self.check_labels("`crop` is centred on them")
            crop.check_names(card.vocabulary)
        self._chance = Chance(as_transform(transform))
        self._is_probed = crop is None or transform is None
        self.stratum = ""
        self._promised: tuple[str, ...] = ()
        self._watch: Watch | None = None

    def __len__(self) -> int:
        if self.length is None:
            msg = "a SyntheticDataset has no end; pass `length=` to loop over it"
            raise TypeError(msg)
        return self.length

    def __getitem__(self, number: int) -> Item:
        number = as_index(number)
        if self.length is not None and not -self.length <= number < self.length:
            msg = f"volume {number} of a SyntheticDataset with length {self.length}"
            raise IndexError(msg)
        if number < 0 and self.length is not None:
            number += self.length
        return self.item(number)

    def check_labels(self, reason: str) -> None:
        """Raise if the volumes come without labels, though something needs them.

        Args:
            reason: What needs them.

        Raises:
            LabelError: with the ways to volumes that have labels.
        """
        card = self.source.card
        if not self.recipe.gives_labels(card):
            how = card.ways_to_labels
            msg = f"volumes of `{card.name}` have no labels here, but {reason}; {how}"
            raise LabelError(msg)

    @property
    def transform(self) -> Callable[[Any], Any] | None:
        """The preprocessing of synthetic items."""
        transform: Callable[[Any], Any] | None = self._chance.root
        return transform

    @property
    def label_ids(self) -> frozenset[int] | None:
        """Ids that labels can have; `None` if they have a way to say that they do not know."""
        if self.labels is None:
            return frozenset({*self.source.card.vocabulary.values(), 0})
        return None if self.labels.others == "ignore" else self.labels.ids

    def narrowed(self, name: str, stratum: Stratum, watch: Watch | None) -> SyntheticDataset:
        """This dataset for the volumes of one stratum, which are numbered on their own.

        Args:
            name: Name of the stratum, part of every volume's seed.
            stratum: What its volumes show; a `CropRule` is centred on that.
            watch: What counts what their labels show.
        """
        part = copy(self)
        part.recipe = stratum.recipe
        part.stratum = name
        part._promised = stratum.promised
        part._watch = watch
        vocabulary = self.source.card.vocabulary
        centre = tuple((label, 1.0) for label in stratum.shown if label in vocabulary)
        if isinstance(self.crop, CropRule) and centre:
            part.crop = replace(self.crop, centre=centre)
        return part

    def spec(self, number: int) -> VolumeSpec:
        """The resolved spec of a volume; nothing is generated."""
        if number < 0:
            msg = f"volumes are numbered from 0, got {number}"
            raise DataError(msg)
        rng = np.random.default_rng(volume_seed_of(self.seed, number, self.stratum))
        return self.source.resolve(self.recipe.draw(rng, variant=self.source.card.name))

    def volume(self, number: int, view_seed: int | None = None) -> SyntheticVolume:
        """The volume as the generator made it, cropped if there is a crop.

        Raises:
            GenerationError: if the generator failed.
        """
        return self.source.fetch(self.spec(number), self._crop(self._view(number, view_seed)))

    def item(self, number: int, view_seed: int | None = None, reuse: int = 0) -> Item:
        """A volume as an item.

        Args:
            number: Number of the volume, from 0.
            view_seed: What the crop is drawn from; `None` derives it from the volume.
            reuse: How often the volume was used before, for the provenance.

        Raises:
            GenerationError: if the generator failed, and so did any substitute.
            GeneratorBroken: if more volumes in a row failed than are tolerated.
            SourceError: if the source cannot answer; never replaced by a substitute.
        """
        view = self._view(number, view_seed)
        made, volume = self._fetch(number, view)
        status = "planned" if made == number else "substitute"
        if self._watch is not None:
            self._watch.note(volume, self._promised)
        if not self._is_probed:
            self._probe(made, volume, view)
        item = self._item(volume, status, reuse)
        return self._transformed(item, view)

    @property
    def failures(self) -> FailureCount:
        """Volumes that failed so far, here and in the workers of loaders, and what stood in."""
        return self._failures.count()

    def replaced_by_real(self) -> None:
        """Count a sample that shows a real case, because its volume failed."""
        self._failures.add(by_real=1)

    def prefetch(self, numbers: Iterable[int]) -> None:
        """Tell the source which volumes come next; it never waits."""
        specs = list(dict.fromkeys(self.spec(number) for number in numbers))
        if specs:
            self.source.prefetch(specs)

    def identity(self) -> dict[str, str]:
        """What names the volumes and their views, as texts that can be read and compared."""
        card = self.source.card
        return {
            "variant": card.name,
            "weights": card.weights_digest[:16],
            "seed": str(self.seed),
            "recipe": repr(self.recipe),
            "labels": repr(self.labels),
            "crop": repr(self.crop),
        }

    def _view(self, number: int, view_seed: int | None) -> int:
        if view_seed is not None:
            return view_seed
        return derived_seed("view", volume_seed_of(self.seed, number, self.stratum))

    def _crop(self, view: int) -> Crop | CropRule | None:
        if isinstance(self.crop, CropRule):
            return self.crop.seeded(derived_seed("crop", view, self.crop.seed))
        return self.crop

    def _fetch(self, number: int, view: int) -> tuple[int, SyntheticVolume]:
        """The volume with its number, which is another one's if this one failed."""
        try:
            volume = self.volume(number, view)
        except GenerationError as error:
            if self.on_failure == "raise":
                raise
            self._failures.failed(f"volume {number}", error)
            if self.on_failure == "real":
                raise
            return self._substitute(number, view, error)
        self._failures.made()
        return number, volume

    def _substitute(
        self, number: int, view: int, error: GenerationError
    ) -> tuple[int, SyntheticVolume]:
        """The previous volume, else the next: planned, so that a second run does the same."""
        for other in (number - 1, number + 1):
            if other < 0:
                continue
            try:
                volume = self.volume(other, view)
            except GenerationError:
                self._failures.add(failed=1)
                continue
            self._failures.add(by_volume=1)
            return other, volume
        msg = f"volume {number} failed, and so did its substitutes; the first said: {error}"
        raise GenerationError(msg) from error

    def _item(self, volume: SyntheticVolume, status: str = "planned", reuse: int = 0) -> Item:
        label = volume.label
        if label is not None and self._bound is not None:
            label = self._bound(label)
        provenance = volume.provenance.with_(
            status=status, reuse=reuse, stratum=self.stratum, content=volume.digest()
        )
        return synthetic_item(volume, label, provenance)

    def _transformed(self, item: Item, view: int) -> Item:
        transform = self.transform
        if transform is None:
            return item
        with self._chance.of(view):
            result = transform(dict(item))
        if not isinstance(result, Mapping):
            msg = (
                "the transform of a SyntheticDataset must return one mapping, got "
                f"{type(result).__name__}; a transform that makes several samples of one belongs "
                "in the `transform=` of the SyntheticRealDataset"
            )
            raise DataError(msg)
        kept = {key: result[key] for key in item if key in result}
        return uniform({**kept, **{key: item[key] for key in ("synthetic", "provenance")}})

    def _probe(self, number: int, part: SyntheticVolume, view: int) -> None:
        assert part.crop is not None, "a source says which crop it cut"
        whole = self.source.fetch(self.spec(number))
        check_voxelwise(
            lambda item: self._transformed(item, view),
            self._item(whole),
            self._item(part),
            part.crop,
        )
        self._is_probed = True
