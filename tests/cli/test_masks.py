"""`nvgen-aug masks` indexes and lists; `nvgen-aug generate --masks` makes volumes of them."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from nvgen_aug.generators.maisi.masks.bank import indexing
from nvgen_aug.generators.maisi.masks.bank.files import MaskFiles
from nvgen_aug.generators.maisi.masks.bank.files import ReadMask
from nvgen_aug.generators.maisi.variants import VARIANTS
from tests.cli.command import Run
from tests.cli.command import runner
from tests.generators.released import NARROW
from tests.generators.released import install


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    return runner(capsys)


@pytest.fixture
def masks(tmp_path: Path) -> Path:
    folder = tmp_path / "labels"
    folder.mkdir()
    for name, has_tumour in (("a", False), ("b", True), ("c", True)):
        label = np.zeros((32, 32, 32), np.uint8)
        label[4:28, 4:28, 2:30] = 200
        label[8:24, 8:24, 4:24] = 1
        label[10:14, 10:14, 8:12] = 26 if has_tumour else 1
        label[0, 0, 0] = {"a": 0, "b": 3, "c": 4}[name]
        nib.save(nib.Nifti1Image(label, np.diag([8.0, 8, 8, 1])), folder / f"{name}.nii.gz")
    (folder / "broken.nii.gz").write_bytes(b"no mask")
    return folder


def test_a_folder_is_indexed_listed_and_generated_from(
    run: Run, masks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, err = run("masks", "index", masks)
    assert code == 0
    assert out.strip() == str(masks / "nvgen-masks.json")
    assert "3 masks indexed, 0 of them as before; 1 left out" in err
    assert "left out: `broken.nii.gz`" in err

    code, out, err = run("masks", "list", masks)
    assert code == 0
    assert "3 masks for `rflow-ct`" in err
    assert "3 of 32 x 32 x 32 voxels of 8 x 8 x 8 mm" in err
    assert "3 show abdomen" in err
    rows = {line[:32].strip(): line[32:].split() for line in out.splitlines()}
    assert rows["hepatic tumor"][:3] == ["2", "67%", "32.8"]
    assert rows["liver"][:2] == ["3", "100%"]

    monkeypatch.setenv("NVGEN_AUG_HOME", str(tmp_path / "home"))
    narrow = NARROW["rflow-ct"]
    (tmp_path / "home" / "weights").mkdir(parents=True)
    install(tmp_path / "made", narrow).rename(tmp_path / "home" / "weights" / "rflow-ct")
    monkeypatch.setitem(VARIANTS, "rflow-ct", narrow)  # type: ignore[arg-type]
    recipe = tmp_path / "ill.toml"
    recipe.write_text('anatomy = ["hepatic tumor"]\nsteps = 1\n')
    volumes = tmp_path / "volumes"
    code, out, err = run(
        *("generate", "rflow-ct", "--masks", masks, "--recipe", recipe),
        *("--augment-mask", "--out", volumes),
    )
    assert code == 0, err
    sidecar = json.loads((volumes / "rflow-ct_seed0_0000.json").read_text())
    assert sidecar["provenance"]["mask_source"].endswith(": hepatic tumor moved")
    label = np.asarray(nib.load(volumes / "rflow-ct_seed0_0000_label.nii.gz").dataobj)
    assert (label == 26).any()


def test_an_index_that_is_there_is_used_again(run: Run, masks: Path) -> None:
    run("masks", "index", masks)
    code, _, err = run("masks", "index", masks, "--threads", 1)
    assert code == 0
    assert "3 masks indexed, 3 of them as before; 1 left out" in err


def test_an_index_that_was_stopped_goes_on(
    run: Run, masks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexing, "_PART", 2)
    read = MaskFiles.read

    def stopped(files: MaskFiles, name: str) -> ReadMask:
        if name == "c.nii.gz":
            raise KeyboardInterrupt
        return read(files, name)

    monkeypatch.setattr(MaskFiles, "read", stopped)
    code, _, err = run("masks", "index", masks, "--threads", 1)
    assert code == 130
    assert "what was read is kept" in err
    assert not (masks / "nvgen-masks.json").exists()
    monkeypatch.setattr(MaskFiles, "read", read)
    code, _, err = run("masks", "index", masks)
    assert code == 0
    assert "3 masks indexed, 1 of them as before" in err
    assert not (masks / "nvgen-masks.json.partial").exists()


def test_a_damaged_index_is_made_again(run: Run, masks: Path) -> None:
    (masks / "nvgen-masks.json").write_text("{}")
    assert run("masks", "list", masks)[0] == 1
    code, _, err = run("masks", "index", masks)
    assert code == 0
    assert "everything is read anew" in err


def test_wrong_arguments_say_what_to_do(run: Run, tmp_path: Path) -> None:
    code, _, err = run("masks", "list", tmp_path)
    assert code == 1
    assert "nvgen-aug masks index" in err
    code, _, err = run("masks", "index", tmp_path)
    assert code == 1
    assert "no .nii or .nii.gz" in err
    code, _, err = run("masks", "index", tmp_path, "--variant", "rflow-mr")
    assert code == 1
    assert "no variant `rflow-mr` follows masks" in err
    code, _, err = run("masks", "index", tmp_path / "nothing")
    assert code == 1
    assert "folder or a zip archive" in err
