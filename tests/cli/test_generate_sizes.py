"""`nvgen-aug generate` with organ sizes, on narrow networks installed as released ones are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from nvgen_aug.cli import main
from nvgen_aug.generators.maisi import variants
from tests.generators.released import NARROW
from tests.generators.released import install


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    made = install(folder / "made", NARROW["rflow-ct"])
    (folder / "weights").mkdir()
    made.rename(folder / "weights" / "rflow-ct")
    return folder


@pytest.fixture
def installed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NVGEN_AUG_HOME", str(home))
    monkeypatch.setitem(variants.VARIANTS, "rflow-ct", NARROW["rflow-ct"])  # type: ignore[arg-type]


def generate(out: Path, *words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["generate", "rflow-ct", "--out", str(out), *words])
    return int(ended.value.code or 0)


def sidecar(out: Path) -> Any:
    return json.loads((out / "rflow-ct_seed0_0000.json").read_text())


@pytest.mark.usefixtures("installed")
def test_sizes_and_steps_reach_the_spec_and_a_label_is_written(tmp_path: Path) -> None:
    sizes = ["--organ-size", "hepatic tumor=-1", "--organ-size", "colon=-1"]
    assert generate(tmp_path, *sizes, "--mask-steps", "10") == 0
    label = nibabel.load(tmp_path / "rflow-ct_seed0_0000_label.nii.gz")
    assert np.asarray(label.dataobj).any()
    spec = sidecar(tmp_path)["spec"]
    assert spec["organ_sizes"] == [["colon", -1.0], ["hepatic tumor", -1.0]]
    assert spec["mask_steps"] == 10


@pytest.mark.usefixtures("installed")
def test_an_image_alone_has_no_label_file(tmp_path: Path) -> None:
    assert generate(tmp_path, "--image-only") == 0
    assert (tmp_path / "rflow-ct_seed0_0000.nii.gz").exists()
    assert not list(tmp_path.glob("*label*"))


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("size", "text"),
    [
        ("livr=0.5", "`liver`"),
        ("liver=1.5", "must lie in [0, 1]"),
        ("liver", "NAME=SIZE or NAME=LEAST:GREATEST"),
    ],
)
def test_what_no_size_is_ends_with_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], size: str, text: str
) -> None:
    assert generate(tmp_path, "--organ-size", size) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert text in said
    assert "Traceback" not in said
