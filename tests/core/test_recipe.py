"""Recipe: a distribution over specs, drawn in one place and loaded from a file."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nvgen_aug.errors import SpecError
from nvgen_aug.generators.phantom import PhantomGenerator
from nvgen_aug.pathology import Lesions
from nvgen_aug.recipe import Recipe

CARD = PhantomGenerator().card
RECIPE = Recipe(
    modality=["bright", "dark"],
    size=(16, 16, 16),
    pathology={"lesion": {"count": [0, 3], "diameter": [4, 12]}},
)


def draws(recipe: Recipe, number: int = 60) -> list[Any]:
    return [recipe.draw(np.random.default_rng(s), variant="phantom") for s in range(number)]


def test_equal_generators_draw_equal_specs_and_others_do_not() -> None:
    assert draws(RECIPE) == draws(RECIPE)
    assert len(set(draws(RECIPE))) == 60


def test_a_recipe_draws_the_same_specs_in_every_version() -> None:
    recipe = Recipe(
        modality=["bright", "dark"],
        pathology={
            "lesion": {"count": [0, 3], "diameter": [4, 12]},
            "cyst": Lesions((1, 2), (3, 5)),
        },
        pathology_share=0.5,
        mask=["a" * 64, "b" * 64],
    )
    drawn = [(s.seed, s.modality, s.pathology, str(s.mask)[0]) for s in draws(recipe, 3)]
    assert drawn == [
        (5874934615388537134, "dark", (("cyst", 3.0),), "b"),
        (
            4720721261117928062,
            "dark",
            (("cyst", 4.9), ("cyst", 3.5), ("lesion", 9.9), ("lesion", 7.3), ("lesion", 6.3)),
            "a",
        ),
        (2412946043537042528, "bright", (), "b"),
    ]


def test_no_chance_comes_from_elsewhere() -> None:
    np.random.seed(1)
    before = np.random.get_state()[1].tolist()  # type: ignore[index,union-attr]
    draws(RECIPE)
    assert np.random.get_state()[1].tolist() == before  # type: ignore[index,union-attr]


def test_every_choice_and_number_of_lesions_comes_up_within_its_bounds() -> None:
    specs = draws(RECIPE)
    assert {spec.modality for spec in specs} == {"bright", "dark"}
    assert {len(spec.pathology) for spec in specs} == {0, 1, 2, 3}
    sizes = [diameter for spec in specs for _, diameter in spec.pathology]
    assert 4 <= min(sizes) < 6 < 10 < max(sizes) <= 12


def test_every_draw_can_be_made_by_the_variant() -> None:
    RECIPE.check(CARD)
    for spec in draws(RECIPE):
        assert CARD.resolve(spec).is_resolved


def test_pathology_share_leaves_volumes_healthy_and_changes_nothing_else() -> None:
    some = Recipe(pathology={"lesion": Lesions()}, pathology_share=0.5)
    healthy = [spec for spec in draws(some) if not spec.pathology]
    assert 15 < len(healthy) < 45
    every = Recipe(pathology={"lesion": Lesions()})
    assert [spec.seed for spec in draws(some)] == [spec.seed for spec in draws(every)]


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"modality": ["bright", "drak"]}, "no modality `drak`; did you mean `dark`"),
        ({"pathology": {"lesion": Lesions(diameter=(5, 300))}}, "diameters are 0.1 to 200.0"),
        ({"size": (9, 9, 9)}, "nearest legal size"),
        ({"variant": "other"}, "`other` was asked of a source that makes `phantom`"),
    ],
)
def test_check_finds_what_a_draw_would_stumble_over(fields: dict[str, Any], text: str) -> None:
    with pytest.raises(SpecError, match=text):
        Recipe(**fields).check(CARD)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"modality": []}, "modality must name at least one contrast"),
        ({"anatomy": "liver"}, "anatomy must be a list, got the text 'liver'"),
        ({"pathology": {"lesion": 3}}, "pathology `lesion` must be Lesions"),
        ({"pathology": {"lesion": {"number": 3}}}, "pathology `lesion` must be Lesions"),
        ({"pathology": {"lesion": {"count": [3, 1]}}}, "0 ≤ least ≤ greatest"),
        ({"pathology": {"lesion": {"count": [1, 2, 3]}}}, "lesion count must be two numbers"),
        ({"pathology": {"lesion": {"diameter": [0, 5]}}}, "lesion diameter must be 0 < least"),
        ({"pathology_share": 1.5}, r"pathology_share must lie in \[0, 1\], got 1.5"),
        ({"pathology_share": "half"}, r"pathology_share must lie in \[0, 1\], got 'half'"),
        ({"size": 64}, "size must be a list, got 64"),
        ({"pathology": ["lesion"]}, r"pathology must map label names to lesions, got \['lesion'\]"),
        ({"pathology": {"lesion": {"count": 3}}}, "lesion count must be two numbers .*, got 3"),
    ],
)
def test_a_wrong_recipe_is_refused_at_once(fields: dict[str, Any], text: str) -> None:
    with pytest.raises(SpecError, match=text):
        Recipe(**fields)


def test_a_recipe_without_variant_needs_one_to_draw() -> None:
    with pytest.raises(SpecError, match="names no variant"):
        Recipe().draw(np.random.default_rng(0))


TOML = """
modality = ["bright", "dark"]
size = [16, 16, 16]
[pathology.lesion]
count = [0, 3]
diameter = [4, 12]
"""
YAML = """
modality: [bright, dark]
size: [16, 16, 16]
pathology: {lesion: {count: [0, 3], diameter: [4, 12]}}
"""


@pytest.mark.parametrize(("name", "text"), [("r.toml", TOML), ("r.yaml", YAML)])
def test_a_file_draws_what_the_same_arguments_draw(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    assert draws(Recipe.load(path)) == draws(RECIPE)


@pytest.mark.parametrize(
    ("name", "text", "error"),
    [
        ("r.toml", "size = [", "cannot read the recipe"),
        ("r.yaml", "a: [", "cannot read the recipe"),
        ("r.yaml", "colour: red", r"the recipe .* may have .*, got \['colour'\]"),
        ("r.yaml", "- a", "the recipe .* may have"),
        ("r.yaml", "x: !!python/object/apply:os.getcwd []", "cannot read the recipe"),
    ],
)
def test_a_file_that_is_no_recipe_says_why(
    tmp_path: Path, name: str, text: str, error: str
) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(SpecError, match=error):
        Recipe.load(path)


def test_a_file_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="cannot read the recipe"):
        Recipe.load(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("least", "below", "expected"),
    [
        (0.0, math.inf, (4.0, 20.0)),
        (0.0, 10.0, (4.0, 9.9)),
        (10.0, 15.0, (10.0, 14.9)),
        (12.34, math.inf, (12.4, 20.0)),
        (20.0, math.inf, (20.0, 20.0)),
    ],
)
def test_lesions_can_be_narrowed_to_sizes_of_which_there_is_at_least_one(
    least: float, below: float, expected: tuple[float, float]
) -> None:
    recipe = Recipe(pathology={"lesion": Lesions((0, 3), (4, 20))}, pathology_share=0.1)
    narrowed = recipe.having("lesion", least, below)
    assert narrowed.pathology == {"lesion": Lesions((1, 3), expected)}
    rng = np.random.default_rng(0)
    for _ in range(30):
        spec = narrowed.draw(rng, variant="phantom")
        assert spec.pathology
        assert all(least <= diameter < below for _, diameter in spec.pathology)


def test_a_size_that_a_recipe_never_draws_is_refused() -> None:
    recipe = Recipe(pathology={"lesion": Lesions((1, 2), (8, 20))})
    with pytest.raises(SpecError, match="1 to 2 `lesion` of 8 to 20 mm, none of 0 to 6 mm; widen"):
        recipe.having("lesion", below=6)
    with pytest.raises(SpecError, match=r"draws no `cyst`.* Recipe\(pathology="):
        recipe.having("cyst", below=6)


def test_a_label_without_sizes_is_asked_for_as_anatomy() -> None:
    recipe = Recipe(anatomy=("liver",), pathology={"lesion": Lesions()})
    assert recipe.having("spleen").anatomy == ("liver", "spleen")
    assert recipe.having("liver") == recipe
    assert recipe.lacking("liver").anatomy == ()
    assert recipe.lacking("lesion").pathology == {}


def test_images_are_drawn_with_their_masks_and_change_no_other_draw() -> None:
    masks, images = ["a" * 64, "b" * 64], ["c" * 64, "d" * 64]
    before = draws(Recipe(modality=["bright", "dark"], mask=masks))
    both = draws(Recipe(modality=["bright", "dark"], mask=masks, image=images))
    assert {(s.mask, s.image) for s in both} == set(zip(masks, images, strict=True))
    assert [(s.seed, s.modality, s.mask) for s in both] == [
        (s.seed, s.modality, s.mask) for s in before
    ]
    assert {s.image for s in draws(Recipe(image=images))} == set(images)


def test_masks_and_images_that_are_no_pairs_are_refused() -> None:
    with pytest.raises(SpecError, match=r"go in pairs, .* got 1 of mask and 2 of image"):
        Recipe(mask="a" * 64, image=["c" * 64, "d" * 64])


def test_a_recipe_for_images_alone_gives_no_labels() -> None:
    assert Recipe().gives_labels(CARD)
    assert not Recipe(image="c" * 64).gives_labels(CARD)
    assert Recipe(image="c" * 64, mask="a" * 64).gives_labels(CARD)


def test_a_source_that_follows_no_images_refuses_a_recipe_with_one_of_several() -> None:
    with pytest.raises(SpecError, match="`phantom` cannot follow an image"):
        Recipe(image=["c" * 64, "d" * 64]).check(CARD)
