"""The whole road: server, cache, sampler, datasets, transforms and loader together."""

from __future__ import annotations

import hashlib
import os
import signal
from pathlib import Path
from typing import Any

import monai.transforms as mt
import numpy as np
import pytest
import torch
from monai.data import Dataset
from torch.utils.data import DataLoader

import nvgen_aug as nv
from nvgen_aug.errors import SourceError

KEYS = ("image", "label")


def real_cases(number: int = 6) -> Dataset:
    """Real stand-ins of 16³ voxels; the case number can be read off the image."""
    rng = np.random.default_rng(0)
    cases = []
    for case in range(number):
        chance = rng.random((1, 16, 16, 16))
        label = (chance > 0.7).astype(np.float32)
        # About as bright as the phantoms.
        bright = 300 * (chance > 0.7) + 650 * (chance > 0.9)
        image = (bright + case + rng.random(label.shape)).astype(np.float32)
        cases.append({"image": torch.from_numpy(image), "label": torch.from_numpy(label)})
    return Dataset(cases)


def blend(source: nv.VolumeSource, **arguments: Any) -> nv.SyntheticRealDataset:
    """Half real, half phantom, with random transforms of MONAI's on both."""
    recipe = nv.Recipe(size=(16, 16, 16), pathology={"lesion": {"count": [0, 2]}})
    synthetic = nv.SyntheticDataset(
        source, recipe, labels=nv.LabelMap({"organ": 1}, others="background"), max_reuse=2
    )
    augment = mt.Compose(
        [
            mt.RandFlipd(KEYS, prob=0.5, spatial_axis=0),
            mt.RandRotate90d(KEYS, prob=0.5),
            mt.RandGaussianNoised("image", prob=0.5, std=5.0),
        ]
    )
    return nv.SyntheticRealDataset(
        real_cases(), synthetic, ratio=0.5, transform=augment, seed=3, **arguments
    )


def digest_of_epochs(train: nv.SyntheticRealDataset, epochs: int = 2, **loader: Any) -> str:
    """SHA-256 over everything the loader delivers."""
    sha = hashlib.sha256()
    sampler = train.sampler(batch_size=4)
    batches = DataLoader(train, batch_size=4, sampler=sampler, **loader)
    for epoch in range(epochs):
        train.set_epoch(epoch)
        for batch in batches:
            for key in KEYS:
                sha.update(np.ascontiguousarray(batch[key].numpy()).tobytes())
                sha.update(np.ascontiguousarray(batch[key].affine.numpy()).tobytes())
            sha.update(repr((batch["synthetic"].tolist(), batch["provenance"])).encode())
    return sha.hexdigest()


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What one process delivers with an engine of its own and no cache."""
    with nv.open_source("phantom") as source:
        return digest_of_epochs(blend(source))


@pytest.fixture(scope="module")
def warm_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that an earlier run has filled."""
    path = tmp_path_factory.mktemp("warm")
    with nv.serve("phantom", cache=path) as source:
        digest_of_epochs(blend(source))
    return path


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.slow
def test_batches_are_bit_identical_for_any_workers_and_start_method(
    reference: str, warm_cache: Path, tmp_path: Path, workers: int, method: str
) -> None:
    for cache in (None, tmp_path / "cold", warm_cache):
        with nv.serve("phantom", cache=cache) as source:
            found = digest_of_epochs(
                blend(source),
                num_workers=workers,
                multiprocessing_context=method,
                persistent_workers=True,
            )
        assert found == reference


def test_batches_are_bit_identical_with_and_without_a_server_and_a_cache(
    reference: str, warm_cache: Path, tmp_path: Path
) -> None:
    with nv.serve("phantom") as source:
        assert digest_of_epochs(blend(source)) == reference
    with nv.serve("phantom", cache=tmp_path / "cold") as source:
        assert digest_of_epochs(blend(source), num_workers=2) == reference
    with nv.open_source("phantom", cache=warm_cache) as source:
        assert digest_of_epochs(blend(source)) == reference


@pytest.mark.parametrize("workers", [0, 2])
def test_a_second_run_reads_every_volume_from_the_cache(warm_cache: Path, workers: int) -> None:
    with nv.serve("phantom", cache=warm_cache) as source:
        digest_of_epochs(blend(source), num_workers=workers)
        stats = source.stats()
    # It may still make some ahead: the sampler does not know that no third epoch will come.
    assert stats.hits == stats.fetched > 0


def test_killing_the_server_in_an_epoch_ends_in_a_clear_error_and_no_half_entry(
    tmp_path: Path,
) -> None:
    with nv.serve("phantom", cache=tmp_path, seconds_per_volume=0.05) as source:
        train = blend(source, epoch_length=64)
        loader = DataLoader(train, batch_size=4, sampler=train.sampler(4), num_workers=2)
        batches = iter(loader)
        next(batches)
        os.kill(source.pid, signal.SIGKILL)
        with pytest.raises(SourceError, match=r"server|generator"):
            for _ in batches:
                pass
        del batches
    # What was made before is whole, and a new run goes on from it.
    with nv.serve("phantom", cache=tmp_path) as source:
        digest_of_epochs(blend(source))
    cache = nv.VolumeCache(tmp_path, read_only=True)
    assert cache.stats().entries > 0
    assert not list((tmp_path / "partial").iterdir())
