"""Schedules: exact shares and sums, their texts, and what is refused."""

from __future__ import annotations

import copy
import math
import pickle
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from nvgen_aug.errors import RatioError
from nvgen_aug.schedule import Constant
from nvgen_aug.schedule import Cosine
from nvgen_aug.schedule import Linear
from nvgen_aug.schedule import Piecewise
from nvgen_aug.schedule import Schedule
from nvgen_aug.schedule import as_schedule
from nvgen_aug.schedule_text import schedule_from_text
from tests.data.schedules import SCHEDULES


@settings(deadline=None)
@given(SCHEDULES, st.integers(0, 60))
def test_a_total_is_the_sum_of_the_shares_before(schedule: Schedule, time: int) -> None:
    assert schedule.total(time) == sum(map(schedule.share_at, range(time)), Fraction(0))


@settings(deadline=None)
@given(SCHEDULES)
def test_shares_lie_between_least_and_most_and_stay_after_the_duration(schedule: Schedule) -> None:
    shares = [schedule.share_at(time) for time in range(schedule.duration + 9)]
    assert all(0 <= schedule.least <= share <= schedule.most <= 1 for share in shares)
    assert len(set(shares[schedule.duration :])) == 1


@settings(deadline=None)
@given(SCHEDULES)
def test_a_schedule_comes_back_from_its_text_its_pickle_and_its_copy(schedule: Schedule) -> None:
    assert schedule_from_text(str(schedule)) == schedule
    assert pickle.loads(pickle.dumps(schedule)) == schedule
    assert copy.deepcopy(schedule) == schedule
    assert hash(copy.deepcopy(schedule)) == hash(schedule)


def test_a_line_starts_at_its_start_and_has_reached_its_end_after_its_epochs() -> None:
    line = Linear(0, 0.5, epochs=10)
    assert [line.share_at(epoch) for epoch in (0, 1, 5, 10, 99)] == [
        0, Fraction(1, 20), Fraction(1, 4), Fraction(1, 2), Fraction(1, 2)
    ]  # fmt: skip


def test_a_cosine_is_the_real_one_to_nine_decimals() -> None:
    wave = Cosine(0.8, 0.2, steps=100)
    for step in range(100):
        exact = 0.2 + 0.6 * (1 + math.cos(math.pi * step / 100)) / 2
        assert abs(float(wave.share_at(step)) - exact) < 1e-9
        assert (wave.share_at(step) - Fraction(1, 5)) / Fraction(3, 5) * 10**9 % 1 == 0
    assert wave.share_at(0) == Fraction(4, 5)
    assert wave.share_at(50) == Fraction(1, 2)
    assert wave.share_at(100) == Fraction(1, 5)


def test_the_clock_of_a_ramp_starts_with_its_piece() -> None:
    trapezoid = Piecewise(epochs={0: Linear(0, 0.4, epochs=4), 6: Linear(0.4, 0, epochs=2)})
    tenths = [trapezoid.share_at(epoch) * 10 for epoch in range(10)]
    assert tenths == [0, 1, 2, 3, 4, 4, 4, 2, 0, 0]


def test_floats_are_read_as_they_print() -> None:
    assert Linear(0.1, 0.7, steps=3).ends == (Fraction(1, 10), Fraction(7, 10))
    assert Piecewise(steps=[(0, 0.3)]).share_at(5) == Fraction(3, 10)
    assert Constant(0.3) == Constant(Fraction(3, 10)) == as_schedule(0.3)


def test_numpy_integers_are_lengths() -> None:
    np = pytest.importorskip("numpy")
    assert Linear(0, 1, epochs=np.int64(4)) == Linear(0, 1, epochs=4)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Constant(1.5), r"share must lie in \[0, 1\], got 1.5"),
        (lambda: Constant(True), "share must be a number"),
        (lambda: Linear(0, 50, epochs=3), r"Linear end must lie .*did you mean 0.5"),
        (lambda: Cosine(-0.1, 0, steps=3), "Cosine start must lie"),
        (lambda: Linear(0, 0.5), r"Linear needs epochs= or steps=, got neither; .*epochs=10"),
        (lambda: Linear(0, 0.5, epochs=1, steps=1), "got both"),
        (lambda: Cosine(0, 0.5, epochs=0), "Cosine epochs must be an integer ≥ 1, got 0"),
        (lambda: Linear(0, 0.5, steps=2.5), "Linear steps must be an integer ≥ 1, got 2.5"),
        (lambda: Piecewise(), "Piecewise needs epochs= or steps=, got neither"),
        (lambda: Piecewise(epochs={}), r"must begin at 0 and rise, got \[\]"),
        (lambda: Piecewise(epochs={5: 0.3}), r"must begin at 0 and rise, got \[5\]"),
        (lambda: Piecewise(steps=[(0, 0), (0, 1)]), r"rise, got \[0, 0\]"),
        (lambda: Piecewise(steps=[(0, 0), (9, 1), (5, 1)]), r"rise, got \[0, 9, 5\]"),
        (lambda: Piecewise(steps={0: 0, 5: 2}), r"share from 5 on must lie in \[0, 1\]"),
        (lambda: Piecewise(steps={"0": 0.5}), "Piecewise steps must be an integer"),
        (lambda: Piecewise(steps=0.5), "must map each begin to a share, got 0.5"),
        (
            lambda: Piecewise(steps={0: Linear(0, 1, epochs=2)}),
            "ramp over steps, got linear:0:1:epochs=2",
        ),
        (lambda: Piecewise(steps={0: Piecewise(steps={0: 1})}), "got piecewise:steps:0=1"),
    ],
)
def test_what_is_no_schedule_is_refused(make: Any, text: str) -> None:
    with pytest.raises(RatioError, match=text):
        make()


@pytest.mark.parametrize(
    ("text", "schedule"),
    [
        ("0.3", Constant(0.3)),
        ("3/10", Constant(0.3)),
        ("0", Constant(0)),
        ("linear:0:0.5:epochs=10", Linear(0, 0.5, epochs=10)),
        ("cosine:1/2:0:steps=2000", Cosine(0.5, 0, steps=2000)),
        ("piecewise:epochs:0=0.5,50=0.25", Piecewise(epochs={0: 0.5, 50: 0.25})),
        (
            "piecewise:steps:0=linear:0:0.5:steps=10,80=0",
            Piecewise(steps={0: Linear(0, 0.5, steps=10), 80: 0}),
        ),
    ],
)
def test_a_text_means_a_schedule(text: str, schedule: Schedule) -> None:
    assert schedule_from_text(text) == schedule


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("much", "is written `0.3` or `3/10`, and a changing one .*epochs=10`, got `much`"),
        ("50", r"did you mean 0.5\?"),
        ("1/0", "got `1/0`"),
        ("liner:0:1:epochs=3", r"there is no schedule `liner`; did you mean `linear`"),
        ("linear:0:1", "written `linear:0:0.5:epochs=10`, got `linear:0:1`"),
        ("linear:0:1:weeks=3", "got `linear:0:1:weeks=3`"),
        ("linear:0:1:epochs=x", "got `x`"),
        ("piecewise:0=0.5", "a piecewise share is written .* got `piecewise:0=0.5`"),
        ("piecewise:epochs:0=0.5,half", "got `piecewise:epochs:0=0.5,half`"),
    ],
)
def test_a_text_that_means_nothing_is_refused_with_the_form(text: str, expected: str) -> None:
    with pytest.raises(RatioError, match=expected):
        schedule_from_text(text)
