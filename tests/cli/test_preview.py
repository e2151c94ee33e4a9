"""`nvgen-aug preview` draws what training will be shown, by stratum."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from nvgen_aug.cli import main
from nvgen_aug.cli.preview import stratum_of
from nvgen_aug.spec import VolumeSpec


def previewed(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, list[str], str]:
    status = 0
    try:
        main(["preview", *words])
    except SystemExit as left:
        status = int(left.code or 0)
    told = capsys.readouterr()
    return status, told.out.split(), told.err


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
