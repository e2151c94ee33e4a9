"""Mixture: real cases on disk or in memory, warm synthetic volumes, and loaders that mix both."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from typing import final

import nibabel
import numpy as np
import torch
from monai.data import CacheDataset
from monai.data import DataLoader
from monai.data import Dataset
from monai.transforms import Compose
from monai.transforms import EnsureChannelFirstd
from monai.transforms import LoadImaged
from monai.transforms import RandSpatialCropd

from benchmarks.scan import scan
from nvgen_aug.assembly import serve
from nvgen_aug.crop import CropRule
from nvgen_aug.data.synthetic import SyntheticDataset
from nvgen_aug.data.synthetic_real import SyntheticRealDataset
from nvgen_aug.recipe import Recipe
from nvgen_aug.source import VolumeSource

KEYS = ("image", "label")
CASES = 6


@final
class Mixture:
    """Cases and volumes of one size, of which training sees crops.

    Args:
        source: Of synthetic volumes, with a cache.
        folder: Where the real cases go.
        edge: Of a case and of a volume.
        part: Of a crop.
        samples: In an epoch.
        workers: Of each loader.
        batch_size: Samples in a batch.
    """

    def __init__(
        self,
        source: VolumeSource,
        folder: Path,
        edge: int,
        part: int,
        *,
        samples: int,
        workers: int,
        batch_size: int = 2,
    ) -> None:
        self.samples = samples
        self._batch_size = batch_size
        self._part = part
        self._files = [_write(folder / str(number), edge, number) for number in range(CASES)]
        self._synthetic = SyntheticDataset(
            source,
            Recipe(size=(edge, edge, edge)),
            crop=CropRule((part, part, part)),
            max_reuse=2,
        )
        self._options: dict[str, Any] = {
            "num_workers": workers,
            # A worker that starts in every epoch would be most of what is measured.
            "persistent_workers": workers > 0,
        }

    def real(self, *, in_memory: bool) -> Dataset:
        """The user's dataset: each case read from .nii.gz for every sample, or once for all."""
        chain = Compose(
            [
                LoadImaged(KEYS),
                EnsureChannelFirstd(KEYS),
                RandSpatialCropd(KEYS, (self._part,) * 3, random_size=False),
            ]
        )
        if in_memory:
            return CacheDataset(self._files, chain, progress=False)
        return Dataset(self._files, chain)

    def real_only(self, *, in_memory: bool) -> DataLoader:
        """What the user had before: MONAI's dataset in MONAI's loader."""
        cases = self.real(in_memory=in_memory)
        repeated = _Repeated(cases, self.samples)
        return DataLoader(repeated, batch_size=self._batch_size, shuffle=True, **self._options)

    def mixed(self, ratio: float, *, in_memory: bool) -> DataLoader:
        """The same cases, with a share of synthetic volumes. Every epoch is the first one."""
        train = SyntheticRealDataset(
            self.real(in_memory=in_memory),
            self._synthetic,
            ratio=ratio,
            epoch_length=self.samples,
        )
        return DataLoader(
            train,
            batch_size=self._batch_size,
            sampler=train.sampler(self._batch_size),
            **self._options,
        )


@contextmanager
def mixture(edge: int, part: int, **options: int) -> Iterator[Mixture]:
    """A mixture in a temporary folder, its generator a resident process."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="mixture-")))
        source = stack.enter_context(serve("phantom", cache=folder / "cache"))
        yield Mixture(source, folder / "real", edge, part, **options)


@final
class _Repeated(torch.utils.data.Dataset[Any]):
    """Cases again and again, until there are as many samples as a mixture has."""

    def __init__(self, cases: Dataset, length: int) -> None:
        self._cases = cases
        self._length = length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Any:
        return self._cases[index % len(self._cases)]


def _write(folder: Path, edge: int, number: int) -> dict[str, str]:
    folder.mkdir(parents=True)
    volume = scan(edge, seed=number + 1)
    assert volume.label is not None
    files = {}
    for key, array in (("image", volume.image[0]), ("label", volume.label[0])):
        path = folder / f"{key}.nii.gz"
        image: Any = nibabel.Nifti1Image(array, np.eye(4))  # type: ignore[no-untyped-call]
        nibabel.save(image, path)
        files[key] = str(path)
    return files
