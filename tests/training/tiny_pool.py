"""A pool that needs no disk and no processes: a few brains on a coarse grid."""

from __future__ import annotations

import functools

import numpy as np

from nvgen_aug.generators.maisi.masks.warped_template import Grid
from nvgen_aug.training.pool import Pool
from nvgen_aug.training.stand_ins import MODALITIES
from nvgen_aug.training.stand_ins import StandIns

COARSE = Grid((32, 32, 32), (6.0, 6.0, 6.0))


@functools.cache
def tiny_pool(count: int = 3) -> Pool:
    """The first stand-ins for training, 32 voxels to an edge."""
    made = [StandIns("train", grid=COARSE).make(index) for index in range(count)]
    return Pool(
        images=np.stack([m.image for m in made]).astype(np.float16),
        labels=np.stack([m.label for m in made]),
        modalities=np.asarray([MODALITIES.index(m.modality) for m in made], np.int64),
    )
