"""Do the networks that draw masks, at full width, draw one on this processor, and at what cost?

    python -m benchmarks.mask_networks_on_cpu [--quick] [--threads N]

The weights are drawn, so the masks show nothing; the checkpoints are written in the released
layout, imported, and loaded strictly as released ones would be. The UNet takes 10 steps over its
native latent of 64 x 64 x 64, the decoder makes 256 x 256 x 256 voxels with 125 channels each, of
which only the greatest is kept, and the clean-up makes a body of them. One run each, in a process
of its own, whose greatest resident memory is told; `--quick` takes narrow networks and 32 voxels.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.timing import quick_parser
from benchmarks.timing import write_record
from nvgen_aug.generators.maisi.installation import import_weights
from nvgen_aug.generators.maisi.masks.clean_up import cleaned_up
from nvgen_aug.generators.maisi.masks.mask_model import MaskModel
from nvgen_aug.generators.maisi.masks.size_vector import size_vector
from nvgen_aug.generators.maisi.sources import FolderSource
from nvgen_aug.generators.maisi.variants import VARIANTS
from nvgen_aug.generators.maisi.variants import Variant
from nvgen_aug.generators.maisi.weights import imported_weights
from tests.generators.released import NARROW
from tests.generators.released import write_release

NAME = "rflow-ct"
STEPS = 10
STAGES = ("write", "import", "draw")


def main() -> None:
    """Write checkpoints, import them, draw a mask, write the record."""
    parser = quick_parser(__doc__ or "")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.stage:
        print(json.dumps(_stage(arguments.stage, arguments.folder, is_quick=arguments.quick)))
        return
    numbers: dict[str, Any] = {"steps": STEPS}
    with tempfile.TemporaryDirectory(prefix="mask-networks-") as folder:
        for stage in STAGES:
            numbers[stage] = _in_a_process(stage, folder, arguments)
            print(stage, numbers[stage], flush=True)
    settings = {"threads": arguments.threads, "load_average": list(os.getloadavg())}
    write_record("mask_networks_on_cpu", settings, numbers, arguments)


def _in_a_process(stage: str, folder: str, arguments: argparse.Namespace) -> dict[str, Any]:
    words = ["--stage", stage, "--folder", folder, "--threads", str(arguments.threads)]
    words += ["--quick"] if arguments.quick else []
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.mask_networks_on_cpu", *words],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def _stage(stage: str, folder: Path, *, is_quick: bool) -> dict[str, Any]:
    variant = _variant(is_quick=is_quick)
    begin = time.perf_counter()
    found: dict[str, Any] = {}
    if stage == "write":
        write_release(folder / "release", variant, has_optimizer=False)
    elif stage == "import":
        manifest = import_weights(variant, FolderSource(folder / "release"), folder / "home")
        found["bytes"] = manifest.bytes
    else:
        found = _draw(variant, folder / "home")
    found["seconds"] = round(time.perf_counter() - begin, 2)
    # Linux tells it in KiB.
    found["peak_gib"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2)
    return found


def _variant(*, is_quick: bool) -> Variant:
    """The mask networks at full width, beside narrow ones for the image, which are not used."""
    narrow = NARROW[NAME]
    return narrow if is_quick else replace(narrow, mask_model=VARIANTS[NAME].mask_model)


def _draw(variant: Variant, home: Path) -> dict[str, Any]:
    ticks: list[float] = []
    begin = time.perf_counter()
    model = MaskModel(
        variant,
        imported_weights(home, variant.name),
        torch.device("cpu"),
        "fp32",
        lambda: ticks.append(time.perf_counter()),
    )
    sizes = size_vector({"liver": 0.5}, ("hepatic tumor",), np.random.default_rng(0))
    loaded = time.perf_counter()
    raw = model.draw(sizes, STEPS, noise_seed=1, link_seed=2)
    drawn = time.perf_counter()
    sampled = ticks[STEPS]  # one tick before each step, and the next when the decoder begins
    label = cleaned_up(raw, variant.labels["hepatic tumor"])
    cleaned = time.perf_counter()
    assert len(np.unique(raw)) > 1, "a constant mask"
    return {
        "shape": list(raw.shape),
        "labels_drawn": len(np.unique(raw)),
        "labels_left": len(np.unique(label)),
        "seconds_to_load": round(loaded - begin, 2),
        "seconds_to_sample": round(sampled - loaded, 2),
        "seconds_to_decode": round(drawn - sampled, 2),
        "seconds_to_clean_up": round(cleaned - drawn, 2),
    }


if __name__ == "__main__":
    main()
