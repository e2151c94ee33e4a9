"""Do the released networks at full width make a volume on this processor, and at what cost?

    python -m benchmarks.released_on_cpu [--quick] [--threads N]

The weights are drawn, so the images show nothing; the checkpoints are written in the released
layout, imported, and loaded as released ones would be. `rflow-ct` follows a mask in 30 steps,
`ddpm-ct` makes an image alone in 10, both 128 x 128 x 128 voxels. One run each, in a process of its
own, whose greatest resident memory is told; `--quick` takes narrow networks, 32 voxels and 2 steps.
"""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.staged import add_arguments
from benchmarks.staged import is_stage
from benchmarks.staged import run_stages
from benchmarks.staged import settings
from benchmarks.timing import quick_parser
from benchmarks.timing import write_record
from nvgen_aug.generators.maisi.generator import MaisiGenerator
from nvgen_aug.generators.maisi.installation import import_weights
from nvgen_aug.generators.maisi.sources import FolderSource
from nvgen_aug.generators.maisi.variants import VARIANTS
from nvgen_aug.generators.maisi.variants import Variant
from nvgen_aug.spec import VolumeSpec
from nvgen_aug.volume import Blob
from tests.generators.released import NARROW
from tests.generators.released import write_release

# Variant, steps, and whether a mask is followed.
RUNS = (("rflow-ct", 30, True), ("ddpm-ct", 10, False))
QUICK_STEPS = 2
STAGES = ("write", "import", "generate")


def main() -> None:
    """Write checkpoints, import them, make a volume of each, write the record."""
    parser = quick_parser(__doc__ or "")
    add_arguments(parser)
    arguments = parser.parse_args()
    stage = partial(_stage, is_quick=arguments.quick)
    if is_stage(arguments, stage):
        return
    numbers: dict[str, Any] = {}
    for name, steps, has_mask in RUNS:
        told = [f"{name}:{word}" for word in STAGES]
        found = run_stages("released_on_cpu", stage, told, arguments)
        taken = QUICK_STEPS if arguments.quick else steps
        numbers[name] = {"steps": taken, "has_mask": has_mask}
        numbers[name] |= {key.removeprefix(f"{name}:"): one for key, one in found.items()}
    write_record("released_on_cpu", settings(arguments), numbers, arguments)


def _stage(told: str, folder: Path, *, is_quick: bool) -> dict[str, Any]:
    name, _, stage = told.partition(":")
    variant = (NARROW if is_quick else VARIANTS)[name]
    if stage == "write":
        write_release(folder / "release", variant, has_optimizer=is_quick)
        return {}
    if stage == "import":
        manifest = import_weights(variant, FolderSource(folder / "release"), folder / "home")
        return {"bytes": manifest.bytes}
    return _generate(variant, folder / "home", is_quick=is_quick)


def _generate(variant: Variant, home: Path, *, is_quick: bool) -> dict[str, Any]:
    edge = 32 if is_quick else 128
    begin = time.perf_counter()
    generator = MaisiGenerator(variant, weights=home)
    loaded = time.perf_counter() - begin
    steps, has_mask = next((steps, mask) for name, steps, mask in RUNS if name == variant.name)
    spacing = 256.0 / edge
    mask = Blob(_mask(edge), np.diag([spacing, spacing, spacing, 1.0])) if has_mask else None
    spec = VolumeSpec(
        variant.name,
        seed=1,
        size=(edge, edge, edge),
        spacing=(spacing, spacing, spacing),
        steps=QUICK_STEPS if is_quick else steps,
        mask=mask.digest() if mask else None,
        image_only=mask is None,
        allow_out_of_distribution=True,
    )
    begin = time.perf_counter()
    latent = generator.latent(spec, mask)
    sampled = time.perf_counter() - begin
    begin = time.perf_counter()
    volume = generator.decode(latent)
    decoded = time.perf_counter() - begin
    values = np.unique(volume.image)
    assert len(values) > 1, "a constant image"
    return {
        "seconds_to_load": round(loaded, 2),
        "seconds_to_sample": round(sampled, 2),
        "seconds_to_decode": round(decoded, 2),
        "voxel_values": [int(values.min()), int(values.max())],
        "out_of_distribution": volume.provenance.out_of_distribution,
    }


def _mask(edge: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A body with a liver and two lungs, as ellipsoids."""
    x, y, z = (2 * axis / edge - 1 for axis in np.indices((edge, edge, edge)))
    label = np.where((x / 0.8) ** 2 + (y / 0.6) ** 2 < 1, 200, 0)
    for centre, identity in (((-0.3, 0, 0.4), 28), ((0.3, 0, 0.4), 30), ((0.2, 0, -0.4), 1)):
        a, b, c = centre
        label[((x - a) / 0.25) ** 2 + ((y - b) / 0.3) ** 2 + ((z - c) / 0.35) ** 2 < 1] = identity
    return label.astype(np.uint8)


if __name__ == "__main__":
    main()
