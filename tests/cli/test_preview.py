"""`nvgen-aug preview` draws what training will be shown, by stratum."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nvgen_aug import census
from nvgen_aug.cli.preview import stratum_of
from nvgen_aug.spec import VolumeSpec
from tests.cli.command import ran


def previewed(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, list[str], str]:
    status, out, err = ran(capsys, "preview", *words)
    return status, out.split(), err


def test_each_stratum_gets_a_sheet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, paths, err = previewed(
        capsys, "phantom", "--num", "2", "--bins", "12", "--out", str(tmp_path)
    )
    assert status == 0
    assert [Path(path).name for path in paths] == [
        "lesion-below-12-mm.png",
        "lesion-from-12-mm.png",
        "no-pathology.png",
    ]
    for path in paths:
        with Image.open(path) as picture:
            assert min(picture.size) > 200
    shares = [float(line.split("%")[0]) for line in err.splitlines() if "%" in line]
    assert sum(shares) == pytest.approx(100, abs=0.2)


def test_a_recipe_decides_which_strata_there_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text("[pathology.lesion]\ncount = [1, 1]\ndiameter = [4, 6]\n")
    words = ["phantom", "--num", "1", "--recipe", str(recipe), "--out", str(tmp_path)]
    status, paths, _ = previewed(capsys, *words)
    assert status == 0
    assert [Path(path).name for path in paths] == ["lesion-below-10-mm.png"]


def test_a_diameter_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = previewed(capsys, "phantom", "--bins", "-3")
    assert status == 1
    assert "--bins must be diameters in mm above 0, got -3" in err


@pytest.mark.parametrize(
    ("diameters", "stratum"),
    [
        ([], "no pathology"),
        ([4.0], "lesion below 10 mm"),
        ([4.0, 10.0], "lesion 10 to 20 mm"),
        ([31.0, 4.0], "lesion from 20 mm"),
    ],
)
def test_a_stratum_is_that_of_the_largest_lesion(diameters: list[float], stratum: str) -> None:
    pathology = tuple(("lesion", diameter) for diameter in diameters)
    assert stratum_of(VolumeSpec("phantom", seed=0, pathology=pathology), [10, 20]) == stratum


def test_with_a_goal_the_strata_are_those_that_the_plan_draws_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    label = np.zeros((1, 8, 8, 8), np.uint8)
    counted = census([{"label": label}], labels={"lesion": 1}, spacing=(2.0, 2.0, 2.0))
    counted.save(tmp_path / "census.json")
    words = ["--census", str(tmp_path / "census.json"), "--out", str(tmp_path), "--num", "1"]
    goal = ["--goal", "lesion=0.4", "--goal", "lesion < 10 mm=0.2"]
    status, paths, err = previewed(capsys, "phantom", *words, *goal)
    assert status == 0
    names = [Path(path).name for path in paths]
    assert len(names) == 3
    assert "lesion-below-10-mm.png" in names
    assert "nvgen-aug plan" in err


def test_bins_and_a_goal_contradict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    census(
        [{"label": np.zeros((1, 4, 4, 4), np.uint8)}], labels={"lesion": 1}, spacing=(1, 1, 1)
    ).save(tmp_path / "census.json")
    words = ["--census", str(tmp_path / "census.json"), "--goal", "lesion=0.4", "--bins", "8"]
    status, _, err = previewed(capsys, "phantom", *words)
    assert status == 1
    assert "--bins and --goal both say what a stratum is" in err
