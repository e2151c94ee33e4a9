"""SyntheticDataset: items by number, crops, failures."""

from __future__ import annotations

import copy
import json
import math
import pickle
from dataclasses import replace
from typing import Any

import monai.transforms as mt
import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from nvgen_aug.card import VariantCard
from nvgen_aug.crop import Crop
from nvgen_aug.crop import CropRule
from nvgen_aug.data.synthetic import SyntheticDataset
from nvgen_aug.errors import DataError
from nvgen_aug.errors import LabelError
from nvgen_aug.errors import SpecError
from nvgen_aug.labels import LabelMap
from nvgen_aug.recipe import Recipe
from tests.data.phantoms import KEYS
from tests.data.phantoms import RECIPE
from tests.data.phantoms import PhantomSource
from tests.data.phantoms import Untidy
from tests.data.phantoms import synthetic


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(torch.equal(one[key].as_tensor(), other[key].as_tensor()) for key in KEYS) and (
        one["provenance"] == other["provenance"]
    )


def test_an_item_looks_as_if_a_file_had_been_read() -> None:
    item = synthetic()[3]
    assert list(item) == ["image", "label", "synthetic", "provenance"]
    for key in KEYS:
        assert isinstance(item[key], MetaTensor)
        assert item[key].shape == (1, 16, 16, 16)
        assert item[key].dtype == torch.float32
        assert item[key].affine.dtype == torch.float64
        assert item[key].affine[0, 0] == 2.0
        meta = item[key].meta
        assert set(meta) == {
            "affine",
            "space",
            "pixdim",
            "original_channel_dim",
            "filename_or_obj",
        }
        assert math.isnan(meta["original_channel_dim"])
        assert meta["pixdim"].tolist() == [1, 2, 2, 2, 1, 1, 1, 1]
    provenance = json.loads(item["provenance"])
    assert item["image"].meta["filename_or_obj"] == f"nvgen:{provenance['uid']}"
    assert item["synthetic"] == 1
    assert provenance["source"] == "synthetic"
    assert provenance["status"] == "planned"


def test_labels_are_in_ids_of_the_task() -> None:
    labels = synthetic(labels=LabelMap({"organ": 7}, others="background"))[0]["label"]
    assert set(labels.unique().tolist()) == {0.0, 7.0}


def test_item_v_is_a_function_of_seed_and_v_alone() -> None:
    volumes = synthetic(crop=CropRule((8, 8, 8)))
    first = volumes[4]
    volumes[1]
    assert same(volumes[4], first)
    assert same(synthetic(crop=CropRule((8, 8, 8)))[4], first)
    assert not same(synthetic(crop=CropRule((8, 8, 8)), seed=1)[4], first)
    assert volumes.spec(4) == synthetic().spec(4) != synthetic().spec(5)


def test_another_view_cuts_another_part_of_the_same_volume() -> None:
    volumes = synthetic(crop=CropRule((8, 8, 8)))
    views = [json.loads(volumes.item(0, view)["provenance"]) for view in range(8)]
    assert len({view["uid"] for view in views}) == 1
    assert len({view["crop"] for view in views}) > 1


def test_random_steps_of_the_transform_are_seeded_from_the_view() -> None:
    volumes = synthetic(transform=Untidy())
    assert same(volumes.item(0, 5), volumes.item(0, 5))
    assert not same(volumes.item(0, 5), volumes.item(0, 6))


def test_a_spec_costs_no_generation() -> None:
    source = PhantomSource()
    assert synthetic(source).spec(9).is_resolved
    assert source.fetched == []


def test_a_dataset_without_length_has_no_len_and_one_with_length_ends() -> None:
    with pytest.raises(TypeError, match="length="):
        len(synthetic())
    assert len(list(synthetic(length=2))) == 2
    assert same(synthetic(length=2)[-1], synthetic()[1])


def test_a_dataset_can_be_pickled_and_deep_copied() -> None:
    volumes = synthetic(transform=Untidy())
    assert same(pickle.loads(pickle.dumps(volumes))[2], volumes[2])
    assert same(copy.deepcopy(volumes)[2], volumes[2])


