"""Clean-up: a label map as the mask model leaves it, made into one that a body could have.

The steps are those of NV-Generate for masks that it draws: one body, one piece of each organ, no
tumour but the one that was asked for. They are done on the box around each organ, by connected
components and distances of scipy, so no loop runs longer than there are labels.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..vocabulary import BODY_ID
from .hosts import CT_HOSTS
from .hosts import LUNG_LOBES

Label = NDArray[np.uint8]
Mask = NDArray[np.bool_]

_LIVER, _PANCREAS, _COLON, _SMALL_BOWEL, _VESSEL, _AIRWAY = 1, 4, 62, 19, 25, 132
_KIDNEYS: Final = (5, 14)
_KIDNEY_MASS: Final = 129
_CARTILAGE: Final = 114  # of the ribs
HEPATIC_TUMOUR: Final = 26
BONE_LESION: Final = 128
# What takes the place of a tumour that nobody asked for.
_ORGAN_OF: Final = {23: 28, 24: _PANCREAS, HEPATIC_TUMOUR: _LIVER, 27: _COLON, BONE_LESION: BODY_ID}
_HOSTS: Final = {host.tumour: tuple(host.organs) for host in CT_HOSTS.values()} | {
    BONE_LESION: (*CT_HOSTS["bone lesion"].organs, _CARTILAGE)
}
# Organs of which the largest piece is kept, and, unless bones are sick, the spine and vessels.
_WHOLE: Final = (_LIVER, _PANCREAS, 10, 12, 3, *LUNG_LOBES, *_KIDNEYS, 13, 6, 7, 8, 9)
_WHOLE_UNLESS_BONE: Final = tuple(range(33, 60))
_BOWEL: Final = (12, 13, _SMALL_BOWEL, _COLON)
_CUBE: Final = np.ones((3, 3, 3), bool)


def cleaned_up(label: Label, tumour: int | None) -> Label:
    """The label map with one body, whole organs, and no tumour but the wanted one inside its organ.

    Args:
        label: `[X, Y, Z]` uint8 of ids of the 132-class vocabulary; left as it is.
        tumour: Id of the tumour that was asked for, or `None`.

    Returns:
        A new label map of the same shape. It is empty if there was no body.
    """
    result = np.where(_body(label > 0), label, 0).astype(np.uint8)
    airway = result == _AIRWAY
    for other, organ in _ORGAN_OF.items():
        if other != tumour:
            _replace_beside(result, other, organ)
    if tumour is not None:
        _round_off(result, tumour)
    kept = _WHOLE if tumour == BONE_LESION else (*_WHOLE, *_WHOLE_UNLESS_BONE)
    for organ in kept:
        _keep_largest(result, organ, _mates(organ, tumour))
    _join_bowel(result)
    for organ in kept:
        _fill(result, organ)
    result[result == _VESSEL] = _LIVER
    if tumour is not None:
        _drop_detached(result, tumour)
    result[airway & (result != (tumour or _AIRWAY))] = _AIRWAY
    return result


def _body(inside: Mask) -> Mask:
    """The largest piece of what is not air, without what hangs on it by a thread."""
    # A body goes on beyond the volume: it must not lose voxels there.
    core = ndimage.binary_erosion(inside, _CUBE, border_value=1)
    body: Mask = ndimage.binary_dilation(_largest(core), _CUBE) & inside
    return body


def _replace_beside(label: Label, tumour: int, organ: int) -> None:
    """Write an organ in place of a tumour; of the lobes of the lung, the nearest."""
    where = label == tumour
    if not where.any():
        return
    label[where] = organ
    if organ in LUNG_LOBES:
        box = _box(where, label.shape, margin=8)
        _take_nearest(label[box], where[box], np.isin(label[box], LUNG_LOBES) & ~where[box])


def _round_off(label: Label, tumour: int) -> None:
    """Close the gaps of a tumour inside its organ, and keep one piece where there is to be one."""
    mask = label == tumour
    if not mask.any():
        return
    box = _box(mask, label.shape, margin=4)
    part, small = label[box], mask[box]
    room = small | np.isin(part, _HOSTS[tumour])
    closed: Mask = small
    for _ in range(2):
        closed = _closed(closed, rounds=2)
    part[closed & room] = tumour
    if tumour not in (HEPATIC_TUMOUR, BONE_LESION):
        whole = part == tumour
        part[whole & ~_largest(whole)] = BODY_ID


def _mates(organ: int, tumour: int | None) -> tuple[int, ...]:
    """Labels that count as part of an organ when its pieces are told apart."""
    mates = [tumour] if tumour is not None and organ in _HOSTS[tumour] else []
    if organ == _LIVER:
        mates.append(_VESSEL)
    if organ in _KIDNEYS:
        mates.append(_KIDNEY_MASS)
    return tuple(mates)


def _keep_largest(label: Label, organ: int, mates: Collection[int]) -> None:
    """One piece of an organ; others become body, or the next lobe if they touch one."""
    mask = label == organ
    if not mask.any():
        return
    box = _box(mask | np.isin(label, list(mates)) if mates else mask, label.shape, margin=1)
    part = label[box]
    pieces = mask[box] | np.isin(part, list(mates))
    lost = pieces & ~_largest(pieces)
    if organ != _LIVER:
        lost &= mask[box]  # a tumour or mass may lie in the organ of the other side
    part[lost] = BODY_ID
    if organ in LUNG_LOBES:
        _take_nearest(part, lost, np.isin(part, LUNG_LOBES))


def _take_nearest(part: Label, where: Mask, source: Mask) -> None:
    """Give every piece of `where` that touches `source` the label that is nearest there."""
    if not where.any() or not source.any():
        return
    pieces, _ = ndimage.label(where, _CUBE)
    touching = np.unique(pieces[ndimage.binary_dilation(source, _CUBE) & where])
    taken = np.isin(pieces, touching[touching > 0])
    nearest: Any = ndimage.distance_transform_edt(
        ~source, return_distances=False, return_indices=True
    )
    part[taken] = part[tuple(nearest)][taken]


def _join_bowel(label: Label) -> None:
    """Stomach to colon are one tube: islands of the small bowel and the colon become body."""
    tube = np.isin(label, _BOWEL)
    if not tube.any():
        return
    box = _box(tube, label.shape, margin=0)
    part = label[box]
    islands = tube[box] & ~_largest(tube[box])
    part[islands & np.isin(part, (_SMALL_BOWEL, _COLON))] = BODY_ID


def _fill(label: Label, organ: int) -> None:
    """Holes and notches of an organ that are body become the organ."""
    mask = label == organ
    if not mask.any():
        return
    box = _box(mask, label.shape, margin=2)
    part = label[box]
    part[_closed(mask[box], rounds=1) & (part == BODY_ID)] = organ


def _drop_detached(label: Label, tumour: int) -> None:
    """What of a tumour does not touch its organ becomes body."""
    mask = label == tumour
    if not mask.any():
        return
    box = _box(mask, label.shape, margin=1)
    part = label[box]
    host = np.isin(part, _HOSTS[tumour])
    pieces, _ = ndimage.label(mask[box], _CUBE)
    touching = np.unique(pieces[ndimage.binary_dilation(host, _CUBE)])
    part[mask[box] & ~np.isin(pieces, touching[touching > 0])] = BODY_ID


def _largest(mask: Mask) -> Mask:
    """Its largest piece; voxels that meet at a corner are of one piece."""
    pieces, count = ndimage.label(mask, _CUBE)
    if count < 2:
        return mask
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    largest: Mask = pieces == sizes.argmax()
    return largest


def _closed(mask: Mask, rounds: int) -> Mask:
    """Dilated and eroded by cubes of 3 voxels, as if the volume had no border."""
    padded = np.pad(mask, rounds)
    closed: Mask = ndimage.binary_closing(padded, _CUBE, iterations=rounds)
    inner = slice(rounds, -rounds)
    return closed[inner, inner, inner] | mask


def _box(mask: Mask, shape: tuple[int, ...], margin: int) -> tuple[slice, ...]:
    """The part of a volume around a mask that is not empty."""
    (found,) = ndimage.find_objects(mask.view(np.uint8))
    return tuple(
        slice(max(s.start - margin, 0), min(s.stop + margin, n))
        for s, n in zip(found, shape, strict=True)
    )
