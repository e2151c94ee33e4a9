"""A mask that was drawn is cleaned into one that a body could have."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from nvgen_aug.generators.maisi.masks.clean_up import cleaned_up

Label = NDArray[np.uint8]


def body() -> Label:
    label = np.zeros((40, 40, 40), np.uint8)
    label[4:36, 4:36, :] = 200
    return label


def box(label: Label, at: tuple[int, int, int], edge: int, identity: int) -> None:
    x, y, z = at
    label[x : x + edge, y : y + edge, z : z + edge] = identity


def test_what_lies_beside_the_body_or_hangs_on_it_by_a_thread_is_air() -> None:
    label = body()
    box(label, (0, 0, 0), 2, 200)
    label[37, 20, 20] = 200
    label[36:39, 10, 10] = 200
    found = cleaned_up(label, None)
    np.testing.assert_array_equal(found, body())


def test_a_body_reaches_both_ends_of_the_volume() -> None:
    found = cleaned_up(body(), None)
    assert (found[20, 20] == 200).all()


@pytest.mark.parametrize(("tumour", "organ"), [(24, 4), (26, 1), (27, 62), (128, 200)])
def test_a_tumour_that_nobody_asked_for_becomes_its_organ(tumour: int, organ: int) -> None:
    label = body()
    box(label, (10, 10, 10), 8, organ)
    box(label, (12, 12, 12), 3, tumour)
    found = cleaned_up(label, None)
    assert not (found == tumour).any()
    assert (found[10:18, 10:18, 10:18] == organ).all()


def test_a_lung_tumour_that_nobody_asked_for_becomes_the_lobe_around_it() -> None:
    label = body()
    box(label, (10, 10, 10), 10, 31)
    box(label, (12, 12, 12), 3, 23)
    assert (cleaned_up(label, 26)[10:20, 10:20, 10:20] == 31).all()


def test_the_wanted_tumour_stays_inside_its_organ_and_in_one_piece() -> None:
    label = body()
    box(label, (10, 10, 10), 8, 4)
    box(label, (12, 12, 12), 3, 24)
    label[13, 13, 13] = 4  # a hole
    box(label, (28, 28, 28), 2, 24)  # an island
    found = cleaned_up(label, 24)
    assert (found[12:15, 12:15, 12:15] == 24).all()
    assert (found == 24).sum() == 27
    assert (found[28:30, 28:30, 28:30] == 200).all()


def test_hepatic_tumours_may_be_many_but_each_touches_the_liver() -> None:
    label = body()
    box(label, (8, 8, 8), 16, 1)
    box(label, (10, 10, 10), 2, 26)
    box(label, (18, 18, 18), 2, 26)
    box(label, (30, 30, 30), 2, 26)
    found = cleaned_up(label, 26)
    assert (found == 26).sum() == 16
    assert (found[30:32, 30:32, 30:32] == 200).all()


def test_a_bone_lesion_away_from_all_bones_is_none() -> None:
    label = body()
    box(label, (8, 8, 8), 6, 35)
    box(label, (12, 9, 9), 2, 128)
    box(label, (28, 28, 28), 2, 128)
    found = cleaned_up(label, 128)
    assert (found == 128).sum() == 8
    assert (found[28:30, 28:30, 28:30] == 200).all()


def test_of_an_organ_in_pieces_the_largest_is_kept() -> None:
    label = body()
    box(label, (8, 8, 8), 10, 1)
    box(label, (28, 28, 28), 4, 1)
    found = cleaned_up(label, None)
    assert (found == 1).sum() == 1000
    assert (found[28:32, 28:32, 28:32] == 200).all()


def test_a_piece_of_one_lobe_within_another_becomes_that_lobe() -> None:
    label = body()
    box(label, (6, 6, 6), 8, 28)
    box(label, (20, 20, 20), 10, 30)
    box(label, (23, 23, 23), 2, 28)
    found = cleaned_up(label, None)
    assert (found[20:30, 20:30, 20:30] == 30).all()


def test_vertebrae_in_pieces_are_mended_unless_bones_are_sick() -> None:
    label = body()
    box(label, (8, 8, 8), 6, 35)
    box(label, (20, 20, 20), 3, 35)
    box(label, (9, 9, 9), 2, 128)
    assert (cleaned_up(label, None) == 35).sum() < 6**3 + 1
    found = cleaned_up(label, 128)
    assert (found[20:23, 20:23, 20:23] == 35).all()
    assert (found == 128).sum() == 8


def test_islands_of_the_bowel_become_body_but_the_tube_may_change_its_name() -> None:
    label = body()
    box(label, (8, 8, 8), 6, 62)
    box(label, (14, 8, 8), 6, 19)
    box(label, (26, 26, 26), 4, 62)
    found = cleaned_up(label, None)
    assert (found == 62).sum() == (found == 19).sum() == 216
    assert (found[26:30, 26:30, 26:30] == 200).all()


def test_holes_are_filled_vessels_are_liver_and_the_airway_is_kept() -> None:
    label = body()
    box(label, (8, 8, 8), 12, 1)
    label[12, 12, 12] = 200
    box(label, (14, 14, 14), 2, 25)
    label[30, 30, 5:30] = 132
    found = cleaned_up(label, None)
    assert (found[8:20, 8:20, 8:20] == 1).all()
    assert (found == 132).sum() == 25


def test_without_a_body_nothing_is_left_and_nothing_hangs() -> None:
    label = np.zeros((12, 12, 12), np.uint8)
    assert not cleaned_up(label, 26).any()
    label[3, 3, 3] = 1
    assert not cleaned_up(label, 26).any()


def test_noise_of_all_labels_is_cleaned_in_bounded_time() -> None:
    noise = np.random.default_rng(0).integers(0, 133, (40, 40, 40)).astype(np.uint8)
    before = noise.copy()
    found = cleaned_up(noise, 23)
    np.testing.assert_array_equal(noise, before)
    assert found.any()
    assert not np.isin(found, (24, 26, 27, 128, 25)).any()