def test_what_the_source_can_never_make_is_refused_at_construction() -> None:
    with pytest.raises(SpecError, match="size"):
        SyntheticDataset(PhantomSource(), Recipe(size=(7, 7, 7)))
    with pytest.raises(LabelError, match="organ"):
        synthetic(labels=LabelMap({"organs": 1}, others="background"))
    with pytest.raises(LabelError, match="crop centre"):
        synthetic(crop=CropRule((8, 8, 8), centre={"orgn": 1}))


def test_labels_of_an_image_only_variant_are_refused_with_the_ways_out() -> None:
    with pytest.raises(LabelError, match=r"variant with labels, or leave `labels` out"):
        synthetic(PhantomSource(has_labels=False))
    item = synthetic(PhantomSource(has_labels=False), labels=None)[0]
    assert list(item) == ["image", "synthetic", "provenance"]


class Following(PhantomSource):
    """A source that follows masks and draws none."""

    __slots__ = ()

    @property
    def card(self) -> VariantCard:
        return replace(super().card, draws_labels=False)


@pytest.mark.parametrize(
    "needs", [{}, {"labels": None, "crop": CropRule((8, 8, 8), centre={"organ": 1})}]
)
def test_labels_of_a_source_that_draws_none_need_masks_in_the_recipe(needs: dict[str, Any]) -> None:
    with pytest.raises(LabelError, match=r"have no labels here.*Recipe\(mask=source\.put"):
        synthetic(Following(), **needs)
    synthetic(Following(), recipe=Recipe(mask="ab" * 32), **needs)
    synthetic(Following(), labels=None)


@pytest.mark.parametrize(
    ("name", "value"),
    [("max_reuse", 0), ("seed", -1), ("on_failure", "ignore"), ("length", 0), ("transform", 3)],
)
def test_arguments_out_of_range_are_named(name: str, value: Any) -> None:
    with pytest.raises(DataError, match=name):
        synthetic(**{name: value})


@pytest.mark.parametrize("crop", [CropRule((8, 8, 8)), Crop((1, 2, 3), (8, 8, 8))])
def test_a_crop_goes_with_a_voxelwise_transform(crop: Crop | CropRule) -> None:
    scale = [mt.ScaleIntensityRanged("image", 0, 1000, 0, 1, clip=True)]
    item = synthetic(transform=scale, crop=crop)[0]
    assert item["image"].shape == (1, 8, 8, 8)
    assert item["image"].max() <= 1


@pytest.mark.parametrize(
    ("transform", "difference"),
    [
        (mt.NormalizeIntensityd("image"), "the crop of the result has"),
        (mt.Spacingd(KEYS, (1.0, 1.0, 1.0), mode="nearest"), "became"),
        (mt.Flipd(KEYS, 0), "the crop of the result has"),
        (mt.CropForegroundd(KEYS, "label", allow_smaller=True), "became"),
    ],
)
def test_a_crop_is_refused_with_a_transform_that_looks_at_more_than_a_voxel(
    transform: Any, difference: str
) -> None:
    volumes = synthetic(transform=transform, crop=CropRule((8, 8, 8)))
    with pytest.raises(DataError, match=difference):
        volumes[0]


def test_the_whole_volume_is_read_for_the_first_item_only() -> None:
    source = PhantomSource()
    volumes = synthetic(source, transform=mt.ScaleIntensityd("image", factor=1.0, minv=None))
    volumes[0], volumes[1]
    assert len(source.fetched) == 2
    cropped = synthetic(
        source,
        transform=mt.ScaleIntensityRanged("image", 0, 1000, 0, 1),
        crop=CropRule((8, 8, 8)),
    )
    cropped[2], cropped[3], cropped[4]
    assert len(source.fetched) == 2 + 4


def test_transforms_that_give_several_samples_are_sent_elsewhere() -> None:
    crops = mt.RandSpatialCropSamplesd(KEYS, (8, 8, 8), num_samples=2, random_size=False)
    with pytest.raises(DataError, match="SyntheticRealDataset"):
        synthetic(transform=crops)[0]


def test_the_recipe_in_use_is_the_one_that_was_given() -> None:
    spec = synthetic().spec(0)
    assert spec.size == RECIPE.size
    assert all(0.1 <= mm <= 200 for _, mm in spec.pathology)
    assert np.isfinite(spec.seed)
