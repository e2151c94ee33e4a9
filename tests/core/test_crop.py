"""Crop and CropRule: boxes inside a volume, and how one is chosen."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvgen_aug.crop import Crop
from nvgen_aug.crop import CropRule
from nvgen_aug.errors import LabelError
from nvgen_aug.errors import SpecError

VOCABULARY = {"background": 0, "organ": 1, "lesion": 2}


def label() -> np.ndarray:
    """An organ with one lesion voxel near a corner."""
    voxels = np.zeros((1, 12, 10, 8), np.uint8)
    voxels[0, 2:9, 2:9, 2:7] = 1
    voxels[0, 10, 1, 1] = 2
    return voxels


@given(st.integers(0, 2**63 - 1), st.tuples(*(st.integers(1, n) for n in (12, 10, 8))))
def test_a_chosen_crop_lies_inside_and_depends_on_the_seed_alone(
    seed: int, size: tuple[int, int, int]
) -> None:
    rule = CropRule(size, centre={"organ": 1, "lesion": 2}, seed=seed)  # type: ignore[arg-type]
    crop = rule.resolve((12, 10, 8), label(), VOCABULARY)
    crop.check_inside((12, 10, 8))
    assert crop.size == size
    assert crop == rule.resolve((12, 10, 8), label(), VOCABULARY)


@pytest.mark.parametrize("seed", range(20))
def test_a_crop_centred_on_a_class_contains_it(seed: int) -> None:
    rule = CropRule((4, 4, 4), centre={"lesion": 1}, seed=seed)  # type: ignore[arg-type]
    crop = rule.resolve((12, 10, 8), label(), VOCABULARY)
    assert (label()[0][crop.slices] == 2).any()


def test_classes_that_are_absent_leave_the_place_to_chance() -> None:
    rule = CropRule((4, 4, 4), centre={"lesion": 1})  # type: ignore[arg-type]
    empty = np.zeros((1, 12, 10, 8), np.uint8)
    starts = {rule.seeded(s).resolve((12, 10, 8), empty, VOCABULARY).start for s in range(30)}
    assert len(starts) > 10


def test_weights_say_how_often_a_class_is_the_centre() -> None:
    rule = CropRule((1, 1, 1), centre={"organ": 3, "lesion": 1})  # type: ignore[arg-type]
    hits = sum(
        int(label()[0][rule.seeded(s).resolve((12, 10, 8), label(), VOCABULARY).slices].item() == 1)
        for s in range(200)
    )
    assert 130 < hits < 170


def test_the_affine_moves_with_the_box() -> None:
    affine = np.diag([2.0, 3.0, 4.0, 1.0])
    moved = Crop((1, 2, 3), (4, 4, 4)).moved(affine)
    np.testing.assert_array_equal(moved[:3, 3], [2, 6, 12])
    np.testing.assert_array_equal(affine[:3, 3], 0)


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: Crop((0, 0), (1, 1, 1)), SpecError, "crop start must be three integers"),  # type: ignore[arg-type]
        (lambda: Crop((0, 0, -1), (1, 1, 1)), SpecError, "crop start must be ≥ 0"),
        (lambda: Crop((0, 0, 0), (1, 0, 1)), SpecError, "crop size must be ≥ 1"),
        (lambda: Crop((8, 0, 0), (8, 8, 8)).check_inside((12, 10, 8)), SpecError, "leaves the"),
        (
            lambda: CropRule((13, 1, 1)).resolve((12, 10, 8), None, VOCABULARY),
            SpecError,
            r"crop size \(13, 1, 1\) is larger than the volume of \(12, 10, 8\) voxels",
        ),
        (lambda: CropRule((1, 1, 1), centre={"lesion": 0}), SpecError, "centre weights must be"),  # type: ignore[arg-type]
        (
            lambda: CropRule((1, 1, 1), centre={"lesoin": 1}).check_names(VOCABULARY),  # type: ignore[arg-type]
            LabelError,
            "crop centre `lesoin` is not a label; did you mean `lesion`?",
        ),
    ],
)
def test_a_wrong_crop_says_what_is_wrong(make: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        make()
