"""`nvgen-aug replay` makes a volume again and says whether it is the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from nvgen_aug.cache import VolumeCache
from nvgen_aug.crop import Crop
from nvgen_aug.crop import crop_from_text
from nvgen_aug.crop import crop_text
from nvgen_aug.data.events import EventLog
from nvgen_aug.data.synthetic_real import SyntheticRealDataset
from nvgen_aug.errors import SpecError
from nvgen_aug.evaluation.replayed import compare
from nvgen_aug.generators.phantom import PhantomGenerator
from nvgen_aug.provenance import Provenance
from nvgen_aug.spec import VolumeSpec
from nvgen_aug.volume import Blob
from nvgen_aug.volume import SyntheticVolume
from tests.cli.command import ran
from tests.data.phantoms import real_cases
from tests.data.phantoms import synthetic

VOLUME = PhantomGenerator().generate(VolumeSpec("phantom", seed=1, size=(8, 8, 8))).volume


@pytest.fixture
def image(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A generated volume on disk."""
    status, _, err = ran(capsys, "generate", "phantom", "--out", str(tmp_path))
    assert status == 0, err
    return next(tmp_path.glob("*_0000.nii.gz"))


def rewritten(path: Path, change: Any) -> None:
    untyped: Any = nibabel
    old = untyped.load(path)
    voxels = np.asarray(old.dataobj).copy()
    change(voxels)
    untyped.save(untyped.Nifti1Image(voxels, old.affine), path)


def written(folder: Path, record: Provenance) -> str:
    path = folder / "record.json"
    path.write_text(record.to_json())
    return str(path)


@pytest.mark.parametrize("ending", [".nii.gz", ".json", "_label.nii.gz"])
def test_a_file_and_its_sidecar_give_the_same_volume(
    image: Path, capsys: pytest.CaptureFixture[str], ending: str
) -> None:
    record = image.with_name(image.name.replace(".nii.gz", ending))
    assert ran(capsys, "replay", str(record))[:2] == (0, "same: 32768 voxels")


