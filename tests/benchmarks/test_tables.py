"""Tables, charts and the page that is made of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image

from benchmarks.chart import draw
from benchmarks.contest import Score
from benchmarks.contest import Standing
from benchmarks.markdown import bars_table
from benchmarks.markdown import duration
from benchmarks.markdown import standing_table
from benchmarks.tables import PAGE
from benchmarks.tables import page
from benchmarks.timing import RESULTS
from benchmarks.timing import Timing
from nvgen_aug.record import RunRecord

OURS = Score(
    "ours", is_ours=True, items=6, timing=Timing((2.0, 3.0, 4.0)), error=1e-6, peak_mib=12.3
)
PEER = Score("peer", items=6, note="as it is", timing=Timing((30.0,)))
FAILED = Score("other", failure="MemoryError: no room")
STANDING = Standing("a title", (OURS, PEER, FAILED), "relative RMS", "sample").to_dict()


def test_a_table_has_the_time_with_its_spread_the_rate_the_memory_and_the_error() -> None:
    lines = [[cell.strip() for cell in line.split("|")] for line in table_lines()]
    assert lines[0][1:7] == [
        "",
        "median",
        "least to greatest",
        "samples / s",
        "peak memory",
        "relative RMS",
    ]
    ours = ["**ours**", "3.00 s", "2.00 s to 4.00 s, 3 runs", "2", "12 MiB", "1.0e-06"]
    assert lines[2][1:7] == ours
    assert lines[3][1:7] == ["peer", "30.0 s", "30.0 s to 30.0 s, 1 runs", "0.2", "–", "–"]


def test_what_failed_is_not_measured_and_says_why() -> None:
    assert [cell.strip() for cell in table_lines()[4].split("|")][2:4] == [
        "not measured",
        "MemoryError: no room",
    ]


def test_a_note_stands_below_the_table() -> None:
    assert standing_table(STANDING).endswith("\n\n- peer: as it is")


def table_lines() -> list[str]:
    return [line for line in standing_table(STANDING).splitlines() if line.startswith("|")]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(12.34, "12.3 s"), (1.0, "1.00 s"), (0.0999, "99.9 ms"), (0.5, "500 ms"), (8e-6, "8.00 µs")],
)
def test_a_duration_has_three_digits_and_a_fitting_unit(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_bar_that_is_missed_stands_out_and_one_without_a_figure_is_not_measured() -> None:
    bars = [
        {"name": "a", "value": 3.0, "limit": 2.0, "most": True, "met": False},
        {"name": "b", "value": None, "limit": 2.0, "most": False, "met": None},
    ]
    _, _, missed, unknown = bars_table(bars).splitlines()
    assert "**not met**" in missed
    assert "not measured" in unknown


@pytest.mark.parametrize("x", [None, 64.0])
def test_a_chart_is_a_picture_with_our_colour_in_it(tmp_path: Path, x: float | None) -> None:
    extra = {} if x is None else {"x": x, "x_name": "edge"}
    draw([{**STANDING, **extra}], tmp_path / "chart.png")
    with Image.open(tmp_path / "chart.png") as image:
        colours = {colour for _, colour in image.convert("RGB").getcolors(1 << 24) or ()}
    assert min(image.size) > 100
    assert x is not None or (0x1B, 0x7F, 0x5C) in colours


def test_the_page_is_what_the_records_make() -> None:
    hint = "run `python -m benchmarks.tables`"
    assert PAGE.read_text(encoding="utf-8") == page(RESULTS), hint


def test_every_chart_of_the_page_is_there() -> None:
    links = re.findall(r"!\[.*\]\((.*)\)", page(RESULTS))
    assert links
    assert [link for link in links if not (PAGE.parent / link).is_file()] == []


def test_without_records_every_question_is_not_measured(tmp_path: Path) -> None:
    text = page(tmp_path)
    assert "Measured" not in text
    assert text.count("\nNot measured.\n") == text.count("\n## ") + text.count("\n### On a GPU")


def test_the_page_tells_when_and_under_which_load_it_was_measured(tmp_path: Path) -> None:
    settings = {"load_average": [0.25, 1.0, 2.0]}
    record = RunRecord("benchmarks.hand_over", settings, {"contests": [STANDING]})
    record.write(tmp_path / "hand_over.json")
    text = page(tmp_path)
    assert f"Measured {record.when[:10]}; " in text
    assert "load average 0.2, 1.0, 2.0; " in text
    assert "](images/benchmarks/hand_over.png)" in text
