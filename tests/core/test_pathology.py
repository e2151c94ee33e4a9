"""Lesions: how many and how large, by a law, by measured sizes, by shares of percentiles."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nvgen_aug.errors import SpecError
from nvgen_aug.pathology import Lesions
from nvgen_aug.recipe import Recipe
from tests.data.censuses import counted

# Skewed, as lesions are: many small ones, and a few of several centimetres.
MEASURED = tuple(np.random.default_rng(7).lognormal(2.5, 0.6, 500).round(2).tolist())
P30 = float(np.percentile(MEASURED, 30))
HALF_SMALL = Lesions(measured=MEASURED, sizes={"< p30": 0.5, ">= p30": 0.5})
DRAWS = 10_000


def within(found: int, share: float, draws: int) -> bool:
    """Whether a count is one that a fair draw gives: 4 standard deviations of a binomial law.

    A right recipe is outside once in 16,000 seeds; the seeds of these tests are fixed.
    """
    return abs(found - share * draws) <= 4 * math.sqrt(draws * share * (1 - share))


def diameters(lesions: Lesions, draws: int = DRAWS) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(1)
    return np.array([size for _ in range(draws) for size in lesions.draw(rng)])


def specs(recipe: Recipe, draws: int = DRAWS) -> list[tuple[tuple[str, float], ...]]:
    rng = np.random.default_rng(2)
    return [recipe.draw(rng, variant="phantom").pathology for _ in range(draws)]


TOML = f"""
pathology_share = 0.3
[pathology."hepatic tumor"]
measured = {list(MEASURED)}
sizes = {{ "< p30" = 0.5, ">= p30" = 0.5 }}
"""
YAML = f"""
pathology_share: 0.3
pathology:
  hepatic tumor:
    measured: {list(MEASURED)}
    sizes: {{"< p30": 0.5, ">= p30": 0.5}}
