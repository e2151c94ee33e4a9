"""Sizes of organs: what a spec and a recipe take, and what they refuse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nvgen_aug.errors import SpecError
from nvgen_aug.organ_sizes import sizes_in
from nvgen_aug.recipe import Recipe
from nvgen_aug.spec import VolumeSpec


def test_a_spec_with_sizes_travels_as_json() -> None:
    spec = VolumeSpec("rflow-ct", seed=1, organ_sizes=(("liver", 1), ("colon", -1)))
    assert spec.organ_sizes == (("liver", 1.0), ("colon", -1.0))
    assert VolumeSpec.from_json(spec.to_json()) == spec


@pytest.mark.parametrize(
    ("sizes", "text"),
    [
        ((("liver", 1.5),), r"of `liver` must lie in \[0, 1\].*got 1.5"),
        ((("liver", -0.5),), r"-1 for absent, got -0.5"),
        ((("liver", "big"),), "got 'big'"),
        ((("liver", float("nan")),), "got nan"),
        ((("liver", True),), "got True"),
        ((("liver", 0.1), ("liver", 0.2)), "names `liver` twice"),
        ("liver", "must be pairs"),
        ((0.5,), "must be pairs"),
        (0.5, "must be pairs"),
    ],
)
def test_sizes_of_a_spec_that_are_none(sizes: Any, text: str) -> None:
    with pytest.raises(SpecError, match=text):
        VolumeSpec("rflow-ct", seed=1, organ_sizes=sizes)


@pytest.mark.parametrize(
    "sizes", [["liver"], {"liver": [0.5]}, {"liver": [0.6, 0.5]}, {"liver": [-1, 0.5]}, {"a": 2}]
)
def test_sizes_of_a_recipe_that_are_none(sizes: Any) -> None:
    with pytest.raises(SpecError, match="organ_sizes"):
        Recipe(organ_sizes=sizes)


def test_a_recipe_draws_sizes_between_its_ends_and_keeps_fixed_ones() -> None:
    recipe = Recipe("rflow-ct", organ_sizes={"liver": [0.2, 0.4], "colon": 0.7, "stomach": -1})
    drawn = [dict(recipe.draw(np.random.default_rng(k)).organ_sizes) for k in range(200)]
    livers = [sizes["liver"] for sizes in drawn]
    assert min(livers) >= 0.2
    assert max(livers) <= 0.4
    assert abs(float(np.mean(livers)) - 0.3) < 0.01
    assert {sizes["colon"] for sizes in drawn} == {0.7}
    assert {sizes["stomach"] for sizes in drawn} == {-1.0}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("r.toml", 'mask_steps = 10\n[organ_sizes]\nliver = 0.5\n"lung tumor" = [0.1, 0.3]\n'),
        ("r.yaml", "mask_steps: 10\norgan_sizes:\n  liver: 0.5\n  lung tumor: [0.1, 0.3]\n"),
    ],
)
def test_a_file_says_it_too(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    spec = Recipe.load(path).draw(np.random.default_rng(0), variant="rflow-ct")
    sizes = dict(spec.organ_sizes)
    assert sizes["liver"] == 0.5
    assert 0.1 <= sizes["lung tumor"] <= 0.3
    assert spec.mask_steps == 10


def test_a_recipe_that_lacks_a_label_asks_no_size_of_it() -> None:
    recipe = Recipe("rflow-ct", organ_sizes={"liver": 0.5, "hepatic tumor": 0.2})
    spec = recipe.lacking("hepatic tumor").draw(np.random.default_rng(0))
    assert spec.organ_sizes == (("liver", 0.5),)


def test_a_command_line_says_it_too() -> None:
    found = sizes_in(["liver=0.5", "hepatic tumor=0.1:0.3", "colon=-1"])
    assert found == {"liver": 0.5, "hepatic tumor": [0.1, 0.3], "colon": -1.0}


@pytest.mark.parametrize("text", ["liver", "liver=", "=0.5", "liver=big", "liver=0.1:0.2:0.3"])
def test_what_a_command_line_cannot_mean(text: str) -> None:
    with pytest.raises(SpecError, match="NAME=SIZE or NAME=LEAST:GREATEST, got"):
        sizes_in([text])
