"""Strata: goals, the recipes that meet them, and what the samples really show."""

from __future__ import annotations

import json
import warnings
from collections import Counter
from typing import Any

import pytest
from torch.utils.data import DataLoader

from nvgen_aug.card import VariantCard
from nvgen_aug.crop import CropRule
from nvgen_aug.data.failures import SubstituteWarning
from nvgen_aug.data.strata import Strata
from nvgen_aug.data.synthetic import SyntheticDataset
from nvgen_aug.data.synthetic_real import SyntheticRealDataset
from nvgen_aug.errors import DataError
from nvgen_aug.errors import RatioError
from nvgen_aug.errors import SpecError
from nvgen_aug.generators.phantom import PhantomGenerator
from nvgen_aug.labels import LabelMap
from nvgen_aug.pathology import Lesions
from nvgen_aug.recipe import Recipe
from tests.data.censuses import counted
from tests.data.phantoms import PhantomSource
from tests.data.phantoms import real_cases

RECIPE = Recipe(size=(32, 32, 32), pathology={"lesion": Lesions((0, 1), (4, 30))})
LABELS = LabelMap({"lesion": 1}, others="background")
GOAL = {"lesion": 0.5, "lesion < 10 mm": 0.25}
CENSUS = counted([[15.0], [], [], [], []])
CARD: VariantCard = PhantomGenerator().card


def blend(strata: Strata | None, **more: Any) -> SyntheticRealDataset:
    arguments = {"labels": LABELS, "crop": more.pop("crop", None)}
    synthetic = SyntheticDataset(PhantomSource(), RECIPE, max_reuse=2, **arguments)
    cases = real_cases(5, None)
    return SyntheticRealDataset(
        cases, synthetic, **{"ratio": 0.5, "strata": strata, "check": False, **more}
    )


def load(train: SyntheticRealDataset, workers: int = 0, **more: Any) -> list[dict[str, Any]]:
    loader = DataLoader(
        train, batch_size=4, sampler=train.sampler(4), collate_fn=list, num_workers=workers, **more
    )
    return [item for batch in loader for item in batch]


