"""Provenance, volumes and run records: what is written can be read again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nvgen_aug.crop import Crop
from nvgen_aug.errors import GenerationError
from nvgen_aug.errors import SpecError
from nvgen_aug.generators.phantom import PhantomGenerator
from nvgen_aug.provenance import Provenance
from nvgen_aug.record import RunRecord
from nvgen_aug.spec import VolumeSpec
from nvgen_aug.volume import Blob
from nvgen_aug.volume import SyntheticVolume

VOLUME = PhantomGenerator().generate(VolumeSpec("phantom", seed=1)).volume


@pytest.mark.parametrize("record", [VOLUME.provenance, Provenance("real", "case-7")])
def test_provenance_survives_json(record: Provenance) -> None:
    assert Provenance.from_json(record.to_json()) == record


@pytest.mark.parametrize("record", [VOLUME.provenance, Provenance("real", "case-7")])
def test_provenance_is_flat_and_has_no_none(record: Provenance) -> None:
    values = json.loads(record.to_json()).values()
    assert all(isinstance(value, (str, int)) for value in values)


def test_fields_of_a_later_version_are_dropped() -> None:
    text = json.dumps({"source": "real", "uid": "a", "mood": "good"})
    assert Provenance.from_json(text) == Provenance("real", "a")


def test_a_cropped_volume_knows_its_box_and_its_place() -> None:
    part = VOLUME.cropped(Crop((1, 2, 3), (4, 5, 6)))
    assert part.shape == (4, 5, 6)
    assert part.provenance.crop == "1,2,3+4,5,6"
    np.testing.assert_array_equal(part.affine[:3, 3], [2, 4, 6])
    np.testing.assert_array_equal(part.image, VOLUME.image[:, 1:5, 2:7, 3:9])


def test_a_crop_that_leaves_the_volume_is_refused() -> None:
    with pytest.raises(SpecError, match="leaves the volume"):
        VOLUME.cropped(Crop((30, 0, 0), (4, 4, 4)))


def test_a_volume_of_the_wrong_type_or_shape_is_refused() -> None:
    with pytest.raises(GenerationError, match=r"image must be int16 .* got float64 \[1, 2, 2, 2\]"):
        SyntheticVolume(np.zeros((1, 2, 2, 2)), None, np.eye(4), VOLUME.provenance)  # type: ignore[arg-type]
    image = np.zeros((1, 2, 2, 2), np.int16)
    with pytest.raises(GenerationError, match="label must be uint8"):
        SyntheticVolume(image, np.zeros((1, 2, 2, 3), np.uint8), np.eye(4), VOLUME.provenance)
    with pytest.raises(GenerationError, match=r"affine must be \[4, 4\]"):
        SyntheticVolume(image, None, np.eye(3), VOLUME.provenance)


def test_a_digest_depends_on_type_shape_place_and_bytes() -> None:
    mask = np.arange(8, dtype=np.uint8).reshape(2, 2, 2)
    digests = {
        Blob(mask, np.eye(4)).digest(),
        Blob(mask.astype(np.int8), np.eye(4)).digest(),
        Blob(mask.reshape(1, 2, 4), np.eye(4)).digest(),
        Blob(mask, np.diag([2.0, 1, 1, 1])).digest(),
        Blob(mask[::-1], np.eye(4)).digest(),
    }
    assert len(digests) == 5


def test_a_digest_does_not_depend_on_the_layout_in_memory() -> None:
    mask = np.arange(8, dtype=np.uint8).reshape(2, 2, 2)
    assert Blob(np.asfortranarray(mask), np.eye(4)).digest() == Blob(mask, np.eye(4)).digest()


def test_a_run_record_survives_its_file(tmp_path: Path) -> None:
    record = RunRecord("test", {"seed": 1}, {"seconds": 0.5})
    path = record.write(tmp_path / "deep" / "record.json")
    assert RunRecord.read(path) == record
    assert [entry.name for entry in path.parent.iterdir()] == ["record.json"]


def test_a_run_record_names_packages_and_cores() -> None:
    record = RunRecord("test", {}, {})
    assert {"python", "numpy", "torch", "nvgen_aug"} <= set(record.packages)
    assert record.device["cores"] >= 1


def test_a_digest_names_voxels_label_and_place() -> None:
    one_voxel = VOLUME.image.copy()
    one_voxel[0, 0, 0, 0] += 1
    moved = VOLUME.affine.copy()
    moved[0, 3] += 1
    others = (
        replace(VOLUME, image=one_voxel),
        replace(VOLUME, label=None),
        replace(VOLUME, affine=moved),
        VOLUME.cropped(Crop((0, 0, 0), (4, 4, 4))),
    )
    assert len({VOLUME.digest(), *(other.digest() for other in others)}) == 5
    assert replace(VOLUME, image=np.asfortranarray(VOLUME.image)).digest() == VOLUME.digest()


def test_a_drawn_label_names_its_parent_and_a_given_one_does_not() -> None:
    assert VOLUME.provenance.mask_parent == "ellipsoids"
    assert VOLUME.label is not None
    mask = Blob(VOLUME.label[0], VOLUME.affine)
    given = PhantomGenerator().generate(VolumeSpec("phantom", seed=1, mask=mask.digest()), mask)
    assert given.volume.provenance.mask_source == mask.digest()
    assert given.volume.provenance.mask_parent == ""
    ill = VolumeSpec("phantom", seed=1, mask=mask.digest(), pathology=(("lesion", 12.0),))
    changed = PhantomGenerator().generate(ill, mask).volume
    assert changed.label is not None
    assert (changed.label != VOLUME.label).any()
    assert changed.provenance.mask_source == f"{mask.digest()}: lesion of 12 mm inserted"
    assert changed.provenance.mask_parent == mask.digest()
