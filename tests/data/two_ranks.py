"""One rank of two, whose generator may go down: run in processes of their own by test_in_step.py.

python -m tests.data.two_ranks FOLDER RANK ON_FAILURE DOWN_RANK WORKERS SEED
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch.utils.data import DataLoader

import nvgen_aug as nv
from nvgen_aug.card import VariantCard
from nvgen_aug.crop import Crop
from nvgen_aug.crop import CropRule
from nvgen_aug.errors import DataError
from nvgen_aug.errors import ServerUnavailable
from nvgen_aug.errors import SourceError
from nvgen_aug.source import SourceStats
from nvgen_aug.source import VolumeSource
from nvgen_aug.spec import VolumeSpec
from nvgen_aug.volume import SyntheticVolume

SIZE = (16, 16, 16)
BATCH = 4


class Faltering(VolumeSource):
    """Phantoms made on the spot, until it is told to go down at a volume.

    Args:
        good_for: Volumes that each process gets before nobody answers any more.
    """

    __slots__ = ("_good_for", "_phantom")

    def __init__(self, good_for: int) -> None:
        self._phantom = nv.PhantomGenerator()
        self._good_for = good_for

    @property
    def card(self) -> VariantCard:
        return self._phantom.card

    def fetch(self, spec: VolumeSpec, crop: Crop | CropRule | None = None) -> SyntheticVolume:
        self._good_for -= 1
        if self._good_for < 0:
            raise ServerUnavailable("no generator answers at unix:/nowhere")
        return self._phantom.generate(self.resolve(spec)).volume

    def put(self, array: Any, affine: Any) -> str:
        raise NotImplementedError

    def prefetch(self, specs: Sequence[VolumeSpec]) -> None:
        pass

    def stats(self) -> SourceStats:
        return SourceStats()


def main(
    folder: str, rank: int, on_failure: str, down: int, workers: int, seed: int
) -> dict[str, Any]:
    """Two epochs in step, with a collective at each batch as training has one."""
    dist.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=2)
    image = np.zeros((1, *SIZE), np.float32)
    real = [{"image": image, "label": image.astype(np.uint8)} for _ in range(16)]
    source = Faltering(good_for=3 if rank == down else 10**6)
    recipe = nv.Recipe(size=SIZE)
    synthetic = nv.SyntheticDataset(source, recipe, on_failure=on_failure)
    train = nv.SyntheticRealDataset(real, synthetic, ratio=0.5, check=False, seed=seed)
    loader = DataLoader(train, BATCH, sampler=train.sampler(BATCH), num_workers=workers)
    told: dict[str, Any] = {"planned": [], "shown": [], "status": [], "error": ""}
    batches = train.in_step(loader)
    try:
        for epoch in range(2):
            train.set_epoch(epoch)
            keys = train.plan(epoch, BATCH, 2, rank)
            told["planned"] += [sum(k.is_synthetic for k in keys[n:][:BATCH]) for n in starts(keys)]
            for batch in batches:
                dist.all_reduce(torch.ones(1))
                told["shown"].append(int(batch["synthetic"].sum()))
                texts = [json.loads(text)["status"] for text in batch["provenance"]]
                told["status"].append(texts.count("substitute"))
            if epoch == 0:
                source._good_for = 10**6  # it is back
    except (DataError, SourceError) as error:
        told["error"] = f"{type(error).__name__}: {error}"
    told["stood in"] = train.report().failures.by_real
    dist.destroy_process_group()
    return told


def starts(keys: Sequence[Any]) -> range:
    return range(0, len(keys), BATCH)


if __name__ == "__main__":
    name, number, policy, where, hands, chance = sys.argv[1:]
    Path(name, f"{number}.json").write_text(
        json.dumps(main(name, int(number), policy, int(where), int(hands), int(chance)))
    )
