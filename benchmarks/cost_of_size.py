"""How does the cost of a sample grow with the size of the volume?

    python -m benchmarks.cost_of_size [--quick]

For cubes of 64 to 256 voxels an edge, all in turns: a whole volume decoded by a narrow network, a
whole volume handed over by a server that has it, a whole volume and a crop of 64³ read from the
cache, and the same crop from .nii.gz. What needs the whole volume grows with its voxels; a crop
from the cache does not.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from benchmarks.contest import Entrant
from benchmarks.contest import Standing
from benchmarks.contest import hold
from benchmarks.decoders import Decoders
from benchmarks.full_width import NARROW_AUTOENCODER
from benchmarks.hand_over import Producer
from benchmarks.outcome import conclude
from benchmarks.scan import scan
from benchmarks.stores import Nifti
from benchmarks.stores import OurCache
from benchmarks.timing import quick_parser
from nvgen_aug.crop import Crop

PART = 64


def main() -> None:
    """Measure, print the tables, write the record."""
    parser = quick_parser(__doc__ or "")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    rounds = 1 if arguments.quick else arguments.rounds
    edges = (64, 72) if arguments.quick else (64, 96, 128, 192, 256)
    conclude("cost_of_size", arguments, [_measure(edge, rounds) for edge in edges])


def _measure(edge: int, rounds: int) -> Standing:
    volume = replace(scan(edge), label=None)
    low = (edge - PART) // 2
    crop = Crop((low, low, low), (PART, PART, PART))
    whole = Crop((0, 0, 0), (edge, edge, edge))
    decoders = Decoders(NARROW_AUTOENCODER, (edge // 4,) * 3)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cost-of-size-")))
        producer = stack.enter_context(Producer.started(edge))
        cache, nifti = OurCache(folder), Nifti(folder)
        for store in (cache, nifti):
            store.write(volume)
        entrants = [
            Entrant("decode, whole", decoders.ours(), is_ours=True, note="a narrow network"),
            Entrant("hand-over, whole", producer.fetcher(), is_ours=True),
            Entrant("cache, whole", lambda: cache.read(whole), is_ours=True),
            Entrant(f"cache, {PART}³ of it", lambda: cache.read(crop), is_ours=True),
            Entrant(f".nii.gz, {PART}³ of it", lambda: nifti.read(crop)),
        ]
        return hold(
            f"{edge}³, image",
            entrants,
            rounds=rounds,
            budget_seconds=40.0,
            x=edge,
            x_name="edge of the volume in voxels",
        )


if __name__ == "__main__":
    main()
