"""Lesion sizes: regions of a label, in mm."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nvgen_aug.ball import equivalent_diameter
from nvgen_aug.lesions import region_volumes


def test_regions_of_each_class_are_counted_in_cubic_millimetres_largest_first() -> None:
    label = np.zeros((12, 12, 12), dtype=np.uint8)
    label[0, 0, 0] = 2
    label[4:7, 4:6, 4] = 2
    label[9:, 9:, 9:] = 3
    found = region_volumes(label, (1, 2, 3), (1.0, 2.0, 0.5))
    assert found == {1: (), 2: (6.0, 1.0), 3: (27.0,)}


def test_voxels_that_share_a_corner_are_one_lesion() -> None:
    label = np.zeros((4, 4, 4), dtype=np.uint8)
    label[1, 1, 1] = label[2, 2, 2] = 1
    assert region_volumes(label, (1,), (1.0, 1.0, 1.0)) == {1: (2.0,)}


@pytest.mark.parametrize("radius", [4.0, 9.0])
def test_a_ball_has_its_own_diameter(radius: float) -> None:
    grid = np.indices((24, 24, 24)) - 11.5
    ball = (np.square(grid).sum(axis=0) <= radius**2).astype(np.uint8)
    (volume,) = region_volumes(ball, (1,), (1.0, 1.0, 1.0))[1]
    assert math.isclose(equivalent_diameter(volume), 2 * radius, rel_tol=0.03)
