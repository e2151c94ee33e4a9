"""`nvgen-aug census`, and what `nvgen-aug plan` makes of it."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from typer.testing import CliRunner

from nvgen_aug.cli import app
from nvgen_aug.cli import main
from nvgen_aug.data.census import Census
from nvgen_aug.pathology import Lesions
from nvgen_aug.recipe import Recipe
from tests.data.censuses import counted


def dataset(folder: Path) -> Path:
    """Two cases in the layout of the Decathlon, one of them with a cube of 8 mm edge."""
    training = []
    for case in range(2):
        label = np.zeros((12, 12, 12), np.uint8)
        if case:
            label[2:6, 2:6, 2:6] = 1
        names = {}
        for kind, array in (("image", label * 100), ("label", label)):
            path = folder / f"{kind}sTr" / f"case_{case}.nii.gz"
            path.parent.mkdir(exist_ok=True)
            nibabel.save(nibabel.Nifti1Image(array, np.diag([2.0, 2.0, 2.0, 1.0])), path)
            names[kind] = f"./{kind}sTr/case_{case}.nii.gz"
        training.append(names)
    about = {"labels": {"0": "background", "1": "lesion"}, "training": training}
    (folder / "dataset.json").write_text(json.dumps(about))
    return folder


def printed(*arguments: str) -> list[list[str]]:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    return [line.split() for line in result.stdout.splitlines() if line]


def test_a_folder_is_counted_and_the_counts_are_kept(tmp_path: Path) -> None:
    out = tmp_path / "census.json"
    lines = printed("census", str(dataset(tmp_path)), "--out", str(out))
    assert lines[1] == ["lesion", "1", "50%", "1", "1.0", "9.9", "9.9", "9.9"]
    assert Census.load(out).holds("lesion < 10 mm") == (False, True)


def test_the_sizes_of_a_class_are_printed_as_a_recipe(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["census", str(dataset(tmp_path)), "--recipe", "lesion"])
    assert result.exit_code == 1  # one lesion has no percentiles
    second = np.zeros((12, 12, 12), np.uint8)
    second[1:4, 1:4, 1:4] = 1
    path = tmp_path / "labelsTr" / "case_0.nii.gz"
    nibabel.save(nibabel.Nifti1Image(second, np.diag([2.0, 2.0, 2.0, 1.0])), path)
    result = CliRunner().invoke(app, ["census", str(tmp_path), "--recipe", "lesion"])
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(result.stdout)
    lesions = (Recipe.load(recipe).pathology or {})["lesion"]
    assert isinstance(lesions, Lesions)
    assert lesions.measured == (7.4, 9.9)
    assert len(lesions.ranges) == 2


def test_labels_can_be_counted_on_the_grid_of_training(tmp_path: Path) -> None:
    out = tmp_path / "census.json"
    printed("census", str(dataset(tmp_path)), "--out", str(out), "--spacing", "4")
    assert Census.load(out).cases[1].volumes["lesion"][0] % 64 == 0


def test_the_plan_shows_what_a_goal_gets(tmp_path: Path) -> None:
    counted([[15.0], [], [], [], []]).save(tmp_path / "census.json")
    lines = printed(
        "plan", "--census", str(tmp_path / "census.json"), "--ratio", "0.5", "--batch-size", "4",
        "--epochs", "4", "--goal", "lesion=0.4", "--goal", "lesion < 10 mm=1/5", "--show", "8",
    )  # fmt: skip
    goal = lines.index(["goal", "asked", "shown", "real", "synthetic", "share"])
    assert lines[goal + 1] == ["lesion", "16.00", "16", "4", "12", "40.00%"]
    assert lines[goal + 2] == ["lesion", "<", "10", "mm", "8.00", "8", "0", "8", "20.00%"]
    shown = lines.index(["epoch", "batch", "rank", "position", "kind", "number", "use", "stratum"])
    strata = {" ".join(line[7:]) for line in lines[shown + 1 :] if line[4] == "synthetic"}
    assert strata <= {"lesion", "lesion < 10 mm", "no lesion"}
    assert strata


def test_the_plan_of_the_control_repeats_real_cases(tmp_path: Path) -> None:
    counted([[15.0], [], []]).save(tmp_path / "census.json")
    result = CliRunner().invoke(
        app,
        ["plan", "--census", str(tmp_path / "census.json"), "--ratio", "0.5", "--epochs", "2",
         "--goal", "lesion=0.4", "--goal", "lesion < 10 mm=0.2", "--control"],
    )  # fmt: skip
    assert "no volume" in result.stdout
    assert "repeated" in result.stdout
    assert "`lesion < 10 mm` is not met: no real case shows it" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "--real says how many real cases there are"),
        (["--goal", "lesion=0.4"], "--goal needs --census"),
        (["--control", "--real", "3"], "--census and --control need a --goal"),
        (["--census", "CENSUS", "--goal", "lesion"], "--goal is written CONDITION=SHARE"),
        (["--census", "CENSUS", "--goal", "cyst=0.1"], "no class `cyst`"),
        (["--census", "CENSUS", "--goal", "lesion=0.1", "--real", "9"], "counts 1 cases"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(
    arguments: list[str], text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    counted([[15.0]]).save(tmp_path / "census.json")
    given = [str(tmp_path / "census.json") if word == "CENSUS" else word for word in arguments]
    with pytest.raises(SystemExit) as leaving:
        main(["plan", "--ratio", "0.5", *given])
    assert leaving.value.code == 1
    assert text in capsys.readouterr().err
