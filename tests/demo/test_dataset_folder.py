"""What a dataset folder may look like, and what is said about one that cannot be used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

from nvgen_aug.demo.dataset_folder import DatasetFolder
from nvgen_aug.errors import DataError

AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])


def write(path: Path, voxels: np.ndarray, affine: np.ndarray = AFFINE) -> None:
    nibabel.Nifti1Image(voxels, affine).to_filename(path)


def test_the_decathlon_maps_ids_to_names(decathlon: Path) -> None:
    folder = DatasetFolder.open(decathlon)
    assert folder.labels == {"box": 1, "core": 2}
    assert folder.ids == {1, 2}


def test_the_decathlon_lists_its_cases(decathlon: Path) -> None:
    folder = DatasetFolder.open(decathlon)
    assert [case.name for case in folder.cases] == ["box_000", "box_001", "box_002"]
    assert folder.layout == "Medical Segmentation Decathlon"


def test_nnunet_maps_names_to_ids_and_its_regions_have_no_single_id(nnunet: Path) -> None:
    folder = DatasetFolder.open(nnunet)
    assert folder.labels == {"box": 1}
    assert folder.ids == {1, 2}


def test_nnunet_keeps_channels_in_files_of_their_own(nnunet: Path) -> None:
    cases = DatasetFolder.open(nnunet, channel=1).cases
    assert [case.image.name for case in cases] == ["box_000_0001.nii.gz", "box_001_0001.nii.gz"]


def test_nnunet_passes_over_the_twins_that_a_mac_leaves(nnunet: Path) -> None:
    (nnunet / "labelsTr" / "._box_000.nii.gz").write_bytes(b"twin")
    assert len(DatasetFolder.open(nnunet).cases) == 2


def test_good_cases_pass_the_check(decathlon: Path, nnunet: Path) -> None:
    for case in (*DatasetFolder.open(decathlon).cases, *DatasetFolder.open(nnunet).cases):
        case.check()


def test_a_folder_without_dataset_json_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no dataset\.json, expected the layout"):
        DatasetFolder.open(tmp_path)


def test_data_that_is_no_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere, which is no folder"):
        DatasetFolder.open(tmp_path / "nowhere")


def test_a_broken_dataset_json_is_named(decathlon: Path) -> None:
    (decathlon / "dataset.json").write_text("{", encoding="utf-8")
    with pytest.raises(DataError, match=r"dataset\.json cannot be read as JSON"):
        DatasetFolder.open(decathlon)


def test_labels_of_another_form_are_shown(changed: Callable[..., Path]) -> None:
    with pytest.raises(DataError, match=r"must map ids to names or names to ids, got \[1, 2\]"):
        DatasetFolder.open(changed(labels=[1, 2]))


def test_a_training_entry_of_another_form_is_shown(changed: Callable[..., Path]) -> None:
    with pytest.raises(DataError, match=r'with `image` and `label`, got "box_000"'):
        DatasetFolder.open(changed(training=["box_000"]))


def test_an_empty_training_list_is_said(changed: Callable[..., Path]) -> None:
    with pytest.raises(DataError, match="lists no training cases, expected at least 2"):
        DatasetFolder.open(changed(training=[]))


def test_missing_files_are_named_and_counted(decathlon: Path) -> None:
    (decathlon / "imagesTr" / "box_001.nii.gz").unlink()
    (decathlon / "labelsTr" / "box_002.nii.gz").unlink()
    with pytest.raises(DataError, match=r"imagesTr/box_001\.nii\.gz and 1 more is missing"):
        DatasetFolder.open(decathlon)


def test_a_channel_that_nnunet_has_no_files_of_is_named(nnunet: Path) -> None:
    with pytest.raises(DataError, match=r"box_000_0002\.nii\.gz and 1 more.* another --channel"):
        DatasetFolder.open(nnunet, channel=2)


def test_nnunet_without_labels_says_which_folder_is_missing(nnunet: Path) -> None:
    (nnunet / "labelsTr").rename(nnunet / "labels")
    with pytest.raises(DataError, match="has no folder labelsTr"):
        DatasetFolder.open(nnunet)


def test_files_other_than_nifti_are_refused(nnunet: Path) -> None:
    text = (nnunet / "dataset.json").read_text(encoding="utf-8").replace(".nii.gz", ".png")
    (nnunet / "dataset.json").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=r"`file_ending` .* got '\.png'"):
        DatasetFolder.open(nnunet)


def test_image_and_label_of_different_size_are_both_named(decathlon: Path) -> None:
    write(decathlon / "labelsTr" / "box_000.nii.gz", np.zeros((20, 16, 10), np.uint8))
    with pytest.raises(DataError, match=r"has \[20, 16, 12\] voxels .* has \[20, 16, 10\]"):
        DatasetFolder.open(decathlon).cases[0].check()


def test_image_and_label_in_different_places_are_refused(decathlon: Path) -> None:
    moved = AFFINE.copy()
    moved[0, 3] = 5.0
    write(decathlon / "labelsTr" / "box_000.nii.gz", np.zeros((20, 16, 12), np.uint8), moved)
    with pytest.raises(DataError, match="affines that differ by up to 5, expected one grid"):
        DatasetFolder.open(decathlon).cases[0].check()


def test_labels_that_are_not_integers_are_refused(decathlon: Path) -> None:
    label = np.zeros((20, 16, 12), np.float32)
    label[3, 3, 3] = 0.5
    write(decathlon / "labelsTr" / "box_000.nii.gz", label)
    with pytest.raises(DataError, match=r"box_000\.nii\.gz has values such as 0\.5"):
        DatasetFolder.open(decathlon).cases[0].check()


def test_nan_voxels_are_counted(decathlon: Path) -> None:
    image = np.zeros((20, 16, 12), np.float32)
    image[:2, 0, 0] = np.nan
    write(decathlon / "imagesTr" / "box_000.nii.gz", image)
    with pytest.raises(DataError, match=r"box_000\.nii\.gz has 2 voxels that are NaN or infinite"):
        DatasetFolder.open(decathlon).cases[0].check()


@pytest.mark.parametrize("kept", [0.5, 0.02])
def test_a_truncated_file_is_named(decathlon: Path, kept: float) -> None:
    file = decathlon / "imagesTr" / "box_000.nii.gz"
    whole = file.read_bytes()
    file.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(DataError, match=r"box_000\.nii\.gz is truncated or not a NIfTI file"):
        DatasetFolder.open(decathlon).cases[0].check()


def test_a_file_that_is_no_nifti_is_named(decathlon: Path) -> None:
    (decathlon / "imagesTr" / "box_000.nii.gz").write_bytes(b"not found")
    with pytest.raises(DataError, match=r"box_000\.nii\.gz is truncated or not a NIfTI file"):
        DatasetFolder.open(decathlon).cases[0].check()
