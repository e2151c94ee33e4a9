"""How many samples a second does a loader give, with 0 to 50 % of them synthetic?

    python -m benchmarks.loader_rate [--quick]

One epoch of a MONAI DataLoader with two workers: crops of 64³ from cases of 128³, image and label.
`real only` is MONAI's own dataset, without anything of this package. The synthetic volumes are in
the cache, of which a crop alone is read. Once the real cases come from .nii.gz for every sample,
and once they lie in memory (MONAI's `CacheDataset`), where nothing can be cheaper than they are.
"""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.contest import Entrant
from benchmarks.contest import hold
from benchmarks.mixture import Mixture
from benchmarks.mixture import mixture
from benchmarks.outcome import conclude
from benchmarks.timing import quick_parser

SHARES = (0, 0.1, 0.3, 0.5)
PLAIN = (
    "MONAI's batches carry every field of each NIfTI header from worker to trainer, a tensor each; "
    "ours carry affine, space, size and provenance"
)


def main() -> None:
    """Measure, print the tables, write the record."""
    parser = quick_parser(__doc__ or "")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    edge, part, samples = (32, 16, 20) if arguments.quick else (128, 64, 60)
    rounds = 1 if arguments.quick else arguments.rounds
    standings = []
    with mixture(edge, part, samples=samples, workers=2) as data:
        for where, in_memory in (("in .nii.gz", False), ("in memory", True)):
            standing = hold(
                f"{part}³ of {edge}³, real cases {where}",
                _entrants(data, in_memory=in_memory),
                rounds=rounds,
                check=lambda share: float(share),
                error_name="share delivered",
                memory=False,
                item="sample",
            )
            standings.append(standing)
    conclude("loader_rate", arguments, standings, settings={"workers": 2, "batch_size": 2})


def _entrants(data: Mixture, *, in_memory: bool) -> list[Entrant]:
    loaders = {"real only": data.real_only(in_memory=in_memory)}
    loaders |= {
        f"{100 * share:.0f} % synthetic": data.mixed(share, in_memory=in_memory) for share in SHARES
    }
    return [
        Entrant(
            name,
            lambda loader=loader: _epoch(loader),  # type: ignore[misc]
            is_ours=name != "real only",
            note="" if name != "real only" else PLAIN,
            items=data.samples,
        )
        for name, loader in loaders.items()
    ]


def _epoch(loader: Any) -> float:
    """Run through a loader; the share of synthetic samples in it."""
    flags = [flag for batch in loader for flag in _flags(batch)]
    return sum(flags) / len(flags)


def _flags(batch: Any) -> list[int]:
    if "synthetic" in batch:
        return [int(flag) for flag in batch["synthetic"]]
    return [0] * len(batch["image"])


if __name__ == "__main__":
    main()
