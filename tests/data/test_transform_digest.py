"""Transform digest: another transform has another one, and use changes none."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import monai.transforms as mt
import nibabel
import numpy as np
import pytest
from monai.data import CacheDataset

from nvgen_aug.data.transform_digest import transform_digest

KEYS = ("image", "label")


def chain(spacing: float = 2.0, more: Any = None) -> mt.Compose:
    steps = [
        mt.LoadImaged(KEYS),
        mt.EnsureChannelFirstd(KEYS),
        mt.Orientationd(KEYS, "RAS", labels=None),
        mt.Spacingd(KEYS, (spacing,) * 3, mode=("bilinear", "nearest")),
        mt.RandFlipd(KEYS, prob=0.0),
    ]
    return mt.Compose(steps if more is None else [*steps, more])


def add(item: Any, number: int) -> Any:
    return item


def test_use_does_not_change_it(tmp_path: Path) -> None:
    names = []
    for case in range(3):
        path = tmp_path / f"{case}.nii.gz"
        nibabel.save(nibabel.Nifti1Image(np.full((8, 8, 8), case, np.uint8), np.eye(4)), path)
        names.append({key: str(path) for key in KEYS})
    used = CacheDataset(names, chain(), num_workers=2, progress=False)
    for _ in range(2):
        assert [item["image"].shape for item in used] == [(1, 4, 4, 4)] * 3
        assert transform_digest(used.transform) == transform_digest(chain())
    assert transform_digest(chain().set_random_state(seed=5)) == transform_digest(chain())


def others() -> list[Any]:
    """Transforms that each differ from `chain()` and from one another."""
    return [
        chain(3.0),
        chain(more=mt.CropForegroundd(KEYS, "image")),
        chain(more=lambda item: item),
        chain(more=lambda item: {**item, "a": 1}),
        chain(more=partial(add, number=1)),
        chain(more=partial(add, number=2)),
        chain(more=mt.Lambdad("label", np.ascontiguousarray)),
        None,
    ]


@pytest.mark.parametrize("other", others())
def test_another_setting_or_step_has_another_one(other: Any) -> None:
    everything = [chain(), *others()]
    assert sum(transform_digest(other) == transform_digest(one) for one in everything) == 1
