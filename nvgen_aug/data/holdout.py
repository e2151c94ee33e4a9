"""SyntheticHoldout: synthetic volumes for stress tests, never to be taken for validation."""

from __future__ import annotations

from dataclasses import asdict
from dataclasses import dataclass
from typing import Any
from typing import final

from torch.utils.data import Dataset

from ..crop import Crop
from ..crop import CropRule
from ..labels import LabelMap
from ..provenance import Provenance
from ..recipe import Recipe
from ..source import VolumeSource
from .chance import Transform
from .plan import as_integer
from .schema import PROVENANCE
from .schema import Item
from .seeds import derived_seed
from .synthetic import SyntheticDataset

HOLDOUT = "holdout"
WARNING = "SYNTHETIC HOLD-OUT: a stress test, not a validation; it says nothing about patients"


@final
@dataclass(frozen=True, slots=True)
class HoldoutReport:
    """What a stress test was made of.

    Args:
        variant: Name of the model that made the volumes.
        weights_digest: SHA-256 of its weights.
        volumes: How many there are.
        seed: Where they come from.
        recipe: What was asked for, as a text.
        kind: That this is no validation, for whoever reads the report only.
    """

    variant: str
    weights_digest: str
    volumes: int
    seed: int
    recipe: str
    kind: str = WARNING

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON values; the warning is among them."""
        return asdict(self)

    def __str__(self) -> str:
        return (
            f"{self.kind}\n{self.volumes} volumes of `{self.variant}` "
            f"(weights {self.weights_digest[:12]}, seed {self.seed}): {self.recipe}"
        )


@final
class SyntheticHoldout(Dataset[Item]):
    """A fixed set of synthetic volumes to stress a trained network with.

    How does it do on lesions that are smaller, rarer or in another place than any in
    the real validation set? That is what it answers, and nothing about patients: the
    generator's mistakes are in the questions. So every item says `holdout` in the
    `status` of its provenance, every report begins with a warning, and a
    `SyntheticRealDataset` refuses it as real cases.

    Its volumes are none that training saw: they are numbered under a seed of their own,
    even if `seed` and `recipe` are those of the training set. A volume that fails is an
    error, because a substitute would make another test of it.

    Args:
        source, recipe, labels, transform, crop: As a `SyntheticDataset` has them.
        length: Volumes of the set.
        seed: Where they come from.

    Raises:
        SpecError, LabelError, DataError: as a `SyntheticDataset` does.
    """

    def __init__(
        self,
        source: VolumeSource,
        recipe: Recipe,
        *,
        length: int,
        labels: LabelMap | None = None,
        transform: Transform = None,
        crop: Crop | CropRule | None = None,
        seed: int = 0,
    ) -> None:
        self.seed = as_integer("seed", seed, 0)
        self._volumes = SyntheticDataset(
            source,
            recipe,
            labels=labels,
            transform=transform,
            crop=crop,
            on_failure="raise",
            seed=derived_seed(HOLDOUT, self.seed),
            length=length,
        )

    def __len__(self) -> int:
        return len(self._volumes)

    def __getitem__(self, number: int) -> Item:
        item = self._volumes[number]
        provenance = Provenance.from_json(item[PROVENANCE]).with_(status=HOLDOUT)
        return {**item, PROVENANCE: provenance.to_json()}

    def report(self) -> HoldoutReport:
        """What the set is, with the warning that goes with it."""
        identity = self._volumes.identity()
        return HoldoutReport(
            variant=identity["variant"],
            weights_digest=self._volumes.source.card.weights_digest,
            volumes=len(self),
            seed=self.seed,
            recipe=identity["recipe"],
        )
