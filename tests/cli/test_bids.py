"""Volumes are laid out as a BIDS derivative dataset, and stay what they were."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nvgen_aug.cache import VolumeCache
from nvgen_aug.cli.bids import BidsFolder
from nvgen_aug.cli.bids import suffix_of
from nvgen_aug.generators.phantom import PhantomGenerator
from nvgen_aug.spec import VolumeSpec
from tests.cli.command import ran

SPEC = VolumeSpec("phantom", seed=1, size=(8, 8, 8), modality="bright")


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_generated_volumes_are_subjects_with_a_label_and_a_sidecar(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ran(capsys, "generate", "phantom", "--bids", "--out", str(tmp_path))[0] == 0
    stem = "sub-phantomseed00000/anat/sub-phantomseed00000_desc-synth"
    assert names(tmp_path) == {
        ".bidsignore",
        "contact-sheet.png",
        "dataset_description.json",
        "dseg.tsv",
        f"{stem}_image.nii.gz",
        f"{stem}_image.json",
        f"{stem}_dseg.nii.gz",
    }
    description = json.loads((tmp_path / "dataset_description.json").read_text())
    assert description["DatasetType"] == "derivative"
    assert description["GeneratedBy"][0]["Name"] == "nvgen_aug"
    assert (tmp_path / "dseg.tsv").read_text().splitlines()[:2] == ["index\tname", "0\tbackground"]
    sidecar = json.loads((tmp_path / f"{stem}_image.json").read_text())
    assert sidecar["SkullStripped"] is False
    assert sidecar["NvgenAug"]["provenance"]["source"] == "synthetic"


@pytest.mark.parametrize("ending", ["image.nii.gz", "image.json", "dseg.nii.gz"])
def test_any_file_of_a_volume_is_replayed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], ending: str
) -> None:
    ran(capsys, "generate", "phantom", "--bids", "--out", str(tmp_path))
    (record,) = tmp_path.rglob(f"*_{ending}")
    assert ran(capsys, "replay", str(record))[:2] == (0, "same: 32768 voxels")


def test_what_is_there_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ran(capsys, "generate", "phantom", "--bids", "--out", str(tmp_path))
    _, _, err = ran(capsys, "generate", "phantom", "--bids", "--out", str(tmp_path))
    assert "0 made, 1 were there" in err


def test_a_cache_is_exported_and_exported_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = PhantomGenerator().generate(SPEC).volume
    with VolumeCache(tmp_path / "cache") as cache:
        cache.put_volume(made.provenance.uid, made)
    words = ["cache", "export", str(tmp_path / "cache"), str(tmp_path / "out"), "--bids"]
    for _ in range(2):
        assert ran(capsys, *words)[0] == 0
        subject = f"sub-phantom{made.provenance.uid[:16]}"
        assert f"{subject}/anat/{subject}_desc-synth_dseg.nii.gz" in names(tmp_path / "out")
        description = json.loads((tmp_path / "out" / "dataset_description.json").read_text())
        assert description["Name"] == "Synthetic volumes of phantom"
        assert "3\tlesion" in (tmp_path / "out" / "dseg.tsv").read_text()


@pytest.mark.parametrize(
    ("modality", "suffix"),
    [
        ("mri_t1_skull_stripped", "T1w"),
        ("mri_t2", "T2w"),
        ("mri_flair_skull_stripped", "FLAIR"),
        ("ct", "image"),
        ("mri", "image"),
    ],
)
def test_a_contrast_has_the_suffix_of_the_standard(modality: str, suffix: str) -> None:
    assert suffix_of(modality) == suffix


def test_a_skull_stripped_image_says_so() -> None:
    spec = VolumeSpec("tiny-brain", seed=0, modality="mri_t1_skull_stripped")
    files = BidsFolder(Path("out")).files("a_b-1", spec)
    assert files.image == Path("out/sub-ab1/anat/sub-ab1_desc-synth_T1w.nii.gz")
    assert dict(files.head)["SkullStripped"] is True
