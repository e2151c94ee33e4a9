"""What becomes of scans and of stand-ins before a network sees them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from nvgen_aug.demo.dataset_folder import DatasetFolder
from nvgen_aug.demo.subjects import Subjects
from nvgen_aug.demo.talk import KeptTalk
from nvgen_aug.demo.task import Task
from nvgen_aug.errors import DataError
from nvgen_aug.generators.phantom import PhantomGenerator
from nvgen_aug.recipe import Recipe

CARD = PhantomGenerator().card


def scans(path: Path, *labels: str, channel: int = 0, most: int = 16) -> Subjects:
    folder = DatasetFolder.open(path, channel)
    task = Task.of_folder(CARD, folder, labels)
    return Subjects.scans(folder, task, most=most, channel=channel, seed=0, talk=KeptTalk())


def test_scans_come_on_the_generators_grid(decathlon: Path) -> None:
    for item in scans(decathlon).train:
        assert item["image"].shape == item["label"].shape == (1, *CARD.default_size)
        assert item["image"].pixdim.tolist() == list(CARD.default_spacing)


def test_scans_are_brought_to_one_scale(decathlon: Path) -> None:
    image = scans(decathlon).train[0]["image"]
    inside = image[image != 0]
    assert abs(float(inside.mean())) < 1e-3
    assert abs(float(inside.std()) - 1) < 1e-2


def test_ids_become_classes_and_all_others_background(decathlon: Path) -> None:
    label = scans(decathlon, "lesion=2").train[0]["label"]
    assert torch.unique(label).tolist() == [0, 1]
    assert int(label.sum()) == 4 * 4 * 4


def test_a_quarter_but_at_least_one_scan_validates(decathlon: Path) -> None:
    subjects = scans(decathlon)
    assert (len(subjects.train), len(subjects.validation)) == (2, 1)


def test_no_more_scans_are_read_than_asked(decathlon: Path) -> None:
    subjects = scans(decathlon, most=2)
    assert (len(subjects.train), len(subjects.validation)) == (1, 1)


def test_a_channel_of_a_scan_of_four_axes_can_be_chosen(decathlon: Path) -> None:
    for file in (decathlon / "imagesTr").iterdir():
        first = np.asarray(nibabel.load(file).dataobj)
        both = np.stack([first, -first], axis=-1)
        nibabel.Nifti1Image(both, np.diag([2.0, 2.0, 2.0, 1.0])).to_filename(file)
    first, second = (scans(decathlon, channel=c).train[0]["image"] for c in (0, 1))
    centre = tuple(n // 2 for n in CARD.default_size)
    assert float(first[(0, *centre)]) > 0 > float(second[(0, *centre)])


def test_a_channel_that_is_not_there_is_said(decathlon: Path) -> None:
    for file in (decathlon / "imagesTr").iterdir():
        first = np.asarray(nibabel.load(file).dataobj)
        nibabel.Nifti1Image(np.stack([first] * 2, -1), np.diag([2.0, 2, 2, 1])).to_filename(file)
    with pytest.raises(DataError, match=r"--channel 2: image .* has 2 channels"):
        scans(decathlon, channel=2)


def test_one_case_is_too_few(changed: Callable[..., Path]) -> None:
    one = [{"image": "imagesTr/box_000.nii.gz", "label": "labelsTr/box_000.nii.gz"}]
    with pytest.raises(DataError, match="has 1 training case, expected at least 2"):
        scans(changed(training=one))


def test_labels_that_never_occur_are_said(changed: Callable[..., Path]) -> None:
    path = changed(labels={"0": "background", "1": "box", "7": "nothing"})
    with pytest.raises(DataError, match=r"has a voxel of the mapped ids \(7\)"):
        scans(path, "lesion=7")


def test_a_scan_with_nan_voxels_is_refused(decathlon: Path) -> None:
    file = decathlon / "imagesTr" / "box_001.nii.gz"
    voxels = np.full((20, 16, 12), np.nan, np.float32)
    nibabel.Nifti1Image(voxels, np.diag([2.0, 2.0, 2.0, 1.0])).to_filename(file)
    with pytest.raises(DataError, match=r"box_001\.nii\.gz has 3840 voxels that are NaN"):
        scans(decathlon)


def test_phantoms_to_train_and_to_validate_differ() -> None:
    task = Task.of_card(CARD)
    subjects = Subjects.phantoms(task, Recipe(), 2, 2, KeptTalk())
    items = [*subjects.train, *subjects.validation]
    assert len({item["image"].sum().item() for item in items}) == 4
    assert "not patients" in subjects.remark


def test_stand_ins_come_with_all_classes_of_a_brain() -> None:
    vocabulary = {"background": 0, "csf": 1, "grey": 2, "white": 3, "lesion": 4}
    card = replace(CARD, vocabulary=vocabulary, default_size=(64, 64, 64))
    task = replace(Task.of_card(card), modality="mri_t1_skull_stripped")
    talk = KeptTalk()
    subjects = Subjects.stand_ins(task, 1, 1, talk)
    assert {1, 2, 3} <= set(torch.unique(subjects.train[0]["label"]).int().tolist())
    assert "ICBM152" in subjects.remark
    assert talk.lines == ["warping stand-ins for subjects: 2 of 2"]
