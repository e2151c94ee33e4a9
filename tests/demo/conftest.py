"""Tiny datasets for the demo, written in sight."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])


def write_nifti(path: Path, voxels: Any, affine: Any = AFFINE) -> Path:
    """A NIfTI file of these voxels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image: Any = nibabel.Nifti1Image(np.asarray(voxels), affine)
    image.to_filename(path)
    return path


def write_pair(image: Path, label: Path, seed: int) -> None:
    """A bright box (id 1) with a brighter one inside (id 2), on 20 × 16 × 12 voxels."""
    rng = np.random.default_rng(seed)
    ids = np.zeros((20, 16, 12), np.uint8)
    ids[4:16, 3:13, 2:10] = 1
    ids[8:12, 6:10, 4:8] = 2
    voxels = np.where(ids > 0, 200.0 * ids + rng.normal(0, 10, ids.shape), 0.0)
    write_nifti(image, voxels.astype(np.float32))
    write_nifti(label, ids)


@pytest.fixture
def decathlon(tmp_path: Path) -> Path:
    """Three cases in the Decathlon's layout, with labels that a brain generator lacks."""
    folder = tmp_path / "Task99_Box"
    training = []
    for number in range(3):
        names = {kind: f"./{kind}sTr/box_{number:03d}.nii.gz" for kind in ("image", "label")}
        write_pair(folder / names["image"], folder / names["label"], number)
        training.append(names)
    write_json(
        folder, {"labels": {"0": "background", "1": "box", "2": "core"}} | {"training": training}
    )
    return folder


@pytest.fixture
def nnunet(tmp_path: Path) -> Path:
    """Two cases of two channels in nnU-Net's layout."""
    folder = tmp_path / "Dataset099_Box"
    for number in range(2):
        for channel in range(2):
            image = folder / "imagesTr" / f"box_{number:03d}_{channel:04d}.nii.gz"
            write_pair(image, folder / "labelsTr" / f"box_{number:03d}.nii.gz", number)
    write_json(
        folder,
        {
            "channel_names": {"0": "T1", "1": "T2"},
            "labels": {"background": 0, "box": 1, "whole": [1, 2]},
            "numTraining": 2,
            "file_ending": ".nii.gz",
        },
    )
    return folder


def write_json(folder: Path, about: Any) -> None:
    """Write `dataset.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dataset.json").write_text(json.dumps(about), encoding="utf-8")


@pytest.fixture
def changed(decathlon: Path) -> Callable[..., Path]:
    """The Decathlon folder with some fields of its `dataset.json` changed."""

    def change(**fields: Any) -> Path:
        about = json.loads((decathlon / "dataset.json").read_text(encoding="utf-8"))
        write_json(decathlon, {**about, **fields})
        return decathlon

    return change
