"""The examples run as they stand, and do what they say."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

import nvgen_aug
from nvgen_aug.data.events import EventLog
from nvgen_aug.data.manifest import Manifest

EXAMPLES = Path(nvgen_aug.__file__).parents[1] / "examples"

pytestmark = pytest.mark.slow
if not EXAMPLES.exists():
    pytest.skip("the examples are in the repository, not in the wheel", allow_module_level=True)


def run(name: str, out: Path, *more: str) -> str:
    paths = os.pathsep.join(filter(None, [str(EXAMPLES.parent), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), "--quick", "--out", str(out), *more],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def manifest(folder: Path) -> Manifest:
    found = Manifest.of(EventLog(folder).read())
    assert found.chain.breaks == ()
    return found


def test_a_training_script_leaves_a_record_of_what_it_saw(tmp_path: Path) -> None:
    out = run("train_segmentation.py", tmp_path)
    assert "asked 30.00% synthetic" in out
    assert "Dice of lesions on 2 real cases" in out
    rows = manifest(tmp_path).rows
    assert {row["source"] for row in rows} == {"real", "synthetic"}
    assert len(rows) == 12


@pytest.mark.parametrize("kind", ["synthetic", "control"])
def test_a_rare_lesion_is_shown_as_often_as_asked(tmp_path: Path, kind: str) -> None:
    out = run("oversample_rare.py", tmp_path, *(["--control"] if kind == "control" else []))
    assert "lesion < 10 mm" in out
    assert "lesion: asked in 50.00% of the samples, shown in 50.00%" in out


def test_arms_of_an_ablation_see_the_same_real_cases_and_nested_volumes(tmp_path: Path) -> None:
    run("ratio_ablation.py", tmp_path)
    with (tmp_path / "ratio_ablation.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["asked"], row["seed"]) for row in rows] == [
        ("0.0", "0"),
        ("0.0", "1"),
        ("0.25", "0"),
        ("0.25", "1"),
    ]
    assert [row["delivered"] for row in rows] == ["0.0", "0.0", "0.25", "0.25"]
    none, quarter = (
        [
            row["uid"]
            for row in manifest(tmp_path / "same_steps" / f"ratio-{ratio}" / "seed-0").rows
            if row["source"] == "real"
        ]
        for ratio in ("0", "0.25")
    )
    assert quarter == none[: len(quarter)]
