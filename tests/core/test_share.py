"""Share: numbers in [0, 1] as exact fractions."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from nvgen_aug.errors import RatioError
from nvgen_aug.share import share


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


def test_an_error_calls_a_share_by_its_name() -> None:
    with pytest.raises(RatioError, match=r"^end must lie in \[0, 1\], got 2 \(did you mean 0.02"):
        share(2, "end")