def test_a_few_voxels_off_by_one_are_rounding(
    image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def change(voxels: Any) -> None:
        voxels.flat[:5] += 1

    rewritten(image, change)
    status, out, _ = ran(capsys, "replay", str(image))
    assert (status, out) == (
        0,
        "same within rounding: 32768 voxels; 5 differ (0.02%), by 1 at most",
    )


def test_a_voxel_far_off_is_another_volume(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def change(voxels: Any) -> None:
        voxels.flat[7] += 2

    rewritten(image, change)
    status, out, _ = ran(capsys, "replay", str(image))
    assert status == 3
    assert out == "different: 32768 voxels; 1 differ (0.00%), by 2 at most"


def test_many_voxels_off_by_one_are_another_volume() -> None:
    shifted = VOLUME.image + np.int16(1)
    assert compare(VOLUME, shifted, VOLUME.label).verdict == "different"


@pytest.mark.parametrize(("off", "verdict"), [(1, "same within rounding"), (2, "different")])
def test_one_voxel_in_a_thousand_is_rounding_and_two_are_not(off: int, verdict: str) -> None:
    made = SyntheticVolume(
        np.zeros((1, 10, 10, 10), np.int16), None, VOLUME.affine, VOLUME.provenance
    )
    image = made.image.copy()
    image.flat[:off] = -1
    assert compare(made, image, None).verdict == verdict


def test_an_image_that_was_moved_is_another_one(
    image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    untyped: Any = nibabel
    old = untyped.load(image)
    moved = old.affine + np.diag([0.0, 0.0, 1.0, 0.0])
    untyped.save(untyped.Nifti1Image(np.asarray(old.dataobj), moved), image)
    status, out, _ = ran(capsys, "replay", str(image))
    assert status == 3
    assert out.endswith("it lies elsewhere: the affines differ")


def test_a_crop_that_was_decoded_alone_is_the_same_when_it_is_decoded_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    crop = Crop((1, 2, 3), (4, 4, 4))
    decode = PhantomGenerator.decode

    def rounded(self: PhantomGenerator, latent: Any, crop: Crop | None = None) -> SyntheticVolume:
        part = decode(self, latent, crop)
        part.image.flat[0] += crop is not None
        return part

    monkeypatch.setattr(PhantomGenerator, "decode", rounded)
    generator = PhantomGenerator()
    part = generator.decode(generator.latent(VolumeSpec("phantom", seed=1, size=(8, 8, 8))), crop)
    record = written(tmp_path, part.provenance.with_(content=part.digest()))
    status, out, err = ran(capsys, "replay", record)
    assert (status, out) == (0, "same: 64 voxels")
    assert "decoded alone" in err


def test_a_label_must_be_the_same_to_the_voxel() -> None:
    assert VOLUME.label is not None
    label = VOLUME.label.copy()
    label[0, 0, 0, 0] += 1
    found = compare(VOLUME, VOLUME.image, label)
    assert (found.verdict, found.labels) == ("different", 1)


def test_the_ends_of_the_range_are_not_one_apart() -> None:
    made = SyntheticVolume(
        np.full((1, 2, 2, 2), 32767, np.int16), None, VOLUME.affine, VOLUME.provenance
    )
    found = compare(made, np.full((1, 2, 2, 2), -32768, np.int16), None)
    assert (found.verdict, found.largest) == ("different", 65535)


def test_a_volume_that_lies_elsewhere_is_another_one() -> None:
    moved = VOLUME.affine + np.eye(4)
    assert compare(VOLUME, VOLUME.image, VOLUME.label, VOLUME.affine).verdict == "same"
    assert compare(VOLUME, VOLUME.image, VOLUME.label, moved).verdict == "different"


def test_a_provenance_alone_is_compared_by_its_digest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    part = VOLUME.cropped(Crop((1, 2, 3), (4, 4, 4)))
    record = written(tmp_path, part.provenance.with_(content=part.digest()))
    assert ran(capsys, "replay", record)[:2] == (0, "same: 64 voxels")
    other = written(tmp_path, part.provenance.with_(content="0" * 64))
    status, out, _ = ran(capsys, "replay", other)
    assert status == 3
    assert "by how much" in out
    status, _, err = ran(capsys, "replay", written(tmp_path, part.provenance))
    assert status == 1
    assert "names no voxels" in err


def test_the_voxels_of_a_cache_are_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = VOLUME.provenance.uid
    near = VOLUME.image.copy()
    near[0, 0, 0, 0] += 3
    with VolumeCache(tmp_path / "cache") as cache:
        cache.put_volume(key, SyntheticVolume(near, VOLUME.label, VOLUME.affine, VOLUME.provenance))
    record = written(tmp_path, VOLUME.provenance)
    status, out, _ = ran(capsys, "replay", record, "--cache", str(tmp_path / "cache"))
    assert (status, out.split(";")[1]) == (3, " 1 differ (0.20%), by 3 at most")


def test_a_line_of_a_run_is_made_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train = SyntheticRealDataset(real_cases(3), synthetic(), ratio=0.5)
    train.record_to(tmp_path)
    train.__getitems__(list(range(4)))
    events = EventLog(tmp_path).read().events
    samples = {e["source"]: e["n"] for e in events if e["kind"] == "sample"}
    line = str(samples["synthetic"])
    assert ran(capsys, "replay", str(tmp_path), "--line", line)[:2] == (0, "same: 4096 voxels")
    status, _, err = ran(capsys, "replay", str(tmp_path), "--line", str(samples["real"]))
    assert (status, "is a real case" in err) == (1, True)
    status, _, err = ran(capsys, "replay", str(tmp_path))
    assert (status, "choose one with --line" in err) == (1, True)
    status, _, err = ran(capsys, "replay", str(tmp_path), "--line", "1")
    assert (status, "is a `run`; expected" in err) == (1, True)


def test_a_mask_of_the_caller_is_taken_from_the_cache(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert VOLUME.label is not None
    mask = Blob(VOLUME.label[0], VOLUME.affine)
    with VolumeCache(tmp_path / "cache") as cache:
        spec = VolumeSpec("phantom", seed=2, size=(8, 8, 8), mask=cache.put_blob(mask))
    made = PhantomGenerator().generate(spec, mask).volume
    record = written(tmp_path, made.provenance.with_(content=made.digest()))
    status, _, err = ran(capsys, "replay", record)
    assert (status, "--cache names the folder" in err) == (1, True)
    status, out, _ = ran(capsys, "replay", record, "--cache", str(tmp_path / "cache"))
    assert (status, out) == (0, "same: 512 voxels")


def test_a_mask_of_the_caller_is_taken_from_its_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert VOLUME.label is not None
    untyped: Any = nibabel
    mask = tmp_path / "mask.nii.gz"
    untyped.save(untyped.Nifti1Image(VOLUME.label[0], VOLUME.affine), mask)
    out = tmp_path / "out"
    ran(capsys, "generate", "phantom", "--out", str(out), "--mask", str(mask))
    record = str(next(out.glob("*.json")))
    assert ran(capsys, "replay", record, "--mask", str(mask))[:2] == (0, "same: 512 voxels")
    other = tmp_path / "other.nii.gz"
    untyped.save(untyped.Nifti1Image(VOLUME.label[0][::-1], VOLUME.affine), other)
    status, _, err = ran(capsys, "replay", record, "--mask", str(other))
    assert (status, "and the volume was made for" in err) == (1, True)


def test_other_weights_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = written(tmp_path, VOLUME.provenance.with_(weights_digest="1" * 64))
    status, _, err = ran(capsys, "replay", record)
    assert (status, "was made with 1111111111111111…" in err) == (1, True)


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("a.json", "{", "is no JSON"),
        ("a.json", "[]", "must hold one JSON object"),
        ("a.json", "{}", "holds no provenance"),
        ("a.txt", "", "must be a NIfTI file, a JSON file or the folder of a run"),
        ("a.nii.gz", "", "cannot read the record .*a.json: No such file"),
    ],
)
def test_what_is_no_record_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, text: str, told: str
) -> None:
    (tmp_path / name).write_text(text)
    status, _, err = ran(capsys, "replay", str(tmp_path / name))
    assert status == 1
    with pytest.raises(ValueError, match=told):
        raise ValueError(err.replace("\n", " "))


def test_a_crop_survives_as_text() -> None:
    crop = Crop((1, 2, 3), (4, 5, 6))
    assert crop_from_text(crop_text(crop)) == crop
    with pytest.raises(SpecError, match="must be written x,y,z"):
        crop_from_text("1,2+3")


def test_a_record_can_come_through_a_pipe(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import io

    record = {"provenance": json.loads(VOLUME.provenance.with_(content=VOLUME.digest()).to_json())}
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(record)))
    assert ran(capsys, "replay", "-")[:2] == (0, "same: 512 voxels")
