"""The measures of `tiny-brain`'s quality, and the card that quotes them."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.lesion_count import LesionCount
from benchmarks.linear_code import LinearCode
from benchmarks.linear_code import psnr
from benchmarks.timing import RESULTS
from benchmarks.tiny_brain_quality import card_table
from nvgen_aug.generators.maisi.variants import TINY_BRAIN
from nvgen_aug.record import RunRecord


def cube(low: int, edge: int) -> np.ndarray:
    mask = np.zeros((24, 24, 24), bool)
    mask[(slice(low, low + edge),) * 3] = True
    return mask


def test_a_lesion_is_found_when_a_quarter_of_its_voxels_is() -> None:
    lesion, quarter, less = cube(2, 4), cube(2, 4), cube(2, 4)
    quarter[3:] = False
    less[3:] = False
    less[2, 2, 2] = False
    assert LesionCount.of(lesion, quarter) == LesionCount(promised=1, found=1, false=0)
    assert LesionCount.of(lesion, less) == LesionCount(promised=1, found=0, false=0)


def test_lesions_under_ten_voxels_do_not_count() -> None:
    assert LesionCount.of(cube(2, 2), cube(10, 2)) == LesionCount(promised=0, found=0, false=0)


def test_a_lesion_where_the_mask_has_none_is_false() -> None:
    truth = cube(2, 4)
    assert LesionCount.of(truth, truth | cube(12, 4)) == LesionCount(promised=1, found=1, false=1)


def test_parts_that_touch_over_a_corner_are_one_lesion() -> None:
    assert LesionCount.of(cube(2, 3) | cube(5, 3), cube(2, 3)).promised == 1


def test_a_linear_code_of_all_components_loses_nothing_and_of_fewer_loses_more() -> None:
    rng = np.random.default_rng(0)
    image = rng.normal(size=(1, 16, 16, 16)).astype(np.float32)
    everywhere = np.ones_like(image, bool)
    scores = [
        psnr(image[0], LinearCode.fit(image, everywhere, count).restore(image[0]), everywhere[0])
        for count in (4, 32)
    ]
    whole = LinearCode.fit(image, everywhere, 64).restore(image[0])
    np.testing.assert_allclose(whole, image[0], atol=1e-5)
    assert scores[0] < scores[1]


def test_psnr_is_the_ratio_of_the_brightest_voxels_to_the_error_inside_the_mask() -> None:
    image = np.full((4, 4, 4), 2.0, np.float32)
    restored = image + np.float32(0.02)
    mask = np.ones_like(image, bool)
    mask[0] = False
    restored[0] = 100.0
    assert psnr(image, restored, mask) == pytest.approx(40.0, abs=1e-3)


def test_the_model_card_quotes_the_record() -> None:
    record = RunRecord.read(RESULTS / "tiny_brain_quality.json")
    card = (TINY_BRAIN.folder / "card.md").read_text(encoding="utf-8")
    assert card_table(record.numbers) in card
    assert not record.settings["quick"]
