"""Contests: whose turn it is, what is kept of a run, and when a bar is met."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from benchmarks.contest import Bar
from benchmarks.contest import Entrant
from benchmarks.contest import Score
from benchmarks.contest import Standing
from benchmarks.contest import hold
from benchmarks.memory import peak_mib
from benchmarks.timing import Timing


def recorder(calls: list[str], name: str) -> Entrant:
    return Entrant(name, lambda: calls.append(name))


def standing(**seconds: float) -> Standing:
    scores = tuple(Score(name, timing=Timing((value,))) for name, value in seconds.items())
    return Standing("a title", scores)


def broken() -> None:
    raise MemoryError("no room\nand more of it")


def test_all_run_once_uncounted_and_then_in_turns_that_begin_one_further_each_round() -> None:
    calls: list[str] = []
    hold("", [recorder(calls, name) for name in "abc"], rounds=3, memory=False)
    assert "".join(calls) == "abc" + "abc" + "bca" + "cab"


def test_the_run_for_memory_is_not_counted() -> None:
    calls: list[str] = []
    found = hold("", [recorder(calls, "a")], rounds=2)
    assert (len(calls), len(found["a"].timing.seconds)) == (4, 2)  # type: ignore[union-attr]


def test_after_the_budget_no_further_round_begins_but_one_is_always_run() -> None:
    calls: list[str] = []
    hold("", [recorder(calls, "a")], rounds=9, budget_seconds=-1.0, memory=False)
    assert len(calls) == 2


def test_the_error_is_that_of_an_entrants_first_result() -> None:
    found = hold("", [Entrant("a", lambda: 3.0)], rounds=1, check=lambda x: x - 1.0, memory=False)
    assert found["a"].error == 2.0


def test_a_peer_that_fails_is_a_result_and_the_others_go_on() -> None:
    entrants = [Entrant("peer", broken, may_fail=True), Entrant("ours", lambda: None)]
    found = hold("", entrants, rounds=1, memory=False)
    assert found["peer"].failure == "MemoryError: no room"
    assert found["peer"].timing is None
    assert found["ours"].timing is not None
    assert np.isnan(found.times_faster("ours", "peer"))


def test_ours_must_not_fail() -> None:
    with pytest.raises(MemoryError):
        hold("", [Entrant("ours", broken)], rounds=1, memory=False)


def test_the_ratio_is_of_medians() -> None:
    slow = Score("slow", timing=Timing((1.0, 8.0, 90.0)))
    fast = Score("fast", timing=Timing((0.5, 2.0, 3.0)))
    assert Standing("", (slow, fast)).times_faster("fast", "slow") == 4.0


@pytest.mark.parametrize(
    ("value", "is_most", "is_met"),
    [(2.0, False, True), (1.9, False, False), (2.0, True, True), (2.1, True, False)],
)
def test_a_bar_is_met_on_its_own_side(value: float, is_most: bool, is_met: bool) -> None:
    assert Bar("", value, 2.0, is_most).is_met is is_met


@pytest.mark.parametrize("value", [None, float("nan")])
def test_without_a_figure_a_bar_is_neither_met_nor_missed(value: float | None) -> None:
    assert Bar("", value, 2.0).to_dict() == {
        "name": "",
        "value": None,
        "limit": 2.0,
        "most": False,
        "met": None,
    }


def filled(mib: int) -> Callable[[], object]:
    return lambda: np.ones(mib << 20, np.uint8)


def test_peak_memory_counts_what_was_given_back_before_the_end() -> None:
    def run() -> None:
        filled(200)()

    peak = peak_mib(run)
    if peak is None:
        pytest.skip("this system does not tell the peak of a process")
    assert 190 < peak < 260


def test_peak_memory_leaves_out_what_was_held_before() -> None:
    held = filled(200)()
    peak = peak_mib(filled(64))
    del held
    if peak is None:
        pytest.skip("this system does not tell the peak of a process")
    assert 60 < peak < 110