"""
PYTHON = Recipe(pathology={"hepatic tumor": HALF_SMALL}, pathology_share=0.3)


def test_of_all_draws_30_percent_have_a_tumour_and_half_of_these_a_small_one() -> None:
    drawn = specs(PYTHON)
    sizes = [diameter for pathology in drawn for _, diameter in pathology]
    assert all(len(pathology) <= 1 for pathology in drawn)
    assert within(len(sizes), 0.3, DRAWS)
    assert within(sum(size < P30 for size in sizes), 0.5, len(sizes))
    assert min(MEASURED) - 0.1 < min(sizes) < 5 < 40 < max(sizes) <= max(MEASURED)


@pytest.mark.parametrize(("name", "text"), [("r.toml", TOML), ("r.yaml", YAML)])
def test_a_file_says_the_same(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    assert specs(Recipe.load(path), 200) == specs(PYTHON, 200)


def test_without_shares_the_sizes_are_those_measured() -> None:
    drawn = diameters(Lesions(measured=MEASURED))
    for percent in (5, 30, 50, 80, 95):
        edge = np.percentile(MEASURED, percent)
        assert within(int((drawn < edge).sum()), percent / 100, DRAWS)


def test_each_range_gets_its_share_and_keeps_the_law_inside() -> None:
    lesions = Lesions(diameter=(4, 40), sizes={"< p30": 0.6, "p30-p60": 0.1, "30-40 mm": 0.3})
    drawn = diameters(lesions)
    low, high = (4 * 10 ** (percent / 100) for percent in (30, 60))  # of the logarithm
    assert within(int((drawn < low).sum()), 0.6, DRAWS)
    assert within(int(((drawn >= low) & (drawn < high)).sum()), 0.1, DRAWS)
    assert within(int((drawn >= 30).sum()), 0.3, DRAWS)
    assert not ((drawn >= high) & (drawn < 30)).any()
    small = drawn[drawn < low]
    assert within(int((small < math.sqrt(4 * low)).sum()), 0.5, len(small))


def test_lesions_of_one_volume_are_drawn_each_on_its_own() -> None:
    several = Lesions((2, 4), measured=MEASURED, sizes={"< p30": 0.5, ">= p30": 0.5})
    rng = np.random.default_rng(3)
    volumes = [several.draw(rng) for _ in range(DRAWS)]
    sizes = [size for volume in volumes for size in volume]
    assert {len(volume) for volume in volumes} == {2, 3, 4}
    assert within(sum(size < P30 for size in sizes), 0.5, len(sizes))
    mixed = sum(volume[0] >= P30 > volume[-1] for volume in volumes)
    assert within(mixed, 1 - (2**-1 + 2**-2 + 2**-3) / 3, DRAWS)


def test_a_diameter_cuts_what_was_measured_and_percentiles_stay() -> None:
    lesions = Lesions(measured=MEASURED, diameter=(5, 20), sizes={"< p30": 0.5, ">= p30": 0.5})
    drawn = diameters(lesions, 2000)
    assert 5 <= drawn.min() < 6 < 19 < drawn.max() <= 20
    assert within(int((drawn < P30).sum()), 0.5, 2000)


@pytest.mark.parametrize("lesions", [HALF_SMALL, Lesions(measured=MEASURED)])
def test_a_narrowed_range_is_the_part_of_the_draws_that_fall_into_it(lesions: Lesions) -> None:
    recipe = Recipe(pathology={"tumor": lesions}, pathology_share=0.3)
    narrowed = specs(recipe.having("tumor", 6, 25), 4000)
    sizes = [diameter for ((_, diameter),) in narrowed]
    assert all(6 <= size < 25 for size in sizes)
    among = diameters(lesions)
    among = among[(among >= 6) & (among < 25)]
    for edge in (P30, 15):
        assert within(sum(size < edge for size in sizes), float((among < edge).mean()), 4000)


def test_what_was_narrowed_can_be_narrowed_again_and_ends_in_none() -> None:
    small = HALF_SMALL.between(below=P30)
    assert small is not None
    assert len(small.ranges) == 1
    again = small.between(5, 6)
    assert again is not None
    assert set(diameters(again, 200)) <= {5 + tenth / 10 for tenth in range(10)}
    assert small.between(P30) is None
    assert HALF_SMALL.between(1000) is None
    assert Lesions((0, 0), measured=MEASURED).between() is None


def test_a_recipe_that_lacks_a_class_draws_none_of_it() -> None:
    assert specs(PYTHON.lacking("hepatic tumor"), 50) == [()] * 50


def test_the_ends_of_all_sizes_are_checked_against_a_variant() -> None:
    from nvgen_aug.generators.phantom import PhantomGenerator

    card = PhantomGenerator().card
    huge = (5.0, 300.0)
    with pytest.raises(SpecError, match=r"diameters are 0.1 to 200.0 mm, got 300"):
        Recipe(pathology={"lesion": Lesions(measured=huge)}).check(card)
    Recipe(pathology={"lesion": Lesions(measured=huge, sizes={"< p50": 1})}).check(card)


def test_sizes_come_from_a_census() -> None:
    census = counted([[12.0, 4.0], [], [8.0]])
    assert census.diameters("lesion") == pytest.approx((4.0, 8.0, 12.0))
    assert Lesions(measured=census.diameters("lesion")).percentile(25) == pytest.approx(6.0)
    with pytest.raises(ValueError, match="none of the 1 cases shows `lesion`"):
        counted([[]]).diameters("lesion")
    with pytest.raises(ValueError, match="the census has no class `lesoin`; did you mean `lesion`"):
        census.diameters("lesoin")


def test_a_thousand_diameters_are_named_by_number_and_digest() -> None:
    texts = {repr(Lesions(measured=MEASURED)), repr(Lesions(measured=MEASURED[1:]))}
    assert len(texts) == 2
    assert all(len(text) < 200 for text in texts)
    assert repr(Lesions()) == "Lesions(count=(1, 1), diameter=(6.0, 16.0))"


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"sizes": {"< p30": 0.5}}, "must sum to 1, got 0.5 for `< p30`; name a range for the"),
        ({"sizes": {"< 30": 1}}, "a size is written `< p30`, .*, got `< 30`"),
        ({"sizes": {"p30-20 mm": 1}}, "a size is written .*, got `p30-20 mm`"),
        ({"sizes": {}}, "sizes must name at least one range"),
        ({"sizes": ["< p30"]}, r"sizes must map ranges .* to shares, got \['< p30'\]"),
        ({"sizes": {"< 5 mm": 1}}, "size `< 5 mm` has no lesions: diameters are 6 to 16 mm"),
        ({"sizes": {"20-10 mm": 1}}, "size `20-10 mm` has no lesions"),
        ({"sizes": {"< p50": 0.5, ">= p30": 0.5}}, "must not overlap, got `< p50` and `>= p30`"),
        ({"sizes": {"< p50": 50}}, r"share of size `< p50` must lie in \(0, 1\], got 50"),
        ({"measured": [8]}, r"measured must be two or more diameters in mm, .*, got \[8\]"),
        ({"measured": "sizes.csv"}, "measured must be two or more diameters .*, got 'sizes.csv'"),
        ({"measured": [8, -1]}, "each above 0"),
        ({"measured": [3, 9], "diameter": [20, 30]}, "20 to 30 mm, measured ones 3 to 9 mm"),
    ],
)
def test_wrong_sizes_are_refused_by_name(fields: dict[str, Any], text: str) -> None:
    with pytest.raises(SpecError, match="pathology `lesion`: .*" + text):
        Recipe(pathology={"lesion": fields})
