"""The MONAI bundle in `examples` trains, as a user would run it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "examples" / "bundle" / "configs" / "train.yaml"

pytest.importorskip("fire", reason="the command line of MONAI's bundles needs fire")
pytest.importorskip("ignite", reason="MONAI's engines need pytorch-ignite")


def scans(folder: Path) -> Path:
    """Five small images with labels on disk, and the list that names them."""
    rng = np.random.default_rng(0)
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    pairs = []
    for case in range(5):
        label = (rng.random((16, 16, 16)) > 0.8).astype(np.uint8)
        image = (500.0 * label + 100 * rng.random(label.shape)).astype(np.float32)
        for key, array in (("image", image), ("label", label)):
            nib.save(nib.Nifti1Image(array, affine), folder / f"{key}{case}.nii.gz")
        pairs.append({"image": f"image{case}.nii.gz", "label": f"label{case}.nii.gz"})
    datalist = folder / "dataset.json"
    datalist.write_text(json.dumps({"training": pairs}))
    return datalist


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_bundle_trains_from_the_command_line(tmp_path: Path) -> None:
    arguments = {
        "config_file": str(CONFIG),
        "datalist": str(scans(tmp_path)),
        "variant": "phantom",
        "size": "[16, 16, 16]",
        "cache": str(tmp_path / "cache"),
        "epochs": "2",
        "num_workers": "1",
    }
    command = [sys.executable, "-m", "monai.bundle", "run"]
    command += [word for name, value in arguments.items() for word in (f"--{name}", value)]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=840,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "asked 30.00% synthetic, delivered 29.17%: 7 of 24 samples in 3 epochs" in done.stdout
