"""Condition: a question about a sample, as text and as an answer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvgen_aug.condition import Condition
from nvgen_aug.errors import DataError

NAMES = st.sampled_from(["lesion", "hepatic tumor", "left lung upper lobe", "T1-weighted", "rib 4"])
EDGES = st.floats(0.5, 90).map(lambda mm: round(mm, 1))


@given(name=NAMES, edges=st.tuples(EDGES, EDGES), kind=st.integers(0, 4))
def test_a_condition_is_what_its_text_says(
    name: str, edges: tuple[float, float], kind: int
) -> None:
    low, high = min(edges), round(max(edges) + 0.1, 1)
    condition = (
        Condition(name),
        Condition(name, below=high),
        Condition(name, least=low),
        Condition(name, low, high),
        Condition(name, value="GE"),
    )[kind]
    assert Condition.parse(str(condition)) == condition


@pytest.mark.parametrize(
    ("text", "diameters", "holds"),
    [
        ("lesion", [4.0], True),
        ("lesion", [], False),
        ("lesion < 10 mm", [30.0, 9.9], True),
        ("lesion < 10 mm", [10.0], False),
        ("lesion 10-20 mm", [10.0], True),
        ("lesion 10-20 mm", [20.0, 9.0], False),
        ("lesion >= 20 mm", [20.0], True),
        ("scanner=GE", [], True),
        ("scanner = Siemens", [], False),
    ],
)
def test_one_region_of_that_size_is_enough(text: str, diameters: list[float], holds: bool) -> None:
    assert Condition.parse(text).holds({"lesion": diameters}, {"scanner": "GE"}) is holds


@pytest.mark.parametrize("text", ["", "lesion <", "lesion < 10", "lesion 10 mm", "a=b=c", "< 3 mm"])
def test_a_text_of_another_form_is_refused_with_the_forms(text: str) -> None:
    with pytest.raises(DataError, match="a condition is written `lesion`, `lesion < 10 mm`"):
        Condition.parse(text)


def test_sizes_must_rise() -> None:
    with pytest.raises(DataError, match="least < greatest"):
        Condition.parse("lesion 20-10 mm")
