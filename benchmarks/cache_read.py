"""How long does it take to read a crop of a stored volume?

    python -m benchmarks.cache_read [--quick]

The same random crops for all, on one core, the files in the page cache: 96³ of 256³ and 32³ of
64³, of volumes that compress as CT does, as an image alone and as a pair of image and label.
`opened anew` compares the files of the entry with its commit file before each read, as a worker
does once for each volume.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.contest import Bar
from benchmarks.contest import Entrant
from benchmarks.contest import Standing
from benchmarks.contest import hold
from benchmarks.outcome import conclude
from benchmarks.scan import scan
from benchmarks.stores import STORES
from benchmarks.stores import AbstractStore
from benchmarks.stores import Nifti
from benchmarks.stores import OurCache
from benchmarks.stores import Voxels
from benchmarks.timing import quick_parser
from nvgen_aug.crop import Crop
from nvgen_aug.volume import SyntheticVolume

SIZES = ((256, 96), (64, 32))


def main() -> None:
    """Measure, print tables and bars, write the record."""
    parser = quick_parser(__doc__ or "")
    parser.add_argument("--rounds", type=int, default=25)
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    sizes, rounds = (SIZES[1:], 3) if arguments.quick else (SIZES, arguments.rounds)
    standings = [s for edge, part in sizes for s in _measure(edge, part, rounds)]
    image, *small = (s for s in standings if "label" not in s.title)
    bars = [
        Bar("96³ of 256³, image: times faster than .nii.gz", _faster(image), 20.0),
        Bar("32³ of 64³, image: seconds", (small or [image])[0].seconds("ours"), 0.005, True),
    ]
    conclude("cache_read", arguments, standings, bars)


def _measure(edge: int, part: int, rounds: int) -> list[Standing]:
    pair = scan(edge)
    volumes = {"image": replace(pair, label=None), "image and label": pair}
    standings = []
    for what, volume in volumes.items():
        with tempfile.TemporaryDirectory(prefix="cache-read-") as folder:
            stores = [kind(Path(folder)) for kind in STORES]
            for store in stores:
                store.write(volume)
            entrants = [_entrant(store, volume, part) for store in stores]
            (ours,) = [store for store in stores if isinstance(store, OurCache)]
            entrants.insert(1, _opened_anew(ours, volume, part))
            standing = hold(
                f"{part}³ of {edge}³, {what}, one core",
                entrants,
                rounds=rounds,
                check=lambda wrong: float(wrong()),
                error_name="wrong voxels",
                memory=False,
            )
        standings.append(standing)
    return standings


def _entrant(store: AbstractStore, volume: SyntheticVolume, part: int) -> Entrant:
    run = _reading(store.read, volume, part)
    stored = store.total_bytes() / 2**20
    note = f"{stored:.1f} MiB on disk; {store.note}"
    return Entrant(store.name, run, is_ours=isinstance(store, OurCache), note=note)


def _opened_anew(store: OurCache, volume: SyntheticVolume, part: int) -> Entrant:
    def read(crop: Crop) -> list[Voxels]:
        store.reader.close()
        return store.read(crop)

    return Entrant("ours, opened anew", _reading(read, volume, part), is_ours=True)


def _reading(
    read: Callable[[Crop], list[Voxels]], volume: SyntheticVolume, part: int
) -> Callable[[], Callable[[], int]]:
    """A run that reads the next crop and gives what counts the voxels that are wrong in it."""
    rng = np.random.default_rng(0)
    edge = volume.image.shape[-1]

    def run() -> Callable[[], int]:
        x, y, z = (int(n) for n in rng.integers(0, edge - part + 1, 3))
        crop = Crop((x, y, z), (part, part, part))
        found = read(crop)

        def wrong() -> int:
            expected = volume.cropped(crop)
            arrays: list[Voxels] = [expected.image[0]]
            arrays += [] if expected.label is None else [expected.label[0]]
            return sum(int(np.sum(a != b)) for a, b in zip(arrays, found, strict=True))

        return wrong

    return run


def _faster(standing: Standing) -> float:
    return standing.times_faster(OurCache.name, Nifti.name)


if __name__ == "__main__":
    main()
