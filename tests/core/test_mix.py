"""Mix: exact counts of synthetic samples, for the run and for each rank, under any schedule."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from nvgen_aug.mix import Mix
from nvgen_aug.schedule import Constant
from nvgen_aug.schedule import Linear
from nvgen_aug.schedule import Piecewise
from nvgen_aug.schedule import Schedule
from tests.data.schedules import SCHEDULES

EPOCHS = 4


def by_hand(mix: Mix) -> list[Fraction]:
    """What is asked of one rank at each batch boundary of some epochs: one batch after another."""
    asked = [Fraction(0)]
    for epoch in range(EPOCHS):
        for batch in range(mix.batches):
            time = epoch * mix.batches + batch if mix.schedule.unit == "steps" else epoch
            done = batch * mix.batch_size
            size = min(mix.batch_size, mix.samples_per_rank - done)
            asked.append(asked[-1] + size * mix.schedule.share_at(time))
    return asked


mixes = st.builds(Mix, SCHEDULES, st.integers(1, 7), st.integers(1, 40), st.integers(1, 5))


@settings(deadline=None)
@given(mixes)
def test_what_is_asked_is_the_sum_over_the_samples_of_all_batches(mix: Mix) -> None:
    places = [(epoch, batch) for epoch in range(EPOCHS) for batch in range(mix.batches)]
    asked = by_hand(mix)
    assert [mix.asked(*place) for place in places] == asked[:-1]
    # The end of an epoch is the begin of the next one.
    ends = [mix.asked(epoch, mix.batches) for epoch in range(EPOCHS)]
    assert ends == [mix.asked(epoch + 1) for epoch in range(EPOCHS)]
    assert ends[-1] == asked[-1]


@settings(deadline=None)
@given(mixes)
def test_run_and_ranks_are_less_than_a_sample_off_and_ranks_add_up(mix: Mix) -> None:
    before = [0] * mix.world_size
    for epoch in range(EPOCHS):
        for batch in range(1, mix.batches + 1):
            asked = mix.asked(epoch, batch)
            whole = mix.synthetic_before(epoch, batch)
            counts = [mix.of_rank(whole, rank) for rank in range(mix.world_size)]
            assert sum(counts) == whole
            assert 0 <= mix.world_size * asked - whole < 1
            assert all(abs(count - asked) < 1 for count in counts)
            added = [new - old for new, old in zip(counts, before, strict=True)]
            assert all(0 <= new <= mix.batch_size for new in added)
            before = counts


def counts(schedule: Schedule, batches: int) -> list[int]:
    """Synthetic samples of the first batches of 4."""
    mix = Mix(schedule, 4, 40)
    ends = [mix.synthetic_before(0, batch) for batch in range(batches + 1)]
    return [end - begin for begin, end in pairwise(ends)]


def test_a_share_of_30_per_cent_in_batches_of_4_is_1_1_1_1_2() -> None:
    assert counts(Constant(0.3), 5) == [1, 1, 1, 1, 2]


def test_ten_batches_of_4_at_0_3_and_0_7_and_0_6_have_12_and_28_and_24() -> None:
    assert [sum(counts(Constant(s), 10)) for s in (0.3, 0.7, 0.6)] == [12, 28, 24]
    mix = Mix(Piecewise(steps={0: 0.3, 10: 0.7, 20: 0.6}), 4, 40)
    ends = [mix.synthetic_before(epoch) for epoch in range(4)]
    assert ends == [0, 12, 40, 64]


def test_a_schedule_over_epochs_asks_the_same_whatever_the_batch_size() -> None:
    ramp = Linear(0, 0.5, epochs=3)
    assert len({tuple(Mix(ramp, b, 10).asked(e) for e in range(6)) for b in range(1, 12)}) == 1


def test_an_epoch_far_away_is_answered_from_the_sums() -> None:
    mix = Mix(Linear(0, 1, steps=50), 3, 10)
    assert mix.asked(5000) == mix.asked(100) + 4900 * 10
