"""What the tests of data and transforms share: a picklable source and small real cases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import monai.transforms as mt
import numpy as np
import torch
from monai.data import Dataset
from monai.data import MetaTensor

from nvgen_aug.card import VariantCard
from nvgen_aug.crop import Crop
from nvgen_aug.crop import CropRule
from nvgen_aug.data.synthetic import SyntheticDataset
from nvgen_aug.errors import GenerationError
from nvgen_aug.generators.phantom import PhantomGenerator
from nvgen_aug.labels import LabelMap
from nvgen_aug.recipe import Recipe
from nvgen_aug.source import SourceStats
from nvgen_aug.source import VolumeSource
from nvgen_aug.spec import VolumeSpec
from nvgen_aug.volume import Blob
from nvgen_aug.volume import SyntheticVolume

KEYS = ("image", "label")
EDGE = 16
RECIPE = Recipe(size=(EDGE, EDGE, EDGE), pathology={"lesion": {"count": [0, 2]}})
LABELS = LabelMap({"organ": 1, "lesion": 2}, others="background")


class PhantomSource(VolumeSource):
    """A phantom behind the seam, without a process; it can be pickled."""

    __slots__ = ("_generator", "blobs", "broken", "error", "fetched", "has_labels", "prefetched")

    def __init__(self, *, has_labels: bool = True) -> None:
        self._generator = PhantomGenerator()
        self.has_labels = has_labels
        self.fetched: list[VolumeSpec] = []
        self.prefetched: list[VolumeSpec] = []
        self.blobs: dict[str, Blob] = {}
        self.broken: set[int] = set()
        self.error: Exception = GenerationError("the phantom was told to fail")

    @property
    def card(self) -> VariantCard:
        return replace(self._generator.card, has_labels=self.has_labels)

    def fetch(self, spec: VolumeSpec, crop: Crop | CropRule | None = None) -> SyntheticVolume:
        spec = self.resolve(spec)
        self.fetched.append(spec)
        if spec.seed in self.broken:
            raise self.error
        whole = self._generator.generate(spec, self.blobs.get(spec.mask or "")).volume
        if isinstance(crop, CropRule):
            crop = crop.resolve(whole.shape, whole.label, self.card.vocabulary)
        part = whole.cropped(crop)
        if not self.has_labels:
            return SyntheticVolume(part.image, None, part.affine, part.provenance, part.crop)
        return part

    def put(self, array: Any, affine: Any) -> str:
        blob = Blob(array, affine)
        self.blobs[blob.digest()] = blob
        return blob.digest()

    def prefetch(self, specs: Sequence[VolumeSpec]) -> None:
        self.prefetched += specs

    def stats(self) -> SourceStats:
        return SourceStats(fetched=len(self.fetched), generated=len(self.fetched))


def synthetic(source: VolumeSource | None = None, **arguments: Any) -> SyntheticDataset:
    """Phantoms of 16³ voxels with organ and lesions, if the source draws labels."""
    arguments = {"labels": LABELS, **arguments}
    source = source or PhantomSource()
    alone = Recipe(size=(EDGE, EDGE, EDGE))
    recipe = arguments.pop("recipe", RECIPE if RECIPE.gives_labels(source.card) else alone)
    return SyntheticDataset(source, recipe, **arguments)


def real_case(case: int, edge: int = EDGE) -> dict[str, MetaTensor]:
    """A case whose number can be read off its image's minimum."""
    rng = np.random.default_rng(case)
    chance = rng.random((1, edge, edge, edge))
    label = (chance > 0.7).astype(np.float32)
    # About as bright as the phantoms: air, tissue, and a little that shines.
    bright = np.select([chance < 0.45, chance < 0.9], [0.0, 300.0], 950.0)
    image = (bright + case + rng.random(label.shape)).astype(np.float32)
    affine = torch.diag(torch.tensor([2.0, 2.0, 2.0, 1.0], dtype=torch.float64))
    meta = {"filename_or_obj": f"case_{case}.nii.gz"}
    return {
        "image": MetaTensor(torch.from_numpy(image), affine=affine, meta=dict(meta)),
        "label": MetaTensor(torch.from_numpy(label), affine=affine, meta=dict(meta)),
    }


def real_cases(number: int = 5, transform: Any = None) -> Dataset:
    """Some such cases."""
    return Dataset([real_case(case) for case in range(number)], transform)


class Untidy:
    """A transform that hides a random one in a dictionary, and draws from the global generators."""

    def __init__(self) -> None:
        self.parts = {"noise": [mt.RandGaussianNoise(prob=1.0, std=3.0)]}

    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        import random

        shift = random.random() + float(np.random.random()) + float(torch.rand(()))
        return {**data, "image": self.parts["noise"][0](data["image"] + shift)}


def augment() -> mt.Compose:
    """Random transforms of every kind."""
    return mt.Compose(
        [
            mt.RandFlipd(KEYS, prob=0.5, spatial_axis=0),
            mt.OneOf(
                [mt.RandGaussianNoised("image", prob=1.0), mt.RandShiftIntensityd("image", 9)]
            ),
            mt.RandSpatialCropd(KEYS, (8, 8, 8), random_size=False),
            Untidy(),
        ]
    )
