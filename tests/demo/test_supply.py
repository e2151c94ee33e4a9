"""The line that states demand and supply of synthetic volumes."""

from __future__ import annotations

from dataclasses import replace

from nvgen_aug.demo.supply import Forecast
from nvgen_aug.demo.supply import Supply

SLOW = Forecast(
    draws=144,
    distinct=64,
    missing=64,
    draws_per_step=0.6,
    seconds_per_step=0.3,
    seconds_per_volume=3.0,
    steps=240,
)
DONE = Supply(
    draws=144,
    distinct=64,
    generated=64,
    from_cache=0,
    seconds_generating=192.0,
    seconds_per_volume=3.0,
    demand_per_second=2.0,
    supply_per_second=1 / 3,
    seconds_waiting=190.0,
    seconds_waiting_real=1.0,
)


def test_a_slow_generator_makes_training_wait_and_the_line_says_how_long() -> None:
    assert str(SLOW) == (
        "demand 2 volumes/s, supply 0.33 volumes/s (3 s each) → 64 of 64 volumes to make for "
        "144 draws; training waits about 192 s for them"
    )


def test_a_generator_of_its_own_works_while_training_does() -> None:
    # 64 volumes are drawn in 64 / 0.6 steps of 0.3 s, in which the other device works too.
    assert replace(SLOW, is_shared=False).seconds_waiting == 192 - 64 / 0.6 * 0.3


def test_a_fast_generator_keeps_nobody_waiting() -> None:
    fast = replace(SLOW, seconds_per_volume=0.1, is_shared=False)
    assert str(fast).endswith("training need not wait")


def test_a_filled_cache_is_said() -> None:
    assert "nothing is generated" in str(replace(SLOW, missing=0, seconds_per_volume=0.0))


def test_a_share_of_zero_is_said() -> None:
    assert "the share is 0" in str(replace(SLOW, draws=0, distinct=0, missing=0, draws_per_step=0))


def test_the_estimate_counts_both_runs_and_the_waiting() -> None:
    assert SLOW.seconds == 2 * 240 * 0.3 + 192


def test_draws_beyond_the_distinct_volumes_are_reuse() -> None:
    assert (DONE.reused, DONE.cache_hits) == (80, 80)


def test_a_run_from_the_cache_says_that_nothing_was_generated() -> None:
    warm = replace(DONE, generated=0, from_cache=64)
    assert "all from the cache: nothing was generated" in str(warm)
