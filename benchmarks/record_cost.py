"""How much longer does a batch take when the run is recorded?

    python -m benchmarks.record_cost [--quick]

Batches of four samples, one of them synthetic, real cases in memory, flipped at random: the
cheapest loading there is, in one process, so that nothing hides what a record costs. `record_to`
counts the voxels of each label and appends the events to a file on the disk.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import monai.transforms as mt
import torch
from monai.data import Dataset

from benchmarks.contest import Bar
from benchmarks.contest import Entrant
from benchmarks.contest import hold
from benchmarks.outcome import conclude
from benchmarks.scan import scan
from benchmarks.timing import quick_parser
from nvgen_aug.assembly import open_source
from nvgen_aug.data.synthetic import SyntheticDataset
from nvgen_aug.data.synthetic_real import SyntheticRealDataset
from nvgen_aug.recipe import Recipe
from nvgen_aug.source import VolumeSource

KEYS = ("image", "label")
PLAIN, RECORDED = "not recorded", "recorded"


def main() -> None:
    """Measure, print the table and the bar, write the record."""
    parser = quick_parser(__doc__ or "")
    parser.add_argument("--rounds", type=int, default=25)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    edge, rounds = (32, 3) if arguments.quick else (96, arguments.rounds)
    with (
        tempfile.TemporaryDirectory(prefix="record-cost-") as folder,
        open_source("phantom") as source,
    ):
        standing = hold(
            f"a batch of 4 samples of {edge}³, one process",
            [
                Entrant(PLAIN, _batches(source, edge, None), items=4),
                Entrant(RECORDED, _batches(source, edge, Path(folder)), is_ours=True, items=4),
            ],
            rounds=rounds,
            memory=False,
        )
    longer = standing.seconds(RECORDED) / standing.seconds(PLAIN)
    bars = [Bar("seconds of a recorded batch : of one that is not", longer, 1.5, is_most=True)]
    conclude("record_cost", arguments, [standing], bars)


def _batches(source: VolumeSource, edge: int, folder: Path | None) -> Callable[[], object]:
    case = scan(edge)
    assert case.label is not None
    item = {"image": torch.from_numpy(case.image), "label": torch.from_numpy(case.label)}
    train = SyntheticRealDataset(
        Dataset([item] * 3),
        SyntheticDataset(source, Recipe(size=(edge, edge, edge)), max_reuse=1000),
        ratio=0.25,
        transform=[mt.RandFlipd(KEYS, prob=0.5, spatial_axis=0)],
        check=False,
    )
    if folder is not None:
        train.record_to(folder)
    plan = train.plan(0, batch_size=4)
    return lambda: train.__getitems__(plan)


if __name__ == "__main__":
    main()
