"""How long does a crop of half the volume's edge take from a cached volume?

    python -m benchmarks.cache_read [--quick]

Reads random crops of 32³ from 64³ and of 128³ from 256³ phantom volumes, on
one core, the files in the page cache. `image` is a volume without a label.
`first` opens the entry anew for each read, which checks every byte of it, as a
worker does once for each volume. Next to it stand the same crops from
`.nii.gz` (nibabel) and from an `.npy` that is mapped into memory.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any

import nibabel
import numpy as np

from benchmarks.timing import Timing
from benchmarks.timing import measure
from benchmarks.timing import quick_parser
from benchmarks.timing import write_record
from nvgen_aug.cache import VolumeCache
from nvgen_aug.crop import Crop
from nvgen_aug.generators.phantom import PhantomGenerator
from nvgen_aug.spec import VolumeSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nvgen_aug.volume import SyntheticVolume

BAR_SECONDS = 0.005


def main() -> None:
    """Measure, print a table, write the record."""
    parser = quick_parser(__doc__ or "")
    parser.add_argument("--runs", type=int, default=40)
    arguments = parser.parse_args()
    core = min(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {core})
    numbers = {}
    for edge in (32,) if arguments.quick else (64, 256):
        timings = _measure(edge, 5 if arguments.quick else arguments.runs)
        _print_table(edge, timings)
        numbers[f"{edge}_to_{edge // 2}"] = {name: t.to_dict() for name, t in timings.items()}
    settings = {"runs": arguments.runs, "cores": 1, "load_average": list(os.getloadavg())}
    write_record("cache_read", settings, numbers, arguments)


def _measure(edge: int, runs: int) -> dict[str, Timing]:
    generator = PhantomGenerator()
    spec = generator.card.resolve(
        VolumeSpec("phantom", seed=1, size=(edge, edge, edge), pathology=(("lesion", 20.0),))
    )
    volume = generator.generate(spec).volume
    rng = np.random.default_rng(0)

    def crop() -> Crop:
        x, y, z = (int(n) for n in rng.integers(0, edge // 2 + 1, 3))
        return Crop((x, y, z), (edge // 2, edge // 2, edge // 2))

    with tempfile.TemporaryDirectory(prefix="cache-read-") as folder:
        readers = _readers(Path(folder), volume)
        for read in readers.values():
            box = crop()
            np.testing.assert_array_equal(read(box), volume.image[0][box.slices])
        return {
            name: measure(lambda read=read: read(crop()), runs=runs, warm_up=3)  # type: ignore[misc]
            for name, read in readers.items()
        }


def _readers(
    folder: Path, volume: SyntheticVolume
) -> dict[str, Callable[[Crop], NDArray[np.int16]]]:
    both, alone = "0" * 64, "1" * 64
    cache = VolumeCache(folder / "cache", max_bytes="1 GB")
    cache.put_volume(both, volume)
    cache.put_volume(alone, replace(volume, label=None))
    reader = cache.reader()
    nifti, npy = folder / "image.nii.gz", folder / "image.npy"
    image: Any = nibabel.Nifti1Image(volume.image[0], volume.affine)  # type: ignore[no-untyped-call]
    nibabel.save(image, nifti)
    np.save(npy, volume.image[0])

    def cached(key: str, crop: Crop) -> NDArray[np.int16]:
        found = reader.get_volume(key, crop)
        assert found is not None
        image: NDArray[np.int16] = found.image[0]
        return image

    def first(crop: Crop) -> NDArray[np.int16]:
        reader.close()
        return cached(alone, crop)

    def from_nifti(crop: Crop) -> NDArray[np.int16]:
        image: Any = nibabel.load(nifti)
        return np.asarray(image.dataobj[crop.slices])

    return {
        "image": lambda crop: cached(alone, crop),
        "image and label": lambda crop: cached(both, crop),
        "image, first": first,
        "image, .nii.gz": from_nifti,
        "image, .npy mapped": lambda crop: np.array(np.load(npy, mmap_mode="r")[crop.slices]),
    }


def _print_table(edge: int, timings: dict[str, Timing]) -> None:
    base = timings["image"].median
    print(f"{edge}³ → {edge // 2}³, one core, warm; median (least to greatest), ratio to `image`")
    for name, timing in timings.items():
        low, high = min(timing.seconds), max(timing.seconds)
        print(
            f"  {name:20s} {1e3 * timing.median:8.2f} ms   ({1e3 * low:.2f} to {1e3 * high:.2f})"
            f"   × {timing.median / base:.2f}"
        )
    if edge == 64:
        verdict = "within" if base <= BAR_SECONDS else "above"
        print(f"  `image` is {verdict} the bar of {1e3 * BAR_SECONDS:.0f} ms")


if __name__ == "__main__":
    main()
