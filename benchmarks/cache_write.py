"""How long does it take to store a volume?

    python -m benchmarks.cache_write [--quick]

A volume of 256³ that compresses as CT does, image and label, on one core. Ours is on the disk,
under checksums, before it appears to readers; LMDB waits for the disk as well; the others leave the
bytes to the system.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import torch

from benchmarks.contest import Entrant
from benchmarks.contest import hold
from benchmarks.outcome import conclude
from benchmarks.scan import scan
from benchmarks.stores import STORES
from benchmarks.stores import OurCache
from benchmarks.timing import quick_parser


def main() -> None:
    """Measure, print the table, write the record."""
    parser = quick_parser(__doc__ or "")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    edge, rounds = (64, 2) if arguments.quick else (256, arguments.rounds)
    volume = scan(edge)
    with tempfile.TemporaryDirectory(prefix="cache-write-") as folder:
        stores = [kind(Path(folder)) for kind in STORES]
        entrants = [
            Entrant(
                store.name,
                lambda store=store: store.write(volume),  # type: ignore[misc]
                is_ours=isinstance(store, OurCache),
                note=store.note,
            )
            for store in stores
        ]
        title = f"{edge}³, int16 image and uint8 label, one core"
        standing = hold(title, entrants, rounds=rounds)
    conclude("cache_write", arguments, [standing])


if __name__ == "__main__":
    main()
