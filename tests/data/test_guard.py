"""Real and synthetic items are compared at the first of each, and refused if they do not agree."""

from __future__ import annotations

import warnings
from typing import Any

import monai.transforms as mt
import pytest
import torch
from monai.data import Dataset
from monai.data import MetaTensor
from torch.utils.data import DataLoader

from nvgen_aug.data.synthetic_real import SyntheticRealDataset
from nvgen_aug.errors import DataError
from nvgen_aug.labels import LabelMap
from tests.data.phantoms import KEYS
from tests.data.phantoms import LABELS
from tests.data.phantoms import real_case
from tests.data.phantoms import real_cases
from tests.data.phantoms import synthetic


def changed(case: int, **parts: Any) -> dict[str, Any]:
    return {**real_case(case), **parts}


def spaced(case: int, mm: float, flip: float = 1.0) -> dict[str, MetaTensor]:
    affine = torch.diag(torch.tensor([flip * 2.0, 2.0, mm, 1.0], dtype=torch.float64))
    return {
        key: MetaTensor(value.as_tensor(), affine=affine) for key, value in real_case(case).items()
    }


def blend(real: Any, **arguments: Any) -> SyntheticRealDataset:
    arguments = {"synthetic": synthetic(), "ratio": 0.5, "epoch_length": 16, **arguments}
    return SyntheticRealDataset(real, **arguments)


def walk(train: SyntheticRealDataset, **loader: Any) -> None:
    for _ in DataLoader(train, batch_size=4, sampler=train.sampler(4), collate_fn=list, **loader):
        pass


@pytest.mark.parametrize("workers", [0, 2])
def test_another_spacing_is_refused_with_a_table_wherever_the_two_meet(workers: int) -> None:
    train = blend([spaced(0, 5.0)])
    row = r"real case 0 .*\n  spacing  2 × 2 × 5 mm  2 × 2 × 2 mm\n.*Spacingd"
    with pytest.raises(DataError, match=row):
        walk(train, num_workers=workers)


def test_a_spacing_within_rounding_is_let_pass() -> None:
    walk(blend([spaced(0, 2.01)]))


def test_another_orientation_is_refused() -> None:
    with pytest.raises(DataError, match=r"orientation\s+LAS\s+RAS"):
        walk(blend([spaced(0, 2.0, flip=-1.0)]))


def test_the_augmentation_of_both_kinds_may_turn_and_stretch() -> None:
    flips = [mt.RandFlipd(KEYS, 1.0, spatial_axis=0), mt.RandZoomd(KEYS, 1.0, 1.5, 1.5)]
    walk(blend(real_cases(), transform=flips))


def test_a_chain_of_the_caller_that_augments_already_is_not_held_to_a_grid() -> None:
    walk(blend(real_cases(3, mt.Compose([mt.RandFlipd(KEYS, 1.0, spatial_axis=0)]))))


def test_real_arrays_without_an_affine_are_not_held_to_a_grid() -> None:
    walk(blend([{key: value.numpy() for key, value in real_case(0).items()}]))


def test_a_real_label_that_synthetic_ones_never_have_is_refused() -> None:
    strange = changed(0, label=MetaTensor(real_case(0)["label"].as_tensor() * 7))
    strange["label"].affine = real_case(0)["label"].affine
    with pytest.raises(DataError, match=r"label ids\s+7\s+0, 1, 2"):
        walk(blend([strange]))
    ignoring = LabelMap(dict(LABELS.names), others="ignore")
    walk(blend([strange], synthetic=synthetic(labels=ignoring)))


def test_labels_that_a_transform_renamed_are_compared_as_they_are() -> None:
    def renamed(item: dict[str, Any]) -> dict[str, Any]:
        return {**item, "label": item["label"] + 10 * (item["label"] > 0)}

    with pytest.raises(DataError, match="label ids"):
        walk(blend(real_cases(), synthetic=synthetic(transform=renamed)))
    walk(blend(Dataset(list(real_cases()), renamed), synthetic=synthetic(transform=renamed)))


def test_a_difference_in_brightness_is_warned_of_once_with_a_table() -> None:
    train = blend(real_cases(), synthetic=synthetic(transform=mt.ScaleIntensityd("image")))
    with pytest.warns(UserWarning, match="0.5 of the real range") as caught:
        walk(train)
    assert len(caught) == 1
    assert "p99 " in str(caught[0].message)
    train.set_epoch(1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        walk(train)


def test_images_of_one_brightness_are_not_warned_of() -> None:
    scale = mt.ScaleIntensityRanged("image", 0, 1000, 0, 1)
    walk(blend(real_cases(4, scale), synthetic=synthetic(transform=scale)))


def test_nothing_is_compared_where_checks_are_off() -> None:
    walk(blend([spaced(0, 5.0)], check=False))
