"""A long job tells how far it is, how fast it goes and what is left."""

from __future__ import annotations

import pytest

from nvgen_aug.cli.meter import Meter
from nvgen_aug.cli.meter import Pace
from nvgen_aug.cli.meter import in_bytes


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_what_was_there_already_says_nothing_of_the_rate() -> None:
    pace = Pace(total=100, done=10, skipped=50, seconds=20)
    assert (pace.rate, pace.seconds_left) == (0.5, 80)


def test_before_any_work_nobody_knows_what_is_left() -> None:
    assert Pace(total=100, done=0, skipped=50, seconds=20).seconds_left is None
    assert Pace(total=100, done=0, skipped=100, seconds=0).seconds_left == 0


def test_a_slow_rate_is_told_by_the_minute() -> None:
    clock = Clock()
    meter = Meter("warming", 100, "volume", clock=clock)
    clock.now += 40
    meter.skip(50)
    meter.advance(2)
    assert meter.text() == "52/100, 3.0 volumes/min, 16:00 left"


def test_bytes_are_told_as_people_say_them() -> None:
    clock = Clock()
    meter = Meter("checking", 8e9, clock=clock)
    clock.now += 2
    meter.advance(1e6)
    assert meter.text() == "1.0 MB of 8.0 GB, 500.0 kB/s, 4:26:38 left"


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (3_440_000, "3.4 MB"), (2e15, "2000.0 TB")],
)
def test_sizes_have_a_unit(number: float, text: str) -> None:
    assert in_bytes(number) == text


def test_a_log_gets_a_line_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with Meter("warming [a]", 4, "volume", clock=clock) as meter:
        for seconds in (29, 2, 20, 15):
            clock.now += seconds
            meter.advance()
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(",")[0] for line in lines] == ["warming [a]: 2/4", "warming [a]: 4/4"]


def test_a_terminal_gets_a_bar_with_rate_and_time_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    clock = Clock()
    with Meter("warming [a]", 4, "volume", clock=clock) as meter:
        clock.now += 60
        meter.advance()
    err = capsys.readouterr().err
    assert "warming [a]" in err
    assert "1/4, 1.0 volumes/min, 3:00 left" in err
