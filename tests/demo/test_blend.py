"""The plan that both runs draw from, and what is forecast of it."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from unittest.mock import create_autospec

import pytest

from nvgen_aug.assembly import open_source
from nvgen_aug.assembly import serve
from nvgen_aug.demo.blend import Blend
from nvgen_aug.demo.blend import recipe_for
from nvgen_aug.demo.planned_source import PlannedSource
from nvgen_aug.demo.settings import Settings
from nvgen_aug.demo.subjects import Subjects
from nvgen_aug.demo.talk import KeptTalk
from nvgen_aug.demo.task import Task
from nvgen_aug.generators.phantom import PhantomGenerator
from nvgen_aug.source import VolumeSource
from nvgen_aug.spec import VolumeSpec

CARD = PhantomGenerator().card
TASK = Task.of_card(CARD)
SETTINGS = Settings(variant="phantom", quick=True, steps=10)


@pytest.fixture
def source(tmp_path: Path) -> Iterator[VolumeSource]:
    with open_source("phantom", cache=tmp_path) as opened:
        yield opened


def blend(source: VolumeSource, settings: Settings = SETTINGS) -> Blend:
    subjects = Subjects.phantoms(TASK, recipe_for(CARD, TASK), 3, 1, KeptTalk())
    return Blend(settings, TASK, subjects, source)


def test_the_plan_has_the_share_that_was_asked(source: VolumeSource) -> None:
    assert len(blend(source).planned()) == 6  # 0.3 of 10 steps of 2


def test_the_forecast_counts_what_is_missing(source: VolumeSource) -> None:
    forecast = blend(source).forecast(KeptTalk())
    assert (forecast.draws, forecast.distinct, forecast.missing) == (6, 6, 6)
    assert forecast.seconds_per_volume > 0


def test_the_forecast_finds_what_a_stopped_run_has_left(source: VolumeSource) -> None:
    blend(source).forecast(KeptTalk())  # makes two volumes
    assert blend(source).forecast(KeptTalk()).missing == 4


def test_the_forecast_makes_nothing_that_is_there(source: VolumeSource) -> None:
    for _ in range(3):
        blend(source).forecast(KeptTalk())
    made = source.stats().generated
    assert blend(source).forecast(KeptTalk()).missing == 0
    assert source.stats().generated == made == 6


def test_shown_volumes_are_those_of_the_plan(source: VolumeSource) -> None:
    known = blend(source)
    known.forecast(KeptTalk())
    known.shown(2)
    assert source.stats().generated == 2


def test_both_shares_draw_the_same_real_cases(source: VolumeSource) -> None:
    known = blend(source)
    orders = [
        [key.index for key in known.dataset(ratio).plan(0, batch_size=2) if not key.is_synthetic]
        for ratio in (0, 0.3)
    ]
    assert orders[0][: len(orders[1])] == orders[1]


def test_a_recipe_asks_for_lesions_only_where_the_task_knows_them() -> None:
    assert set(recipe_for(CARD, TASK).pathology or {}) == {"lesion"}
    without = replace(TASK, synthetic={"organ": 1})
    assert not recipe_for(CARD, without).pathology


def test_diameters_keep_to_what_the_variant_can_place() -> None:
    small = replace(CARD, pathology_range=(1.0, 8.0))
    lesions = (recipe_for(small, TASK).pathology or {})["lesion"]
    assert lesions.diameter == (5.0, 8.0)  # type: ignore[union-attr]


def test_a_planned_source_passes_on_only_what_the_run_fetches() -> None:
    planned, other = (CARD.resolve(VolumeSpec("phantom", seed=seed)) for seed in (1, 2))
    behind = create_autospec(VolumeSource, instance=True, card=CARD)
    PlannedSource(behind, [planned]).prefetch([other])
    PlannedSource(behind, [planned]).prefetch([planned, other])
    behind.prefetch.assert_called_once_with([planned])


def test_a_planned_source_travels_to_workers() -> None:
    planned = CARD.resolve(VolumeSpec("phantom", seed=1))
    with serve("phantom") as served:
        copied = pickle.loads(pickle.dumps(PlannedSource(served, [planned])))
        assert copied.fetch(planned).image.shape == (1, *CARD.default_size)
        copied.close()
