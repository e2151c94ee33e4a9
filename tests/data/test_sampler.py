"""SyntheticRealSampler: what a loader sees, prefetching and resuming."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import torch.distributed
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler

from nvgen_aug.data.plan import SampleKey
from nvgen_aug.data.synthetic import SyntheticDataset
from nvgen_aug.data.synthetic_real import SyntheticRealDataset
from nvgen_aug.errors import DataError
from nvgen_aug.errors import ServerUnavailable
from nvgen_aug.recipe import Recipe
from nvgen_aug.schedule import Cosine
from nvgen_aug.schedule import Linear
from nvgen_aug.schedule import Schedule
from tests.data.phantoms import LABELS
from tests.data.phantoms import RECIPE
from tests.data.phantoms import PhantomSource
from tests.data.phantoms import real_cases
from tests.data.phantoms import synthetic
from tests.data.schedules import SCHEDULES


def blend(
    ratio: Schedule | float = 0.5, source: PhantomSource | None = None, **more: Any
) -> SyntheticRealDataset:
    volumes = synthetic(source, max_reuse=more.pop("max_reuse", 2))
    return SyntheticRealDataset(real_cases(), volumes, ratio=ratio, **more)


def test_a_sampler_is_a_distributed_sampler_that_yields_the_plan() -> None:
    train = blend(epoch_length=9)
    sampler = train.sampler(batch_size=2, num_replicas=2, rank=1)
    assert isinstance(sampler, DistributedSampler)
    assert list(sampler) == train.plan(0, batch_size=2, num_replicas=2, rank=1)
    assert len(sampler) == 5 == len(list(sampler))


def test_dataset_and_sampler_share_the_epoch() -> None:
    train = blend(epoch_length=8)
    sampler = train.sampler(4)
    train.set_epoch(3)
    assert list(sampler) == train.plan(3, batch_size=4)
    sampler.set_epoch(5)
    assert train[0]["provenance"] == train[train.plan(5)[0]]["provenance"]
    assert {key.epoch for key in sampler} == {5}
    with pytest.raises(DataError, match="epoch"):
        train.set_epoch(-1)


def test_ranks_that_make_no_sense_are_refused() -> None:
    train = blend()
    with pytest.raises(DataError, match="rank must be given"):
        train.sampler(4, num_replicas=2)
    with pytest.raises(DataError, match=r"\[0, 1\], got 2"):
        train.sampler(4, num_replicas=2, rank=2)
    with pytest.raises(DataError, match="batch_size"):
        train.sampler(0)


def test_ranks_come_from_torch_distributed_where_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 3)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 2)
    train = blend(epoch_length=9)
    assert list(train.sampler(2)) == train.plan(0, batch_size=2, num_replicas=3, rank=2)


def test_new_volumes_are_announced_ahead_once_and_boundedly() -> None:
    source = PhantomSource()
    train = blend(0.5, source, epoch_length=400, max_reuse=1)
    keys = iter(train.sampler(4))
    next(keys)
    first = len(source.prefetched)
    assert 8 <= first <= 10
    for _ in range(399):
        next(keys)
    assert len(source.prefetched) == len(set(source.prefetched))
    assert len(source.prefetched) <= 200 + 10
    wanted = [train.synthetic.spec(k.index) for k in train.plan(0, 4) if k.is_synthetic]  # type: ignore[union-attr]
    assert source.prefetched[: len(wanted)] == wanted
    assert source.fetched == []


def test_reused_volumes_are_not_announced_again() -> None:
    source = PhantomSource()
    train = blend(0.5, source, epoch_length=400, max_reuse=4)
    list(train.sampler(4))
    assert len(source.prefetched) <= 64 + 8


def test_a_source_that_is_gone_does_not_stop_the_plan() -> None:
    class Gone(PhantomSource):
        __slots__ = ()

        def prefetch(self, specs: Any) -> None:
            msg = "nobody answers"
            raise ServerUnavailable(msg)

    assert len(list(blend(0.5, Gone(), epoch_length=8).sampler(4))) == 8


def run_of(
    train: SyntheticRealDataset, batch: int, world: int, epochs: int
) -> list[list[SampleKey]]:
    keys = []
    for epoch in range(epochs):
        for rank in range(world):
            keys.append(train.plan(epoch, batch, world, rank))
    return keys


@settings(max_examples=25, deadline=None)
@given(
    ratio=SCHEDULES,
    length=st.integers(1, 30),
    batch=st.integers(1, 5),
    world=st.integers(1, 3),
    stops=st.lists(st.integers(0, 30), min_size=1, max_size=3),
)
def test_a_resumed_run_repeats_and_skips_nothing(
    ratio: Schedule, length: int, batch: int, world: int, stops: list[int]
) -> None:
    state = None
    walked: list[list[SampleKey]] = [[] for _ in range(world)]
    whole = blend(ratio, epoch_length=length)
    batches = whole.sampler(batch, world, 0).plan.batches
    for stop in [*sorted({min(stop, batches) for stop in stops}), batches]:
        train = blend(ratio, epoch_length=length)
        done = 0
        for rank in range(world):
            sampler = train.sampler(batch, world, rank)
            if state is not None:
                train.resume(json.loads(json.dumps(state)))
                done = -(-state["samples_done"] // world // batch)
            else:
                train.set_epoch(1)
            keys = iter(sampler)
            for _ in range(min((stop - done) * batch, len(sampler) - len(walked[rank]))):
                walked[rank].append(next(keys))
        train.set_epoch(1)
        state = train.checkpoint(stop)
    assert walked == [whole.plan(1, batch, world, rank) for rank in range(world)]


def test_after_a_resumed_epoch_the_next_one_is_whole() -> None:
    train = blend(epoch_length=8)
    sampler = train.sampler(2)
    train.set_epoch(1)
    state = train.checkpoint(3)
    again = blend(epoch_length=8)
    sampler = again.sampler(2)
    again.resume(state)
    again.set_epoch(1)
    assert list(sampler) == train.plan(1, 2)[6:]
    assert list(sampler) == train.plan(1, 2)
    again.set_epoch(2)
    assert list(sampler) == train.plan(2, 2)


def test_going_to_another_epoch_forgets_the_place() -> None:
    train = blend(epoch_length=8)
    sampler = train.sampler(2)
    train.resume(train.checkpoint(3))
    train.set_epoch(1)
    train.set_epoch(0)
    assert len(list(sampler)) == 8


def test_a_state_may_be_given_before_the_sampler_is_made() -> None:
    train = blend(epoch_length=8)
    train.sampler(2)
    state = train.checkpoint(3)
    other = blend(epoch_length=8)
    other.resume(state)
    with pytest.raises(DataError, match=r"global_batch +2 +4"):
        other.sampler(4)
    assert list(other.sampler(2)) == train.plan(0, 2)[6:]


def test_another_number_of_ranks_with_the_same_global_batch_goes_on() -> None:
    train = blend(epoch_length=24)
    train.sampler(4)
    state = train.checkpoint(2)
    other = blend(epoch_length=24)
    sampler = other.sampler(2, 2, 1)
    other.resume(state)
    assert list(sampler) == train.plan(0, 2, 2, 1)[4:]


def test_a_state_of_another_configuration_is_refused_with_the_difference() -> None:
    train = blend(epoch_length=8)
    with pytest.raises(DataError, match="sampler"):
        train.checkpoint(0)
    train.sampler(2)
    state = train.checkpoint(1)
    other = blend(0.3, epoch_length=8, seed=4)
    other.sampler(4)
    with pytest.raises(DataError) as caught:
        other.resume(state)
    assert str(caught.value).splitlines() == [
        "the state is of another run:",
        "  setting       saved  now",
        "  seed          0      4",
        "  ratio         1/2    3/10",
        "  global_batch  2      4",
        "restore these settings, or start anew without the state",
    ]
    with pytest.raises(DataError, match="checkpoint"):
        train.resume({"epoch": 1})
    with pytest.raises(DataError, match="batches_done"):
        train.checkpoint(5)


def test_another_schedule_is_refused_with_both_and_the_same_one_goes_on() -> None:
    train = blend(Linear(0, 0.5, epochs=10), epoch_length=8)
    train.sampler(2)
    state = json.loads(json.dumps(train.checkpoint(1)))
    other = blend(Cosine(0, 0.5, epochs=10), epoch_length=8)
    sampler = other.sampler(2)
    difference = r"ratio +linear:0:1/2:epochs=10  cosine:0:1/2:epochs=10\n"
    with pytest.raises(DataError, match=difference):
        other.resume(state)
    with pytest.raises(DataError, match=difference):
        sampler.load_state_dict(state)
    constant = blend(0.5, epoch_length=8)
    constant.sampler(2)
    with pytest.raises(DataError, match=r"ratio .* 1/2\n"):
        constant.resume(state)
    same = blend(Linear(0.0, 0.5, epochs=10), epoch_length=8)
    sampler = same.sampler(2)
    same.resume(state)
    assert list(sampler) == train.plan(0, 2)[2:]


def test_other_volumes_are_refused_with_the_place_where_the_recipes_differ() -> None:
    def state_of(recipe: Recipe) -> Any:
        volumes = SyntheticDataset(PhantomSource(), recipe, labels=LABELS)
        train = SyntheticRealDataset(real_cases(), volumes, ratio=0.5, epoch_length=8)
        train.sampler(2)
        return train, json.loads(json.dumps(train.checkpoint(1)))

    _, state = state_of(RECIPE)
    train, _ = state_of(replace(RECIPE, pathology_share=0.25))
    difference = r"volumes.recipe  ….*pathology_share=1.0.*…  ….*pathology_share=0.25.*…\n"
    with pytest.raises(DataError, match=difference):
        train.resume(state)


def test_a_sampler_s_own_state_goes_on_after_the_last_key() -> None:
    train = blend(epoch_length=8)
    sampler = train.sampler(2)
    train.set_epoch(2)
    keys = iter(sampler)
    head = [next(keys) for _ in range(4)]
    other = blend(epoch_length=8)
    again = other.sampler(2)
    again.load_state_dict(sampler.state_dict())
    assert again.state_dict() == sampler.state_dict()
    assert head + list(again) == train.plan(2, 2)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stateful_loader_goes_on_in_the_middle_of_an_epoch(workers: int) -> None:
    loaders = pytest.importorskip("torchdata.stateful_dataloader", reason="torchdata is missing")

    def loader() -> Any:
        train = blend(epoch_length=12)
        return loaders.StatefulDataLoader(
            train, batch_size=2, sampler=train.sampler(2), num_workers=workers
        )

    def texts(batches: Any) -> list[Any]:
        return [batch["provenance"] for batch in batches]

    whole = texts(loader())
    first = loader()
    batches = iter(first)
    head = texts(next(batches) for _ in range(2))
    state = first.state_dict()
    del batches
    second = loader()
    second.load_state_dict(state)
    assert head + texts(second) == whole


@pytest.mark.parametrize(("workers", "to_its_end"), [(0, False), (0, True), (2, True)])
def test_a_stateful_loader_goes_on_twice_in_an_epoch_and_after_its_end(
    workers: int, to_its_end: bool
) -> None:
    loaders = pytest.importorskip("torchdata.stateful_dataloader", reason="torchdata is missing")
    state: Any = None
    found: list[list[str]] = [[], []]
    # Three runs of two batches each, the third of which ends the epoch; then the next epoch.
    for epoch, batches in ((0, 2), (0, 2), (0, 2), (1, 6)):
        train = blend(epoch_length=12)
        loader = loaders.StatefulDataLoader(
            train, batch_size=2, sampler=train.sampler(2), num_workers=workers
        )
        if state is not None:
            loader.load_state_dict(state)
        train.set_epoch(epoch)
        walk = iter(loader)
        for _ in range(batches):
            found[epoch] += next(walk)["provenance"]
        if len(found[epoch]) == 12 and to_its_end:
            assert next(walk, None) is None
        state = loader.state_dict()
        del walk
    for epoch in range(2):
        assert found[epoch] == [train[key]["provenance"] for key in train.plan(epoch, 2)]


def test_persistent_workers_follow_the_epoch() -> None:
    train = blend(epoch_length=6)
    loader = DataLoader(
        train, batch_size=2, sampler=train.sampler(2), num_workers=1, persistent_workers=True
    )
    for epoch in range(3):
        train.set_epoch(epoch)
        found = [text for batch in loader for text in batch["provenance"]]
        assert found == [train[key]["provenance"] for key in train.plan(epoch, 2)]
