"""Where epochs and runs end: what is dropped, and what is no longer asked for."""

from __future__ import annotations

from typing import Any

import pytest
from torch.utils.data import DataLoader

from nvgen_aug.data.synthetic_real import SyntheticRealDataset
from nvgen_aug.errors import DataError
from nvgen_aug.schedule import Piecewise
from tests.data.phantoms import PhantomSource
from tests.data.phantoms import real_cases
from tests.data.phantoms import synthetic


def blend(source: PhantomSource | None = None, **more: Any) -> SyntheticRealDataset:
    return SyntheticRealDataset(real_cases(), synthetic(source), **{"ratio": 0.5, **more})


def specs_seen(train: SyntheticRealDataset, epochs: int, batch_size: int) -> set[int]:
    keys = [key for epoch in range(epochs) for key in train.plan(epoch, batch_size)]
    return {key.index for key in keys if key.is_synthetic}


def walk(train: SyntheticRealDataset, epochs: int, batch_size: int) -> None:
    sampler = train.sampler(batch_size)
    for epoch in range(epochs):
        train.set_epoch(epoch)
        list(sampler)


def test_nothing_is_asked_for_that_would_be_seen_only_after_the_last_epoch() -> None:
    source, endless = PhantomSource(), PhantomSource()
    train = blend(source, epoch_length=12, epochs=2)
    walk(train, 2, 4)
    assert len(set(source.prefetched)) == len(specs_seen(train, 2, 4)) == 12
    walk(blend(endless, epoch_length=12), 2, 4)
    assert len(set(endless.prefetched)) > 12


def test_a_share_that_ends_asks_for_nothing_more() -> None:
    source = PhantomSource()
    train = blend(source, ratio=Piecewise(epochs={0: 0.5, 1: 0}), epoch_length=12)
    walk(train, 3, 4)
    assert len(set(source.prefetched)) == 6


def test_full_batches_alone_reach_the_loader() -> None:
    train = blend(epoch_length=11)
    sampler = train.sampler(4, 2, 1, drop_last=True)
    loader = DataLoader(train, batch_size=4, sampler=sampler, collate_fn=list)
    assert [len(batch) for batch in loader] == [4]
    assert len(sampler) == 4
    assert list(sampler) == train.plan(0, 4, 2, 1, drop_last=True)
    assert train.report().samples == 8


def test_a_state_with_another_end_of_the_epoch_is_refused() -> None:
    state = blend(epoch_length=11).sampler(4, drop_last=True).state_dict()
    with pytest.raises(DataError, match=r"samples_per_epoch +8 +11"):
        blend(epoch_length=11).sampler(4).load_state_dict(state)


def test_an_epoch_of_half_a_pass_shows_half_of_the_real_cases() -> None:
    train = blend(real_passes=0.4, ratio=0)
    assert len(train) == 2
    cases = [key.index for epoch in range(5) for key in train.plan(epoch)]
    assert sorted(cases[:5]) == sorted(cases[5:]) == [0, 1, 2, 3, 4]
    with pytest.raises(DataError, match="epochs must be an integer ≥ 1"):
        blend(epochs=0)
