"""Mix: exact counts of synthetic samples, for the run and for each rank."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvgen_aug.errors import RatioError
from nvgen_aug.mix import Mix
from nvgen_aug.mix import share

ratios = st.fractions(0, 1, max_denominator=1000)
worlds = st.integers(1, 9)


@pytest.mark.parametrize("value", [0.3, Decimal("0.3"), Fraction(3, 10)])
def test_a_share_is_read_as_it_prints(value: Any) -> None:
    assert share(value) == Fraction(3, 10)


@pytest.mark.parametrize("value", [0, 1, 0.0, 1.0])
def test_nothing_and_all_are_shares(value: float) -> None:
    assert share(value) == value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (50, r"ratio must lie in \[0, 1\], got 50 \(did you mean 0.5\?\)"),
        (1.5, r"ratio must lie in \[0, 1\], got 1.5$"),
        (-0.1, r"ratio must lie in \[0, 1\], got -0.1$"),
        (1000, "got 1000$"),
        (math.nan, "ratio must be a number in .*, got nan"),
        (math.inf, "got inf"),
        (Decimal("NaN"), "ratio must be a number"),
        ("0.3", "got the text '0.3'; write it without quotes"),
        (True, "got True"),
        (None, "got None"),
        ([0.3], r"got \[0.3\]"),
    ],
)
def test_what_is_no_share_is_refused(value: Any, text: str) -> None:
    with pytest.raises(RatioError, match=text):
        share(value)


@given(ratios, st.integers(0, 10**6))
def test_the_run_is_less_than_one_sample_from_its_share(ratio: Fraction, samples: int) -> None:
    assert 0 <= samples * ratio - Mix(ratio).synthetic_before(samples) < 1


@given(ratios, worlds, st.integers(0, 10**5))
def test_each_rank_is_less_than_one_sample_from_its_share_and_ranks_add_up(
    ratio: Fraction, world: int, samples: int
) -> None:
    mix = Mix(ratio, world)
    counts = [mix.rank_synthetic_before(samples, rank) for rank in range(world)]
    assert all(abs(count - samples * ratio) < 1 for count in counts)
    assert sum(counts) == mix.synthetic_before(samples * world)


@given(ratios, worlds, st.integers(0, 10**4), st.integers(1, 64))
def test_no_batch_has_fewer_than_no_synthetic_samples_or_more_than_its_size(
    ratio: Fraction, world: int, done: int, batch: int
) -> None:
    mix = Mix(ratio, world)
    for rank in range(world):
        before = mix.rank_synthetic_before(done, rank)
        assert 0 <= mix.rank_synthetic_before(done + batch, rank) - before <= batch


def test_a_share_of_30_per_cent_in_batches_of_4_is_1_1_1_1_2() -> None:
    mix = Mix(share(0.3))
    counts = [mix.synthetic_before(4 * (k + 1)) - mix.synthetic_before(4 * k) for k in range(5)]
    assert counts == [1, 1, 1, 1, 2]
