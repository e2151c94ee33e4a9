"""Stores: one image on disk in each of the ways that training data are kept."""

from __future__ import annotations

from abc import ABC
from abc import abstractmethod
from pathlib import Path
from typing import Any
from typing import final

import lmdb
import nibabel
import numpy as np
import torch
from numpy.typing import NDArray

from nvgen_aug.cache import VolumeCache
from nvgen_aug.crop import Crop
from nvgen_aug.volume import SyntheticVolume

Voxels = NDArray[Any]


class AbstractStore(ABC):
    """A way to keep the arrays of a volume, each `[X, Y, Z]`, and to read crops of them.

    Args:
        folder: A place of its own.
    """

    name = ""
    note = ""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / type(self).__name__
        self.folder.mkdir()

    @abstractmethod
    def write(self, volume: SyntheticVolume) -> None:
        """Store a volume in place of the last one."""

    @abstractmethod
    def read(self, crop: Crop) -> list[Voxels]:
        """The crop of each array, in memory of its own."""

    def total_bytes(self) -> int:
        """Bytes in the folder."""
        return sum(p.stat().st_blocks * 512 for p in self.folder.rglob("*") if p.is_file())


@final
class OurCache(AbstractStore):
    """The cache of this package."""

    name = "ours"
    note = "checksums and provenance included, an entry on the disk before it appears"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._cache = VolumeCache(self.folder, max_bytes="4 GB")
        self.reader = self._cache.reader()
        self._count = 0

    def write(self, volume: SyntheticVolume) -> None:
        self._count += 1  # an entry never changes, so each write is a new one
        self._cache.put_volume(self._key, volume)

    def read(self, crop: Crop) -> list[Voxels]:
        found = self.reader.get_volume(self._key, crop)
        assert found is not None
        return [found.image[0]] + ([] if found.label is None else [found.label[0]])

    @property
    def _key(self) -> str:
        return f"{self._count:064x}"


class _Files(AbstractStore):
    """One file for each array."""

    suffix = ""

    def write(self, volume: SyntheticVolume) -> None:
        self._count = 0
        for array in _arrays(volume):
            self._save(self._path(self._count), array)
            self._count += 1

    def read(self, crop: Crop) -> list[Voxels]:
        return [self._load(self._path(n), crop) for n in range(self._count)]

    def _path(self, number: int) -> Path:
        return self.folder / f"{number}{self.suffix}"

    def _save(self, path: Path, array: Voxels) -> None:
        raise NotImplementedError

    def _load(self, path: Path, crop: Crop) -> Voxels:
        raise NotImplementedError


@final
class Nifti(_Files):
    """Compressed NIfTI, as scans are handed out."""

    name = ".nii.gz"
    note = "nibabel, which reads as far into the file as the crop reaches"
    suffix = ".nii.gz"

    def _save(self, path: Path, array: Voxels) -> None:
        image: Any = nibabel.Nifti1Image(array, np.eye(4))  # type: ignore[no-untyped-call]
        nibabel.save(image, path)

    def _load(self, path: Path, crop: Crop) -> Voxels:
        image: Any = nibabel.load(path)
        return np.asarray(image.dataobj[crop.slices])


@final
class Npy(_Files):
    """Uncompressed numpy, mapped into memory."""

    name = ".npy, mapped"
    note = "not compressed"
    suffix = ".npy"

    def _save(self, path: Path, array: Voxels) -> None:
        np.save(path, array)

    def _load(self, path: Path, crop: Crop) -> Voxels:
        return np.array(np.load(path, mmap_mode="r")[crop.slices])


@final
class TorchFile(_Files):
    """A pickled tensor, as MONAI's PersistentDataset keeps them."""

    name = "torch.save"
    note = "not compressed, read whole"
    suffix = ".pt"

    def _save(self, path: Path, array: Voxels) -> None:
        torch.save(torch.from_numpy(array), path)

    def _load(self, path: Path, crop: Crop) -> Voxels:
        tensor = torch.load(path, weights_only=True)[crop.slices].clone()
        array: Voxels = tensor.numpy()
        return array


@final
class Lmdb(AbstractStore):
    """Raw bytes under a key of an LMDB file."""

    name = "LMDB"
    note = "not compressed"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._environment = lmdb.open(str(self.folder), map_size=4 << 30)
        self._kinds: list[tuple[np.dtype[Any], tuple[int, ...]]] = []

    def write(self, volume: SyntheticVolume) -> None:
        arrays = _arrays(volume)
        self._kinds = [(array.dtype, array.shape) for array in arrays]
        with self._environment.begin(write=True) as transaction:
            for number, array in enumerate(arrays):
                transaction.put(bytes([number]), array.data)

    def read(self, crop: Crop) -> list[Voxels]:
        found = []
        with self._environment.begin(buffers=True) as transaction:
            for number, (dtype, shape) in enumerate(self._kinds):
                content = transaction.get(bytes([number]))
                assert content is not None
                array = np.frombuffer(content, dtype).reshape(shape)
                found.append(np.array(array[crop.slices]))
        return found


STORES: tuple[type[AbstractStore], ...] = (OurCache, Nifti, Npy, TorchFile, Lmdb)


def _arrays(volume: SyntheticVolume) -> list[Voxels]:
    return [volume.image[0]] + ([] if volume.label is None else [volume.label[0]])
