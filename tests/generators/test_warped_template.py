"""Brains warped from the template: pure, whole, centred, with the lesions that were asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nvgen_aug.errors import WeightsError
from nvgen_aug.generators.maisi.masks.warped_template import Anatomy
from nvgen_aug.generators.maisi.masks.warped_template import Grid
from nvgen_aug.generators.maisi.masks.warped_template import Template
from nvgen_aug.generators.maisi.masks.warped_template import draw_anatomy
from nvgen_aug.training.stand_ins import icbm152

COARSE = Grid((32, 32, 32), (6.0, 6.0, 6.0))
DIAMETERS = (4.0, 6.0, 12.0, 20.0)


def draw(seed: int, grid: Grid = COARSE, diameters: tuple[float, ...] = ()) -> Anatomy:
    return draw_anatomy(icbm152(), grid, np.random.default_rng(seed), lesion_diameters=diameters)


def test_the_same_generator_draws_the_same_brain() -> None:
    one, again = draw(3, diameters=DIAMETERS), draw(3, diameters=DIAMETERS)
    np.testing.assert_array_equal(one.maps, again.maps)
    np.testing.assert_array_equal(one.label, again.label)
    np.testing.assert_array_equal(one.lesion, again.lesion)
    assert one.lesions == again.lesions


def test_another_generator_draws_another_brain() -> None:
    one, other = draw(3).label > 0, draw(4).label > 0
    overlap = 2 * (one & other).sum() / (one.sum() + other.sum())
    assert 0.8 < overlap < 0.99


def test_drawing_leaves_numpys_global_generator_alone() -> None:
    before = np.random.get_state()[1].tolist()  # type: ignore[index]
    draw(3)
    assert np.random.get_state()[1].tolist() == before  # type: ignore[index]


def test_without_lesions_labels_are_background_and_three_tissues() -> None:
    drawn = draw(5)
    assert drawn.label.dtype == np.uint8
    assert np.unique(drawn.label).tolist() == [0, 1, 2, 3]
    assert drawn.lesions == ()
    assert not drawn.lesion.any()


# Of these, 13 once drew a brain that reached beyond the grid.
@pytest.mark.parametrize("seed", [3, 9, 13, 16])
def test_the_whole_brain_is_inside_the_grid(seed: int) -> None:
    inside = np.argwhere(draw(seed, Grid()).label > 0)
    assert inside.min() >= 1
    assert inside.max() <= 62


def test_the_brain_has_the_volume_of_a_brain() -> None:
    litres = (draw(5).label > 0).sum() * 6.0**3 / 1e6
    assert 1.1 < litres < 2.1


@pytest.mark.parametrize("seed", [1, 2])
def test_lesions_take_the_place_of_white_matter(seed: int) -> None:
    healthy, ill = draw(seed, Grid()), draw(seed, Grid(), DIAMETERS)
    changed = healthy.label != ill.label
    np.testing.assert_array_equal(changed, ill.label == 4)
    np.testing.assert_array_equal(healthy.maps, ill.maps)
    assert (healthy.label[changed] == 3).mean() > 0.9
    assert healthy.maps[2][changed].min() > 0.3


@pytest.mark.parametrize("seed", range(6))
def test_as_many_lesions_are_placed_as_were_asked_for_however_small(seed: int) -> None:
    drawn = draw(seed, diameters=(4.0, 4.0, 12.0))
    assert [lesion.diameter for lesion in drawn.lesions] == [4.0, 4.0, 12.0]
    assert all(lesion.voxels >= 1 for lesion in drawn.lesions)
    for lesion in drawn.lesions:
        near = tuple(slice(max(round(c) - 1, 0), round(c) + 2) for c in lesion.centre)
        assert (drawn.label[near] == 4).any()


def test_a_lesion_has_about_the_diameter_that_was_asked_for() -> None:
    drawn = draw(2, Grid(), (20.0,))
    ball = 4 / 3 * np.pi * (20.0 / 3.0 / 2) ** 3
    # It may be cut where white matter ends, and its rim is uneven.
    assert 0.5 * ball < drawn.lesions[0].voxels < 1.35 * ball
    assert drawn.lesions[0].voxels == (drawn.label == 4).sum()


@pytest.mark.parametrize("grid", [Grid(), Grid((32, 64, 48), (6.0, 3.0, 4.0))])
def test_the_affine_puts_the_origin_in_the_middle_of_the_grid(grid: Grid) -> None:
    middle = [(n - 1) / 2 for n in grid.size]
    np.testing.assert_allclose(grid.affine @ [*middle, 1.0], [0, 0, 0, 1], atol=1e-12)
    np.testing.assert_allclose(np.diag(grid.affine), [*grid.spacing, 1.0])


def test_the_brains_middle_is_near_the_origin() -> None:
    drawn = draw(7)
    centre = np.argwhere(drawn.label > 0).mean(axis=0)
    assert np.linalg.norm((COARSE.affine @ [*centre, 1.0])[:3]) < 12.0


def test_a_template_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "template.safetensors"
    path.write_bytes(b"\x10\0\0\0\0\0\0\0{}")
    with pytest.raises(WeightsError, match=r"template\.safetensors.*again"):
        Template.load(path)
