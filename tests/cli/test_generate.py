"""`nvgen-aug generate`, end to end with the phantom."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from nvgen_aug.assembly import open_source
from nvgen_aug.cli import main
from nvgen_aug.data.synthetic import SyntheticDataset
from nvgen_aug.generators.phantom import PhantomGenerator
from nvgen_aug.provenance import Provenance
from nvgen_aug.recipe import Recipe
from nvgen_aug.spec import VolumeSpec


def run(*arguments: object) -> int:
    """The command's exit status."""
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def generate(out: Path, *arguments: object, num: int = 2) -> int:
    return run("generate", "phantom", "--out", out, "--num", num, *arguments)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("made")
    assert generate(out, "--lesions", 2) == 0
    return out


def test_each_volume_has_image_label_and_sidecar_and_all_have_one_sheet(made: Path) -> None:
    names = [f"phantom_seed0_000{k}" for k in (0, 1)]
    endings = (".nii.gz", "_label.nii.gz", ".json")
    assert set(contents(made)) == {
        "contact-sheet.png",
        *(name + ending for name in names for ending in endings),
    }


def test_the_files_hold_the_voxels_types_and_affine_of_the_volume(made: Path) -> None:
    spec = json.loads((made / "phantom_seed0_0000.json").read_text())["spec"]
    volume = PhantomGenerator().generate(VolumeSpec(**spec)).volume
    image = nibabel.load(made / "phantom_seed0_0000.nii.gz")
    label = nibabel.load(made / "phantom_seed0_0000_label.nii.gz")
    assert (image.get_data_dtype(), label.get_data_dtype()) == (np.int16, np.uint8)
    np.testing.assert_array_equal(np.asarray(image.dataobj), volume.image[0])
    np.testing.assert_array_equal(np.asarray(label.dataobj), volume.label[0])
    np.testing.assert_array_equal(image.affine, volume.affine)
    np.testing.assert_array_equal(label.affine, volume.affine)


def test_volumes_are_numbered_as_a_synthetic_dataset_numbers_them(tmp_path: Path) -> None:
    assert generate(tmp_path, "--seed", 5) == 0
    with open_source("phantom") as source:
        volumes = SyntheticDataset(source, Recipe(), seed=5)
        for k in (0, 1):
            record = json.loads((tmp_path / f"phantom_seed5_000{k}.json").read_text())
            assert VolumeSpec(**record["spec"]) == volumes.spec(k)


def test_the_sidecar_traces_the_volume(made: Path) -> None:
    record = json.loads((made / "phantom_seed0_0001.json").read_text())
    provenance = Provenance(**record["provenance"])
    card = PhantomGenerator().card
    spec = VolumeSpec(**record["spec"])
    assert provenance.uid == card.volume_key(spec)
    assert provenance.source == "synthetic"
    assert [name for name, _ in spec.pathology] == ["lesion", "lesion"]
    assert record["vocabulary"] == card.vocabulary


def test_the_paths_go_to_stdout_and_talk_to_stderr(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    generate(tmp_path)
    out, err = capsys.readouterr()
    assert [Path(line).name for line in out.splitlines()] == [
        "phantom_seed0_0000.nii.gz",
        "phantom_seed0_0001.nii.gz",
        "contact-sheet.png",
    ]
    assert err == "2 made, 0 were there; weights: Apache-2.0\n"


def test_a_second_run_keeps_what_is_there_and_adds_the_rest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    generate(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("phantom*")}
    capsys.readouterr()
    generate(tmp_path, num=3)
    assert capsys.readouterr().err.startswith("1 made, 2 were there")
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_other_settings_replace_the_volume(tmp_path: Path, made: Path) -> None:
    generate(tmp_path, "--modality", "dark")
    generate(tmp_path, "--lesions", 2)
    assert contents(tmp_path) == contents(made)


@pytest.mark.parametrize("ending", [".nii.gz", "_label.nii.gz", ".json"])
def test_a_file_that_was_cut_short_is_made_again(tmp_path: Path, made: Path, ending: str) -> None:
    generate(tmp_path, "--lesions", 2)
    path = tmp_path / f"phantom_seed0_0000{ending}"
    path.write_bytes(path.read_bytes()[:100])
    generate(tmp_path, "--lesions", 2)
    assert contents(tmp_path) == contents(made)


def test_a_run_that_fails_leaves_no_partial_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generate(tmp_path, num=1)
    monkeypatch.setattr(Path, "replace", _full_disk)
    assert generate(tmp_path, num=2) == 1
    assert not [name for name in contents(tmp_path) if "partial" in name or "0001" in name]


def _full_disk(path: Path, target: Path) -> Path:
    raise OSError(28, "No space left on device")


def test_a_sheet_that_cannot_be_written_is_the_users_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "contact-sheet.png").mkdir()
    assert generate(tmp_path, num=1) == 1
    assert capsys.readouterr().err.startswith(f"error: cannot write to {tmp_path}: ")


def test_ctrl_c_says_what_is_safe_and_exits_130(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("nvgen_aug.cli.volume_files.VolumeFiles.hold", interrupt)
    assert generate(tmp_path) == 130
    err = capsys.readouterr().err
    assert err == f"stopped; whole volumes are in {tmp_path}; the same command makes the rest\n"


def test_a_recipe_file_is_followed(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("size: [16, 24, 8]\nmodality: dark\n")
    generate(tmp_path / "out", "--recipe", recipe, num=1)
    image = nibabel.load(tmp_path / "out" / "phantom_seed0_0000.nii.gz")
    assert image.shape == (16, 24, 8)


def test_the_sheet_has_one_row_for_each_volume(tmp_path: Path, made: Path) -> None:
    generate(tmp_path, "--lesions", 2, num=4)
    two = Image.open(made / "contact-sheet.png")
    four = Image.open(tmp_path / "contact-sheet.png")
    row = (four.height - two.height) / 2
    assert 200 < row < 300
    two.close()
    four.close()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["phantum", "--out", "x"], "there is no variant `phantum`; did you mean `phantom`?"),
        (["phantom", "--out", "x", "--modality", "drak"], "did you mean `dark`?"),
        (["phantom", "--out", "x", "--recipe", "none.toml"], "cannot read the recipe none.toml"),
        (["phantom", "--out", "x", "--steps", "5000"], "steps must lie in [1, 1000], got 5000"),
        (["unix:/nowhere.sock", "--out", "x"], "start one with `nvgen-aug serve`"),
        (["phantom", "--out", "/proc/x"], "cannot write to /proc/x"),
    ],
)
def test_the_users_error_is_one_sentence_and_exit_1(
    arguments: list[str],
    text: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("generate", *arguments) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert text in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
