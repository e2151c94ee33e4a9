"""Augmentation: the tumour of a stored mask, moved and deformed, so that no two volumes share it.

The table is that of NV-Generate (`scripts/augmentation.py`): what is deformed how much, and how
much of it must be left inside its organ. Unlike there, no loop is without end, the draw comes from
the spec and so differs between the volumes of a run, and it runs where the mask lies, on a CPU too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import torch
from monai.transforms import Rand3DElastic
from monai.transforms import RandAffine
from monai.transforms import RandZoom
from torch.nn import functional

from ..vocabulary import BODY_ID
from .motions import CT_MOTIONS
from .motions import FIRST_TRIES
from .motions import Motion

_ELASTIC_SIGMA: Final = (5.0, 8.0)
_ELASTIC_MAGNITUDE: Final = (100.0, 200.0)
_ZOOM: Final = (0.99, 1.01)
_CLOSING: Final = 5


def augment(
    label: torch.Tensor, rng: np.random.Generator, motions: Mapping[int, Motion] = CT_MOTIONS
) -> tuple[torch.Tensor, int | None]:
    """A mask whose tumour has moved, and the id of that tumour.

    Args:
        label: `[X, Y, Z]`, integers, on any device; left as it is.
        rng: All chance there is.
        motions: How far the tumour of each label moves; the first that the mask has is moved.

    Returns:
        The new mask, of the same type and device. The id is `None` where there was no tumour
        to move: then the whole mask is zoomed by at most 1 %. It is the tumour's where it
        moved, and 0 where no deformation left enough of it in its organ and it stayed.
    """
    present = {int(i) for i in torch.unique(label)}
    for tumour, motion in motions.items():
        if tumour in present:
            moved = _moved(label, tumour, motion, rng)
            return (label.clone(), 0) if moved is None else (moved, tumour)
    zoom = RandZoom(prob=1.0, min_zoom=_ZOOM[0], max_zoom=_ZOOM[1], mode="nearest", keep_size=True)
    zoom.set_random_state(seed=_seed(rng))
    zoomed = torch.as_tensor(zoom(label[None].float())[0])
    return zoomed.to(label.dtype), None


def _moved(
    label: torch.Tensor, tumour: int, motion: Motion, rng: np.random.Generator
) -> torch.Tensor | None:
    """The mask with its tumour elsewhere, or `None` if no place was found."""
    mask = label == tumour
    host = label > 0 if not motion.hosts else _is_one_of(label, motion.hosts) | mask
    host = _closed(host)
    erased = label.clone()
    erased[mask] = (
        _around(label, mask, motion.hosts) if motion.erased_to is None else motion.erased_to
    )
    deform = _deformation(motion)
    original = int(mask.sum())
    for number in range(motion.tries):
        deform.set_random_state(seed=_seed(rng))
        bent = torch.as_tensor(deform(mask[None].float()))[0] > 0.5
        bent &= host
        needed = motion.keep[0 if number < FIRST_TRIES else 1]
        if int(bent.sum()) >= needed * original:
            erased[_closed(bent) & host] = tumour
            return erased
    return None


def _deformation(motion: Motion) -> Rand3DElastic | RandAffine:
    if not motion.is_elastic:
        return RandAffine(
            prob=1.0,
            rotate_range=motion.rotate,
            translate_range=motion.translate,
            scale_range=motion.scale,
            mode="nearest",
            padding_mode="zeros",
        )
    return Rand3DElastic(
        sigma_range=_ELASTIC_SIGMA,
        magnitude_range=_ELASTIC_MAGNITUDE,
        prob=1.0,
        rotate_range=motion.rotate,
        translate_range=motion.translate,
        scale_range=motion.scale,
        mode="nearest",
        padding_mode="zeros",
    )


def _around(label: torch.Tensor, mask: torch.Tensor, hosts: frozenset[int]) -> int:
    """The host that most of the voxels next to a tumour belong to, such as a lobe of the lung."""
    ring = _dilated(mask) & ~mask & _is_one_of(label, hosts)
    if not bool(ring.any()):
        return BODY_ID
    return int(torch.mode(label[ring].long()).values)


def _is_one_of(label: torch.Tensor, ids: frozenset[int]) -> torch.Tensor:
    return torch.isin(label, torch.tensor(sorted(ids), device=label.device, dtype=label.dtype))


def _dilated(mask: torch.Tensor) -> torch.Tensor:
    grown = functional.max_pool3d(mask[None, None].float(), _CLOSING, 1, _CLOSING // 2)
    return grown[0, 0] > 0.5


def _closed(mask: torch.Tensor) -> torch.Tensor:
    """Dilated by a cube of 5 voxels and eroded again; what touches the border stays."""
    return ~_dilated(~_dilated(mask))


def _seed(rng: np.random.Generator) -> int:
    return int(rng.integers(2**31))
