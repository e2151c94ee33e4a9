"""Pool: stand-ins made once and kept on disk, for training steps to draw from."""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray

from .stand_ins import MODALITIES
from .stand_ins import StandIns


@final
@dataclass(frozen=True, slots=True)
class Pool:
    """Images `[N, X, Y, Z]` float16, labels `[N, X, Y, Z]` uint8, modality numbers `[N]`."""

    images: NDArray[np.float16]
    labels: NDArray[np.uint8]
    modalities: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.modalities)


def open_pool(work_dir: Path, count: int, split: str = "train") -> Pool:
    """The first `count` stand-ins of a split, made if they are not there yet."""
    folder = work_dir / f"pool-{split}-{count}"
    names = ("images", "labels", "modalities")
    if not (folder / "modalities.npy").exists():
        folder.mkdir(parents=True, exist_ok=True)
        context = multiprocessing.get_context("spawn")
        workers = os.cpu_count() or 1
        with ProcessPoolExecutor(workers, mp_context=context, initializer=_alone) as executor:
            made = list(executor.map(_make, [(split, i) for i in range(count)], chunksize=16))
        for number, name in enumerate(names):  # `modalities` last: its presence means complete
            np.save(folder / f"{name}.npy", np.stack([m[number] for m in made]))
    return Pool(*(np.load(folder / f"{name}.npy") for name in names))


def _alone() -> None:
    torch.set_num_threads(1)


def _make(
    item: tuple[str, int],
) -> tuple[NDArray[np.float16], NDArray[np.uint8], NDArray[np.int64]]:
    split, index = item
    stand_in = StandIns(split).make(index)
    number = np.asarray(MODALITIES.index(stand_in.modality), np.int64)
    return stand_in.image.astype(np.float16), stand_in.label, number