def records(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [json.loads(item["provenance"]) for item in items]


def test_each_stratum_has_a_recipe_that_gives_it() -> None:
    strata = Strata(GOAL, CENSUS).strata(RECIPE, CARD)
    assert set(strata) == {"lesion < 10 mm", "lesion", "no lesion"}
    assert strata["lesion < 10 mm"].recipe.pathology == {"lesion": Lesions((1, 1), (4, 9.9))}
    assert strata["lesion"].recipe.pathology == {"lesion": Lesions((1, 1), (10, 30))}
    assert strata["no lesion"].recipe.pathology == {}
    assert strata["lesion < 10 mm"].promised == ("lesion", "lesion < 10 mm")


def test_without_a_share_of_the_class_the_other_draws_keep_to_other_sizes() -> None:
    recipe = Recipe(pathology={"lesion": Lesions((0, 2), (4, 30))}, pathology_share=0.5)
    strata = Strata({"lesion 8-20 mm": 0.2}, CENSUS).strata(recipe, CARD)
    assert set(strata) == {"lesion 8-20 mm", "any other lesion"}
    rest = strata["any other lesion"].recipe
    # The wider of the two ranges beside it, 4 to 8 mm and 20 to 30 mm, as the eye sees sizes.
    assert rest.pathology == {"lesion": Lesions((0, 2), (4, 7.9))}
    assert rest.pathology_share == 0.5


def test_two_goals_meet_in_every_combination() -> None:
    recipe = Recipe(modality=("bright", "dark"), pathology={"lesion": Lesions()})
    census = counted([[15.0], []], {"modality": ["bright", "dark"]})
    strata = Strata({"lesion": 0.4, "modality=dark": 0.3}, census).strata(recipe, CARD)
    assert set(strata) == {
        "lesion & modality=dark", "lesion & any other modality",
        "no lesion & modality=dark", "no lesion & any other modality",
    }  # fmt: skip
    dark = strata["no lesion & modality=dark"].recipe
    assert (dark.modality, dark.pathology) == ("dark", {})
    assert strata["lesion & any other modality"].recipe.modality == ("bright",)


def test_a_value_of_a_column_can_have_a_recipe_of_its_own() -> None:
    census = counted([[], []], {"scanner": ["A", "B"]})
    coarse = Recipe(spacing=(3.0, 3.0, 3.0))
    goal = {"scanner=B": 0.5}
    strata = Strata(goal, census, recipes={"scanner=B": coarse}).strata(RECIPE, CARD)
    assert strata["scanner=B"].recipe == coarse
    assert strata["any other scanner"].recipe == RECIPE
    with pytest.raises(SpecError, match=r"nothing says how to make `scanner=B`.*recipes="):
        Strata(goal, census).strata(RECIPE, CARD)


def test_samples_show_what_their_stratum_says_and_the_report_tells_it() -> None:
    train = blend(Strata(GOAL, CENSUS), epoch_length=40)
    items = load(train)
    for item, record in zip(items, records(items), strict=True):
        if record["stratum"].startswith("lesion"):
            assert item["label"].max() == 1
        if record["stratum"] == "no lesion":
            assert item["label"].max() == 0
    drawn = Counter(record["stratum"] for record in records(items) if record["stratum"])
    assert sum(drawn.values()) == 20
    lesion, small = train.report().strata
    assert lesion.real == 4
    assert lesion.drawn == drawn["lesion"] + drawn["lesion < 10 mm"] == 16
    assert (small.real, small.drawn) == (0, drawn["lesion < 10 mm"]) == (0, 10)
    held = train.report().held
    assert held["lesion"].asked == held["lesion"].fulfilled == 16
    assert (held["lesion"].others, held["lesion"].anyway) == (4, 0)
    assert held["lesion < 10 mm"].asked == 10
    assert "lesion < 10 mm: asked in 25.00% of the samples, shown in 25.00%" in str(train.report())
    assert train.report().to_dict()["strata"][0]["delivered"] == 0.5


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_count_what_labels_show_for_the_process_that_reports(method: str) -> None:
    train = blend(Strata(GOAL, CENSUS), epoch_length=16)
    items = load(train, 2, multiprocessing_context=method)
    assert [r["uid"] for r in records(items)] == [
        r["uid"] for r in records(load(blend(Strata(GOAL, CENSUS), epoch_length=16)))
    ]
    held = train.report().held["lesion"]
    assert held.asked + held.others == sum(item["synthetic"] for item in items) == 8


def test_crops_are_centred_on_what_a_stratum_shows() -> None:
    rule = CropRule((8, 8, 8))
    train = blend(Strata({"lesion": 0.5}, CENSUS), crop=rule, epoch_length=40)
    for item, record in zip(items := load(train), records(items), strict=True):
        if record["stratum"] == "lesion":
            assert item["label"].max() == 1
    without = SyntheticDataset(PhantomSource(), RECIPE, labels=LABELS, crop=rule)
    assert without.crop == rule


def test_a_goal_out_of_reach_says_what_it_would_need() -> None:
    train = blend(Strata({"lesion": 0.8}, counted([[]] * 5)), ratio=0.3, epoch_length=200)
    (row,) = train.report().strata
    assert row.delivered == pytest.approx(0.3)
    assert row.unmet == "needs a ratio of 0.80, and it is 0.30"
    train = blend(Strata({"lesion": 0.1}, counted([[9.0]] * 5)), ratio=0.5, epoch_length=200)
    (row,) = train.report().strata
    assert row.unmet.startswith("the real cases alone show it in 50% of the samples")
    assert "a ratio of 0.90 would dilute it" in row.unmet


def test_the_control_needs_no_generator_and_repeats_what_lacks() -> None:
    strata = Strata(GOAL, counted([[15.0], [5.0], [], [], []]), fill="real")
    train = SyntheticRealDataset(
        real_cases(5), None, ratio=0.5, strata=strata, epoch_length=40, check=False
    )
    items = load(train)
    assert {item["synthetic"] for item in items} == {0}
    assert Counter(record["status"] for record in records(items)) == {"planned": 20, "repeated": 20}
    report = train.report()
    assert (report.asked, report.synthetic, report.repeated) == (0, 0, 20)
    assert [row.delivered for row in report.strata] == [0.5, 0.25]
    assert "control without synthetic samples: 20 of 40 samples" in str(report)


def test_the_control_sees_the_same_real_sequence_at_the_same_places() -> None:
    def real(fill: str) -> list[tuple[int, int, int]]:
        train = blend(Strata(GOAL, CENSUS, fill=fill), epoch_length=40)
        keys = train.plan(0, 4)
        return [(k.position, k.index, k.view_seed) for k in keys if not k.stratum]

    assert real("real") == real("synthetic") != []


def test_a_control_that_has_no_such_case_says_so() -> None:
    train = blend(Strata(GOAL, CENSUS, fill="real"), epoch_length=40)
    assert train.report().strata[1].unmet == "no real case shows it"


def test_a_state_of_another_goal_is_refused() -> None:
    state = blend(Strata(GOAL, CENSUS)).sampler(4).state_dict()
    with pytest.raises(DataError, match="strata "):
        blend(Strata({"lesion": 0.4}, CENSUS)).sampler(4).load_state_dict(state)


def test_a_state_of_another_recipe_for_a_condition_is_refused() -> None:
    def strata(spacing: float) -> Strata:
        own = Recipe(size=(32, 32, 32), spacing=(spacing,) * 3, anatomy=("lesion",))
        return Strata({"lesion": 0.5}, CENSUS, recipes={"lesion": own})

    state = blend(strata(2.0)).sampler(4).state_dict()
    blend(strata(2.0)).sampler(4).load_state_dict(state)
    with pytest.raises(DataError, match="recipe of `lesion`"):
        blend(strata(3.0)).sampler(4).load_state_dict(state)


@pytest.mark.parametrize(
    ("goal", "text"),
    [
        ({}, "goal must map conditions to shares"),
        ({"lesion < 10 mm": 0.3, "lesion 8-20 mm": 0.3}, "sizes must not overlap"),
        ({"lesion": 0.2, "lesion < 10 mm": 0.3}, "sum to 0.3, more than the 0.2 of `lesion`"),
        ({"cyst": 0.2}, "the census has no class `cyst`"),
    ],
)
def test_a_goal_that_cannot_be_is_refused(goal: dict[str, float], text: str) -> None:
    with pytest.raises(DataError, match=text):
        Strata(goal, CENSUS)


def test_arguments_that_make_no_sense_are_refused() -> None:
    with pytest.raises(RatioError, match="goal `lesion` must lie in"):
        Strata({"lesion": 40}, CENSUS)
    with pytest.raises(DataError, match="fill must be one of"):
        Strata(GOAL, CENSUS, fill="both")
    with pytest.raises(DataError, match="counts 5 cases, and the real dataset has 3"):
        SyntheticRealDataset(
            real_cases(3), None, ratio=0.5, strata=Strata(GOAL, CENSUS, fill="real")
        )
    narrow = Recipe(pathology={"lesion": Lesions(diameter=(4, 9))})
    with pytest.raises(SpecError, match="the recipe draws no other size; widen"):
        Strata(GOAL, CENSUS).quotas(narrow)


def test_what_stands_in_for_a_failed_volume_is_of_its_stratum() -> None:
    train = blend(Strata(GOAL, CENSUS), epochs=4)
    planned = {key.stratum: key for epoch in range(4) for key in train.plan(epoch) if key.stratum}
    stratified = train.stratified
    assert stratified is not None
    source = stratified.of("").source
    found = {}
    for stratum, key in planned.items():
        source.broken = {stratified.of(stratum).spec(key.index).seed}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SubstituteWarning)
            item = train[key]
        found[stratum] = (json.loads(item["provenance"])["status"], bool(item["label"].any()))
    assert found == {
        "lesion < 10 mm": ("substitute", True),
        "lesion": ("substitute", True),
        "no lesion": ("substitute", False),
    }
