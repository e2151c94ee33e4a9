"""LabelMap: names of the vocabulary to ids of the task."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from nvgen_aug.errors import LabelError
from nvgen_aug.generators.phantom import PhantomGenerator
from nvgen_aug.labels import LabelMap

CARD = PhantomGenerator().card
ALL = np.arange(4, dtype=np.uint8)


@pytest.mark.parametrize(
    ("others", "expected"), [("background", [0, 0, 5, 0]), ("ignore", [0, 255, 5, 255])]
)
def test_labels_that_are_not_named_follow_the_policy(others: str, expected: list[int]) -> None:
    mapped = LabelMap({"organ": 5}, others=others).bind(CARD)(ALL)
    assert mapped.tolist() == expected
    assert mapped.dtype == np.uint8


def test_the_policy_error_names_the_labels_that_came() -> None:
    bound = LabelMap({"organ": 5}, others="error").bind(CARD)
    with pytest.raises(LabelError, match=r"labels 1 \(`body`\), 3 \(`lesion`\) are not in"):
        bound(ALL)
    assert bound(np.array([0, 2], np.uint8)).tolist() == [0, 5]


def test_an_id_outside_the_vocabulary_is_an_error_too() -> None:
    bound = LabelMap({"organ": 5}, others="error").bind(CARD)
    with pytest.raises(LabelError, match=r"77 \(`not in the vocabulary`\)"):
        bound(np.array([77], np.uint8))


def test_several_names_may_share_an_id_and_the_shape_stays() -> None:
    bound = LabelMap({"organ": 1, "lesion": 1}, others="background").bind(CARD)
    assert bound(ALL.reshape(1, 2, 2, 1)).tolist() == [[[[0], [0]], [[1], [1]]]]


def test_a_name_that_the_vocabulary_lacks_comes_with_close_matches() -> None:
    with pytest.raises(LabelError, match=r"`phantom` has no label `Organ`; did you mean `organ`?"):
        LabelMap({"Organ": 1}, others="background").bind(CARD)


def test_a_name_like_no_other_comes_with_all_names() -> None:
    with pytest.raises(LabelError, match="known are `background`, `body`, `lesion`, `organ`"):
        LabelMap({"xyz": 1}, others="background").bind(CARD)


def test_a_variant_without_labels_has_nothing_to_map() -> None:
    with pytest.raises(LabelError, match="makes images without labels"):
        LabelMap({"organ": 1}, others="background").bind(replace(CARD, has_labels=False))


@pytest.mark.parametrize(
    ("names", "others", "text"),
    [
        ({}, "background", "needs at least one name"),
        ({"organ": 256}, "background", r"`organ` must map to an integer in \[0, 255\], got 256"),
        ({"organ": -1}, "background", r"in \[0, 255\], got -1"),
        ({"organ": 1.5}, "background", r"in \[0, 255\], got 1.5"),
        ({"organ": True}, "background", r"in \[0, 255\], got True"),
        ({"organ": 1}, "drop", "others must be one of .*, got 'drop'"),
    ],
)
def test_a_wrong_map_is_refused_at_once(names: Any, others: str, text: str) -> None:
    with pytest.raises(LabelError, match=text):
        LabelMap(names, others=others)


@pytest.mark.parametrize("index", [-100, -1, 256, 1.5, True])
def test_an_ignore_index_that_a_label_cannot_hold_is_refused(index: Any) -> None:
    with pytest.raises(LabelError, match=r"ignore_index must be an integer in \[0, 255\], got"):
        LabelMap({"organ": 1}, others="ignore", ignore_index=index)
