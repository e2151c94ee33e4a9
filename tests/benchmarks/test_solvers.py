"""The study of solvers picks the cheapest that is good enough."""

from __future__ import annotations

from pathlib import Path

from benchmarks.solvers import as_markdown
from benchmarks.solvers import cheapest
from benchmarks.solvers import draw

ERRORS = {
    "euler": {10: [0.030, 0.050], 20: [0.020, 0.021], 30: [0.010, 0.020]},
    "ab2": {10: [0.011, 0.012], 20: [0.004, 0.006], 30: [0.001, 0.002]},
    "heun": {10: [0.009, 0.014], 20: [0.004, 0.004], 30: [0.001, 0.001]},
}


def test_the_cheapest_has_fewest_evaluations_and_is_no_worse_than_today_for_any_seed() -> None:
    assert cheapest(ERRORS) == ("heun", 10)
    assert cheapest({**ERRORS, "heun": {10: [0.5, 0.5], 20: [0.5, 0.5]}}) == ("ab2", 20)


def test_where_nothing_is_as_good_today_stays() -> None:
    bad = {10: [0.1, 0.1], 20: [0.1, 0.1]}
    errors = {"euler": {**bad, 30: [0.01, 0.01]}, "ab2": bad, "heun": bad}
    assert cheapest(errors) == ("euler", 30)


def test_the_table_has_mean_least_and_greatest_in_percent() -> None:
    rows = as_markdown(ERRORS, 2, 1000).splitlines()
    assert "| 10 | 4.00 (3.00 to 5.00) | 1.15 (1.10 to 1.20) | 1.15 (0.90 to 1.40) |" in rows


def test_the_plot_is_a_picture(tmp_path: Path) -> None:
    draw(ERRORS, tmp_path / "solvers.png")
    assert (tmp_path / "solvers.png").read_bytes().startswith(b"\x89PNG")
