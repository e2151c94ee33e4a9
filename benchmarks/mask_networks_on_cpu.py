"""Do the networks that draw masks, at full width, draw one on this processor, and at what cost?

    python -m benchmarks.mask_networks_on_cpu [--quick] [--threads N]

The weights are drawn, so the masks show nothing; the checkpoints are written in the released
layout, imported, and loaded strictly as released ones would be. The UNet takes 10 steps over its
native latent of 64 x 64 x 64, the decoder makes 256 x 256 x 256 voxels with 125 channels each, of
which only the greatest is kept, and the clean-up makes a body of them. One run each, in a process
of its own, whose greatest resident memory is told; `--quick` takes narrow networks and 32 voxels.
"""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.staged import add_arguments
from benchmarks.staged import is_stage
from benchmarks.staged import run_stages
from benchmarks.staged import settings
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
    add_arguments(parser)
    arguments = parser.parse_args()
    stage = partial(_stage, is_quick=arguments.quick)
    if is_stage(arguments, stage):
        return
    numbers = {"steps": STEPS} | run_stages("mask_networks_on_cpu", stage, STAGES, arguments)
    write_record("mask_networks_on_cpu", settings(arguments), numbers, arguments)


def _stage(stage: str, folder: Path, *, is_quick: bool) -> dict[str, Any]:
    variant = _variant(is_quick=is_quick)
    if stage == "write":
        write_release(folder / "release", variant, has_optimizer=False)
        return {}
    if stage == "import":
        manifest = import_weights(variant, FolderSource(folder / "release"), folder / "home")
        return {"bytes": manifest.bytes}
    return _draw(variant, folder / "home")


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
