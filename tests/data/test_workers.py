"""Batches are the same bytes for any number of workers and any start method."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import signal
import time
from typing import Any

import monai.data
import monai.transforms as mt
import numpy as np
import pytest
import torch.utils.data

from nvgen_aug.crop import CropRule
from nvgen_aug.data.synthetic_real import SyntheticRealDataset
from nvgen_aug.transforms import RandSyntheticVolumed
from tests.data.phantoms import KEYS
from tests.data.phantoms import augment
from tests.data.phantoms import real_cases
from tests.data.phantoms import synthetic


def digests(loader_class: Any = torch.utils.data.DataLoader, **loader: Any) -> list[str]:
    """One SHA-256 per batch of two epochs, over all that a batch holds."""
    scale = mt.ScaleIntensityRanged("image", 0, 1000, 0, 1)
    train = SyntheticRealDataset(
        real_cases(
            5, mt.Compose([scale, mt.RandFlipd(KEYS, 0.5), mt.CenterSpatialCropd(KEYS, 12)])
        ),
        synthetic(max_reuse=3, transform=scale, crop=CropRule((12, 12, 12), centre={"lesion": 1})),
        ratio=0.4,
        transform=augment(),
        epoch_length=12,
        seed=7,
    )
    # Items as they are: MONAI's loader changes, for good, how torch's collates a MetaTensor.
    batches = loader_class(train, batch_size=4, sampler=train.sampler(4), collate_fn=list, **loader)
    found = []
    for epoch in range(2):
        train.set_epoch(epoch)
        for batch in batches:
            sha = hashlib.sha256()
            for item in batch:
                for key in KEYS:
                    sha.update(np.ascontiguousarray(item[key].numpy()).tobytes())
                    sha.update(np.ascontiguousarray(item[key].affine.numpy()).tobytes())
                    sha.update(str(item[key].meta["filename_or_obj"]).encode())
                sha.update(repr((item["synthetic"], item["provenance"])).encode())
            found.append(sha.hexdigest())
    return found


@pytest.fixture(scope="module")
def reference() -> list[str]:
    found = digests()
    assert len(set(found)) == len(found)
    return found


@pytest.mark.parametrize("workers", [1, 3])
def test_forked_workers_give_the_bytes_of_one_process(reference: list[str], workers: int) -> None:
    assert digests(num_workers=workers, multiprocessing_context="fork") == reference


@pytest.mark.slow
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
@pytest.mark.parametrize("workers", [1, 3])
def test_workers_of_other_start_methods_give_the_same_bytes(
    reference: list[str], workers: int, method: str
) -> None:
    found = digests(num_workers=workers, multiprocessing_context=method, persistent_workers=True)
    assert found == reference


@pytest.mark.parametrize("workers", [0, 2])
def test_monais_loader_gives_the_same_bytes_whatever_it_seeds(workers: int) -> None:
    torch.manual_seed(workers)
    one = digests(monai.data.DataLoader, num_workers=workers)
    torch.manual_seed(99)
    assert digests(monai.data.DataLoader) == one


def test_a_run_may_begin_anywhere_in_the_global_generators(reference: list[str]) -> None:
    torch.manual_seed(123)
    np.random.seed(5)
    assert digests() == reference


def test_a_coin_toss_inside_the_transform_is_seeded_from_the_key() -> None:
    def texts(**loader: Any) -> list[Any]:
        coin = RandSyntheticVolumed(KEYS, synthetic(), prob=0.5, pool=4)
        train = SyntheticRealDataset(real_cases(), None, ratio=0, transform=[coin], epoch_length=8)
        batches = torch.utils.data.DataLoader(train, sampler=train.sampler(1), **loader)
        return [text for batch in batches for text in batch["provenance"]]

    assert texts() == texts(num_workers=2)
    assert {json.loads(text)["source"] for text in texts()} == {"real", "synthetic"}


def test_after_a_worker_was_killed_a_new_loader_goes_on_where_training_stopped() -> None:
    def blend() -> SyntheticRealDataset:
        volumes = synthetic(max_reuse=2)
        return SyntheticRealDataset(real_cases(5), volumes, ratio=0.4, epoch_length=24, seed=7)

    def texts(train: SyntheticRealDataset, kill_at: int | None = None) -> list[str]:
        loader = torch.utils.data.DataLoader(
            train, batch_size=4, sampler=train.sampler(4), collate_fn=list, num_workers=2
        )
        older = multiprocessing.active_children()
        for done, batch in enumerate(loader, start=1):
            seen.extend(item["provenance"] for item in batch)
            state.update(train.checkpoint(done))
            if done == kill_at:
                worker = next(w for w in multiprocessing.active_children() if w not in older)
                assert worker.pid is not None
                os.kill(worker.pid, signal.SIGKILL)
                time.sleep(60)  # a training step: torch raises out of it when it hears of the death
        return seen

    state: dict[str, Any] = {}
    seen: list[str] = []
    whole = list(texts(blend()))
    seen.clear()
    with pytest.raises(RuntimeError, match="DataLoader worker"):
        texts(blend(), kill_at=2)
    train = blend()
    train.sampler(4)
    train.resume(state)
    assert texts(train) == whole
