"""Shares of 0 and 1: the plain dataset byte for byte, and no real case at all."""

from __future__ import annotations

from typing import Any

import monai.transforms as mt
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from monai.data import Dataset
from torch.utils.data import DataLoader

from nvgen_aug.data.synthetic_real import SyntheticRealDataset
from tests.data.phantoms import KEYS
from tests.data.phantoms import PhantomSource
from tests.data.phantoms import real_cases
from tests.data.phantoms import synthetic
from tests.data.schedules import ONES
from tests.data.schedules import SCHEDULES
from tests.data.schedules import ZEROS

EDGE = 8
SCALE = mt.ScaleIntensityRanged("image", 0, 1000, 0, 1)
CROP = mt.CenterSpatialCropd(KEYS, EDGE)
CASES = list(real_cases(6))

batches = st.integers(1, 5)
worlds = st.integers(1, 3)
lengths = st.integers(1, 20)


class Untouchable:
    """Cases that nobody may read."""

    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int) -> Any:
        msg = "nobody may read this"
        raise AssertionError(msg)


def content(item: Any) -> list[Any]:
    """All that a case is: types and bytes of voxels and affine, and where it came from."""
    return [
        part
        for key in KEYS
        for part in (
            item[key].dtype,
            tuple(item[key].shape),
            item[key].numpy().tobytes(),
            item[key].affine.numpy().tobytes(),
            item[key].meta["filename_or_obj"],
        )
    ]


@settings(max_examples=25, deadline=None)
@given(
    zero=ZEROS,
    number=st.integers(1, 6),
    length=lengths,
    batch=batches,
    world=worlds,
    seed=st.integers(0, 99),
)
def test_a_share_of_0_gives_byte_for_byte_what_the_plain_dataset_gives_in_that_order(
    zero: Any, number: int, length: int, batch: int, world: int, seed: int
) -> None:
    cases = Dataset(CASES[:number], SCALE)
    plain = Dataset(cases, CROP)
    train = SyntheticRealDataset(
        cases, None, ratio=zero, transform=CROP, epoch_length=length, seed=seed
    )
    for rank in range(world):
        sampler = train.sampler(batch, world, rank)
        order = [key.index for key in train.plan(0, batch, world, rank)]
        loader = DataLoader(train, batch_size=batch, sampler=sampler, collate_fn=list)
        items = [item for found in loader for item in found]
        assert [content(item) for item in items] == [content(plain[case]) for case in order]
        assert {item["synthetic"] for item in items} == {0}
    assert train.report().delivered == 0


@settings(max_examples=15, deadline=None)
@given(one=ONES, length=st.integers(1, 9), batch=batches, world=worlds)
def test_a_share_of_1_reads_no_real_case(one: Any, length: int, batch: int, world: int) -> None:
    train = SyntheticRealDataset(Untouchable(), synthetic(), ratio=one, epoch_length=length)
    without = SyntheticRealDataset(None, synthetic(), ratio=one, epoch_length=length)
    for epoch in range(2):
        keys = [key for rank in range(world) for key in train.plan(epoch, batch, world, rank)]
        assert all(key.is_synthetic for key in keys)
        assert keys == [
            key for rank in range(world) for key in without.plan(epoch, batch, world, rank)
        ]
    for key in keys:
        assert train[key]["provenance"] == without[key]["provenance"]


def test_a_share_of_0_never_asks_the_source() -> None:
    source = PhantomSource()
    train = SyntheticRealDataset(real_cases(), synthetic(source), ratio=0)
    list(DataLoader(train, batch_size=2, sampler=train.sampler(2), collate_fn=list))
    train.report()
    assert source.fetched == source.prefetched == []


@settings(max_examples=25, deadline=None)
@given(few=SCHEDULES, many=SCHEDULES, batch=batches, world=worlds, seed=st.integers(0, 99))
def test_two_arms_see_the_same_real_cases_in_the_same_views(
    few: Any, many: Any, batch: int, world: int, seed: int
) -> None:
    def real(ratio: Any) -> list[tuple[int, int]]:
        train = SyntheticRealDataset(
            real_cases(), synthetic(), ratio=ratio, epoch_length=24, seed=seed
        )
        run = train.sampler(batch, world, 0).plan
        return [
            (key.index, key.view_seed)
            for epoch in range(2)
            for number in range(run.batches)
            for rank in range(world)
            for key in run.keys(epoch, number, rank)
            if not key.is_synthetic
        ]

    one, other = real(few), real(many)
    shared = min(len(one), len(other))
    assert one[:shared] == other[:shared]


@pytest.mark.parametrize("world", [1, 2])
def test_the_plan_is_what_the_samplers_yield(world: int) -> None:
    source = PhantomSource()
    train = SyntheticRealDataset(
        Untouchable(), synthetic(source), ratio=0.3, epoch_length=20, seed=3
    )
    for rank in range(world):
        sampler = train.sampler(4, world, rank)
        for epoch in range(2):
            train.set_epoch(epoch)
            assert list(sampler) == train.plan(epoch, 4, world, rank)
    assert source.fetched == []
