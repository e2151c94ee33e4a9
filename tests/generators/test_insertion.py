"""Tumours drawn into masks that have none: inside their organ, in one piece, of the wanted size."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from nvgen_aug.errors import SpecError
from nvgen_aug.generators.maisi.masks.hosts import CT_HOSTS
from nvgen_aug.generators.maisi.masks.insertion import insert_tumour

BODY, VESSEL = 200, 25
SPACING = (2.0, 2.0, 3.0)
VOXEL = 12.0


def torso(organ: int, radii: tuple[float, float, float] = (13, 11, 9)) -> NDArray[np.uint8]:
    """A body with one organ in it, which a vessel runs through."""
    x, y, z = np.indices((40, 36, 28))
    label = np.zeros(x.shape, np.uint8)
    label[((x - 20) / 18) ** 2 + ((y - 18) / 16) ** 2 + ((z - 14) / 13) ** 2 < 1] = BODY
    inside = sum(((i - c) / r) ** 2 for i, c, r in zip((x, y, z), (20, 18, 14), radii, strict=True))
    label[inside < 1] = organ
    label[(inside < 1) & (abs(y - 18) < 1) & (abs(z - 14) < 1)] = VESSEL
    return label


def volume_of(diameter: float) -> float:
    return np.pi / 6 * diameter**3


@pytest.mark.parametrize("name", CT_HOSTS)
def test_every_tumour_grows_in_its_organ_alone(name: str) -> None:
    host = CT_HOSTS[name]
    before = torso(min(host.organs))
    after = insert_tumour(before, SPACING, name, 20.0, np.random.default_rng(0))
    changed = after != before
    assert set(np.unique(before[changed])) == {min(host.organs)}
    assert set(np.unique(after[changed])) == {host.tumour}


@settings(max_examples=15, deadline=None)
@given(diameter=st.floats(5.0, 30.0), seed=st.integers(0, 2**32))
def test_the_size_is_reached_within_a_tenth_and_in_one_piece(diameter: float, seed: int) -> None:
    after = insert_tumour(torso(1), SPACING, "hepatic tumor", diameter, np.random.default_rng(seed))
    tumour = after == 26
    assert tumour.sum() * VOXEL == pytest.approx(volume_of(diameter), rel=0.1)
    assert ndimage.label(tumour, np.ones((3, 3, 3)))[1] == 1


def test_one_seed_is_one_tumour_and_seeds_differ() -> None:
    drawn = [
        insert_tumour(torso(1), SPACING, "hepatic tumor", 16.0, np.random.default_rng(seed))
        for seed in (0, 0, 1)
    ]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert (drawn[0] != drawn[2]).any()


def test_the_callers_mask_stays_as_it_is() -> None:
    before = torso(1)
    insert_tumour(before, SPACING, "hepatic tumor", 16.0, np.random.default_rng(0))
    np.testing.assert_array_equal(before, torso(1))


def test_a_second_tumour_leaves_the_first() -> None:
    rng = np.random.default_rng(0)
    one = insert_tumour(torso(1), SPACING, "hepatic tumor", 12.0, rng)
    two = insert_tumour(one, SPACING, "hepatic tumor", 12.0, rng)
    assert (two[one == 26] == 26).all()
    assert (two == 26).sum() == 2 * (one == 26).sum()


def test_shapes_are_not_balls() -> None:
    longest = []
    for seed in range(8):
        after = insert_tumour(torso(1), SPACING, "hepatic tumor", 20.0, np.random.default_rng(seed))
        extent = np.argwhere(after == 26) * SPACING
        longest.append(np.ptp(extent, axis=0).max())
    assert np.std(longest) > 1.0


def test_a_tumour_larger_than_its_organ_is_refused_with_what_fits() -> None:
    with pytest.raises(SpecError, match=r"finds no place in the liver .* fits has \d+(\.\d+)? mm"):
        insert_tumour(torso(1), SPACING, "hepatic tumor", 80.0, np.random.default_rng(0))


def test_a_thin_organ_does_not_make_the_tumour_creep() -> None:
    sheet = torso(1, radii=(17, 15, 1.2))
    with pytest.raises(SpecError, match="finds no place"):
        insert_tumour(sheet, SPACING, "hepatic tumor", 30.0, np.random.default_rng(0))


def test_a_tumour_below_the_voxels_is_refused_with_the_least() -> None:
    with pytest.raises(SpecError, match=r"too small for voxels of 2 x 2 x 3 mm; the least is 4.86"):
        insert_tumour(torso(1), SPACING, "hepatic tumor", 1.5, np.random.default_rng(0))


def test_a_mask_without_the_organ_is_refused() -> None:
    with pytest.raises(SpecError, match=r"the mask has no pancreas"):
        insert_tumour(torso(1), SPACING, "pancreatic tumor", 10.0, np.random.default_rng(0))


def test_an_unknown_tumour_is_refused_with_close_names() -> None:
    with pytest.raises(SpecError, match=r"did you mean `hepatic tumor`"):
        insert_tumour(torso(1), SPACING, "hepatic tumour", 10.0, np.random.default_rng(0))
