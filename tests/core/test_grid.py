"""Grid: every combination of factors, all else the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nvgen_aug.errors import SpecError
from nvgen_aug.generators.phantom import PhantomGenerator
from nvgen_aug.grid import Grid
from nvgen_aug.pathology import Lesions
from nvgen_aug.recipe import Recipe

CARD = PhantomGenerator().card
RECIPE = Recipe(
    variant="phantom",
    modality=["bright", "dark"],
    size=(16, 16, 16),
    pathology={"lesion": Lesions((2, 3))},
    mask=["a" * 64, "b" * 64],
)
FACTORS = {"spacing": [1, (1, 1, 3)], "pathology.lesion": [0, 6, 12.5]}


def test_a_grid_is_the_cross_product_with_the_last_factor_fastest() -> None:
    grid = RECIPE.grid(FACTORS, seeds=(3, 4))
    assert (len(grid), grid.shape) == (12, (2, 2, 3))
    assert str(grid) == "2 spacing × 3 pathology.lesion × 2 draws = 12 volumes"
    assert [str(cell) for cell in grid[:4]] == [
        "spacing=1, pathology.lesion=0",
        "spacing=1, pathology.lesion=6",
        "spacing=1, pathology.lesion=12.5",
        "spacing=1x1x3, pathology.lesion=0",
    ]
    assert [cell.base for cell in grid] == [0] * 6 + [1] * 6
    assert grid[-1].slug == "spacing-1x1x3_lesion-12p5"
    assert list(grid) == list(RECIPE.grid(FACTORS, seeds=(3, 4)))


def test_what_does_not_vary_is_that_of_the_draw_to_the_seed_and_the_mask() -> None:
    grid = RECIPE.grid(FACTORS, seeds=(3, 4, 5))
    for cell in grid:
        drawn = RECIPE.draw(np.random.default_rng((3, 4, 5)[cell.base]))
        assert replace(cell.spec, spacing=None, pathology=drawn.pathology) == drawn


def test_a_lesion_size_is_that_of_all_lesions_and_0_takes_them_away() -> None:
    (drawn,) = RECIPE.grid({"steps": [1]}, seeds=(3,)).bases
    none, small, large = RECIPE.grid({"pathology.lesion": [0, 6, 12]}, seeds=(3,))
    assert none.spec.pathology == ()
    assert small.spec.pathology == (("lesion", 6.0),) * len(drawn.pathology)
    assert large.spec.pathology == (("lesion", 12.0),) * len(drawn.pathology)
    (one,) = Recipe(variant="phantom").grid({"pathology.lesion": [8]})
    assert one.spec.pathology == (("lesion", 8.0),)


def test_a_field_of_view_sets_the_spacing_at_the_same_number_of_voxels() -> None:
    cells = RECIPE.grid({"size": [16, 32], "field_of_view": [64, (64, 64, 96)]})
    assert [cell.spec.spacing for cell in cells] == [(4, 4, 4), (4, 4, 6), (2, 2, 2), (2, 2, 3)]
    (cell,) = Recipe(variant="phantom").grid({"field_of_view": [64]}).resolved(CARD)
    assert (cell.spec.size, cell.spec.spacing) == ((32, 32, 32), (2.0, 2.0, 2.0))


def test_every_field_of_a_spec_can_vary() -> None:
    factors = {
        "modality": ["bright", "dark"],
        "steps": [1, None],
        "guidance": [0, 2.5],
        "mask": ["c" * 64, None],
        "anatomy": [[], ["organ"]],
    }
    cells = list(RECIPE.grid(factors))
    assert len(cells) == 32 == len({cell.spec for cell in cells})
    assert cells[-1].texts == {
        "modality": "dark",
        "steps": "default",
        "guidance": "2.5",
        "mask": "default",
        "anatomy": "organ",
    }


def test_each_cell_is_checked_against_the_card_with_its_factors_in_the_error() -> None:
    grid = Recipe().grid({"modality": ["bright", "drak"], "steps": [1, 2]}, variant="phantom")
    with pytest.raises(SpecError, match=r"grid at modality=drak, steps=1: .*did you mean `dark`"):
        grid.check(CARD)
    good = Recipe().grid({"modality": ["bright", "dark"]}, variant="phantom")
    assert all(cell.spec.is_resolved for cell in good.resolved(CARD))


@pytest.mark.parametrize(
    ("factors", "text"),
    [
        ({"modalty": ["bright"]}, "cannot vary `modalty`; did you mean `modality`"),
        ({"seed": [1, 2]}, "cannot vary `seed`"),
        ({"pathology.": [1]}, "cannot vary `pathology.`"),
        ({}, "a grid needs factors"),
        ({"modality": "bright"}, "factor `modality` must be a list of values, got 'bright'"),
        ({"modality": []}, "factor `modality` must have at least one value"),
        ({"spacing": [1, (1, 1, 1.0)]}, "factor `spacing` has the value 1 twice"),
        ({"pathology.lesion": ["big"]}, "must have diameters in mm, or 0 for none, got 'big'"),
        ({"field_of_view": [(1, 2)]}, "must have one or three edges in mm"),
        ({"field_of_view": [64], "spacing": [1]}, "both cannot vary"),
        ({"steps": [0]}, r"the grid at steps=0: steps must lie in \[1, 10000\]"),
    ],
)
def test_a_factor_that_is_none_is_refused_when_the_grid_is_made(
    factors: dict[str, Any], text: str
) -> None:
    with pytest.raises(SpecError, match=text):
        RECIPE.grid(factors)


def test_a_grid_without_draws_and_a_place_beyond_its_end_are_refused() -> None:
    with pytest.raises(SpecError, match="at least one draw"):
        Grid([], {"steps": [1]})
    with pytest.raises(IndexError, match="volume 6 of a grid of 6"):
        RECIPE.grid(FACTORS)[6]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "g.toml",
            "size = [16, 16, 16]\n[grid]\nspacing = [1, [1, 1, 3]]\npathology.lesion = [0, 6]\n",
        ),
        ("g.yaml", "size: [16, 16, 16]\ngrid: {spacing: [1, [1, 1, 3]], pathology.lesion: [0, 6]}"),
    ],
)
def test_a_file_holds_a_recipe_and_its_factors(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    recipe, factors = Recipe.load_grid(path)
    assert recipe == Recipe(size=(16, 16, 16))
    assert recipe.grid(factors, variant="phantom").shape == (1, 2, 2)
    with pytest.raises(SpecError, match=r"holds a grid; load it with Recipe\.load_grid"):
        Recipe.load(path)


def test_a_file_without_factors_says_what_it_lacks(tmp_path: Path) -> None:
    path = tmp_path / "g.toml"
    path.write_text("size = [16, 16, 16]\n")
    with pytest.raises(SpecError, match="must have a table `grid` of factors"):
        Recipe.load_grid(path)
