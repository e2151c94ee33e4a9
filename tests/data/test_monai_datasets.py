"""MONAI's datasets and loaders: which work below and around ours, and which do not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import monai.data
import monai.transforms as mt
import pytest
import torch
import torch.utils.data

from nvgen_aug.data.synthetic_real import SyntheticRealDataset
from nvgen_aug.errors import DataError
from nvgen_aug.transforms.synthetic_volume import RandSyntheticVolumed
from tests.data.phantoms import KEYS
from tests.data.phantoms import augment
from tests.data.phantoms import real_case
from tests.data.phantoms import synthetic


class Counted(mt.Transform):
    """A deterministic step that counts how often it is done."""

    done = 0

    def __call__(self, data: Any) -> Any:
        Counted.done += 1
        return {key: value * 1.0 for key, value in data.items()}


def cases() -> list[Any]:
    return [real_case(case) for case in range(4)]


def chain() -> mt.Compose:
    """What is cached, and what is random after it."""
    return mt.Compose([Counted(), mt.RandGaussianNoised("image", prob=1.0)])


def cached(_: Path) -> Any:
    return monai.data.CacheDataset(cases(), chain(), progress=False)


def persistent(folder: Path) -> Any:
    return monai.data.PersistentDataset(cases(), chain(), folder, track_meta=True)


def items(real: Any) -> list[Any]:
    """Two epochs of real and synthetic samples."""
    train = SyntheticRealDataset(real, synthetic(), ratio=0.2, epoch_length=5, transform=augment())
    return [train[key] for epoch in range(2) for key in train.plan(epoch)]


@pytest.mark.parametrize("make", [cached, persistent])
def test_a_caching_dataset_below_gives_the_same_samples_and_computes_each_case_once(
    tmp_path: Path, make: Any
) -> None:
    expected = items(monai.data.Dataset(cases(), chain()))
    Counted.done = 0
    found = items(make(tmp_path))
    assert Counted.done == 4
    for one, other in zip(found, expected, strict=True):
        assert one["provenance"] == other["provenance"]
        for key in KEYS:
            assert torch.equal(one[key].as_tensor(), other[key].as_tensor())
            assert torch.equal(one[key].affine, other[key].affine)


def test_a_persistent_dataset_that_forgets_where_a_case_lies_is_refused(tmp_path: Path) -> None:
    forgetful = monai.data.PersistentDataset(cases(), chain(), tmp_path)
    first, second = (forgetful[0]["image"] for _ in range(2))
    assert torch.equal(first.affine, real_case(0)["image"].affine)
    # MONAI's default, from the second read on.
    assert torch.equal(second.affine, torch.eye(4, dtype=torch.float64))
    with pytest.raises(DataError, match="track_meta=True"):
        SyntheticRealDataset(forgetful, None, ratio=0)


def test_a_smart_cache_is_refused_because_its_numbers_change_their_meaning() -> None:
    smart = monai.data.SmartCacheDataset(
        cases(), chain(), replace_rate=0.5, cache_num=2, progress=False, num_init_workers=1
    )
    with pytest.raises(DataError, match=r"SmartCacheDataset .* use monai.data.CacheDataset"):
        SyntheticRealDataset(smart, None, ratio=0)


def around_smart(transform: Any, _: Path) -> Any:
    return monai.data.SmartCacheDataset(
        cases(), transform, replace_rate=0.5, cache_num=2, progress=False, num_init_workers=1
    )


@pytest.mark.parametrize(
    "make",
    [
        lambda transform, _: monai.data.CacheDataset(cases(), transform, progress=False),
        lambda transform, folder: monai.data.PersistentDataset(cases(), transform, folder),
        around_smart,
    ],
)
def test_a_coin_toss_inside_a_caching_dataset_is_tossed_each_time(
    tmp_path: Path, make: Any
) -> None:
    coin = RandSyntheticVolumed(KEYS, synthetic(), prob=0.5, pool=4)
    coin.set_random_state(0)
    Counted.done = 0
    data = make(mt.Compose([Counted(), coin]), tmp_path)
    found = [data[0] for _ in range(12)]
    assert {item["synthetic"] for item in found} == {0, 1}
    assert len({item["provenance"] for item in found}) > 2
    assert Counted.done <= len(data)  # what stands before the coin is cached


def test_a_thread_loader_gives_the_batches_of_a_plain_one() -> None:
    def texts(loader: Any) -> list[Any]:
        train = SyntheticRealDataset(
            cases(), synthetic(), ratio=0.5, transform=augment(), epoch_length=8
        )
        batches = loader(train, batch_size=2, sampler=train.sampler(2))
        return [(batch["provenance"], float(batch["image"].sum())) for batch in batches]

    assert texts(monai.data.ThreadDataLoader) == texts(torch.utils.data.DataLoader)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_loader_hides_errors() -> None:
    # A property of MONAI's, and why docs/loaders.md advises against it.
    broken = cases()
    broken[2]["image"][:] = float("nan")
    train = SyntheticRealDataset(broken, None, ratio=0)
    with pytest.raises(DataError, match="NaN"):
        list(torch.utils.data.DataLoader(train, sampler=train.sampler(1)))
    loader = monai.data.ThreadDataLoader(train, batch_size=1, sampler=train.sampler(1))
    assert len(list(loader)) < 4


@pytest.mark.parametrize("loader", [torch.utils.data.DataLoader, monai.data.DataLoader])
def test_tossed_samples_are_collated_and_taken_apart_by_both_loaders(loader: Any) -> None:
    coin = RandSyntheticVolumed(KEYS, synthetic(), prob=0.5, pool=4)
    coin.set_random_state(0)
    data = monai.data.Dataset(cases(), mt.Compose([coin]))
    (batch,) = loader(data, batch_size=4)
    parts = monai.data.decollate_batch(batch)
    assert len(parts) == 4
    for part in parts:
        assert part["image"].shape == part["label"].shape == (1, 16, 16, 16)
        is_synthetic = json.loads(part["provenance"])["source"] == "synthetic"
        assert int(part["synthetic"]) == is_synthetic


@pytest.mark.parametrize("kind", [0, 1])
def test_augmentation_of_a_planned_sample_can_be_inverted_whatever_its_kind(kind: int) -> None:
    flips = mt.Compose([mt.RandFlipd(KEYS, prob=1.0, spatial_axis=0)])
    train = SyntheticRealDataset(cases(), synthetic(), ratio=0.5, transform=flips, epoch_length=4)
    plain = SyntheticRealDataset(cases(), synthetic(), ratio=0.5, epoch_length=4)
    key = next(key for key in train.plan(0) if key.is_synthetic == kind)
    item = train[key]
    assert [op["class"] for op in item["image"].applied_operations] == ["RandFlipd"]
    assert torch.equal(flips.inverse(item)["image"], plain[key]["image"])
