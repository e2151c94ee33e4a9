"""The plan: share, order, ranks and reuse, for any lengths."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from dataclasses import astuple
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import assume
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from nvgen_aug.data.plan import Plan
from nvgen_aug.data.plan import SampleKey
from nvgen_aug.data.plan import epoch_length_for
from nvgen_aug.errors import DataError
from nvgen_aug.schedule import Cosine
from nvgen_aug.schedule import Linear
from nvgen_aug.schedule import Piecewise
from nvgen_aug.schedule import Schedule
from tests.data.schedules import SCHEDULES

SHARES = st.fractions(0, 1, max_denominator=40)


def plan(ratio: Schedule | Fraction | str, **arguments: Any) -> Plan:
    share = ratio if isinstance(ratio, Schedule) else Fraction(ratio)
    return Plan(**{"seed": 0, "epoch_length": 24, "real_length": 7, **arguments}, ratio=share)


def what(key: SampleKey) -> tuple[Any, ...]:
    """A key without its place."""
    return key.epoch, key.is_synthetic, key.index, key.reuse, key.volume_seed, key.view_seed


def test_a_share_of_0_3_gives_1_1_1_1_2_synthetic_in_batches_of_4() -> None:
    batches = plan("3/10", epoch_length=40, batch_size=4)
    counts = [sum(key.is_synthetic for key in batches.keys(0, b)) for b in range(10)]
    # The fourth batch ends at 16 samples: floor(4.8) is 4, and the fifth at 20 has 6.
    assert counts == [1, 1, 1, 1, 2] * 2


@settings(max_examples=40, deadline=None)
@given(
    schedule=SCHEDULES,
    length=st.integers(1, 40),
    batch=st.integers(1, 7),
    world=st.integers(1, 5),
    seed=st.integers(0, 2**40),
)
def test_the_delivered_share_is_less_than_a_sample_off_at_every_batch_boundary(
    schedule: Schedule, length: int, batch: int, world: int, seed: int
) -> None:
    run = plan(schedule, epoch_length=length, batch_size=batch, world_size=world, seed=seed)
    seen = [0] * world
    synthetic = [0] * world
    asked = Fraction(0)  # of one rank
    for epoch in range(3):
        for number in range(run.batches):
            time = epoch if schedule.unit == "epochs" else epoch * run.batches + number
            asked += schedule.share_at(time) * len(run.keys(epoch, number))
            for rank in range(world):
                keys = run.keys(epoch, number, rank)
                seen[rank] += len(keys)
                synthetic[rank] += sum(key.is_synthetic for key in keys)
                assert abs(synthetic[rank] - asked) < 1
            assert len(set(seen)) == 1
            assert abs(sum(synthetic) - world * asked) < 1
        assert seen[0] == (epoch + 1) * run.samples_per_rank


@settings(max_examples=20, deadline=None)
@given(
    ratio=SCHEDULES,
    batch=st.sampled_from([4, 8, 12]),
    batches=st.integers(1, 5),
    reuse=st.integers(1, 4),
)
def test_1_2_and_4_ranks_with_one_global_batch_draw_the_same_samples(
    ratio: Schedule, batch: int, batches: int, reuse: int
) -> None:
    def of_ranks(world: int) -> list[Counter[tuple[Any, ...]]]:
        run = plan(
            ratio,
            epoch_length=batch * batches,
            batch_size=batch // world,
            world_size=world,
            max_reuse=reuse,
        )
        return [
            Counter(what(k) for rank in range(world) for k in run.keys(epoch, number, rank))
            for epoch in range(2)
            for number in range(run.batches)
        ]

    assert of_ranks(1) == of_ranks(2) == of_ranks(4)


@settings(max_examples=20, deadline=None)
@given(batch=st.integers(1, 50), reuse=st.integers(1, 5), ratio=SHARES, seed=st.integers(0, 99))
def test_each_volume_of_a_window_is_used_exactly_max_reuse_times_and_never_twice_in_a_batch(
    batch: int, reuse: int, ratio: Fraction, seed: int
) -> None:
    run = plan(ratio, batch_size=batch, max_reuse=reuse, seed=seed, epoch_length=batch)
    window, most = run.reuse.window, run.global_batch
    assert window >= 2 * most
    draws = window * reuse
    used = [run.reuse.volume_of(k) for k in range(2 * draws)]
    assert Counter(v for v, _ in used[:draws]) == dict.fromkeys(range(window), reuse)
    assert Counter(v for v, _ in used[draws:]) == dict.fromkeys(range(window, 2 * window), reuse)
    before: Counter[int] = Counter()
    for volume, use in used:
        assert use == before[volume]
        before[volume] += 1
    for k in range(2 * draws - most + 1):
        assert len({v for v, _ in used[k : k + most]}) == most
    assert run.reuse.distinct(draws + 3) == len({v for v, _ in used[: draws + 3]})


@settings(max_examples=30, deadline=None)
@given(
    ratio=SCHEDULES,
    batch=st.integers(1, 6),
    world=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_real_cases_come_in_the_same_order_and_view_whatever_the_share(
    ratio: Schedule, batch: int, world: int, seed: int
) -> None:
    def real(run: Plan) -> list[tuple[int, int]]:
        """Real draws in the order of the run: global batches, then ranks, then slots."""
        return [
            (key.index, key.view_seed)
            for epoch in range(3)
            for number in range(run.batches)
            for rank in range(run.world_size)
            for key in run.keys(epoch, number, rank)
            if not key.is_synthetic
        ]

    mixed = real(plan(ratio, batch_size=batch, world_size=world, seed=seed))
    alone = real(plan("0", epoch_length=200, seed=seed))
    assert mixed == alone[: len(mixed)]
    # Every pass over the real cases is a permutation.
    for begin in range(0, len(mixed) - 6, 7):
        assert sorted(case for case, _ in mixed[begin : begin + 7]) == list(range(7))


def test_positions_count_an_epoch_over_all_ranks() -> None:
    run = plan("1/3", epoch_length=26, batch_size=3, world_size=2)
    positions = [key.position for rank in range(2) for key in run.epoch(1, rank)]
    assert sorted(positions) == list(range(26))


def test_synthetic_samples_are_not_always_at_the_same_place_of_a_batch() -> None:
    run = plan("1/4", epoch_length=400, batch_size=4)
    slots = Counter(key.position % 4 for key in run.epoch(0) if key.is_synthetic)
    assert set(slots) == {0, 1, 2, 3}


def test_another_seed_gives_another_order() -> None:
    assert list(plan("1/2").epoch(0)) != list(plan("1/2", seed=1).epoch(0))


def test_seeds_fit_into_63_bits_and_views_are_all_different() -> None:
    keys = [key for epoch in range(4) for key in plan("1/2", max_reuse=3).epoch(epoch)]
    assert all(0 <= key.view_seed < 2**63 for key in keys)
    assert len({key.view_seed for key in keys}) == len(keys)


@pytest.mark.parametrize("size", [0, -1, 2.5, True, None])
def test_a_batch_size_that_is_no_positive_integer_is_refused(size: Any) -> None:
    with pytest.raises(DataError, match="batch_size"):
        plan("1/2", batch_size=size)


@settings(max_examples=15, deadline=None)
@given(
    few=SCHEDULES,
    many=SCHEDULES,
    batches=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    reuse=st.integers(1, 4),
    seed=st.integers(0, 99),
)
def test_the_volumes_of_one_arm_are_among_those_of_the_other_at_any_batch_size(
    few: Schedule, many: Schedule, batches: tuple[int, int], reuse: int, seed: int
) -> None:
    def volumes(ratio: Schedule, batch: int) -> set[int]:
        run = plan(ratio, batch_size=batch, max_reuse=reuse, seed=seed, epoch_length=200)
        return {key.index for key in run.epoch(0) if key.is_synthetic}

    one, other = volumes(few, batches[0]), volumes(many, batches[1])
    assert one <= other or other <= one


@settings(max_examples=10, deadline=None)
@given(few=SCHEDULES, many=SCHEDULES, batch=st.integers(1, 300), reuse=st.integers(1, 4))
def test_the_same_draw_has_the_same_volume_at_any_share(
    few: Schedule, many: Schedule, batch: int, reuse: int
) -> None:
    def volumes(ratio: Schedule) -> list[tuple[int, int]]:
        run = plan(ratio, batch_size=batch, max_reuse=reuse, epoch_length=300)
        keys = [key for key in run.epoch(0) if key.is_synthetic]
        return [(key.index, key.reuse) for key in keys]

    one, other = sorted((volumes(few), volumes(many)), key=len)
    assert one == other[: len(one)]


@settings(max_examples=20, deadline=None)
@given(
    ratio=SCHEDULES,
    length=st.integers(1, 40),
    batch=st.integers(1, 7),
    world=st.integers(1, 4),
    drop_last=st.booleans(),
)
def test_uneven_ends_leave_all_ranks_equal_and_repeat_and_skip_nothing(
    ratio: Schedule, length: int, batch: int, world: int, drop_last: bool
) -> None:
    assume(not drop_last or length >= batch * world)
    run = plan(ratio, epoch_length=length, batch_size=batch, world_size=world, drop_last=drop_last)
    real: list[int] = []
    for epoch in range(3):
        sizes = [
            [len(run.keys(epoch, number, rank)) for number in range(run.batches)]
            for rank in range(world)
        ]
        assert all(size == sizes[0] for size in sizes)
        if drop_last:
            assert set(sizes[0]) == {batch}
            assert length - batch * world < len(sizes[0]) * batch * world <= length
        else:
            assert length <= sum(sizes[0]) * world < length + world
        real += [
            key.index
            for number in range(run.batches)
            for rank in range(world)
            for key in run.keys(epoch, number, rank)
            if not key.is_synthetic
        ]
    # The real cases go round whole, across what was dropped at the ends of epochs.
    assert real == [run.case_of(draw) for draw in range(len(real))]


def test_an_epoch_without_a_full_batch_is_refused() -> None:
    with pytest.raises(DataError, match="5 samples has no full batch of 3 on 2 ranks"):
        plan("1/2", epoch_length=5, batch_size=3, world_size=2, drop_last=True)


@pytest.mark.parametrize(
    ("arguments", "digest"),
    [
        ({"ratio": "3/10", "epoch_length": 40, "batch_size": 4}, "225843cdc847c6fe"),
        (
            {"ratio": "1/3", "seed": 5, "epoch_length": 26, "batch_size": 3, "world_size": 2,
             "max_reuse": 3},
            "072f3ca5a9c0253e",
        ),
        (
            {"ratio": "7/11", "seed": 1, "epoch_length": 101, "real_length": 13, "batch_size": 6,
             "world_size": 4, "volume_seed": 9, "max_reuse": 2},
            "0bcb3222c4475ee6",
        ),
        ({"ratio": "0", "epoch_length": 17, "real_length": 5, "batch_size": 4}, "65c83a11e25f58fc"),
        (
            {"ratio": "1", "epoch_length": 17, "real_length": 0, "batch_size": 4, "max_reuse": 2},
            "63845cadf51cb1c6",
        ),
        (
            {"ratio": "1/2", "epoch_length": 300, "real_length": 31, "batch_size": 150,
             "max_reuse": 4},
            "72d17e0a299d3807",
        ),
    ],
)  # fmt: skip
def test_a_constant_share_gives_the_plan_that_earlier_releases_gave(
    arguments: dict[str, Any], digest: str
) -> None:
    run = plan(**arguments)
    sha = hashlib.sha256()
    for epoch in range(3):
        for number in range(run.batches):
            for rank in range(run.world_size):
                for key in run.keys(epoch, number, rank):
                    sha.update(repr(astuple(key)[:7]).encode())
    assert sha.hexdigest()[:16] == digest


def test_the_share_follows_its_schedule() -> None:
    def synthetic(ratio: Schedule, epochs: int = 4) -> list[int]:
        run = plan(ratio, epoch_length=20, batch_size=4)
        return [run.synthetic_in_epoch(epoch) for epoch in range(epochs)]

    assert synthetic(Linear(0, 0.6, epochs=3)) == [0, 4, 8, 12]
    assert synthetic(Piecewise(steps={0: 1, 5: 0, 10: Linear(0, 1, steps=5)})) == [20, 0, 8, 20]
    assert synthetic(Cosine(0.5, 0, epochs=2)) == [10, 5, 0, 0]


@pytest.mark.parametrize(
    ("passes", "length"), [(1, 50), (2, 100), (0.1, 5), (Fraction(1, 3), 17), (Decimal("0.5"), 25)]
)
def test_an_epoch_can_be_counted_in_passes_of_the_real_cases(passes: Any, length: int) -> None:
    assert epoch_length_for(0.3, 35, passes) == length


@pytest.mark.parametrize("passes", [0, -1, math.inf, math.nan, True, "1"])
def test_passes_that_are_no_positive_number_are_refused(passes: Any) -> None:
    with pytest.raises(DataError, match="real_passes must be a number > 0"):
        epoch_length_for(0.3, 35, passes)


def test_a_changing_share_needs_the_length_of_an_epoch() -> None:
    assert epoch_length_for(0.3, 5) == 8
    with pytest.raises(DataError, match=r"linear:0:1/2:epochs=3 .* pass `epoch_length=`.* as 5"):
        epoch_length_for(Linear(0, 0.5, epochs=3), 5)
    with pytest.raises(DataError, match="ratio 1 has no real case"):
        epoch_length_for(1, 5)
