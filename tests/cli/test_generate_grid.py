"""`nvgen-aug generate --grid` and `--vary`, end to end with the phantom."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import nibabel
import pytest
from PIL import Image

from nvgen_aug.cli import main
from nvgen_aug.generators.phantom import PhantomGenerator
from nvgen_aug.spec import VolumeSpec


def run(*arguments: object) -> int:
    """The command's exit status."""
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "grid.csv").open(newline="") as lines:
        return list(csv.DictReader(lines))


def spec(folder: Path, image: str) -> VolumeSpec:
    record = json.loads((folder / image.replace(".nii.gz", ".json")).read_text())
    return VolumeSpec(**record["spec"])


def test_every_combination_is_made_and_the_table_says_which_is_which(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    vary = ("--vary", "spacing=2,1x1x3", "--vary", "pathology.lesion=0,9.5")
    assert run("generate", "phantom", "--out", out, "--num", 2, *vary) == 0
    told = capsys.readouterr()
    assert told.err.startswith("2 spacing × 2 pathology.lesion × 2 draws = 8 volumes\n")
    assert [Path(line).name for line in told.out.splitlines()[-2:]] == [
        "grid.csv",
        "contact-sheet.png",
    ]
    rows = table(out)
    assert len(rows) == 8
    assert [row["pathology.lesion"] for row in rows] == ["0", "9.5"] * 4
    card = PhantomGenerator().card
    for row in rows:
        made = spec(out, row["image"])
        spacing = (2.0, 2.0, 2.0) if row["spacing"] == "2" else (1.0, 1.0, 3.0)
        lesions = () if row["pathology.lesion"] == "0" else (("lesion", 9.5),)
        assert (made.spacing, made.pathology) == (spacing, lesions)
        assert (str(made.seed), card.volume_key(made)) == (row["seed"], row["uid"])
    assert [len({row["seed"] for row in rows if row["draw"] == draw}) for draw in "01"] == [1, 1]


def test_a_file_holds_the_recipe_and_the_grid_and_vary_adds_to_it(tmp_path: Path) -> None:
    grid = tmp_path / "grid.toml"
    grid.write_text('size = [16, 16, 16]\n[grid]\nmodality = ["bright", "dark"]\n')
    out = tmp_path / "out"
    assert run("generate", "phantom", "--out", out, "--grid", grid, "--vary", "guidance=0,2") == 0
    rows = table(out)
    assert [(row["modality"], row["guidance"]) for row in rows] == [
        ("bright", "0"),
        ("bright", "2"),
        ("dark", "0"),
        ("dark", "2"),
    ]
    assert nibabel.load(out / rows[3]["image"]).shape == (16, 16, 16)


def test_the_sheet_has_a_column_for_each_value_of_the_last_factor(tmp_path: Path) -> None:
    sizes = {}
    for name, last in (("two", "0,9"), ("three", "0,9,12")):
        arguments = ("--vary", "modality=bright,dark", "--vary", f"pathology.lesion={last}")
        assert run("generate", "phantom", "--out", tmp_path / name, *arguments) == 0
        with Image.open(tmp_path / name / "contact-sheet.png") as sheet:
            sizes[name] = sheet.size
    assert sizes["two"][1] == sizes["three"][1]
    assert 1.4 < sizes["three"][0] / sizes["two"][0] < 1.6


def test_a_second_run_keeps_what_is_there_and_makes_the_rest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("generate", "phantom", "--out", tmp_path, "--vary", "steps=1,2")
    capsys.readouterr()
    assert run("generate", "phantom", "--out", tmp_path, "--vary", "steps=1,2,3") == 0
    assert "1 made, 2 were there" in capsys.readouterr().err


def test_values_that_differ_in_signs_alone_keep_files_of_their_own(tmp_path: Path) -> None:
    vary = ("--vary", "pathology.lesion=1.5,15")
    assert run("generate", "phantom", "--out", tmp_path, "--bids", *vary) == 0
    images = [row["image"] for row in table(tmp_path)]
    assert len(set(images)) == 2
    assert all((tmp_path / image).exists() for image in images)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--vary", "modalty=bright"], "cannot vary `modalty`; did you mean `modality`?"),
        (["--vary", "modality"], "--vary is written NAME=VALUE,VALUE"),
        (["--vary", "steps=1", "--vary", "steps=2"], "--vary names `steps` twice"),
        (["--vary", "pathology.lesion=6,300"], "grid at pathology.lesion=300: `lesion` diameters"),
        (["--vary", "pathology.lesoin=6"], "cannot place `lesoin`; did you mean `lesion`?"),
        (["--grid", "none.toml"], "cannot read the recipe none.toml"),
        (["--grid", "g.toml", "--recipe", "r.toml"], "leave out --recipe"),
    ],
)
def test_the_users_error_is_one_sentence_and_nothing_is_made(
    arguments: list[str],
    text: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "r.toml").write_text("")
    assert run("generate", "phantom", "--out", "x", *arguments) == 1
    err = capsys.readouterr().err
    assert text in err.splitlines()[-1]
    assert not (tmp_path / "x").exists()
