"""Probe: whether a transform treats a crop as it treats the same part of the whole."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from ..crop import Crop
from ..errors import DataError
from .schema import IMAGE
from .schema import LABEL
from .schema import Item

TOLERANCE = 1e-4


def check_voxelwise(transform: Callable[[Item], Item], whole: Item, part: Item, crop: Crop) -> None:
    """Compare `transform(whole)[crop]` with `transform(part)`.

    Args:
        transform: What is applied to synthetic items, with its chance fixed.
        whole: A whole volume as an item.
        part: The same volume, cut to `crop`.
        crop: The box.

    Raises:
        DataError: with the difference, if they are not the same.
    """
    of_whole, of_part = transform(whole), transform(part)
    for key in (IMAGE, LABEL):
        if key not in part:
            continue
        if key not in of_whole or key not in of_part:
            msg = f"the transform of a SyntheticDataset with `crop` must keep `{key}`, it is gone"
            raise DataError(msg)
        have = torch.as_tensor(np.asarray(of_part[key], dtype=np.float64))
        uncut = torch.as_tensor(np.asarray(of_whole[key], dtype=np.float64))
        kept = uncut.shape[1:] == whole[key].shape[1:] and have.shape[1:] == part[key].shape[1:]
        if not kept:
            _refuse(
                key,
                f"a crop of {list(part[key].shape)} became {list(have.shape)}, the whole of "
                f"{list(whole[key].shape)} became {list(uncut.shape)}",
            )
        want = uncut[(slice(None), *crop.slices)]
        off = (want - have).abs()
        if float(off.max()) > TOLERANCE * max(1.0, float(want.abs().max())):
            place = tuple(int(i) for i in np.unravel_index(int(off.argmax()), off.shape))
            _refuse(
                key,
                f"at {place} the crop of the result has {float(want[place]):.6g}, "
                f"the result of the crop {float(have[place]):.6g}",
            )


def _refuse(key: str, difference: str) -> None:
    msg = (
        f"with `crop`, the transform of a SyntheticDataset must act on each voxel alone, but "
        f"`{key}` differs: {difference}; use crop=None, or move what looks at the whole volume "
        "(orientation, spacing, foreground, statistics) out of the transform"
    )
    raise DataError(msg)
